"""Finds out whether a port is free, and which process uses it if it is not."""

import errno
import socket
from contextlib import suppress
from pathlib import Path

import psutil

from infra.local.settings import HOST

LAUNCHER = Path(__file__).with_name("launcher.py")


def find_listener(port: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> str | None:
    """Describes the process that listens on a port of this machine. None if the port is free."""
    with socket.socket(socket.AF_INET, kind) as attempt:
        if kind == socket.SOCK_STREAM:  # as servers do, so that connections in TIME_WAIT do not count
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind((HOST, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return _describe_listener(port, kind)
    return None


def _describe_listener(port: int, kind: socket.SocketKind) -> str:
    with suppress(psutil.Error):  # on macOS only root may list other processes' connections
        for connection in psutil.net_connections("tcp" if kind == socket.SOCK_STREAM else "udp"):
            listens = kind != socket.SOCK_STREAM or connection.status == psutil.CONN_LISTEN
            if listens and connection.laddr and connection.laddr.port == port and connection.pid:
                return _describe_process(connection.pid)
    return "another program"


def _describe_process(pid: int) -> str:
    try:
        process = psutil.Process(pid)
        if any(Path(part).name == LAUNCHER.name for part in process.cmdline()):
            return f"the local system of another clone ({Path(process.cwd()).parent}, process {pid})"
        return f"{process.name()} (process {pid})"
    except psutil.Error:
        return f"process {pid}"

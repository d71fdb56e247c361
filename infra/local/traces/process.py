"""Starts, finds and stops the receiver's process."""

import os
import shutil
import socket
import sys
import time
from contextlib import suppress

import psutil
import requests

from infra.local.lifecycle import pids, ports
from infra.local.settings import ANOTHER_PORT, HOST, LOCAL, ROOT, TRACE_FILE, TRACE_PORT, TRACE_URL, CommandError

PID_FILE = LOCAL / "receiver.pid"
LOG = LOCAL / "receiver.log"
START_SECONDS = 20
STOP_SECONDS = 20


def start() -> None:
    """Starts the receiver, unless it runs already."""
    if running():
        if pids.read_field(PID_FILE, "port") == TRACE_PORT and _answers():
            return
        stop()
    _port_is_free()
    TRACE_FILE.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-u", "-m", "infra.local.traces.receiver", HOST, str(TRACE_PORT), str(TRACE_FILE)]
    environment = {"PATH": os.defpath, "LANG": "C.UTF-8"}
    child = pids.start(PID_FILE, command, environment, cwd=ROOT, log=LOG, port=TRACE_PORT)
    deadline = time.monotonic() + START_SECONDS
    while not _answers():
        if child.poll() is not None or time.monotonic() > deadline:
            raise CommandError(f"The receiver of traces does not start: see {LOG}.")
        time.sleep(0.05)


def stop() -> None:
    """Stops the receiver, which first stores the spans that have arrived."""
    if process := running():
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except psutil.TimeoutExpired:
            process.kill()
    PID_FILE.unlink(missing_ok=True)


def forget() -> None:
    shutil.rmtree(TRACE_FILE.parent, ignore_errors=True)


def running() -> psutil.Process | None:
    return pids.find(PID_FILE)


def _answers() -> bool:
    with suppress(requests.RequestException):
        return requests.get(f"{TRACE_URL}/api/receiver", timeout=2).ok
    return False


def _port_is_free() -> None:
    for kind, name in ((socket.SOCK_STREAM, "TCP"), (socket.SOCK_DGRAM, "UDP")):
        if who := ports.find_listener(TRACE_PORT, kind):
            raise CommandError(
                f"{name} port {TRACE_PORT} is taken by {who}, but traces are received there, at the port after that of "
                f"the local cloud: stop that program, or choose another port: MADANG_PORT={ANOTHER_PORT} make up"
            )

"""The port of `make watch`, in front of `cargo lambda watch`.

`cargo lambda watch` serves more than the API: everyone who can connect invokes any function with any event, and takes
events from its Runtime API. So that no web page can do that, it listens at an address that pages do not know, and this
port passes on what the rules of infra/local/door.py let through.
"""

import re
import secrets
import socket
import socketserver
import sys
import threading
import time
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

from infra.local import door
from infra.local.settings import HOST, ROOT

# Maximum seconds and bytes of a request's line and headers.
HEAD_SECONDS = 10
MOST_HEAD_BYTES = 64 * 1024
ROUTES = ROOT / "CargoLambda.toml"


def private_address(port: int) -> tuple[str, int]:
    """An address of the loopback interface that a page cannot guess. macOS has only one, so there only the port is
    unknown."""
    if sys.platform == "linux":
        return f"127.{1 + secrets.randbelow(254)}.{secrets.randbelow(256)}.{1 + secrets.randbelow(254)}", port
    with socket.create_server((HOST, 0)) as free:
        return HOST, free.getsockname()[1]


def api_paths(routes: Path = ROUTES) -> re.Pattern[str]:
    """What the paths of the API begin with, from the generated routes."""
    beginnings = sorted(set(re.findall(r'^"(/[\w.-]+)', routes.read_text(), re.MULTILINE)))
    return re.compile(rf"(?:{'|'.join(map(re.escape, beginnings))})(?:/.*)?")


def serve(port: int, target: tuple[str, int], api: re.Pattern[str]) -> list[socketserver.ThreadingTCPServer]:
    """Passes connections on to the target, in the background. It listens on [::1] too, because `cargo lambda invoke`
    connects to it unless each command line says otherwise. Returns the servers."""

    class Front(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                _pass_on(self.request, target, api)

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

    class ServerIpv6(Server):
        address_family = socket.AF_INET6

    servers: list[socketserver.ThreadingTCPServer] = [Server((HOST, port), Front)]
    with suppress(OSError):  # a machine without IPv6
        servers.append(ServerIpv6(("::1", servers[0].server_address[1]), Front))
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    return servers


def _pass_on(client: socket.socket, target: tuple[str, int], api: re.Pattern[str]) -> None:
    """Passes on one request and its answer. The connection ends with them, so that every request is looked at."""
    head, body = _read_head(client)
    # A lone CR or LF, or a continued line, could be read in two ways.
    lines = head.split("\r\n")
    odd = any("\n" in line or "\r" in line or line[:1] in (" ", "\t") for line in lines)
    words = lines[0].split(" ")
    if odd or len(words) != 3 or any(":" not in line for line in lines[1:]):
        _refuse(client, door.Refusal(HTTPStatus.BAD_REQUEST, "This is no HTTP request that can be read."))
        return
    headers = [(name, value) for name, _, value in (line.partition(":") for line in lines[1:])]
    if refusal := door.refuse_at_watch(words[1], door.collect(headers), api):
        _refuse(client, refusal)
        return
    kept = [line for line, (name, _) in zip(lines[1:], headers, strict=True) if name.lower() != "connection"]
    passed = "\r\n".join([lines[0], *kept, "Connection: close"]).encode("latin-1") + b"\r\n\r\n" + body
    client.settimeout(None)
    with socket.create_connection(target) as watch:
        watch.sendall(passed)
        threading.Thread(target=_copy, args=(client, watch), daemon=True).start()
        _copy(watch, client)


def _read_head(client: socket.socket) -> tuple[str, bytes]:
    """The request's line and headers, and what has arrived of its body."""
    received, deadline = b"", time.monotonic() + HEAD_SECONDS
    while b"\r\n\r\n" not in received:
        client.settimeout(max(deadline - time.monotonic(), 0.001))
        data = client.recv(65536)
        if not data or len(received) > MOST_HEAD_BYTES:
            raise ConnectionAbortedError
        received += data
    head, _, body = received.partition(b"\r\n\r\n")
    return head.decode("latin-1"), body


def _refuse(client: socket.socket, refusal: door.Refusal) -> None:
    body = f"{refusal.text}\n".encode()
    lines = [f"HTTP/1.1 {refusal.status.value} {refusal.status.phrase}"]
    lines += [f"{name}: {value}" for name, value in door.answer_headers(body)]
    client.sendall("\r\n".join([*lines, "connection: close", "", ""]).encode() + body)


def _copy(source: Any, target: Any) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)

"""Sends bytes to a server, and reads what it answers."""

import io
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from typing import Any

# In seconds: the longest that a server may take for an answer.
PATIENCE = 5.0
# The pause between two pieces of a request that is sent slowly, in seconds.
PAUSE = 0.01
PIECES = 12


@dataclass(frozen=True)
class Answer:
    """An answer of the server."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str:
        """The header's first value, empty if there is none."""
        return next((value for known, value in self.headers if known.lower() == name.lower()), "")


@dataclass
class Exchange:
    """What came back for a request."""

    answers: list[Answer] = field(default_factory=list)
    # Seconds from the end of the request to the end of the last answer, or until the server closed the connection.
    seconds: float = 0.0
    # Whether the server neither answered nor closed the connection in time.
    hangs: bool = False
    # Why no answer could be read, if none could: no connection, or what came was not HTTP.
    broken: str = ""


@dataclass(frozen=True)
class Message:
    """The bytes of a request, and how to send and read them."""

    data: bytes
    # The methods of the requests in it: an answer to HEAD has no body.
    methods: tuple[str, ...] = ("GET",)
    # Whether the bytes are sent in pieces with pauses.
    slowly: bool = False
    # Whether the client stops sending before the request is complete.
    cut: bool = False
    # Whether the client goes away without waiting for an answer.
    leaves: bool = False


class _Shared(io.BufferedReader):
    """The input of a connection. Answers that follow each other share it, so that none of them may close it."""

    def close(self) -> None:
        pass


class _Connection:
    """The part of a socket that `HTTPResponse` uses."""

    def __init__(self, connection: socket.socket) -> None:
        self._input = _Shared(socket.SocketIO(connection, "r"))

    def makefile(self, *_: Any) -> io.BufferedReader:
        return self._input


def send(address: tuple[str, int], message: Message, patience: float = PATIENCE) -> Exchange:
    """Sends a message on a connection of its own, and reads the answers to it."""
    exchange = Exchange()
    try:
        connected = socket.create_connection(address, timeout=patience)
    except OSError as error:
        exchange.broken = f"no connection: {error}"
        return exchange
    with connected as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # The server may refuse a request before it has all of it. Its answer may have arrived nevertheless.
        with suppress(OSError):
            _write(connection, message)
        if message.leaves:
            return exchange
        began = time.monotonic()
        try:
            _read(connection, message, exchange)
        except TimeoutError:
            exchange.hangs = True
        except OSError:
            # The server has closed the connection. `http.client` says so by an error that is an HTTPException too.
            pass
        except (HTTPException, ValueError) as error:
            exchange.broken = f"the answer is not HTTP: {type(error).__name__}: {error}"
        exchange.seconds = time.monotonic() - began
    return exchange


def _write(connection: socket.socket, message: Message) -> None:
    if message.slowly:
        size = max(1, -(-len(message.data) // PIECES))
        for start in range(0, len(message.data), size):
            connection.sendall(message.data[start : start + size])
            time.sleep(PAUSE)
    else:
        connection.sendall(message.data)
    if message.cut:
        connection.shutdown(socket.SHUT_WR)


def _read(connection: socket.socket, message: Message, exchange: Exchange) -> None:
    source = _Connection(connection)
    for method in message.methods:
        # Nothing more to read means that the server has closed the connection.
        if not source.makefile().peek(1):
            return
        response = HTTPResponse(source, method=method)  # type: ignore[arg-type]
        response.begin()
        body = response.read()
        exchange.answers.append(Answer(response.status, tuple(response.getheaders()), body))
        if response.will_close:
            return

"""A local replacement for the X-Ray daemon. Stores the spans that arrive by UDP, and serves them by HTTP on the same
port.

It is a process of its own, started by `cloud.start()`: `python -m infra.local.traces.receiver <host> <port> <file>`."""

import io
import json
import queue
import re
import signal
import socket
import sys
import threading
import time
from base64 import b64encode
from contextlib import suppress
from hashlib import sha256
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from infra.local import door
from infra.local.traces import otlp
from infra.local.traces.store import Store, trace_id

PAGE = Path(__file__).with_name("page.html")
# For bursts. Linux grants users other than root less, by default enough for a hundred datagrams.
RECEIVE_BUFFER = 8 * 1024 * 1024
MOST_WAITING_BYTES = 64 * 1024 * 1024
# One commit stores the spans of this time. A commit per span would cost ten times as much.
GATHER_SECONDS = 0.05
LARGEST_BATCH = 1000
BURST = 100
MOST_ITEMS = 1000
SO_RCVBUFFORCE = 33  # needs root; Linux only
# Maximum seconds to send a request, counted from the connection or the previous answer, and to take its answer.
CLIENT_SECONDS = 10
# Maximum bytes of a request's line and headers. A browser sends less than one kilobyte.
MOST_REQUEST_BYTES = 16 * 1024
MOST_CONNECTIONS = 64


class Receiver:
    def __init__(self, host: str, port: int, file: Path) -> None:
        self.file = file
        self.datagrams = self.spans = self.malformed = self.overrun = 0
        # Each is changed by one thread only.
        self._put_bytes = self._taken_bytes = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((host, port))
        self.port = self._socket.getsockname()[1]
        _enlarge(self._socket)
        self._waiting: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write)

    def start(self) -> None:
        Store(self.file).close()  # fails now if the file cannot be used
        threading.Thread(target=self._receive, daemon=True).start()
        self._writer.start()

    def stop(self) -> None:
        """Stores the spans that have arrived, and ends."""
        time.sleep(GATHER_SECONDS)
        self._waiting.put(None)
        self._writer.join()

    def numbers(self) -> dict[str, int | None]:
        """Counts since the start. `lost`: datagrams dropped before they were read; None if the system does not say."""
        dropped = _dropped(self.port)
        lost = None if dropped is None else dropped + self.overrun
        told = {"datagrams": self.datagrams, "spans": self.spans, "malformed": self.malformed, "lost": lost}
        buffer = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        return told | {"waiting": self._waiting.qsize(), "buffer": buffer}

    def _receive(self) -> None:
        """Does nothing but empty the socket, so that bursts are not lost."""
        while True:
            datagram = self._socket.recv(65536)
            self.datagrams += 1
            if self._put_bytes - self._taken_bytes < MOST_WAITING_BYTES:
                self._put_bytes += len(datagram)
                self._waiting.put(datagram)
            else:
                self.overrun += 1

    def _write(self) -> None:
        store = Store(self.file)
        lost = 0
        while (datagram := self._waiting.get()) is not None:
            time.sleep(GATHER_SECONDS)
            datagrams, ended = [datagram], False
            while len(datagrams) < LARGEST_BATCH and not self._waiting.empty() and not ended:
                datagram = self._waiting.get()
                datagrams += [datagram] if datagram is not None else []
                ended = datagram is None
            self._taken_bytes += sum(map(len, datagrams))
            self._keep(store, datagrams)
            if len(datagrams) >= BURST and (now_lost := self.numbers()["lost"] or 0) > lost:
                _log(f"{now_lost - lost} datagrams lost: they came faster than they were read")
                lost = now_lost
            if ended:
                break
        store.close()

    def _keep(self, store: Store, datagrams: list[bytes]) -> None:
        spans = []
        for datagram in datagrams:
            try:
                spans += otlp.spans(datagram)
            except otlp.Malformed as malformed:
                self.malformed += 1
                if self.malformed <= 10:
                    _log(f"a datagram of {len(datagram)} bytes is ignored: {malformed}")
        try:
            store.add(spans)
            self.spans += len(spans)
        except Exception as error:  # the disk is full, for example: later spans may find room again
            _log(f"{len(spans)} spans could not be stored: {error}")


class RequestReader(io.RawIOBase):
    """Reads requests from a connection, within a time and a size. A time-out of the socket alone would not stop a
    client that sends a byte now and then."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.begin()

    def begin(self) -> None:
        """Starts the time and the size of the next request."""
        self._deadline = time.monotonic() + CLIENT_SECONDS
        self._left = MOST_REQUEST_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        if self._left <= 0:
            raise TooLargeError
        self._connection.settimeout(remaining)
        count = self._connection.recv_into(buffer, min(len(buffer), self._left))
        self._left -= count
        return count


class TooLargeError(Exception):
    """A request has more bytes than are read."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    # Of a request that ends before its line: its answer has a status line too.
    default_request_version = request_version = protocol_version
    requestline = command = ""
    receiver: Receiver

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self._request = RequestReader(self.connection)
        self.rfile = io.BufferedReader(self._request)

    def handle_one_request(self) -> None:
        self._request.begin()
        try:
            super().handle_one_request()
        except TooLargeError:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The request is too large.")

    def parse_request(self) -> bool:
        if not super().parse_request():
            return False
        if refusal := door.refuse_other_sites(self.path, door.collect(self.headers.items())):
            door.send_refusal(self, refusal)
            return False
        if self.headers.get("content-length", "0") != "0" or "transfer-encoding" in self.headers:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "Send no body.")
            return False
        return True

    def do_GET(self) -> None:
        try:
            url = urlsplit(self.path)
        except ValueError as error:
            self._answer(HTTPStatus.BAD_REQUEST, json.dumps({"detail": f"The target cannot be read: {error}."}))
            return
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        match [unquote(part) for part in url.path.strip("/").split("/")]:
            case [""]:
                page = PAGE.read_text()
                self._answer(HTTPStatus.OK, page, "text/html; charset=utf-8", policy(page))
            case ["api", "traces"]:
                self._traces(query)
            case ["api", "traces", wanted]:
                self._trace(trace_id(wanted))
            case ["api", "receiver"]:
                self._answer(HTTPStatus.OK, json.dumps(self.receiver.numbers()))
            case _:
                self._not_found("No such path.")

    def _traces(self, query: dict[str, str]) -> None:
        limit = query.get("limit", "20")
        if not re.fullmatch(r"[0-9]{1,4}", limit) or not 1 <= int(limit) <= MOST_ITEMS:
            self._answer(
                HTTPStatus.BAD_REQUEST, json.dumps({"detail": f"limit must be a number from 1 to {MOST_ITEMS}."})
            )
            return
        store = Store(self.receiver.file)
        try:
            if "id" in query:
                answer: dict[str, Any] = {"items": store.find(query["id"], int(limit))}
            else:
                everything = query.get("all") == "true"
                answer = {"items": store.latest(int(limit), everything)}
                if not everything:
                    answer["hidden"] = store.hidden()
        finally:
            store.close()
        self._answer(HTTPStatus.OK, json.dumps(answer))

    def _trace(self, wanted: str) -> None:
        store = Store(self.receiver.file)
        try:
            spans = store.spans(wanted)
        finally:
            store.close()
        if spans:
            self._answer(HTTPStatus.OK, f'{{"trace_id": "{wanted}", "spans": [{",".join(spans)}]}}')
        else:
            self._not_found("No span of this trace has arrived.")

    def _not_found(self, detail: str) -> None:
        self._answer(HTTPStatus.NOT_FOUND, json.dumps({"detail": detail}))

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """The errors of the base class: a request that is not HTTP, and methods other than GET."""
        self._refuse(HTTPStatus(code), message or HTTPStatus(code).phrase)

    def _refuse(self, status: HTTPStatus, text: str) -> None:
        self.close_connection = True
        self._answer(status, json.dumps({"detail": text}))

    def _answer(
        self, status: HTTPStatus, text: str, media_type: str = "application/json", allowed: str = "default-src 'none'"
    ) -> None:
        body = text.encode()
        self.connection.settimeout(CLIENT_SECONDS)  # for the whole answer
        self.send_response(status)
        self.send_header("content-type", media_type)
        self.send_header("content-length", str(len(body)))
        self.send_header("cache-control", "no-store")
        self.send_header("x-content-type-options", "nosniff")
        self.send_header("content-security-policy", f"{allowed}; base-uri 'none'; frame-ancestors 'none'")
        if self.close_connection:
            self.send_header("connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def policy(page: str) -> str:
    """The page's Content-Security-Policy: it may run its own script, use its own style, and ask its own server."""
    [script], [style] = (re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL) for tag in ("script", "style"))
    script, style = (f"'sha256-{b64encode(sha256(part.encode()).digest()).decode()}'" for part in (script, style))
    own = f"script-src {script}; style-src {style}; connect-src 'self'; img-src data:"
    return f"default-src 'none'; {own}; form-action 'none'"


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type[Handler]) -> None:
        super().__init__(address, handler)
        self._free = threading.BoundedSemaphore(MOST_CONNECTIONS)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Closes a connection at once if too many are open, because each has a thread."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()


def main() -> None:
    host, port, file = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    # The thread that empties the socket must not wait long for its turn.
    sys.setswitchinterval(0.001)
    server = Server((host, port), Handler)
    receiver = Handler.receiver = Receiver(host, server.server_port, file)
    receiver.start()
    # In a thread of its own, because shutdown() waits for the loop that the signal interrupts.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    _log(f"listening on {host}:{receiver.port}, spans go to {file}")
    server.serve_forever(poll_interval=0.1)
    receiver.stop()


def _enlarge(udp: socket.socket) -> None:
    if sys.platform == "linux":
        with suppress(PermissionError):
            udp.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
            return
    with suppress(OSError):  # macOS refuses too large a buffer instead of granting a smaller one
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)


def _dropped(port: int) -> int | None:
    """How many datagrams found the socket's buffer full."""
    try:
        lines = Path("/proc/net/udp").read_text().splitlines()[1:]
    except OSError:
        return None
    return sum(int(fields[-1]) for fields in map(str.split, lines) if fields[1].endswith(f":{port:04X}"))


def _log(message: str) -> None:
    print(time.strftime("%Y-%m-%dT%H:%M:%S"), message, flush=True)


if __name__ == "__main__":
    main()

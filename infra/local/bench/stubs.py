"""What `make bench` puts around a function that it measures: stubs of the Runtime API and of DynamoDB, which answer at
once, so that any difference comes from the function."""

import json
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, Queue
from typing import NamedTuple

from infra.local.progress import console
from infra.local.settings import ROOT, CommandError

FUNCTION = "users-get"
BINARIES = ROOT / "target" / "bench"
EVENT = (ROOT / "events" / "invoke" / f"{FUNCTION}.json").read_bytes()
PROFILE = {
    "state": {"S": "live"},
    "id": {"S": "4f8e2a1c-9b3d-4c6e-8a7f-1d2e3c4b5a69"},
    "name": {"S": "Ara"},
    "email": {"S": "ara@example.com"},
    "created_at": {"S": "2026-05-04T09:30:00.000000Z"},
    "version": {"N": "1"},
}
TRACE = "Root=1-67890abc-0123456789abcdef01234567;Parent=53995c3f42cd8ad8;Sampled={}"


def build(variant: str, *features: str) -> Path:
    """Builds the function with these features of the runtime, and keeps the program until the next measurement."""
    console.print(f"Building {FUNCTION}, variant {variant}")
    command = ["cargo", "build", "--release", "-p", "users", "-p", "runtime", "--bin", FUNCTION]
    for feature in features:
        command += ["--features", f"runtime/{feature}"]
    if subprocess.run(command, cwd=ROOT).returncode != 0:
        raise CommandError("The function does not compile. See the messages above.")
    program = BINARIES / variant / FUNCTION
    program.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(ROOT / "target" / "release" / FUNCTION, program)
    return program


class Invocation(NamedTuple):
    """When a function got an event and when it answered, in seconds of `time.perf_counter`."""

    began: float
    answered: float
    status: int | None

    @property
    def latency(self) -> float:
        """In milliseconds."""
        return (self.answered - self.began) * 1e3


class Server(ThreadingHTTPServer):
    """One of the stubs below, on a free port."""

    daemon_threads = True

    def __init__(self, handler: type[BaseHTTPRequestHandler], tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        if tls:
            # The thread of a connection shakes hands, so that a slow client does not keep others from connecting.
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.server_port}"
        # Whether the Runtime API says that traces are sampled.
        self.sampled = False
        self.began = 0.0
        self.done: Queue[Invocation] = Queue()

    def handle_error(self, *_: object) -> None:
        """Ignores errors, because a function that is killed resets its connections."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def answer(self, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(200)
        for name, value in (headers | {"content-length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class RuntimeApi(Handler):
    """https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html"""

    def do_GET(self) -> None:
        self.server.began = time.perf_counter()
        headers = {
            "lambda-runtime-aws-request-id": "8476a536-e9f4-11e8-9739-2dfe598c3fcd",
            "lambda-runtime-deadline-ms": str(int((time.time() + 10) * 1e3)),
            "lambda-runtime-trace-id": TRACE.format(int(self.server.sampled)),
            "lambda-runtime-invoked-function-arn": f"arn:aws:lambda:us-east-1:000000000000:function:{FUNCTION}",
            "content-type": "application/json",
        }
        self.answer(EVENT, headers)

    def do_POST(self) -> None:
        answered = time.perf_counter()
        status = json.loads(self.body()).get("statusCode")
        self.answer(b"{}", {})
        self.server.done.put(Invocation(self.server.began, answered, status))


class DynamoDb(Handler):
    """Every call gets the same item."""

    def do_POST(self) -> None:
        self.body()
        self.answer(json.dumps({"Item": PROFILE}).encode(), {"content-type": "application/x-amz-json-1.0"})


@contextmanager
def served(server: Server) -> Iterator[Server]:
    with server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


def invocations(runtime_api: Server, count: int) -> list[Invocation]:
    """The next invocations of a function that this stub invokes again and again."""
    measured = []
    for _ in range(count):
        try:
            measured.append(runtime_api.done.get(timeout=10))
        except Empty:
            raise CommandError("A function did not answer within 10 s.") from None
        if measured[-1].status != 200:
            raise CommandError(f"A function answered {measured[-1].status} instead of 200.")
    return measured

"""Measures the cost of tracing for `make bench`: one function compiled with and without tracing.

Both are invoked by a stub of the Runtime API and call a stub of DynamoDB. The stubs answer at once, so that any
difference comes from the function. CPU time is that of the function's process, so other processes on the machine affect
it little. Latency is measured by the stub of the Runtime API."""

import json
import os
import shutil
import socket
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue

import psutil
from rich.table import Table

from infra.local.progress import console
from infra.local.settings import ROOT, CommandError

FUNCTION = "users-get"
BINARIES = ROOT / "target" / "bench"
# The variants alternate, so that changes in the machine's load affect all of them alike.
ROUNDS, INVOCATIONS, WARM_UP = 7, 1000, 100
STARTS = 40
# The maximum cost of tracing per request, in milliseconds of CPU. Without sampling it has to be within the noise
# between rounds.
MAX_COST = {"with, sampled": 0.3, "with, not sampled": 0.05}
EVENT = (ROOT / "events" / "invoke" / f"{FUNCTION}.json").read_bytes()
PROFILE = {
    "state": {"S": "live"},
    "id": {"S": "4f8e2a1c-9b3d-4c6e-8a7f-1d2e3c4b5a69"},
    "name": {"S": "Ara"},
    "email": {"S": "ara@example.com"},
    "created_at": {"S": "2026-05-04T09:30:00.000000Z"},
    "version": {"N": "1"},
}
HEADER = "Root=1-67890abc-0123456789abcdef01234567;Parent=53995c3f42cd8ad8;Sampled={}"


def run(
    cold_start: Callable[[Path, dict[str, str]], float], zipped: Callable[[Path], int], environment: dict[str, str]
) -> None:
    console.print(f"Building {FUNCTION} with and without tracing")
    programs = {"with": build([]), "without": build(["--features", "runtime/without-tracing"])}
    # A stub of the X-Ray daemon, which discards what it receives.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as daemon:
        daemon.bind(("127.0.0.1", 0))
        host, port = daemon.getsockname()
        environment = environment | {"AWS_XRAY_DAEMON_ADDRESS": f"{host}:{port}"}
        starts: dict[str, list[float]] = {name: [] for name in programs}
        for _ in range(STARTS):
            for name, path in programs.items():
                starts[name].append(cold_start(path, environment))
        variants = {
            "without": ("without", 1),
            "with, not sampled": ("with", 0),
            "with, sampled": ("with", 1),
        }
        rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
        for _ in range(ROUNDS):
            for name, (program, sampled) in variants.items():
                rounds[name].append(invoke(programs[program], environment, sampled))
    report(programs, starts, rounds, variants, zipped)


def build(features: list[str]) -> Path:
    command = ["cargo", "build", "--release", "-p", "users", "-p", "runtime", "--bin", FUNCTION, *features]
    if subprocess.run(command, cwd=ROOT).returncode != 0:
        raise CommandError("The function does not compile. See the messages above.")
    binary = BINARIES / ("without" if features else "with") / FUNCTION
    binary.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(ROOT / "target" / "release" / FUNCTION, binary)
    return binary


def invoke(program: Path, environment: dict[str, str], sampled: int) -> tuple[float, float]:
    """The CPU time and the latency of one invocation of a warm function, in milliseconds."""
    with served(RuntimeApi) as runtime_api, served(DynamoDb) as dynamodb:
        runtime_api.header = HEADER.format(sampled)
        environment = environment | {
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{runtime_api.server_port}",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{dynamodb.server_port}",
        }
        process = psutil.Popen([program], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait(runtime_api.done, WARM_UP)
            before, runtime_api.latencies = cpu(process), []
            wait(runtime_api.done, INVOCATIONS)
            return (cpu(process) - before) / INVOCATIONS, statistics.median(runtime_api.latencies) * 1e3
        finally:
            process.kill()
            process.wait()


def wait(done: Queue[int], count: int) -> None:
    for _ in range(count):
        status = done.get(timeout=10)
        if status != 200:
            raise CommandError(f"{FUNCTION} answered {status} instead of 200.")


def cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return (times.user + times.system) * 1e3


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.header = ""
        self.began = 0.0
        self.latencies: list[float] = []
        self.done: Queue[int] = Queue()

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
        deadline = str(int((time.time() + 10) * 1e3))
        self.server.began = time.perf_counter()
        headers = {
            "lambda-runtime-aws-request-id": "8476a536-e9f4-11e8-9739-2dfe598c3fcd",
            "lambda-runtime-deadline-ms": deadline,
            "lambda-runtime-trace-id": self.server.header,
            "lambda-runtime-invoked-function-arn": f"arn:aws:lambda:us-east-1:000000000000:function:{FUNCTION}",
            "content-type": "application/json",
        }
        self.answer(EVENT, headers)

    def do_POST(self) -> None:
        answered = time.perf_counter()
        answer = json.loads(self.body())
        self.server.latencies.append(answered - self.server.began)
        self.answer(b"{}", {})
        self.server.done.put(answer.get("statusCode"))


class DynamoDb(Handler):
    def do_POST(self) -> None:
        self.body()
        self.answer(json.dumps({"Item": PROFILE}).encode(), {"content-type": "application/x-amz-json-1.0"})


@contextmanager
def served(handler: type[Handler]) -> Iterator[Server]:
    with Server(handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


def report(
    programs: dict[str, Path],
    starts: dict[str, list[float]],
    rounds: dict[str, list[tuple[float, float]]],
    variants: dict[str, tuple[str, int]],
    zipped: Callable[[Path], int],
) -> None:
    table = Table(
        "tracing", "zipped KiB", "cold start ms", "CPU ms", "latency ms", "CPU ratio", box=None, padding=(0, 1)
    )
    used = {name: statistics.median(cpu for cpu, _ in measured) for name, measured in rounds.items()}
    for name, (program, _) in variants.items():
        latency = statistics.median(latency for _, latency in rounds[name])
        table.add_row(
            name,
            f"{zipped(programs[program]) / 1024:,.0f}",
            f"{statistics.median(starts[program]):.2f}",
            f"{used[name]:.3f}",
            f"{latency:.3f}",
            f"{used[name] / used['without']:.2f}",
        )
    console.print(table)
    console.print(
        f"Medians of {STARTS} starts and of {ROUNDS} rounds of {INVOCATIONS} invocations, {os.cpu_count()} cores"
    )
    for name, maximum in MAX_COST.items():
        if (cost := used[name] - used["without"]) > maximum:
            raise CommandError(f"Tracing ({name}) costs {cost:.2f} ms of CPU per request. The maximum is {maximum}.")

"""Prints the artifact size and the cold start of each function, compared with a function that does nothing.

The cold start is the time from the start of the process to its first request to the Lambda Runtime API, in the release
profile on this machine. It includes neither Lambda's own part (fetching the artifact, starting a sandbox) nor the
network. `answers` measures the first answer, `calls` the calls between services, and `tracing` the cost of tracing.
"""

import io
import os
import socket
import statistics
import subprocess
import time
import zipfile
from pathlib import Path

from rich.table import Table

from infra.local.bench import answers, calls, tracing
from infra.local.lifecycle import build
from infra.local.progress import console
from infra.local.settings import ROOT, CommandError

EMPTY = "empty"
RUNS = 40
MAX_ARTIFACT = 5 * 1024 * 1024
MAX_RATIO = 3.0
# The variables that functions require at start. The values do not matter, because nothing is called before the first
# poll.
ENVIRONMENT = {
    "AWS_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_LAMBDA_FUNCTION_NAME": "bench",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
    "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
    "AWS_LAMBDA_LOG_GROUP_NAME": "bench",
    "AWS_LAMBDA_LOG_STREAM_NAME": "bench",
    "TABLE": "bench",
    "EVENT_BUS": "bench",
    "USER_POOL_ID": "us-east-1_bench",
    "USER_POOL_CLIENT_ID": "bench",
    "IDENTITY_URL": "http://127.0.0.1:1",
    "DISCOVERY": "cloudmap",
    "NAMESPACE": "bench",
    "NAMESPACE_ID": "ns-bench",
    "MAIL_FROM": "bench@example.com",
    "QUEUE_URL": "http://127.0.0.1:1/bench",
    "DEAD_LETTER_QUEUE_URL": "http://127.0.0.1:1/bench",
    "STATE_MACHINE": "arn:aws:states:us-east-1:000000000000:stateMachine:bench",
    "PAYMENT_PROVIDER": "sandbox",
    "STRIPE_SECRET": "bench",
    "STRIPE_API_URL": "http://127.0.0.1:1",
    "POSTS_PER_HOUR": "1",
    "COMMENTS_PER_HOUR": "1",
    "ORDERS_PER_HOUR": "1",
}


def run() -> None:
    console.print(
        "Building in the release profile. The first time takes forty minutes because of link-time optimisation."
    )
    names = build.names()
    # The same packages as in `make build`. The examples are the empty function, and programs of `answers` and `calls`.
    selection = ["--workspace", "--exclude", "system-tests"]
    command = ["cargo", "build", "--release", *selection, "--bins", "--examples"]
    if subprocess.run(command, cwd=ROOT).returncode != 0:
        raise CommandError("The functions do not compile. See the messages above.")

    release = ROOT / "target" / "release"
    programs = {EMPTY: release / "examples" / EMPTY} | {name: release / name for name in names}
    console.print(f"Starting each of {len(programs)} functions {RUNS} times, in turns")
    starts: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(RUNS):
        for name, program in programs.items():
            starts[name].append(cold_start(program))
    report(programs, {name: statistics.median(times) for name, times in starts.items()})
    answers.run(release / "examples" / answers.RAW, ENVIRONMENT)
    tracing.run(cold_start, zipped, ENVIRONMENT)
    calls.run({name: release / "examples" / name for name in calls.PROGRAMS})


def cold_start(program: Path, settings: dict[str, str] = ENVIRONMENT) -> float:
    """Milliseconds from the start of the process to its first request to the Runtime API."""
    with socket.create_server(("127.0.0.1", 0)) as runtime_api:
        runtime_api.settimeout(10)
        environment = settings | {"AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{runtime_api.getsockname()[1]}"}
        began = time.perf_counter()
        process = subprocess.Popen([program], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            connection, _ = runtime_api.accept()
            with connection:
                connection.recv(1)
                return (time.perf_counter() - began) * 1e3
        except TimeoutError:
            raise CommandError(f"{program.name} did not poll the Runtime API within 10 s.") from None
        finally:
            process.kill()
            process.wait()


def report(programs: dict[str, Path], medians: dict[str, float]) -> None:
    table = Table("function", "zipped KiB", "cold start ms", "ratio to empty", box=None, padding=(0, 2))
    violations = []
    for name, program in programs.items():
        size, ratio = zipped(program), medians[name] / medians[EMPTY]
        table.add_row(name, f"{size / 1024:,.0f}", f"{medians[name]:.1f}", f"{ratio:.2f}")
        if size > MAX_ARTIFACT:
            violations.append(
                f"{name} has {size / 1024 / 1024:.1f} MiB when zipped (maximum: {MAX_ARTIFACT >> 20} MiB)"
            )
        if name == "users-get" and ratio > MAX_RATIO:
            violations.append(
                f"{name} starts {ratio:.2f} times as slowly as an empty function (maximum: {MAX_RATIO:g})"
            )
    console.print(table)
    console.print(f"Medians of {RUNS} starts each, {os.cpu_count()} cores")
    if violations:
        raise CommandError("; ".join(violations))


def zipped(program: Path) -> int:
    """The size in bytes of the zipped artifact."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.write(program, "bootstrap")
    return archive.tell()

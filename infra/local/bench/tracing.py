"""Measures the cost of tracing for `make bench`: one function compiled with and without tracing.

Both are invoked by a stub of the Runtime API and call a stub of DynamoDB. The stubs answer at once, so that any
difference comes from the function. CPU time is that of the function's process, so other processes on the machine affect
it little. Latency is measured by the stub of the Runtime API."""

import os
import socket
import statistics
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
from rich.table import Table

from infra.local.bench.stubs import DynamoDb, RuntimeApi, Server, build, invocations, served
from infra.local.progress import console
from infra.local.settings import CommandError

# The variants alternate, so that changes in the machine's load affect all of them alike.
ROUNDS, INVOCATIONS, WARM_UP = 7, 1000, 100
STARTS = 40
# The maximum cost of tracing per request, in milliseconds of CPU. Without sampling it has to be within the noise
# between rounds.
MAX_COST = {"with, sampled": 0.3, "with, not sampled": 0.05}


def run(
    cold_start: Callable[[Path, dict[str, str]], float], zipped: Callable[[Path], int], environment: dict[str, str]
) -> None:
    programs = {"with": build("with-tracing"), "without": build("without-tracing", "without-tracing")}
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
            "without": ("without", True),
            "with, not sampled": ("with", False),
            "with, sampled": ("with", True),
        }
        rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
        for _ in range(ROUNDS):
            for name, (program, sampled) in variants.items():
                rounds[name].append(invoke(programs[program], environment, sampled))
    report(programs, starts, rounds, variants, zipped)


def invoke(program: Path, environment: dict[str, str], sampled: bool) -> tuple[float, float]:
    """The CPU time and the latency of one invocation of a warm function, in milliseconds."""
    with served(Server(RuntimeApi)) as runtime_api, served(Server(DynamoDb)) as dynamodb:
        runtime_api.sampled = sampled
        environment = environment | {
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{runtime_api.server_port}",
            "AWS_ENDPOINT_URL": dynamodb.url,
        }
        process = psutil.Popen([program], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            invocations(runtime_api, WARM_UP)
            before = cpu(process)
            measured = invocations(runtime_api, INVOCATIONS)
            used = (cpu(process) - before) / INVOCATIONS
            return used, statistics.median(invocation.latency for invocation in measured)
        finally:
            process.kill()
            process.wait()


def cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return (times.user + times.system) * 1e3


def report(
    programs: dict[str, Path],
    starts: dict[str, list[float]],
    rounds: dict[str, list[tuple[float, float]]],
    variants: dict[str, tuple[str, bool]],
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

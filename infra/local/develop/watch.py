"""Runs `cargo lambda watch` against the local system.

cargo-lambda gives all functions the same environment, but each function has its own table and queues. The variables
that differ are therefore written to one file per function. `cargo.py`, which replaces Cargo, reads the file of the
function that it starts."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
import requests

from infra.local.develop import front
from infra.local.develop.cargo import ENVIRONMENTS as ENVIRONMENTS_VARIABLE
from infra.local.lifecycle import ports
from infra.local.progress import console
from infra.local.settings import (
    AWS_ENVIRONMENT,
    ENDPOINT,
    HOST,
    LOCAL,
    REGION,
    ROOT,
    TOOLS,
    TRACE_PORT,
    CommandError,
    client,
)

ENVIRONMENTS = LOCAL / "watch"
CARGO = Path(__file__).with_name("cargo.py")
PORT = 9000
START_SECONDS = 30
STOP_SECONDS = 5


def run(outputs: dict[str, Any]) -> None:
    if listener := ports.find_listener(PORT):
        raise CommandError(f"Port {PORT}, which `make watch` needs, is taken by {listener}. Stop it first.")
    common = LOCAL / "watch.env"
    common.write_text("".join(f"{name}='{value}'\n" for name, value in _common_environment(outputs).items()))
    names = _write_environments()
    address, port = front.private_address(PORT)
    command = [str(TOOLS / "cargo-lambda"), "lambda", "watch", "-A", address, "-P", str(port)]
    command += ["--env-file", str(common)]
    settings = {"CARGO": str(CARGO), ENVIRONMENTS_VARIABLE: str(ENVIRONMENTS)}
    # So that the first line of cargo.py finds this installation's Python.
    settings["PATH"] = f"{TOOLS}{os.pathsep}{os.environ['PATH']}"
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    # A new session, so that Ctrl-C reaches only this process. It has to list the child processes before their parents
    # exit.
    watch = subprocess.Popen(command, cwd=ROOT, env=os.environ | settings, start_new_session=True)
    try:
        _wait_until_listening(watch, (address, port))
        front.serve(PORT, (address, port), front.api_paths())
        console.print(f"{len(names)} functions answer at http://{HOST}:{PORT} from the saved code. Ctrl-C stops them.")
        console.print(f"  curl http://{HOST}:{PORT}/posts")
        console.print("  .local/venv/bin/cargo-lambda lambda invoke users-get --data-file events/invoke/users-get.json")
        watch.wait()
        raise CommandError("`cargo lambda watch` exited. See its message above.")
    except KeyboardInterrupt:
        pass  # the usual way to stop it
    finally:
        _stop(watch)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _wait_until_listening(watch: subprocess.Popen[bytes], address: tuple[str, int]) -> None:
    """Waits until the address accepts connections. `cargo lambda watch` exits with 0 even if it cannot listen."""
    deadline = time.monotonic() + START_SECONDS
    while watch.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(address, timeout=1):
            return
        time.sleep(0.1)
    raise CommandError("`cargo lambda watch` does not listen. See its message above.")


def _stop(watch: subprocess.Popen[bytes]) -> None:
    """Stops `cargo lambda watch` and all its child processes. Each function is in its own process group."""
    started = []
    with suppress(psutil.NoSuchProcess):
        started = psutil.Process(watch.pid).children(recursive=True)
    watch.terminate()
    try:
        watch.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        watch.kill()
        watch.wait()
    for process in started:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(started, timeout=STOP_SECONDS)


def _common_environment(outputs: dict[str, Any]) -> dict[str, str]:
    """The variables of all functions. They replace the local cloud's own environment and the API's authorizer."""
    pool = outputs["user_pool_id"]
    keys = requests.get(f"{ENDPOINT}/{pool}/.well-known/jwks.json", timeout=5)
    keys.raise_for_status()
    return AWS_ENVIRONMENT | {
        "AWS_XRAY_DAEMON_ADDRESS": f"{HOST}:{TRACE_PORT}",
        "LOCAL_JWKS": keys.text.strip().replace("\n", ""),
        "JWT_ISSUER": f"https://cognito-idp.{REGION}.amazonaws.com/{pool}",
        "JWT_AUDIENCE": outputs["user_pool_client_id"],
    }


def _write_environments() -> list[str]:
    """Writes one file per function with the variables from its template. Returns the functions' names."""
    shutil.rmtree(ENVIRONMENTS, ignore_errors=True)
    ENVIRONMENTS.mkdir(parents=True)
    names = []
    for page in client("lambda").get_paginator("list_functions").paginate():
        for function in page["Functions"]:
            variables = function.get("Environment", {}).get("Variables", {})
            (ENVIRONMENTS / f"{function['FunctionName']}.json").write_text(json.dumps(variables))
            names.append(function["FunctionName"])
    return sorted(names)

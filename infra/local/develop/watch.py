"""`cargo lambda watch` with the local system's environment.

cargo-lambda gives all functions one environment, but each has its own table and queues. So what differs is written to
one file per function, and `cargo.py`, which replaces Cargo, reads the file of the function that it starts."""

import json
import os
import shutil
import signal
import socket
import socketserver
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
import requests

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
    Trouble,
    client,
)

ENVIRONMENTS = LOCAL / "watch"
CARGO = Path(__file__).with_name("cargo.py")
PORT = 9000
START_SECONDS = 30
STOP_SECONDS = 5


def run(outputs: dict[str, Any]) -> None:
    if who := ports.taken(PORT):
        raise Trouble(f"Port {PORT} is taken by {who}: stop it first, `make watch` serves there.")
    common = LOCAL / "watch.env"
    common.write_text("".join(f"{name}='{value}'\n" for name, value in _common(outputs).items()))
    names = _write_environments()
    command = [str(TOOLS / "cargo-lambda"), "lambda", "watch", "-A", HOST, "-P", str(PORT)]
    command += ["--env-file", str(common)]
    settings = {"CARGO": str(CARGO), ENVIRONMENTS_VARIABLE: str(ENVIRONMENTS)}
    # So that it is this installation's Python that the first line of cargo.py finds.
    settings["PATH"] = f"{TOOLS}{os.pathsep}{os.environ['PATH']}"
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    # Ctrl-C reaches this process alone, so that it can find what there is to end before its parents are gone.
    watch = subprocess.Popen(command, cwd=ROOT, env=os.environ | settings, start_new_session=True)
    try:
        _await(watch)
        console.print(f"{len(names)} functions answer at http://{HOST}:{PORT} as they are saved; Ctrl-C ends it.")
        console.print(f"  curl http://{HOST}:{PORT}/posts")
        console.print("  .local/venv/bin/cargo-lambda lambda invoke users-get --data-file events/invoke/users-get.json")
        _listen_where_invoke_asks()
        watch.wait()
        raise Trouble("`cargo lambda watch` gave up: see its message above.")
    except KeyboardInterrupt:
        pass  # how it is meant to end
    finally:
        _stop(watch)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _await(watch: subprocess.Popen[bytes]) -> None:
    """Waits until someone listens on the port. `cargo lambda watch` exits with status 0 even if it cannot listen."""
    deadline = time.monotonic() + START_SECONDS
    while watch.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection((HOST, PORT), timeout=1):
            return
        time.sleep(0.1)
    raise Trouble(f"`cargo lambda watch` does not listen on port {PORT}: see its message above.")


def _stop(watch: subprocess.Popen[bytes]) -> None:
    """Ends it with everything that it has started: each function is in a process group of its own."""
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


def _listen_where_invoke_asks() -> None:
    """`cargo lambda invoke` asks at [::1] and can be told otherwise on each command line only, while `cargo lambda
    watch` listens at one address: what arrives at the one is passed on to the other."""

    class PassOn(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError), socket.create_connection((HOST, PORT)) as watch:
                back = threading.Thread(target=_copy, args=(watch, self.request), daemon=True)
                back.start()
                _copy(self.request, watch)
                back.join()

    class Server(socketserver.ThreadingTCPServer):
        address_family = socket.AF_INET6
        allow_reuse_address = True
        daemon_threads = True

    with suppress(OSError):  # a machine without IPv6
        threading.Thread(target=Server(("::1", PORT), PassOn).serve_forever, daemon=True).start()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def _common(outputs: dict[str, Any]) -> dict[str, str]:
    """What the local cloud's own environment and the API's authorizer provide behind the API."""
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
    """One file per function with the variables that its template gives it; answers the functions' names."""
    shutil.rmtree(ENVIRONMENTS, ignore_errors=True)
    ENVIRONMENTS.mkdir(parents=True)
    names = []
    for page in client("lambda").get_paginator("list_functions").paginate():
        for function in page["Functions"]:
            variables = function.get("Environment", {}).get("Variables", {})
            (ENVIRONMENTS / f"{function['FunctionName']}.json").write_text(json.dumps(variables))
            names.append(function["FunctionName"])
    return sorted(names)

"""`cargo lambda watch` with the local system's environment.

cargo-lambda gives all functions one environment, but each has its own table and queues. So what differs is written to
one file per function, and Cargo starts every binary through `with-environment`, which reads the file of that name."""

import os
import shlex
import shutil
import socket
import socketserver
import subprocess
import threading
from contextlib import suppress

import requests

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
RUNNER = ROOT / "infra" / "local" / "develop" / "with-environment"
PORT = 9000


def run(outputs: dict) -> None:
    common = LOCAL / "watch.env"
    common.write_text("".join(f"{name}='{value}'\n" for name, value in _common(outputs).items()))
    names = _write_environments()
    console.print(f"{len(names)} functions answer at http://{HOST}:{PORT} as they are saved.")
    console.print(f"  curl http://{HOST}:{PORT}/posts")
    console.print("  .local/venv/bin/cargo-lambda lambda invoke users-get --data-file events/invoke/users-get.json")
    command = [str(TOOLS / "cargo-lambda"), "lambda", "watch", "-A", HOST, "-P", str(PORT)]
    command += ["--env-file", str(common)]
    _listen_where_invoke_asks()
    environment = os.environ | {_runner_variable(): f"{RUNNER} {ENVIRONMENTS}"}
    with suppress(KeyboardInterrupt):  # how it is meant to end
        if subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode != 0:
            raise Trouble("`cargo lambda watch` gave up: see its message above.")


def _listen_where_invoke_asks() -> None:
    """`cargo lambda invoke` asks at [::1] and can be told otherwise on each command line only, while `cargo lambda watch`
    listens at one address: what arrives at the one is passed on to the other."""

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


def _common(outputs: dict) -> dict[str, str]:
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
    """One file per function with the variables that its template gives it."""
    shutil.rmtree(ENVIRONMENTS, ignore_errors=True)
    ENVIRONMENTS.mkdir(parents=True)
    names = []
    for page in client("lambda").get_paginator("list_functions").paginate():
        for function in page["Functions"]:
            variables = function.get("Environment", {}).get("Variables", {})
            lines = [f"export {name}={shlex.quote(value)}\n" for name, value in sorted(variables.items())]
            (ENVIRONMENTS / f"{function['FunctionName']}.env").write_text("".join(lines))
            names.append(function["FunctionName"])
    return sorted(names)


def _runner_variable() -> str:
    version = subprocess.run(["rustc", "-vV"], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    host = next(line.removeprefix("host: ") for line in version.splitlines() if line.startswith("host: "))
    return f"CARGO_TARGET_{host.upper().replace('-', '_')}_RUNNER"

"""The process of the local cloud: starts it, finds it and stops it."""

import os
import shutil
import sys
import time
from contextlib import suppress

import psutil
import requests

from infra.local.lifecycle import pids, ports
from infra.local.settings import (
    ANOTHER_PORT,
    CLOUD_LOG,
    ENDPOINT,
    HOST,
    LOCAL,
    PORT,
    REGION,
    STATE,
    TRACE_PORT,
    CommandError,
)
from infra.local.traces import process as receiver

PID_FILE = LOCAL / "ministack.pid"
START_SECONDS = 60
STOP_SECONDS = 60


def start() -> bool:
    """Starts the local cloud. Returns false if it was running already."""
    if process := running():
        check_port()
        receiver.start()
        if _healthy():
            return False
        _wait_until_healthy(process)
        return False
    _check_port_is_free()
    _check_port_of_state()
    receiver.start()
    for directory in (STATE, LOCAL / "tmp"):
        directory.mkdir(parents=True, exist_ok=True)
    (STATE / "port").write_text(str(PORT))
    command = [sys.executable, "-I", "-u", str(ports.LAUNCHER)]
    process = pids.start(PID_FILE, command, _environment(), cwd=LOCAL, log=CLOUD_LOG, port=PORT)
    _wait_until_healthy(process)
    return True


def stop(discard: bool = False) -> bool:
    """Stops the local cloud, which writes its state before it exits, unless that is to be discarded. Returns false if
    it was not running."""
    try:
        return _stop(discard)
    finally:
        receiver.stop()  # last, because functions send spans until they end


def delete_state() -> None:
    """Deletes everything that the local cloud has stored, and the traces."""
    for directory in (STATE, LOCAL / "tmp"):
        shutil.rmtree(directory, ignore_errors=True)
    receiver.forget()


def running() -> psutil.Process | None:
    """The process of this clone's local cloud, or None if it is not running."""
    return pids.find(PID_FILE)


def _stop(discard: bool) -> bool:
    process = running()
    if not process:
        PID_FILE.unlink(missing_ok=True)
        return False
    functions = process.children(recursive=True)
    if discard:
        process.kill()
    else:
        process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except psutil.TimeoutExpired:
        process.kill()
        raise CommandError(
            f"The local cloud did not stop within {STOP_SECONDS} s and was killed. "
            f"Everything that was stored since its last start is lost (log: {CLOUD_LOG})."
        ) from None
    finally:
        _, left = psutil.wait_procs(functions, timeout=2)
        for function in left:
            with suppress(psutil.NoSuchProcess):
                function.kill()
        PID_FILE.unlink(missing_ok=True)
    return True


def _environment() -> dict[str, str]:
    """The environment of the local cloud. The functions inherit it, so it has none of the caller's variables: a
    variable that a template forgets has to be missing here as it is on AWS."""
    return {
        "PATH": os.defpath,
        "HOME": str(LOCAL),
        "TMPDIR": str(LOCAL / "tmp"),
        "LANG": "C.UTF-8",
        "GATEWAY_PORT": str(PORT),
        "BIND_HOST": HOST,
        "MINISTACK_HOST": "localhost",
        "MINISTACK_REGION": REGION,
        "AWS_ENDPOINT_URL": ENDPOINT,
        "AWS_XRAY_DAEMON_ADDRESS": f"{HOST}:{TRACE_PORT}",
        "AUTH": "true",
        "PERSIST_STATE": "1",
        "STATE_DIR": str(STATE),
        "S3_PERSIST": "1",
        "S3_DATA_DIR": str(STATE / "s3"),
        # The pauses between a state machine's retries last a hundredth of those on AWS.
        "SFN_WAIT_SCALE": "0.01",
        # An idle process of a function costs MiniStack 0.14 % of a core. After a burst, idle processes are stopped
        # within seconds instead of five minutes; one process of each function is kept.
        "LAMBDA_WARM_TTL_SECONDS": "5",
        # Otherwise MiniStack opens another port.
        "IOT_MTLS_ENABLED": "0",
    }


def _healthy() -> bool:
    with suppress(requests.RequestException):
        return requests.get(f"{ENDPOINT}/_ministack/health", timeout=2).ok
    return False


def _wait_until_healthy(process: psutil.Process) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not _healthy():
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            PID_FILE.unlink(missing_ok=True)
            raise CommandError(f"The local cloud exited while it was starting. See {CLOUD_LOG}.")
        if time.monotonic() > deadline:
            raise CommandError(f"The local cloud did not answer within {START_SECONDS} s. See {CLOUD_LOG}.")
        time.sleep(0.1)


def check_port() -> None:
    """Raises `CommandError` if this clone's local cloud runs on a port other than MADANG_PORT."""
    port = pids.read_field(PID_FILE, "port")
    if port != PORT:
        raise CommandError(
            f"The local cloud of this clone runs on port {port}. Use MADANG_PORT={port}, or `make down`."
        )


def _check_port_of_state() -> None:
    """Raises `CommandError` if the state was stored on another port, because it contains queue URLs with the port."""
    with suppress(FileNotFoundError, ValueError):
        port = int((STATE / "port").read_text())
        if port != PORT:
            raise CommandError(
                f"The stored state belongs to port {port}. Use MADANG_PORT={port}, or `make clean-local` to delete it."
            )


def _check_port_is_free() -> None:
    if listener := ports.find_listener(PORT):
        raise CommandError(
            f"Port {PORT} is taken by {listener}. Stop it, or use another port: MADANG_PORT={ANOTHER_PORT} make up"
        )

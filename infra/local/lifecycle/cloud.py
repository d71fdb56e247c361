"""The local AWS as a process: start, find, stop."""

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
    Trouble,
)
from infra.local.traces import process as receiver

PID_FILE = LOCAL / "ministack.pid"
START_SECONDS = 60
STOP_SECONDS = 60


def start() -> bool:
    """Brings the local cloud up; false when it was up already."""
    if process := running():
        same_port()
        receiver.start()
        if _healthy():
            return False
        _wait_until_healthy(process)
        return False
    _port_is_free()
    _state_fits_port()
    receiver.start()
    for directory in (STATE, LOCAL / "tmp"):
        directory.mkdir(parents=True, exist_ok=True)
    (STATE / "port").write_text(str(PORT))
    command = [sys.executable, "-I", "-u", str(ports.LAUNCHER)]
    process = pids.start(PID_FILE, command, _environment(), cwd=LOCAL, log=CLOUD_LOG, port=PORT)
    _wait_until_healthy(process)
    return True


def stop() -> bool:
    """Stops the local cloud, which writes its state on the way out; false when it was not running."""
    try:
        return _stop()
    finally:
        receiver.stop()  # after the functions, which send spans until they end


def forget() -> None:
    """Throws away everything the local cloud has stored, and the traces."""
    for directory in (STATE, LOCAL / "tmp"):
        shutil.rmtree(directory, ignore_errors=True)
    receiver.forget()


def running() -> psutil.Process | None:
    """The local cloud of this clone."""
    return pids.recall(PID_FILE)


def _stop() -> bool:
    process = running()
    if not process:
        PID_FILE.unlink(missing_ok=True)
        return False
    functions = process.children(recursive=True)
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except psutil.TimeoutExpired:
        process.kill()
        raise Trouble(
            f"The local cloud did not stop within {STOP_SECONDS} s and was killed: "
            f"what happened since its last start is lost (log: {CLOUD_LOG})."
        ) from None
    finally:
        _, left = psutil.wait_procs(functions, timeout=2)
        for function in left:
            with suppress(psutil.NoSuchProcess):
                function.kill()
        PID_FILE.unlink(missing_ok=True)
    return True


def _environment() -> dict[str, str]:
    """All of it is inherited by the functions, so it holds what is needed and nothing of the caller's:
    a variable that a template forgets must be missing here too."""
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
        # A state machine's pauses before it tries again last a tenth of what they do on AWS.
        "SFN_WAIT_SCALE": "0.1",
        # Each process of a function that has nothing to do costs MiniStack 0.14 % of its one core, so what a burst has
        # started is kept for seconds instead of five minutes; one of each function stays.
        "LAMBDA_WARM_TTL_SECONDS": "5",
        # Opens a port of its own otherwise.
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
            raise Trouble(f"The local cloud stopped while starting: see {CLOUD_LOG}.")
        if time.monotonic() > deadline:
            raise Trouble(f"The local cloud did not answer within {START_SECONDS} s: see {CLOUD_LOG}.")
        time.sleep(0.1)


def same_port() -> None:
    """Refuses a command that was given another port than the local cloud of this clone runs on."""
    port = pids.detail(PID_FILE, "port")
    if port != PORT:
        raise Trouble(f"The local cloud of this clone runs on port {port}: use MADANG_PORT={port}, or `make down`.")


def _state_fits_port() -> None:
    """Queue URLs with the port in them are part of the stored state."""
    with suppress(FileNotFoundError, ValueError):
        port = int((STATE / "port").read_text())
        if port != PORT:
            raise Trouble(f"The stored state belongs to port {port}: use MADANG_PORT={port}, or `make clean-local`.")


def _port_is_free() -> None:
    if who := ports.taken(PORT):
        raise Trouble(
            f"Port {PORT} is taken by {who}; stop it, or choose another port: MADANG_PORT={ANOTHER_PORT} make up"
        )

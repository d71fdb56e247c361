"""Starts processes that outlive the command, and finds them again in a later command."""

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import psutil


def start(file: Path, command: list[str], environment: dict[str, str], cwd: Path, log: Path, port: int) -> psutil.Popen:
    """Starts a process in its own session, so that Ctrl-C does not reach it, and writes its id and port to `file`."""
    with _defer_interrupt(), log.open("w") as output:
        process = psutil.Popen(
            command,
            env=environment,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        file.write_text(json.dumps({"pid": process.pid, "created": process.create_time(), "port": port}))
    return process


def find(file: Path) -> psutil.Process | None:
    """The process that `start` wrote to the file, or None if it has ended. The creation time is compared because
    another process may have its id by now."""
    try:
        recorded = json.loads(file.read_text())
        process = psutil.Process(recorded["pid"])
        if abs(process.create_time() - recorded["created"]) < 1 and process.status() != psutil.STATUS_ZOMBIE:
            return process
    except (FileNotFoundError, ValueError, KeyError, psutil.NoSuchProcess):
        pass
    return None


@contextmanager
def _defer_interrupt() -> Iterator[None]:
    """Defers Ctrl-C to the end of the block. Otherwise a process could be started without its id being written to the
    file, and no later command could stop it."""
    interrupted: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        interrupted.append(number)

    handler = signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if interrupted:
        raise KeyboardInterrupt


def read_field(file: Path, name: str) -> int:
    return json.loads(file.read_text())[name]

"""Starts processes that outlive the command, and finds them again in the next one."""

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import psutil


def start(file: Path, command: list[str], environment: dict[str, str], cwd: Path, log: Path, port: int) -> psutil.Popen:
    """Starts a process in a session of its own, where no Ctrl-C reaches it, and remembers it."""
    with _without_interruption(), log.open("w") as output:
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


def recall(file: Path) -> psutil.Process | None:
    """The process, if it lives; a left-over file names one that is gone or someone else's."""
    try:
        recorded = json.loads(file.read_text())
        process = psutil.Process(recorded["pid"])
        if abs(process.create_time() - recorded["created"]) < 1 and process.status() != psutil.STATUS_ZOMBIE:
            return process
    except (FileNotFoundError, ValueError, KeyError, psutil.NoSuchProcess):
        pass
    return None


@contextmanager
def _without_interruption() -> Iterator[None]:
    """Ctrl-C waits meanwhile: a process that was started and not remembered would keep its port, unknown to anyone."""
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


def detail(file: Path, name: str) -> int:
    return json.loads(file.read_text())[name]

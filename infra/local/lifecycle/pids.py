"""Finds a process again that an earlier command started."""

import json
from pathlib import Path

import psutil


def remember(file: Path, process: psutil.Process, **details: int) -> None:
    file.write_text(json.dumps({"pid": process.pid, "created": process.create_time(), **details}))


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


def detail(file: Path, name: str) -> int:
    return json.loads(file.read_text())[name]

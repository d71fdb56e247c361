"""Runs the operator's commands by `make`, and sends requests as a user."""

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import requests

from infra.local.settings import ROOT

PATIENCE = 60


def make(target: str, check: bool = True, **variables: str) -> subprocess.CompletedProcess:
    done = subprocess.run(
        command(target, **variables), cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120
    )
    assert not check or done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done


def command(target: str, **variables: str) -> list[str]:
    return ["make", "-s", target, *(f"{name}={value}" for name, value in variables.items())]


def environment() -> dict[str, str]:
    """The environment without the options of a `make` that runs these tests."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}


def eventually(what: str, probe: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := probe()):
        assert time.monotonic() < deadline, f"expected within {PATIENCE} s: {what}"
        time.sleep(0.2)
    return found


@dataclass
class Person:
    """A user with a token from `make token`."""

    api: str
    email: str
    token: str
    session: requests.Session = field(default_factory=requests.Session)

    def request(self, method: str, path: str, body: dict | None = None, **headers: str) -> requests.Response:
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        headers["authorization"] = f"Bearer {self.token}"
        return self.session.request(method, self.api + path, json=body, headers=headers, timeout=30)

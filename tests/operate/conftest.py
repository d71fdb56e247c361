"""The commands for a system that runs, as people call them: by `make`, against the running system."""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

# For infra.local, which knows how the local cloud is reached.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from infra.local.lifecycle import outputs
from infra.local.settings import OUTPUTS, ROOT

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
    """Without what a `make` around the tests has been given."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}


def eventually(what: str, probe: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := probe()):
        assert time.monotonic() < deadline, f"not within {PATIENCE} s: {what}"
        time.sleep(0.2)
    return found


@dataclass
class Person:
    """Someone who is signed in by `make token`."""

    api: str
    email: str
    token: str
    session: requests.Session = field(default_factory=requests.Session)

    def request(self, method: str, path: str, body: dict | None = None, **headers: str) -> requests.Response:
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        headers["authorization"] = f"Bearer {self.token}"
        return self.session.request(method, self.api + path, json=body, headers=headers, timeout=30)


@pytest.fixture(scope="session")
def system() -> dict:
    assert OUTPUTS.exists(), "the system has to be up: run `make up` first"
    return outputs.read()


@pytest.fixture(scope="session")
def sign_up(system) -> Callable[..., Person]:
    def sign_up(**variables: str) -> Person:
        email = f"{uuid.uuid4().hex}@example.com"
        return Person(system["api_url"], email, make("token", EMAIL=email, **variables).stdout.strip())

    return sign_up


@pytest.fixture(scope="session")
def ara(sign_up) -> Person:
    return sign_up(NAME="Ara")


@pytest.fixture(scope="session")
def sora(sign_up) -> Person:
    return sign_up(NAME="Sora", ADMIN="1")


@pytest.fixture(scope="session")
def sku(sora) -> str:
    """Something that can be ordered."""
    sku = f"operate-{uuid.uuid4().hex[:12]}"
    goods = {"name": "Pears", "unit_price": {"amount": 450, "currency": "USD"}, "on_hand": 10}
    assert sora.request("PUT", f"/inventory/{sku}", goods, if_none_match="*").status_code == 201
    return sku

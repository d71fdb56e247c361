import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

# So that infra.local can be imported, which has the address of the local cloud.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from commands import Person, make

from infra.local.lifecycle import outputs
from infra.local.settings import OUTPUTS


@pytest.fixture(scope="session")
def system() -> dict:
    assert OUTPUTS.exists(), "these tests need the running system: run `make up` first"
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
    """The SKU of a stock item that can be ordered."""
    sku = f"operate-{uuid.uuid4().hex[:12]}"
    goods = {"name": "Pears", "unit_price": {"amount": 450, "currency": "USD"}, "on_hand": 10}
    assert sora.request("PUT", f"/inventory/{sku}", goods, if_none_match="*").status_code == 201
    return sku

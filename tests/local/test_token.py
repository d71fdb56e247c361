"""`make token`: when it returns a token. A stub stands for the API."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from infra.local.operate import token
from infra.local.settings import CommandError

WELCOME = {"type": "welcome"}


@dataclass
class Answer:
    status_code: int
    body: dict
    text: str = ""

    def json(self) -> dict:
        return self.body


@dataclass
class Api:
    """A stub of the API, in which the notifications service learns of a new user late."""

    registers: Answer
    lists: list[list[dict]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    asked: int = 0

    def post(self, *_: Any, **__: Any) -> Answer:
        return self.registers

    def get(self, *_: Any, **__: Any) -> Answer:
        self.asked += 1
        return Answer(200, {"items": self.lists.pop(0)})


@pytest.fixture
def registered(monkeypatch):
    def run(api: Api) -> tuple[str, int]:
        monkeypatch.setattr(token.requests, "Session", lambda: api)
        monkeypatch.setattr(token.time, "sleep", lambda _: None)
        return token._register({"api_url": "http://api"}, "t", "Ara")["id"], api.asked

    return run


def test_a_new_users_token_is_returned_once_the_other_services_know_the_user(registered):
    assert registered(Api(Answer(201, {"id": "u-1"}), [[], [], [WELCOME]])) == ("u-1", 3)


def test_an_existing_users_token_is_returned_at_once(registered):
    assert registered(Api(Answer(200, {"id": "u-1"}))) == ("u-1", 0)


def test_a_deleted_user_gets_the_apis_error_message(registered):
    with pytest.raises(CommandError, match="403: the profile was deleted"):
        registered(Api(Answer(403, {"detail": "the profile was deleted"})))

"""`make token`: when a token is handed out. What the API answers is made up here."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from infra.local.operate import token
from infra.local.settings import Trouble

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
    """The API, of which the notifications service hears of a new person late."""

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
        return token._registered({"api_url": "http://api"}, "t", "Ara")["id"], api.asked

    return run


def test_a_new_person_waits_until_the_other_services_know_of_them(registered):
    assert registered(Api(Answer(201, {"id": "u-1"}), [[], [], [WELCOME]])) == ("u-1", 3)


def test_someone_who_was_here_before_does_not_wait(registered):
    assert registered(Api(Answer(200, {"id": "u-1"}))) == ("u-1", 0)


def test_someone_who_has_left_is_told_what_the_api_says(registered):
    with pytest.raises(Trouble, match="403: the profile was deleted"):
        registered(Api(Answer(403, {"detail": "the profile was deleted"})))

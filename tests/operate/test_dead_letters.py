"""`make dead-letters` and `make redrive` in the running system."""

import json
import uuid
from collections.abc import Callable
from datetime import datetime, timezone

import pytest
from commands import Person, eventually, make

from infra.local.settings import client


@pytest.fixture(scope="module")
def post(ara: Person) -> str:
    """The id of a post. Its author's name is the one in the last event that posts has applied."""
    return ara.request("POST", "/posts", {"title": "Spring", "body": "It rains."}).json()["id"]


@pytest.fixture
def author(ara: Person, post: str) -> Callable[[], str]:
    return lambda: ara.request("GET", f"/posts/{post}").json()["author"]["name"]


def user_updated(person: Person, name: str, sequence: int) -> dict:
    """The event `user.updated` for a new name."""
    user = person.request("GET", "/users/me").json()["id"]
    return {
        "specversion": "1.0",
        "id": str(uuid.uuid4()),
        "source": "madang.users",
        "type": "user.updated",
        "subject": user,
        "time": datetime.now(timezone.utc).isoformat().replace("+00:00", "Z"),
        "sequence": sequence,
        "schemaversion": 1,
        "data": {"id": user, "name": name},
    }


def send_dead_letter(system: dict, queue: str, body: dict, reason: str) -> None:
    """Sends a message to a dead-letter queue as a function does."""
    client("sqs").send_message(
        QueueUrl=system["queues"][f"{queue}-dead-letters"],
        MessageBody=json.dumps(body),
        MessageAttributes={"reason": {"DataType": "String", "StringValue": reason}},
    )


def test_a_dead_letter_is_shown_with_its_reason_and_applied_after_a_redrive(system, ara, author):
    event = user_updated(ara, "Areum", 1_000)
    delivered = {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": event["type"],
        "source": event["source"],
        "account": "000000000000",
        "time": event["time"],
        "region": "us-east-1",
        "resources": [],
        "detail": event,
    }
    reason = "failed for 6 h (47 deliveries), the last time with: no answer"
    send_dead_letter(system, "posts-on-user", delivered, reason)

    assert "posts-on-user-dead-letters: 1 message" in make("dead-letters").stdout
    for _ in range(2):  # showing a message leaves it in the queue
        shown = make("dead-letters", Q="posts-on-user").stdout
        assert event["id"] in shown and f"user.updated {event['subject']}" in shown
        assert reason in shown
    assert author() == "Ara"

    assert "1 message put back into posts-on-user" in make("redrive", Q="posts-on-user", ID=event["id"]).stdout
    eventually("the event is applied", lambda: author() == "Areum")
    assert event["id"] not in make("dead-letters", Q="posts-on-user-dead-letters").stdout


def test_a_relays_dead_letter_is_published_after_a_redrive(system, ara, author):
    event = user_updated(ara, "Areum Kim", 1_001)
    send_dead_letter(
        system, "users-relay", {"pk": f"user#{event['subject']}", "sk": "profile", "outbox": event}, "not read"
    )
    assert event["id"] in make("dead-letters", Q="users-relay").stdout
    assert "1 message given to users-relay again" in make("redrive", Q="users-relay", ID=event["id"]).stdout
    eventually("the event is delivered by the bus", lambda: author() == "Areum Kim")


def test_a_relays_dead_letter_that_is_still_invalid_returns_with_its_reason(system):
    item = {"pk": str(uuid.uuid4()), "sk": "post", "outbox": {"id": str(uuid.uuid4()), "type": "post.created"}}
    send_dead_letter(system, "posts-relay", item, "as it was")
    make("redrive", Q="posts-relay", ID=item["outbox"]["id"])
    shown = make("dead-letters", Q="posts-relay", ID=item["outbox"]["id"]).stdout
    assert item["pk"] in shown and "missing field `source`" in shown
    # So that it triggers no alarm.
    client("sqs").purge_queue(QueueUrl=system["queues"]["posts-relay-dead-letters"])


def test_an_unknown_queue_is_refused_with_similar_names():
    for target in ("dead-letters", "redrive"):
        done = make(target, check=False, Q="post-on-user")
        assert (done.returncode != 0, done.stdout) == (True, "")
        assert "(did you mean posts-on-user" in done.stderr

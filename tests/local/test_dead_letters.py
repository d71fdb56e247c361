"""`make dead-letters` and `make redrive`: no message is lost, and only the selected messages are changed."""

import io
import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import pytest
from boto3.dynamodb.types import TypeDeserializer

from infra.local.operate import dead_letters
from infra.local.settings import ROOT, CommandError

SENT = datetime(2026, 5, 4, 14, 30, tzinfo=timezone.utc)
OUTPUTS = {"queues": {name: f"http://sqs/{name}" for name in ("posts-on-user", "posts-on-user-dead-letters")}}
OUTPUTS["queues"]["posts-relay-dead-letters"] = "http://sqs/posts-relay-dead-letters"
HEADER = "Root=1-67890abc-0123456789abcdef01234567;Parent=53995c3f42cd8ad8;Sampled=1"


def letter(id_: str, body: object, reason: str | None = "no such user") -> dict:
    attributes = {"reason": {"DataType": "String", "StringValue": reason}} if reason else {}
    return {
        "MessageId": id_,
        "ReceiptHandle": f"receipt of {id_}",
        "Body": body if isinstance(body, str) else json.dumps(body),
        "Attributes": {"SentTimestamp": str(int(SENT.timestamp() * 1000)), "AWSTraceHeader": HEADER},
        "MessageAttributes": attributes,
    }


def delivered(event_id: str) -> dict:
    return {"detail-type": "user.updated", "detail": {"id": event_id, "type": "user.updated", "subject": "u-1"}}


@dataclass
class Cloud:
    """A stub of SQS with one dead-letter queue, and of Lambda. It records the calls in their order."""

    letters: list[dict]
    calls: list[tuple] = field(default_factory=list)
    hidden: set[str] = field(default_factory=set)
    relay_answers: dict = field(default_factory=lambda: {"batchItemFailures": []})
    send_fails: bool = False
    objects: dict[tuple[str, str], str] = field(default_factory=dict)

    def receive_message(self, MaxNumberOfMessages, **_):
        seen = [one for one in self.letters if one["MessageId"] not in self.hidden][:MaxNumberOfMessages]
        self.hidden |= {one["MessageId"] for one in seen}
        return {"Messages": seen} if seen else {}

    def send_message(self, **message):
        if self.send_fails:
            raise RuntimeError("the message cannot be sent")
        self.calls.append(("send", message))

    def invoke(self, FunctionName, Payload):
        self.calls.append(("invoke", FunctionName, json.loads(Payload)))
        return {"Payload": io.StringIO(json.dumps(self.relay_answers))}

    def get_object(self, Bucket, Key):
        return {"Body": io.StringIO(self.objects[Bucket, Key])}

    def delete_object(self, Bucket, Key):
        self.calls.append(("delete object", Bucket, Key))

    def delete_message(self, ReceiptHandle, **_):
        self.calls.append(("delete", ReceiptHandle))
        self.letters = [one for one in self.letters if one["ReceiptHandle"] != ReceiptHandle]

    def change_message_visibility_batch(self, Entries, **_):
        assert 1 <= len(Entries) <= dead_letters.BATCH
        receipts = {entry["ReceiptHandle"] for entry in Entries if entry["VisibilityTimeout"] == 0}
        self.hidden -= {one["MessageId"] for one in self.letters if one["ReceiptHandle"] in receipts}

    def get_queue_attributes(self, AttributeNames, **_):
        counts = (len(self.letters) - len(self.hidden), len(self.hidden))
        return {"Attributes": dict(zip(AttributeNames, map(str, counts), strict=True))}

    def visible(self) -> set[str]:
        return {one["MessageId"] for one in self.letters} - self.hidden


@pytest.fixture
def cloud(monkeypatch):
    def install(*letters: dict) -> Cloud:
        cloud = Cloud(list(letters))
        monkeypatch.setattr(dead_letters, "client", lambda _: cloud)
        return cloud

    return install


def test_a_message_is_shown_with_its_event_and_reason_and_stays_in_the_queue(cloud, capsys):
    letters = [letter(f"m-{number}", delivered(f"e-{number}")) for number in range(25)]
    there = cloud(*letters)
    dead_letters.show(OUTPUTS, "posts-on-user", "")
    shown = capsys.readouterr().out
    assert "posts-on-user-dead-letters: 25 messages" in shown
    assert "  m-24  user.updated u-1  " in shown and "reason  no such user" in shown and "event   e-24" in shown
    assert there.visible() == {one["MessageId"] for one in letters} and there.calls == []


def test_messages_become_visible_again_after_a_failure(cloud):
    there = cloud(letter("m-1", delivered("e-1")))
    with pytest.raises(CommandError, match="has the id “e-2”"):
        dead_letters.show(OUTPUTS, "posts-on-user", "e-2")
    assert there.visible() == {"m-1"}


def test_a_long_body_is_shortened_unless_its_message_is_selected(cloud, capsys):
    cloud(letter("m-1", delivered("e-1") | {"text": "x" * 500}))
    dead_letters.show(OUTPUTS, "posts-on-user", "")
    assert "x" * 400 not in capsys.readouterr().out
    dead_letters.show(OUTPUTS, "posts-on-user", "m-1")
    assert "x" * 500 in capsys.readouterr().out


@pytest.mark.parametrize("wanted, left", [("", set()), ("m-2", {"m-1", "m-3"}), ("e-2", {"m-1", "m-3"})])
def test_only_the_selected_messages_are_shown_and_deleted(cloud, capsys, wanted, left):
    there = cloud(*(letter(f"m-{number}", delivered(f"e-{number}")) for number in (1, 2, 3)))
    dead_letters.show(OUTPUTS, "posts-on-user", wanted, delete=True)
    shown = capsys.readouterr().out
    assert "  m-2  user.updated u-1  " in shown and f"{3 - len(left)} message" in shown
    assert there.visible() == left == {one["MessageId"] for one in there.letters}


def test_nothing_is_deleted_without_a_queue_or_with_an_unknown_id(cloud):
    there = cloud(letter("m-1", delivered("e-1")))
    for queue, wanted in (("", ""), ("", "m-1"), ("posts-on-user", "e-2")):
        with pytest.raises(CommandError):
            dead_letters.show(OUTPUTS, queue, wanted, delete=True)
    assert there.visible() == {"m-1"}


def test_a_message_is_put_back_with_its_attributes_and_trace_before_it_is_deleted(cloud):
    there = cloud(letter("m-1", delivered("e-1")))
    dead_letters.redrive(OUTPUTS, "posts-on-user-dead-letters", "")
    sent = {
        "QueueUrl": "http://sqs/posts-on-user",
        "MessageBody": json.dumps(delivered("e-1")),
        "MessageAttributes": {"reason": {"DataType": "String", "StringValue": "no such user"}},
        "MessageSystemAttributes": {"AWSTraceHeader": {"DataType": "String", "StringValue": HEADER}},
    }
    assert there.calls == [("send", sent), ("delete", "receipt of m-1")]
    assert there.letters == []


def test_a_message_that_cannot_be_sent_stays_in_the_dead_letter_queue(cloud):
    there = cloud(letter("m-1", delivered("e-1")))
    there.send_fails = True
    with pytest.raises(RuntimeError):
        dead_letters.redrive(OUTPUTS, "posts-on-user", "")
    assert there.visible() == {"m-1"}


@pytest.mark.parametrize("wanted", ["m-2", "e-2"])
def test_a_single_message_is_put_back_by_message_id_or_event_id(cloud, wanted):
    there = cloud(letter("m-1", delivered("e-1")), letter("m-2", delivered("e-2")))
    dead_letters.redrive(OUTPUTS, "posts-on-user", wanted)
    assert [call[0] for call in there.calls] == ["send", "delete"]
    assert there.visible() == {"m-1"}


def test_a_relay_is_invoked_with_a_stream_record_of_its_dead_letter(cloud):
    item = {
        "pk": "post#1",
        "sk": "post",
        "outbox": {"id": "e-1", "type": "post.created", "sequence": 1, "data": {"share": 0.1}},
    }
    there = cloud(letter("m-1", item))
    dead_letters.redrive(OUTPUTS, "posts-relay", "")
    (_, relay, payload), (next_call, _) = there.calls
    [record] = payload["Records"]
    assert (relay, record["eventName"], next_call) == ("posts-relay", "INSERT", "delete")
    image = {name: TypeDeserializer().deserialize(value) for name, value in record["dynamodb"]["NewImage"].items()}
    item["outbox"]["data"]["share"] = Decimal("0.1")
    assert image == item
    # The fields that the functions' library requires in a record.
    [example] = json.loads((ROOT / "events/invoke/relay.json").read_text())["Records"]
    assert set(example) - set(record) == {"eventSourceARN"}
    assert set(example["dynamodb"]) == set(record["dynamodb"])


def test_a_dead_letter_that_a_relay_cannot_publish_stays_and_does_not_block_others(cloud):
    there = cloud(letter("m-1", {"id": "e-1"}), letter("m-2", {"outbox": {"id": "e-2"}}))
    with pytest.raises(CommandError, match=r"Still in posts-relay-dead-letters: 1 message.\nm-1 is neither an item"):
        dead_letters.redrive(OUTPUTS, "posts-relay", "")
    assert there.visible() == {"m-1"}
    there = cloud(letter("m-2", {"outbox": {"id": "e-2"}}))
    there.relay_answers = {"batchItemFailures": [{"itemIdentifier": "1"}]}
    with pytest.raises(CommandError, match="make logs F=posts-relay"):
        dead_letters.redrive(OUTPUTS, "posts-relay", "")
    assert there.visible() == {"m-2"}


def test_a_relay_is_invoked_with_a_record_that_it_could_not_read(cloud):
    record = {"eventID": "1", "dynamodb": {"SequenceNumber": "7", "NewImage": {"outbox": {"X": "?"}}}}
    there = cloud(letter("m-1", record))
    dead_letters.redrive(OUTPUTS, "posts-relay", "")
    assert there.calls == [("invoke", "posts-relay", {"Records": [record]}), ("delete", "receipt of m-1")]


def test_records_that_the_stream_kept_too_short_are_published_from_their_object_which_is_then_deleted(cloud, capsys):
    batch = {"Records": [{"eventID": "1"}, {"eventID": "2"}]}
    notification = {
        "source": "aws.s3",
        "detail-type": "Object Created",
        "detail": {"bucket": {"name": "unpublished"}, "object": {"key": "aws/lambda/u/s/2026/05/04/o"}},
    }
    place = ("unpublished", "aws/lambda/u/s/2026/05/04/o")
    there = cloud(letter("m-1", notification, reason=None))
    there.objects[place] = json.dumps({"DDBStreamBatchInfo": {}, "payload": json.dumps(batch)})
    dead_letters.show(OUTPUTS, "posts-relay", "")
    assert "they are in s3://unpublished/aws/lambda/u/s/2026/05/04/o" in capsys.readouterr().out
    there.relay_answers = {"batchItemFailures": [{"itemIdentifier": "2"}]}
    with pytest.raises(CommandError, match="make logs F=posts-relay"):
        dead_letters.redrive(OUTPUTS, "posts-relay", "")
    assert there.visible() == {"m-1"}
    there.calls, there.relay_answers = [], {"batchItemFailures": []}
    dead_letters.redrive(OUTPUTS, "posts-relay", "")
    assert there.calls == [
        ("invoke", "posts-relay", batch),
        ("delete object", *place),
        ("delete", "receipt of m-1"),
    ]


def test_queues_with_messages_are_listed_and_empty_ones_are_counted(cloud, capsys):
    cloud()
    dead_letters.show(OUTPUTS, "", "")
    assert capsys.readouterr().out == "  2 dead-letter queues are empty\n"
    cloud(letter("m-1", "rubbish"))
    dead_letters.show(OUTPUTS, "", "")
    assert "posts-on-user-dead-letters: 1 message\n" in capsys.readouterr().out


def test_an_unknown_queue_is_refused_with_similar_names(cloud):
    cloud()
    with pytest.raises(CommandError, match=r"“post-on-user-dead-letters” \(did you mean posts-on-user\?\)"):
        dead_letters.show(OUTPUTS, "post-on-user", "")


@pytest.mark.parametrize(
    "passed, expected",
    [({"seconds": 5}, "5 s"), ({"seconds": 61}, "1 min"), ({"hours": 23}, "23 h"), ({"days": 13, "hours": 2}, "13 d")],
)
def test_an_age_is_shown_in_its_largest_unit(passed, expected):
    assert dead_letters.age(SENT, SENT + timedelta(**passed)) == expected

"""Shows the messages that were given up, and puts them back or deletes them.

What a consumer gives up waits in `<consumer>-dead-letters` and goes back into the queue `<consumer>`, as SQS's
StartMessageMoveTask does it, which the emulator lacks. What a relay sets aside came from a table's stream and has no
queue to go back to: the relay is given it once more.
"""

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from boto3.dynamodb.types import TypeSerializer
from rich.text import Text

from infra.local.operate.logs import near
from infra.local.progress import console
from infra.local.settings import REGION, Trouble, client
from infra.local.traces.waterfall import number

SUFFIX = "-dead-letters"
RELAY = "-relay"
# How long a message is hidden from others at most, if this program dies while it holds it.
HIDDEN = 120
# SQS answers and takes no more at once.
BATCH = 10
SHORTENED = 300
# Seconds in a unit of time, the largest first.
UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


@dataclass(frozen=True)
class Letter:
    """A message in a dead-letter queue."""

    message: dict[str, Any]

    @property
    def id(self) -> str:
        return self.message["MessageId"]

    @property
    def receipt(self) -> str:
        return self.message["ReceiptHandle"]

    @property
    def sent(self) -> datetime:
        return datetime.fromtimestamp(int(self.message["Attributes"]["SentTimestamp"]) / 1000).astimezone()

    @property
    def attributes(self) -> dict[str, dict]:
        return self.message.get("MessageAttributes", {})

    def body(self) -> Any:
        """The body, read if it is JSON. Numbers stay as exact as they are."""
        try:
            return json.loads(self.message["Body"], parse_float=Decimal)
        except ValueError:
            return None

    def event(self) -> dict[str, Any]:
        """The event in what the bus delivered, or in the outbox of what a relay set aside; nothing if there is none."""
        body = self.body()
        held = (body.get("detail") or body.get("outbox")) if isinstance(body, dict) else None
        return held if isinstance(held, dict) else {}

    def reason(self) -> str:
        """Why it is here: in the words of the function, or of the bus."""
        for name in ("reason", "ERROR_MESSAGE"):
            if name in self.attributes:
                return self.attributes[name].get("StringValue", "")
        # Moved by the queue itself: the function died, or ran out of time, before it could say anything.
        return "none given: the function ended each time before it could say one; its log may tell"

    def has(self, wanted: str) -> bool:
        return wanted in (self.id, self.event().get("id"), self.event().get("subject"))

    def show(self, now: datetime, whole: bool = False) -> Text:
        event = self.event()
        what = f"{event.get('type')} {event.get('subject', '')}".strip() if event.get("type") else "no event"
        lines = Text.assemble("  ", (self.id, "cyan"), f"  {what}  ", (f"{age(self.sent, now)} ago", "dim"))
        lines.append(f"\n    reason  {self.reason()}", "red")
        if event.get("id"):
            lines.append(f"\n    event   {event['id']}")
        if whole:
            return lines.append(f"\n{_pretty(self.message['Body'])}")
        body = " ".join(self.message["Body"].split())
        return lines.append(f"\n    body    {shortened(body)}", "dim")


def show(outputs: dict, queue: str, wanted: str, delete: bool = False) -> None:
    """All messages of a queue, or the one that is wanted; and deletes what was shown, if so asked."""
    # One client, because making one takes longer than a call.
    sqs = client("sqs")
    if not queue:
        if delete:
            raise Trouble("Which queue? `make dead-letters Q=<consumer> DELETE=1`; with ID=, one message of it.")
        _list(sqs, outputs)
        return
    name = find(queue, outputs["queues"])
    with _held(sqs, outputs["queues"][name]) as letters:
        chosen = _chosen(letters, wanted, name)
        now = datetime.now().astimezone()
        hidden = _count(sqs, outputs["queues"][name]).hidden - len(letters)
        console.print(f"{name}: {number(len(letters), 'message')}", markup=False)
        for letter in chosen:
            console.print(letter.show(now, whole=bool(wanted)))
            if delete:
                sqs.delete_message(QueueUrl=outputs["queues"][name], ReceiptHandle=letter.receipt)
                letters.remove(letter)
    if delete:
        console.print(f"\n{number(len(chosen), 'message')} deleted from {name}", markup=False)
        return
    if hidden > 0:
        console.print(f"  {hidden} more are being read by someone else, and come back within {HIDDEN // 60} minutes")
    if chosen:
        consumer = _consumer(name)
        console.print(f"\n  make redrive Q={consumer}                  # puts them back", markup=False)
        console.print(f"  make dead-letters Q={consumer} DELETE=1    # deletes them", markup=False)
        console.print("  ID=<one of the ids> behind either: only that one", markup=False)


def redrive(outputs: dict, queue: str, wanted: str) -> None:
    """Puts back what is there now. What is given up again meanwhile stays for the next time."""
    sqs = client("sqs")
    if not queue:
        full = [name for name in _queues(outputs) if _count(sqs, outputs["queues"][name]).all]
        raise Trouble(f"Which queue? `make redrive Q=<consumer>`; with messages: {', '.join(full) or 'none'}.")
    name = find(queue, outputs["queues"])
    consumer, url = _consumer(name), outputs["queues"][name]
    left: list[str] = []
    with _held(sqs, url) as letters:
        chosen = _chosen(letters, wanted, name)
        if not chosen:
            console.print(f"{name} is empty: there is nothing to put back", markup=False)
            return
        for letter in chosen:
            try:
                if consumer.endswith(RELAY):
                    _give(consumer, letter)
                else:
                    _send(sqs, outputs["queues"][consumer], letter)
            except Trouble as trouble:
                left.append(str(trouble))
                continue
            # Not before: what dies in between is there twice, which consumers can take, and never lost.
            sqs.delete_message(QueueUrl=url, ReceiptHandle=letter.receipt)
            letters.remove(letter)
            console.print(Text.assemble("  ", (letter.id, "cyan"), f"  {letter.event().get('type', 'no event')}"))
    if done := len(chosen) - len(left):
        given = f"given to {consumer} again" if consumer.endswith(RELAY) else f"put back into {consumer}"
        console.print(
            f"{number(done, 'message')} {given}. What fails again comes back to {name}, with its reason.", markup=False
        )
    if left:
        raise Trouble("\n".join([f"Still in {name}: {number(len(left), 'message')}.", *left]))


def find(queue: str, queues: dict[str, str]) -> str:
    """A dead-letter queue by its name, or by that of the consumer or relay whose it is."""
    name = queue if queue.endswith(SUFFIX) else queue + SUFFIX
    if name in queues:
        return name
    known = [_consumer(other) for other in queues if other.endswith(SUFFIX)]
    raise Trouble(f"There is no queue “{name}”{near(_consumer(name), known)}. `make dead-letters` lists all.")


def age(sent: datetime, now: datetime) -> str:
    seconds = max(int((now - sent).total_seconds()), 0)
    size, unit = next((size, unit) for size, unit in UNITS if seconds >= size or size == 1)
    return f"{seconds // size} {unit}"


def shortened(text: str) -> str:
    return text if len(text) <= SHORTENED else f"{text[:SHORTENED]}… ({len(text)} characters)"


def record(item: dict[str, Any]) -> dict[str, Any]:
    """What a table's stream delivers when the item has just been written."""
    image = TypeSerializer().serialize(item)["M"]
    return {
        "eventID": uuid.uuid4().hex,
        "eventName": "INSERT",
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": REGION,
        "dynamodb": {
            "ApproximateCreationDateTime": int(time.time()),
            "Keys": {name: image[name] for name in ("pk", "sk") if name in image},
            "NewImage": image,
            "SequenceNumber": "1",
            "SizeBytes": len(json.dumps(image)),
            "StreamViewType": "NEW_AND_OLD_IMAGES",
        },
    }


@dataclass(frozen=True)
class Count:
    visible: int
    hidden: int

    @property
    def all(self) -> int:
        return self.visible + self.hidden


def _list(sqs: Any, outputs: dict) -> None:
    counts = {name: _count(sqs, outputs["queues"][name]) for name in _queues(outputs)}
    full = {name: count for name, count in counts.items() if count.all}
    for name, count in full.items():
        hidden = f", {count.hidden} of them being read" if count.hidden else ""
        console.print(f"  {name}: {number(count.all, 'message')}{hidden}", markup=False)
    empty = len(counts) - len(full)
    console.print(f"  {empty} {'other ' if full else ''}dead-letter queues are empty", style="dim")
    if full:
        console.print("\n  make dead-letters Q=<one of them>    # its messages and their reasons", markup=False)


def _queues(outputs: dict) -> list[str]:
    return sorted(name for name in outputs["queues"] if name.endswith(SUFFIX))


def _consumer(queue: str) -> str:
    return queue.removesuffix(SUFFIX)


def _count(sqs: Any, url: str) -> Count:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return Count(*(int(found[name]) for name in names))


@contextmanager
def _held(sqs: Any, url: str) -> Iterator[list[Letter]]:
    """All messages of a queue, hidden from others meanwhile. What is left in the list can be seen again afterwards."""
    letters: list[Letter] = []
    try:
        while page := _receive(sqs, url):
            letters += page
        letters.sort(key=lambda letter: letter.sent)
        yield letters
    finally:
        for start in range(0, len(letters), BATCH):
            entries = [
                {"Id": str(place), "ReceiptHandle": letter.receipt, "VisibilityTimeout": 0}
                for place, letter in enumerate(letters[start : start + BATCH])
            ]
            sqs.change_message_visibility_batch(QueueUrl=url, Entries=entries)


def _receive(sqs: Any, url: str) -> list[Letter]:
    answer = sqs.receive_message(
        QueueUrl=url,
        MaxNumberOfMessages=BATCH,
        VisibilityTimeout=HIDDEN,
        MessageSystemAttributeNames=["All"],
        MessageAttributeNames=["All"],
    )
    return [Letter(message) for message in answer.get("Messages", [])]


def _chosen(letters: list[Letter], wanted: str, name: str) -> list[Letter]:
    chosen = [letter for letter in letters if not wanted or letter.has(wanted)]
    if wanted and not chosen:
        raise Trouble(
            f"No message in {name} has the id “{wanted}”: `make dead-letters Q={_consumer(name)}` lists them."
        )
    return chosen


def _send(sqs: Any, url: str, letter: Letter) -> None:
    """As StartMessageMoveTask does: a new message with the same body, attributes and trace."""
    message: dict[str, Any] = {"QueueUrl": url, "MessageBody": letter.message["Body"]}
    if letter.attributes:
        message["MessageAttributes"] = letter.attributes
    if header := letter.message["Attributes"].get("AWSTraceHeader"):
        message["MessageSystemAttributes"] = {"AWSTraceHeader": {"DataType": "String", "StringValue": header}}
    sqs.send_message(**message)


def _give(relay: str, letter: Letter) -> None:
    """Has a relay publish what it set aside; what is still no event it sets aside once more."""
    body = letter.body()
    if not (isinstance(body, dict) and "outbox" in body):
        raise Trouble(
            f"{letter.id} names records that the stream has dropped by now. Their events are still in the outboxes of "
            "their items: functions/relay/README.md says how to publish them."
        )
    answer = client("lambda").invoke(FunctionName=relay, Payload=json.dumps({"Records": [record(body)]}))
    result = json.load(answer["Payload"])
    if answer.get("FunctionError") or result.get("batchItemFailures"):
        raise Trouble(f"{letter.id} could not be published: `make logs F={relay}` says why.")


def _pretty(body: str) -> str:
    try:
        return json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    except ValueError:
        return body

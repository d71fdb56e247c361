"""Shows the messages in the dead-letter queues, and puts them back or deletes them.

A consumer's dead letters are in `<consumer>-dead-letters` and are put back into the queue `<consumer>`. SQS's
StartMessageMoveTask would do this, but the emulator does not implement it. A relay's dead letters come from a table's
stream instead of a queue, so the relay is invoked with them again: with an item, with a stream record that could not be
read, or with the records in an object in S3, which were not published while the stream kept them.
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

from infra.local.operate.logs import similar
from infra.local.progress import console
from infra.local.settings import REGION, CommandError, client
from infra.local.traces.waterfall import number

SUFFIX = "-dead-letters"
RELAY = "-relay"
# Visibility timeout in seconds: if this program dies, its messages become visible again after this time.
VISIBILITY_TIMEOUT = 120
# The maximum number of messages in one SQS request.
BATCH = 10
# The maximum number of characters of a body that a list shows.
MAX_BODY = 300
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
        """The body parsed as JSON, or None if it is not JSON. Numbers keep their exact value."""
        try:
            return json.loads(self.message["Body"], parse_float=Decimal)
        except ValueError:
            return None

    def event(self) -> dict[str, Any]:
        """The event that the bus delivered, or the event in the outbox of a relay's dead letter. Empty if the message
        has no event."""
        body = self.body()
        event = (body.get("detail") or body.get("outbox")) if isinstance(body, dict) else None
        return event if isinstance(event, dict) else {}

    def unpublished(self) -> tuple[str, str] | None:
        """The bucket and the key of the records that the message is about, if it is a notification from S3."""
        body = self.body()
        if not (isinstance(body, dict) and body.get("source") == "aws.s3"):
            return None
        return body["detail"]["bucket"]["name"], body["detail"]["object"]["key"]

    def reason(self) -> str:
        """Why the message is in the dead-letter queue, as the function or the event bus says."""
        for name in ("reason", "ERROR_MESSAGE"):
            if name in self.attributes:
                return self.attributes[name].get("StringValue", "")
        if unpublished := self.unpublished():
            return f"not published while the stream kept the records: they are in s3://{'/'.join(unpublished)}"
        # The queue moved the message itself, because the function crashed or timed out each time.
        return "unknown: the function crashed or timed out each time; see its log"

    def matches(self, wanted: str) -> bool:
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
    """Shows all messages of a queue, or only those with the wanted id. If `delete` is set, deletes what it has
    shown."""
    # One client for all calls, because creating a client takes longer than a call.
    sqs = client("sqs")
    if not queue:
        if delete:
            raise CommandError(
                "Name the queue: `make dead-letters Q=<consumer> DELETE=1`. Add ID= to delete only one message."
            )
        _list(sqs, outputs)
        return
    name = find_queue(queue, outputs["queues"])
    with _received(sqs, outputs["queues"][name]) as letters:
        chosen = _select(letters, wanted, name)
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
        minutes = VISIBILITY_TIMEOUT // 60
        console.print(f"  {hidden} more are being read by another process and will be visible within {minutes} minutes")
    if chosen:
        consumer = _consumer(name)
        console.print(f"\n  make redrive Q={consumer}                  # puts them back", markup=False)
        console.print(f"  make dead-letters Q={consumer} DELETE=1    # deletes them", markup=False)
        console.print("  Add ID=<message or event id> to either for a single message.", markup=False)


def redrive(outputs: dict, queue: str, wanted: str) -> None:
    """Puts back the messages that are in the queue now. A message that fails again meanwhile is not put back twice."""
    sqs = client("sqs")
    if not queue:
        full = [name for name in _queues(outputs) if _count(sqs, outputs["queues"][name]).total]
        raise CommandError(
            f"Name the queue: `make redrive Q=<consumer>`. Queues with messages: {', '.join(full) or 'none'}."
        )
    name = find_queue(queue, outputs["queues"])
    consumer, url = _consumer(name), outputs["queues"][name]
    errors: list[str] = []
    with _received(sqs, url) as letters:
        chosen = _select(letters, wanted, name)
        if not chosen:
            console.print(f"{name} is empty: there is nothing to put back", markup=False)
            return
        for letter in chosen:
            try:
                if consumer.endswith(RELAY):
                    _invoke_relay(consumer, letter)
                else:
                    _send(sqs, outputs["queues"][consumer], letter)
            except CommandError as error:
                errors.append(str(error))
                continue
            # Deleted last: if this program dies in between, the message is delivered twice instead of lost, and
            # consumers are idempotent.
            sqs.delete_message(QueueUrl=url, ReceiptHandle=letter.receipt)
            letters.remove(letter)
            console.print(Text.assemble("  ", (letter.id, "cyan"), f"  {letter.event().get('type', 'no event')}"))
    if done := len(chosen) - len(errors):
        result = f"given to {consumer} again" if consumer.endswith(RELAY) else f"put back into {consumer}"
        console.print(
            f"{number(done, 'message')} {result}. A message that fails again returns to {name} with its reason.",
            markup=False,
        )
    if errors:
        raise CommandError("\n".join([f"Still in {name}: {number(len(errors), 'message')}.", *errors]))


def find_queue(queue: str, queues: dict[str, str]) -> str:
    """The full name of a dead-letter queue, found by this name or by its consumer's or relay's name."""
    name = queue if queue.endswith(SUFFIX) else queue + SUFFIX
    if name in queues:
        return name
    known = [_consumer(other) for other in queues if other.endswith(SUFFIX)]
    raise CommandError(
        f"There is no queue “{name}”{similar(_consumer(name), known)}. `make dead-letters` lists those with messages."
    )


def age(sent: datetime, now: datetime) -> str:
    seconds = max(int((now - sent).total_seconds()), 0)
    size, unit = next((size, unit) for size, unit in UNITS if seconds >= size or size == 1)
    return f"{seconds // size} {unit}"


def shortened(text: str) -> str:
    return text if len(text) <= MAX_BODY else f"{text[:MAX_BODY]}… ({len(text)} characters)"


def record(item: dict[str, Any]) -> dict[str, Any]:
    """The stream record that DynamoDB sends when the item has been written."""
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
    def total(self) -> int:
        return self.visible + self.hidden


def _list(sqs: Any, outputs: dict) -> None:
    counts = {name: _count(sqs, outputs["queues"][name]) for name in _queues(outputs)}
    full = {name: count for name, count in counts.items() if count.total}
    for name, count in full.items():
        hidden = f", {count.hidden} of them being read" if count.hidden else ""
        console.print(f"  {name}: {number(count.total, 'message')}{hidden}", markup=False)
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
def _received(sqs: Any, url: str) -> Iterator[list[Letter]]:
    """Receives all messages of a queue, which hides them from others. Messages that are still in the list at the end of
    the block become visible again."""
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
        VisibilityTimeout=VISIBILITY_TIMEOUT,
        MessageSystemAttributeNames=["All"],
        MessageAttributeNames=["All"],
    )
    return [Letter(message) for message in answer.get("Messages", [])]


def _select(letters: list[Letter], wanted: str, name: str) -> list[Letter]:
    chosen = [letter for letter in letters if not wanted or letter.matches(wanted)]
    if wanted and not chosen:
        raise CommandError(
            f"No message in {name} has the id “{wanted}”. `make dead-letters Q={_consumer(name)}` lists them."
        )
    return chosen


def _send(sqs: Any, url: str, letter: Letter) -> None:
    """Sends a new message with the same body, attributes and trace, as StartMessageMoveTask does."""
    message: dict[str, Any] = {"QueueUrl": url, "MessageBody": letter.message["Body"]}
    if letter.attributes:
        message["MessageAttributes"] = letter.attributes
    if header := letter.message["Attributes"].get("AWSTraceHeader"):
        message["MessageSystemAttributes"] = {"AWSTraceHeader": {"DataType": "String", "StringValue": header}}
    sqs.send_message(**message)


def _invoke_relay(relay: str, letter: Letter) -> None:
    """Invokes a relay with its dead letter, so that it publishes the event. If the event is still invalid, the relay
    sends it to the dead-letter queue again."""
    body, unpublished = letter.body(), letter.unpublished()
    if unpublished:
        bucket, key = unpublished
        # Lambda keeps the batch as text: https://docs.aws.amazon.com/lambda/latest/dg/services-dynamodb-errors.html
        payload = json.load(client("s3").get_object(Bucket=bucket, Key=key)["Body"])["payload"]
    elif isinstance(body, dict) and "outbox" in body:
        payload = json.dumps({"Records": [record(body)]})
    elif isinstance(body, dict) and "dynamodb" in body:
        payload = json.dumps({"Records": [body]}, default=float)
    else:
        raise CommandError(f"{letter.id} is neither an item, nor a record of a stream, nor a notification from S3.")
    answer = client("lambda").invoke(FunctionName=relay, Payload=payload)
    result = json.load(answer["Payload"])
    if answer.get("FunctionError") or result.get("batchItemFailures"):
        raise CommandError(f"{letter.id} could not be published. `make logs F={relay}` shows why.")
    if unpublished:
        client("s3").delete_object(Bucket=bucket, Key=key)


def _pretty(body: str) -> str:
    try:
        return json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    except ValueError:
        return body

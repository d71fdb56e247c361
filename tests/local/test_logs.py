"""`make logs`: which lines it selects and how it formats them. A stub stands for CloudWatch Logs."""

import json
import re
from datetime import datetime, timedelta, timezone

import pytest

from infra.local.operate import logs
from infra.local.settings import CommandError

NOW = datetime(2026, 5, 4, 14, 30, tzinfo=timezone.utc).astimezone()
ORDER = "0190a6c4-0000-7000-8000-000000000001"
TRACE = "1-67890abc-0123456789abcdef01234567"


def event(message: str | dict, milliseconds: int = 0) -> dict:
    text = json.dumps(message) if isinstance(message, dict) else message
    return {"timestamp": int(NOW.timestamp() * 1000) + milliseconds, "message": text + "\n"}


class Cloud:
    """CloudWatch Logs as the emulator implements it: returns the oldest lines since a time up to a limit, and no
    token."""

    def __init__(self, **groups: list[dict]) -> None:
        self.groups = {name.replace("_", "-"): events for name, events in groups.items()}
        self.exceptions = type("Exceptions", (), {"ResourceNotFoundException": KeyError})

    def filter_log_events(self, logGroupName, limit, startTime=0, filterPattern=""):
        events = self.groups[logGroupName.removeprefix("/aws/lambda/")]
        wanted = filterPattern.strip('"')
        found = [one for one in events if one["timestamp"] >= startTime and wanted in one["message"]]
        return {"events": sorted(found, key=lambda one: one["timestamp"])[:limit]}


@pytest.fixture
def cloud(monkeypatch):
    def install(**groups: list[dict]) -> dict:
        cloud = Cloud(**groups)
        monkeypatch.setattr(logs, "client", lambda _: cloud)
        return {"functions": list(cloud.groups)}

    return install


def printed(capsys, outputs: dict, **chosen) -> list[str]:
    arguments = {"function": "", "wanted": "", "since": "", "follow": False, "raw": False} | chosen
    logs.run(outputs, **arguments)
    return capsys.readouterr().out.splitlines()


def message(line: str) -> str:
    """The message in a formatted line without a level."""
    return re.split(" {2,}", line)[2]


def test_an_empty_field_is_omitted(cloud, capsys):
    entry = {"timestamp": NOW.isoformat(), "level": "INFO", "message": "refused", "cause": "", "status": 404}
    [line] = printed(capsys, cloud(posts_get=[event(entry)]), function="posts-get")
    assert "status=404" in line and "cause" not in line


def test_a_line_has_time_level_function_and_message_then_the_fields_by_name(cloud, capsys):
    entry = {
        "timestamp": "2026-05-04T14:29:59.123456789Z",
        "level": "WARN",
        "trace_id": TRACE,
        "message": "refused",
        "cause": "the card was declined",
        "attempt": 2,
        "milliseconds": 165.36255799999998,
        "name": "invocation",
        "function": "payments-authorize",
    }
    outputs = cloud(payments_authorize=[event(entry)])
    when = datetime(2026, 5, 4, 14, 29, 59, tzinfo=timezone.utc).astimezone()
    assert printed(capsys, outputs, function="payments-authorize") == [
        f"{when:%Y-%m-%d %H:%M:%S}.123 WARN  payments-authorize  refused"
        f'  cause="the card was declined"  attempt=2  milliseconds=165.4  trace_id={TRACE}'
    ]


def test_a_line_that_is_not_json_is_shown_unchanged(cloud, capsys):
    [line] = printed(capsys, cloud(posts_get=[event("thread panicked [red]at :x:")]), function="posts-get")
    assert line.endswith("posts-get  thread panicked [red]at :x:")


def test_metrics_and_lambdas_own_lines_are_shown_only_by_raw(cloud, capsys):
    texts = ["START RequestId: 1", '{"_aws": {}, "Count": 1}', '{"message": "hello"}']
    outputs = cloud(posts_get=[event(text) for text in texts])
    [line] = printed(capsys, outputs, function="posts-get")
    assert line.endswith("hello")
    assert printed(capsys, outputs, function="posts-get", raw=True) == texts


def test_lines_with_an_id_are_sorted_across_functions_by_the_time_of_writing(cloud, capsys):
    def logged(message: str, second: int, order: str = ORDER) -> dict:
        written = (NOW + timedelta(seconds=second)).isoformat()
        # All are stored at the same time, when the invocations end.
        return event({"message": message, "timestamp": written, "order_id": order}, 60_000)

    outputs = cloud(
        orders_place=[logged("placed", 0), logged("another", 1, ORDER[:-1] + "2"), logged("longer", 1, ORDER + "-2")],
        payments_authorize=[logged("declined", 1)],
        orders_reject=[logged("rejected", 2)],
    )
    lines = printed(capsys, outputs, wanted=f"urn:uuid:{ORDER.upper()}")
    assert [message(line) for line in lines] == ["placed", "declined", "rejected"]


@pytest.mark.parametrize(
    "text, expected",
    [
        (f" {ORDER}\n", ORDER),
        (f"urn:uuid:{ORDER}", ORDER),
        (TRACE, TRACE),
        (f"Root={TRACE};Parent=53995c3f42cd8ad8;Sampled=1", TRACE),
        ("00-67890abc0123456789abcdef01234567-53995c3f42cd8ad8-01", TRACE),
        ("67890abc0123456789abcdef01234567", TRACE),
        ("TEA-01", "TEA-01"),
    ],
)
def test_an_id_is_accepted_in_every_format(text, expected):
    assert logs.Id(text).text == expected


def test_every_page_of_lines_is_read(cloud, monkeypatch):
    monkeypatch.setattr(logs, "PAGE", 4)
    # Three lines at each timestamp, so that every page ends between lines with the same timestamp.
    cloud(posts_get=[event({"message": str(number)}, number // 3) for number in range(20)])
    assert [line.entry["message"] for line in logs.read(["posts-get"])] == [str(number) for number in range(20)]


def test_only_the_latest_lines_are_shown_if_no_time_is_given(cloud, capsys):
    outputs = cloud(posts_get=[event({"message": str(number)}, number) for number in range(150)])
    lines = printed(capsys, outputs, function="posts-get")
    assert [message(line) for line in lines[:1] + lines[-1:]] == ["50", "149"]
    assert len(lines) == logs.LATEST


@pytest.mark.parametrize(
    "text, expected",
    [
        ("90s", NOW - timedelta(seconds=90)),
        ("10m", NOW - timedelta(minutes=10)),
        ("2 h", NOW - timedelta(hours=2)),
        ("1d", NOW - timedelta(days=1)),
        (f"{NOW:%H:%M}", NOW),
        (f"{NOW:%Y-%m-%d %H:%M:%S}", NOW),
        ("2026-05-04T14:30:00Z", NOW),
    ],
)
def test_a_time_is_parsed_in_every_format(text, expected):
    assert logs.parse_time(text, NOW) == expected


@pytest.mark.parametrize("text", ["yesterday", "10", "25:00", "-5m"])
def test_an_invalid_time_is_refused_with_examples(text):
    with pytest.raises(CommandError, match="SINCE=10m"):
        logs.parse_time(text, NOW)


def test_only_lines_written_since_a_time_are_shown(cloud, capsys):
    # Written before that time, but stored after it, when the invocation ended.
    late = event({"message": "late", "timestamp": (NOW - timedelta(seconds=1)).isoformat()}, 1)
    outputs = cloud(posts_get=[event({"message": "old"}, -1), event({"message": "new"}), late])
    [line] = printed(capsys, outputs, function="posts-get", since=NOW.isoformat())
    assert line.endswith("new")


def test_an_unknown_function_is_refused_with_similar_names(cloud):
    outputs = cloud(orders_place=[], orders_get=[], posts_get=[])
    with pytest.raises(CommandError, match=r"“order-place” \(did you mean orders-place\?\)\."):
        logs.run(outputs, "order-place", "", "", False, False)
    with pytest.raises(CommandError, match=r"did you mean orders-get, orders-place\?"):
        logs.run(outputs, "orders", "", "", False, False)


def test_it_fails_with_a_message_if_there_are_no_lines(cloud):
    outputs = cloud(posts_get=[])
    with pytest.raises(CommandError, match=f"No function has logged a line with the id “{ORDER}”"):
        logs.run(outputs, "", ORDER, "", False, False)

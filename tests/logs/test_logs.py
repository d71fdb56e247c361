"""Checks every log line and every span that the functions have written so far. Run it after the system tests."""

import json
import re
from collections.abc import Iterator

import pytest
from boto3.dynamodb.types import TypeDeserializer

from infra.local.settings import TRACE_FILE, client
from infra.local.traces.store import Store

# Lambda's own lines around an invocation.
LAMBDA = re.compile(r"(START|END|REPORT) RequestId: ")
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
ADDRESS = re.compile(r"[\w.+-]+@[\w-]+\.[\w.]+")
TOKEN = re.compile(r"eyJ[\w-]{10,}|Bearer |AWS4-HMAC")
TRACE = re.compile(r"1-[0-9a-f]{8}-[0-9a-f]{24}")
LEVELS = {"ERROR", "WARN", "INFO", "DEBUG", "TRACE"}
# The attributes of table items that contain personal data: names, addresses and texts that users have written.
PERSONAL = {"name", "title", "body", "excerpt", "author_name", "email", "post_title", "username"}
# Shorter texts occur as parts of other words.
MIN_LENGTH = 4
# Names of users in the tests that are not in the tables any more, or are shorter than MIN_LENGTH.
PEOPLE = {"Ara", "Bada", "Leaving"}
# Messages that are logged outside an invocation.
OUTSIDE_INVOCATIONS = {"not started yet; the next invocation tries again"}


def lines() -> Iterator[tuple[str, str]]:
    logs = client("logs")
    for page in logs.get_paginator("describe_log_groups").paginate(logGroupNamePrefix="/aws/lambda/"):
        for group in page["logGroups"]:
            name = group["logGroupName"].removeprefix("/aws/lambda/")
            for events in logs.get_paginator("filter_log_events").paginate(logGroupName=group["logGroupName"]):
                yield from ((name, event["message"].rstrip("\n")) for event in events["events"])


def without_repeats(pairs: list[tuple]) -> dict:
    names = [name for name, _ in pairs]
    assert len(names) == len(set(names)), f"a name occurs twice: {names}"
    return dict(pairs)


@pytest.fixture(scope="session")
def logged() -> list[tuple[str, str]]:
    logged = [(function, line) for function, line in lines() if line and not LAMBDA.match(line)]
    assert logged, "there are no log lines: run `make test` or the system tests first"
    return logged


@pytest.fixture(scope="session")
def entries(logged) -> list[tuple[str, dict]]:
    return [(function, json.loads(line, object_pairs_hook=without_repeats)) for function, line in logged]


def texts(node: object) -> Iterator[str]:
    """Every string in a value, except ids."""
    match node:
        case dict():
            for value in node.values():
                yield from texts(value)
        case list():
            for value in node:
                yield from texts(value)
        case str() if not (UUID.fullmatch(node) or TRACE.fullmatch(node)):
            yield node


def personal_texts(node: object, attribute: str = "") -> Iterator[str]:
    """Every string in a table item that is personal data."""
    match node:
        case dict():
            for name, value in node.items():
                yield from personal_texts(value, name)
        case list():
            for value in node:
                yield from personal_texts(value, attribute)
        case str() if attribute in PERSONAL:
            yield node


def stored_personal_texts() -> Iterator[str]:
    """All personal data in the tables."""
    dynamodb, read = client("dynamodb"), TypeDeserializer().deserialize
    for table in ("users", "posts", "comments", "notifications"):
        for page in dynamodb.get_paginator("scan").paginate(TableName=table):
            for item in page["Items"]:
                yield from personal_texts({name: read(value) for name, value in item.items()})


def test_each_line_is_one_json_object_without_duplicate_names(logged):
    for function, line in logged:
        try:
            entry = json.loads(line, object_pairs_hook=without_repeats)
        except ValueError as error:
            pytest.fail(f"{function}: {error}: {line}")
        assert isinstance(entry, dict), line


def test_each_line_has_level_message_time_function_and_ids(entries):
    lines = 0
    for function, entry in entries:
        if "_aws" in entry:
            continue
        lines += 1
        assert {"level", "message", "timestamp", "function"} <= set(entry), f"{function}: {entry}"
        assert entry["level"] in LEVELS, f"{function}: {entry}"
        # This holds for copies that tests deploy under other names too.
        assert entry["function"] == function, entry
        if entry["message"] not in OUTSIDE_INVOCATIONS:
            assert {"request_id", "trace_id"} <= set(entry), f"{function}: {entry}"
            assert UUID.fullmatch(entry["request_id"]), entry
            assert TRACE.fullmatch(entry["trace_id"]), entry
    assert lines > 0


def test_each_metric_conforms_to_the_embedded_metric_format(entries):
    # https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
    metrics = [entry for _, entry in entries if "_aws" in entry]
    assert metrics
    for entry in metrics:
        [declared] = entry["_aws"]["CloudWatchMetrics"]
        assert declared["Namespace"] == "Madang"
        [dimensions] = declared["Dimensions"]
        assert len(dimensions) <= 1, "each dimension multiplies the number of billed metrics"
        assert all(isinstance(entry[name], str) and entry[name] for name in dimensions), entry
        for metric in declared["Metrics"]:
            assert metric["Unit"] in {"Count", "Milliseconds"}, entry
            value = entry[metric["Name"]]
            values = value if isinstance(value, list) else [value]
            assert 0 < len(values) <= 100, entry
            assert all(isinstance(number, int | float) and number >= 0 for number in values), entry


def test_no_line_contains_an_email_address_a_token_or_a_signature(logged):
    for function, line in logged:
        for secret in (ADDRESS, TOKEN):
            assert not secret.search(line), f"{function}: {line}"


@pytest.fixture(scope="session")
def personal() -> re.Pattern:
    """A pattern that matches stored personal data as whole words: "Spring" does not match in "springs"."""
    stored = {text for text in stored_personal_texts() if len(text) >= MIN_LENGTH}
    assert stored, "the tables have no personal data: run the system tests first"
    # The longest first, because the first alternative that matches is used.
    words = sorted(stored | PEOPLE, key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, words))})(?!\w)")


def test_no_line_contains_personal_data(entries, personal):
    for function, entry in entries:
        for text in texts(entry):
            assert not (quoted := personal.search(text)), f"{function} logged {quoted[0]!r}: {text}"


@pytest.fixture(scope="session")
def spans() -> list[dict]:
    store = Store(TRACE_FILE)
    try:
        kept = [span for trace in store.latest(1_000_000) for span in store.trace(trace["trace_id"])]
    finally:
        store.close()
    assert kept, "there are no spans: run the system tests first"
    return kept


def test_no_span_contains_personal_data(spans, personal):
    for span in spans:
        for text in texts(span):
            for secret in (personal, ADDRESS, TOKEN):
                assert not (quoted := secret.search(text)), f"{span['function']} sent {quoted[0]!r}: {text}"

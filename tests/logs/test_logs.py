"""What the functions have told of so far, every line that they logged and every span that they sent. Run after the
tests that make them tell."""

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
# The attributes in which tables hold what people have written, and who they are.
WRITTEN = {"name", "title", "body", "excerpt", "author_name", "email", "post_title", "username"}
# Shorter ones are parts of other words.
SHORTEST = 4
# Who the tests are about, some of whom have left, and whose names are names alone.
PEOPLE = {"Ara", "Bada", "Leaving"}
# What is said before there is an invocation.
OF_NO_INVOCATION = {"could not start"}


def lines() -> Iterator[tuple[str, str]]:
    logs = client("logs")
    for page in logs.get_paginator("describe_log_groups").paginate(logGroupNamePrefix="/aws/lambda/"):
        for group in page["logGroups"]:
            name = group["logGroupName"].removeprefix("/aws/lambda/")
            for events in logs.get_paginator("filter_log_events").paginate(logGroupName=group["logGroupName"]):
                yield from ((name, event["message"].rstrip("\n")) for event in events["events"])


def without_repeats(pairs: list[tuple]) -> dict:
    names = [name for name, _ in pairs]
    assert len(names) == len(set(names)), f"a name stands twice: {names}"
    return dict(pairs)


@pytest.fixture(scope="session")
def logged() -> list[tuple[str, str]]:
    logged = [(function, line) for function, line in lines() if line and not LAMBDA.match(line)]
    assert logged, "nothing was logged: run `make test`, or the system tests, first"
    return logged


@pytest.fixture(scope="session")
def entries(logged) -> list[tuple[str, dict]]:
    return [(function, json.loads(line, object_pairs_hook=without_repeats)) for function, line in logged]


def texts(node: object) -> Iterator[str]:
    """Every text in a value, without the ids."""
    match node:
        case dict():
            for value in node.values():
                yield from texts(value)
        case list():
            for value in node:
                yield from texts(value)
        case str() if not (UUID.fullmatch(node) or TRACE.fullmatch(node)):
            yield node


def written(node: object, attribute: str = "") -> Iterator[str]:
    """Every text in a stored item that somebody wrote, or that says who somebody is."""
    match node:
        case dict():
            for name, value in node.items():
                yield from written(value, name)
        case list():
            for value in node:
                yield from written(value, attribute)
        case str() if attribute in WRITTEN:
            yield node


def people() -> Iterator[str]:
    """What people have written and who they are, as far as it is stored."""
    dynamodb, read = client("dynamodb"), TypeDeserializer().deserialize
    for table in ("users", "posts", "comments", "notifications"):
        for page in dynamodb.get_paginator("scan").paginate(TableName=table):
            for item in page["Items"]:
                yield from written({name: read(value) for name, value in item.items()})


def test_each_line_is_one_json_object_with_no_name_twice(logged):
    for function, line in logged:
        try:
            entry = json.loads(line, object_pairs_hook=without_repeats)
        except ValueError as error:
            pytest.fail(f"{function}: {error}: {line}")
        assert isinstance(entry, dict), line


def test_each_line_says_how_bad_it_is_what_happened_and_where(entries):
    lines = 0
    for function, entry in entries:
        if "_aws" in entry:
            continue
        lines += 1
        assert {"level", "message", "timestamp", "function"} <= set(entry), f"{function}: {entry}"
        assert entry["level"] in LEVELS, f"{function}: {entry}"
        # A copy that a test deploys has a name of its own.
        assert entry["function"] == function, entry
        if entry["message"] not in OF_NO_INVOCATION:
            assert {"request_id", "trace_id"} <= set(entry), f"{function}: {entry}"
            assert UUID.fullmatch(entry["request_id"]), entry
            assert TRACE.fullmatch(entry["trace_id"]), entry
    assert lines > 0


def test_each_metric_is_declared_as_cloudwatch_wants_it(entries):
    # https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
    metrics = [entry for _, entry in entries if "_aws" in entry]
    assert metrics
    for entry in metrics:
        [declared] = entry["_aws"]["CloudWatchMetrics"]
        assert declared["Namespace"] == "Madang"
        [dimensions] = declared["Dimensions"]
        assert len(dimensions) <= 1, "each dimension multiplies what is paid for"
        assert all(isinstance(entry[name], str) and entry[name] for name in dimensions), entry
        for metric in declared["Metrics"]:
            assert metric["Unit"] in {"Count", "Milliseconds"}, entry
            value = entry[metric["Name"]]
            values = value if isinstance(value, list) else [value]
            assert 0 < len(values) <= 100, entry
            assert all(isinstance(number, int | float) and number >= 0 for number in values), entry


def test_no_line_has_an_address_a_token_or_a_signature(logged):
    for function, line in logged:
        for secret in (ADDRESS, TOKEN):
            assert not secret.search(line), f"{function}: {line}"


@pytest.fixture(scope="session")
def personal() -> re.Pattern:
    """What people have written and who they are, as whole words: "Spring" is not quoted by "springs"."""
    stored = {text for text in people() if len(text) >= SHORTEST}
    assert stored, "nobody has written anything: run the system tests first"
    # The longest first, since the first that fits is taken.
    words = sorted(stored | PEOPLE, key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, words))})(?!\w)")


def test_no_line_has_what_people_have_written_or_who_they_are(entries, personal):
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
    assert kept, "no span was received: run the system tests first"
    return kept


def test_no_span_has_what_people_have_written_or_who_they_are(spans, personal):
    for span in spans:
        for text in texts(span):
            for secret in (personal, ADDRESS, TOKEN):
                assert not (quoted := secret.search(text)), f"{span['function']} sent {quoted[0]!r}: {text}"

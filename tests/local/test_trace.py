"""The ids that `make trace` takes, and the traces that it lists."""

import io
import re
import uuid

import pytest
from rich.console import Console
from spans import new_trace_id, span

from infra.local.operate import trace
from infra.local.settings import CommandError
from infra.local.traces import otlp, receiver, waterfall
from infra.local.traces.store import HIDDEN, Store

REQUEST = "0b7e6d5c-4a39-4281-9c0d-1e2f3a4b5c6d"


@pytest.fixture
def store(tmp_path, monkeypatch):
    file = tmp_path / "spans.sqlite3"
    monkeypatch.setattr(trace, "TRACE_FILE", file)
    store = Store(file)
    yield store
    store.close()


@pytest.fixture
def told(monkeypatch):
    console = Console(file=io.StringIO(), highlight=False, soft_wrap=True)
    monkeypatch.setattr(trace, "console", console)
    return lambda: console.file.getvalue()


def request(trace_id):
    return otlp.spans(span(trace_id, "POST /posts", function="posts-create", faas__invocation_id=REQUEST)[1])


def run_of_the_schedule(calls=1, error=""):
    trace_id = new_trace_id()
    root, datagram = span(trace_id, "schedule", 0, 9, function="orders-reconcile", error=error)
    called = [span(trace_id, "DynamoDB Query", 1, 1, root, function="orders-reconcile")[1] for _ in range(calls)]
    return [one for sent in [datagram, *called] for one in otlp.spans(sent)]


def poll_of_a_queue(*rest):
    """An invocation with messages; `rest` is what it did in its own trace."""
    trace_id = new_trace_id()
    root, datagram = span(trace_id, "queue", 0, 9, function="posts-on-user")
    done = [span(trace_id, name, 1, 1, root, function="posts-on-user")[1] for name in rest]
    return [one for sent in [datagram, *done] for one in otlp.spans(sent)]


def poll_of_a_stream(*rest, error=""):
    trace_id = new_trace_id()
    root, datagram = span(trace_id, "stream", 0, 9, function="posts-relay", error=error)
    done = [span(trace_id, name, 1, 1, root, function="posts-relay")[1] for name in rest]
    return [one for sent in [datagram, *done] for one in otlp.spans(sent)]


def documentation(error=""):
    return otlp.spans(span(new_trace_id(), "GET /docs/{file}", function="api-docs", error=error)[1])


@pytest.mark.parametrize(
    "text",
    [
        REQUEST,
        f"urn:uuid:{REQUEST}",
        f"URN:UUID:{REQUEST.upper()}",
        f'  "urn:uuid:{REQUEST}",\n',
        f'"instance": "urn:uuid:{REQUEST}"',
        f"'{REQUEST}'",
        f"“{REQUEST}”.",
        f"/posts/{REQUEST}/comments",
    ],
)
def test_a_request_is_found_by_the_id_in_its_answer(store, text):
    trace_id = new_trace_id()
    store.add(request(trace_id))
    store.add(otlp.spans(span(new_trace_id(), "GET /posts", faas__invocation_id=str(uuid.uuid4()))[1]))
    assert [found["trace_id"] for found in store.find(text, 10)] == [trace_id]


@pytest.mark.parametrize(
    "form",
    [
        "{trace_id}",
        '"{trace_id}"',
        "{xray}",
        "`{xray}`,",
        "x-amzn-trace-id: Root={xray};Parent=53995c3f42cd8ad8;Sampled=1",
        "traceparent: 00-{trace_id}-53995c3f42cd8ad8-01",
        "traceresponse: 00-{trace_id}-53995c3f42cd8ad8-00\r\n",
        "urn:uuid:{uuid}",
    ],
)
def test_a_trace_is_found_by_its_id_in_any_format_and_by_a_header(store, form):
    trace_id = new_trace_id()
    store.add(request(trace_id))
    text = form.format(trace_id=trace_id, xray=waterfall.xray_id(trace_id), uuid=uuid.UUID(trace_id))
    assert [found["trace_id"] for found in store.find(text, 10)] == [trace_id]


def test_an_id_that_is_not_a_uuid_is_found_with_and_without_quotes(store):
    trace_id = new_trace_id()
    store.add(otlp.spans(span(trace_id, "work", sku_id="Red-Pears.1")[1]))
    assert [len(store.find(text, 10)) for text in ("Red-Pears.1", '"Red-Pears.1"', " Red-Pears.1 ")] == [1, 1, 1]
    assert store.find("Red-Pears", 10) == []


@pytest.mark.parametrize("text", ["Z1IPT7sno6A9dyA=", "apigw-requestid: 1u2DKuDq2C7/f6I=", '"J+oTeGIrKIRm/kk="'])
def test_the_request_id_of_api_gateway_has_an_error_message_of_its_own(store, text):
    store.add(request(new_trace_id()))
    with pytest.raises(CommandError, match=r"apigw-requestid.* Use the header `traceresponse`"):
        trace.run(text)
    with pytest.raises(CommandError, match="No trace has the id"):
        trace.run(str(uuid.uuid4()))


def test_the_list_hides_and_counts_idle_runs_polls_and_documentation_requests(store, told):
    store.add(request(new_trace_id()))
    for _ in range(trace.LISTED + 1):
        store.add(run_of_the_schedule())
        store.add(poll_of_a_queue())
    # A large batch is published in several calls.
    store.add(poll_of_a_stream("EventBridge PutEvents", "EventBridge PutEvents", "EventBridge PutEvents"))
    store.add(documentation())
    trace.run("")
    listed = [line for line in told().splitlines() if " 1-" in line]
    assert len(listed) == 1 and listed[0].endswith("posts-create POST /posts")
    runs, polls = f"{trace.LISTED + 1} idle scheduled runs", f"{trace.LISTED + 2} queue or stream polls"
    counts = f"{runs}, {polls}, 1 documentation request"
    assert f"  {counts} hidden: make trace ALL=1 shows them\n" in told()


def test_the_list_has_scheduled_runs_that_found_something_or_failed(store, told):
    store.add(run_of_the_schedule(calls=2))
    store.add(run_of_the_schedule(error="Failed"))
    trace.run("")
    assert told().count("orders-reconcile schedule") == 2
    assert "hidden" not in told()


def test_the_list_has_polls_and_documentation_requests_that_failed_or_did_something_of_their_own(store, told):
    store.add(poll_of_a_queue("consume user.created"))
    store.add(poll_of_a_stream("EventBridge PutEvents", "SQS SendMessage"))
    store.add(poll_of_a_stream("EventBridge PutEvents", error="Throttled"))
    store.add(documentation(error="not found"))
    trace.run("")
    assert told().count("posts-on-user queue") == 1
    assert told().count("posts-relay stream") == 2
    assert told().count("api-docs GET /docs/{file}") == 1
    assert "hidden" not in told()


def test_the_list_has_everything_with_all(store, told):
    store.add(run_of_the_schedule())
    store.add(poll_of_a_queue())
    store.add(poll_of_a_stream("EventBridge PutEvents"))
    store.add(documentation())
    trace.run("", everything=True)
    assert sum(" 1-" in line for line in told().splitlines()) == 4
    assert "hidden" not in told()


def test_every_kind_of_hidden_trace_has_a_name_in_the_terminal_and_on_the_page():
    [kinds] = re.findall(r"const KINDS = \{(.*?)\};", receiver.PAGE.read_text())
    named = dict(re.findall(r'(\w+): "([^"]+)"', kinds))
    assert named == trace.KINDS and set(named) == set(HIDDEN)


def test_without_a_trace_of_a_request_the_list_says_how_to_get_one(store, told):
    store.add(run_of_the_schedule())
    trace.run("")
    assert "No trace of a request yet: `make demo` plays a story that leaves some." in told()
    assert "1 idle scheduled run hidden" in told()


def test_an_idle_run_is_found_by_its_id(store, told):
    spans = run_of_the_schedule()
    store.add(spans)
    trace.run(spans[0]["trace_id"])
    assert waterfall.xray_id(spans[0]["trace_id"]) in told()

"""The ids that `make trace` takes, and the traces that it lists."""

import io
import uuid

import pytest
from rich.console import Console
from spans import new_trace_id, span

from infra.local.operate import trace
from infra.local.settings import CommandError
from infra.local.traces import otlp, waterfall
from infra.local.traces.store import Store

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


def test_an_id_that_is_no_uuid_is_found_with_and_without_quotes(store):
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


def test_the_list_leaves_out_scheduled_runs_that_found_nothing_and_counts_them(store, told):
    store.add(request(new_trace_id()))
    for _ in range(trace.LISTED + 1):
        store.add(run_of_the_schedule())
    trace.run("")
    assert told().count("orders-reconcile schedule") == 0
    assert told().count("posts-create POST /posts") == 1
    assert f"without {trace.LISTED + 1} scheduled runs that found nothing to do: make trace ALL=1 shows all" in told()


def test_the_list_has_scheduled_runs_that_found_something_or_failed(store, told):
    store.add(run_of_the_schedule(calls=2))
    store.add(run_of_the_schedule(error="Failed"))
    trace.run("")
    assert told().count("orders-reconcile schedule") == 2
    assert "found nothing" not in told()


def test_the_list_has_everything_if_asked(store, told):
    store.add(run_of_the_schedule())
    trace.run("", idle=True)
    assert told().count("orders-reconcile schedule") == 1
    assert "found nothing" not in told()


def test_an_idle_run_is_found_by_its_id(store, told):
    spans = run_of_the_schedule()
    store.add(spans)
    trace.run(spans[0]["trace_id"])
    assert waterfall.xray_id(spans[0]["trace_id"]) in told()

import io
import secrets

import pytest
from rich.console import Console
from spans import new_trace_id, span

from infra.local.operate import trace
from infra.local.settings import CommandError
from infra.local.traces import otlp, waterfall
from infra.local.traces.store import Store

CALLER = "0123456789abcdef"


class Trace:
    """Collects spans in the order in which they are added."""

    def __init__(self):
        self.id = new_trace_id()
        self.spans = []

    def add(self, *arguments, **details):
        span_id, datagram = span(self.id, *arguments, **details)
        self.spans += otlp.spans(datagram)
        return span_id


@pytest.fixture
def order():
    """An order whose card was declined by another function half a second after it was placed."""
    order = Trace()
    place = order.add("POST /orders", 0, 40, CALLER, "orders-place", order_id="o-1")
    order.add("DynamoDB PutItem", 5, 10, place, "orders-place")
    failed = {"error": "the card was declined", "error__type": "Payment.Declined", "links": ((new_trace_id(), CALLER),)}
    pay = order.add("payments-authorize", 540, 20, place, "payments-authorize", **failed)
    order.add("DynamoDB UpdateItem", 545, 10, pay, "payments-authorize")
    return order


def shown(spans, **settings):
    console = Console(file=io.StringIO(), highlight=False, soft_wrap=True, **settings)
    waterfall.show(console, spans)
    return console.file.getvalue()


def test_without_a_terminal_it_is_plain_text(order):
    text = shown(order.spans)
    assert all(letter.isprintable() or letter == "\n" for letter in text)
    assert max(map(len, text.splitlines())) <= waterfall.PLAIN_WIDTH


def test_on_a_terminal_it_has_colours_and_fits_its_width(order):
    text = shown(order.spans, force_terminal=True, width=90, color_system="standard", legacy_windows=False)
    assert "\x1b[" in text
    assert max(map(len, shown(order.spans, force_terminal=True, width=90, color_system=None).splitlines())) <= 90


def test_it_shows_the_tree_the_times_and_the_error(order):
    lines = shown(order.spans).splitlines()
    assert lines[0].startswith(f"Trace {waterfall.xray_id(order.id)}  ")
    assert lines[1] == "560 ms, 4 spans of 2 functions, 1 error"
    rows = [line.split("━")[0].replace("┊", "").split() for line in lines[2:-1]]
    link = waterfall.xray_id(order.spans[2]["links"][0]["trace_id"])
    assert rows == [
        ["orders-place", "POST", "/orders", "+0", "µs", "40", "ms"],
        ["├─", "DynamoDB", "PutItem", "+5.0", "ms", "10", "ms"],
        ["└─", "payments-authorize", "+540", "ms", "20", "ms"],
        ["│", "✗", "Payment.Declined:", "the", "card", "was", "declined"],
        ["│", "↗", f"{link}:", "no", "span", "of", "it", "was", "received"],
        ["└─", "DynamoDB", "UpdateItem", "+545", "ms", "10", "ms"],
    ]
    assert lines[-1] == "┊ nothing ran: the time is shortened"


@pytest.mark.parametrize(
    ("kind", "message", "reason"),
    [
        ("Payment.Declined", "the card was declined", "Payment.Declined: the card was declined"),
        ("Payment.Declined", "Payment.Declined: by the bank", "Payment.Declined: by the bank"),
        ("", "the card was declined", "the card was declined"),
        ("Payment.Declined", "", "Payment.Declined"),
        ("", "", "failed"),
    ],
)
def test_the_reason_contains_the_error_type_once(kind, message, reason):
    failed = {"attributes": {"error.type": kind} if kind else {}, "status_message": message, "events": []}
    assert waterfall.reason(failed) == reason


def test_bars_are_in_chronological_order_and_idle_time_is_shortened(order):
    lines = shown(order.spans).splitlines()
    bars = [(line.index("━"), line.rindex("━")) for line in lines if "━" in line]
    (place, placed), (put, was_put), (pay, paid), (update, updated) = bars
    assert place < put < was_put < placed < pay < update < updated < paid
    # The idle half second takes less space than the 40 ms before it.
    assert pay - placed < placed - place


def test_a_span_without_its_parent_is_shown_with_a_note():
    lost = Trace()
    lost.add("POST /posts", 0, 10, CALLER)
    missing = secrets.token_hex(8)
    lost.add("process post.created", 50, 10, missing, "comments-on-post")
    text = shown(lost.spans)
    assert "comments-on-post process post.created" in text
    assert f"its parent {missing} has not arrived" in text
    assert CALLER not in text


def test_spans_that_are_each_others_parents_are_shown_once():
    circle = Trace()
    first = circle.add("first")
    second = circle.add("second", parent=first)
    circle.spans[0]["parent_id"] = second
    assert [row.span["name"] for row in waterfall.tree(circle.spans)] == ["first", "second"]


def test_control_characters_in_a_span_do_not_reach_the_terminal():
    hostile = Trace()
    hostile.add("\x1b[2Jname\n", 0, 10, function="[red]f[/]\x07", error="\x1b]0;title\x07bad")
    text = shown(hostile.spans)
    assert "\x1b" not in text and "\x07" not in text
    assert "[red]f[/]" in text


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Runs `make trace` on a file of its own, and returns what it prints."""
    file = tmp_path / "traces" / "spans.sqlite3"
    console = Console(file=io.StringIO(), highlight=False, soft_wrap=True)
    monkeypatch.setattr(trace, "TRACE_FILE", file)
    monkeypatch.setattr(trace, "console", console)

    def run(wanted, *traces):
        store = Store(file)
        store.add([span for each in traces for span in each.spans])
        store.close()
        trace.run(wanted)
        return console.file.getvalue()

    return run


def test_a_link_to_a_stored_trace_says_how_to_see_it(command, order):
    other = Trace()
    other.add("orders-relay stream", 0, 5, function="orders-relay")
    order.spans[2]["links"][0]["trace_id"] = other.id
    assert f"↗ orders-relay stream: make trace ID={waterfall.xray_id(other.id)}\n" in command("o-1", other, order)


def test_all_traces_of_an_order_are_shown_newest_last(command, order):
    later = Trace()
    later.add("POST /orders/{id}/cancel", 60_000, 10, CALLER, "orders-cancel", order_id="o-1")
    text = command("o-1", later, order)
    assert "2 traces have the id o-1. The newest is last." in text
    assert text.index(waterfall.xray_id(order.id)) < text.index(waterfall.xray_id(later.id))


def test_the_older_ones_of_many_traces_are_only_listed(command):
    traces = [Trace() for _ in range(8)]
    for place, each in enumerate(traces):
        each.add("PATCH /posts/{id}", place * 1000, 10, post_id="p-1")
    text = command("p-1", *traces)
    assert "8 traces have the id p-1. The older ones, which you can show by their ids:" in text
    assert all(waterfall.xray_id(each.id) in text for each in traces)
    assert text.count("Trace 1-") == 5


def test_the_latest_traces_are_listed_if_no_id_is_given(command, order):
    text = command("", order)
    assert waterfall.xray_id(order.id) in text
    assert "make trace ID=<" in text


def test_an_unknown_id_and_a_missing_file_have_helpful_error_messages(command, order, monkeypatch, tmp_path):
    with pytest.raises(CommandError, match=r"No trace has the id “o-2” \(stored: 4 spans\)"):
        command("o-2", order)
    monkeypatch.setattr(trace, "TRACE_FILE", tmp_path / "never")
    with pytest.raises(CommandError, match="the system has not run here yet"):
        trace.run("o-1")

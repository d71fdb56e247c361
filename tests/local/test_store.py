"""The trace store: its size limit and its handling of duplicates."""

import pytest
from spans import new_trace_id, span

from infra.local.traces import otlp
from infra.local.traces.store import Store


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "spans.sqlite3", most_spans=100)
    yield store
    store.close()


def add(store, trace_id, spans, **attributes):
    store.add([one for place in range(spans) for one in otlp.spans(span(trace_id, "work", place, **attributes)[1])])


def test_it_keeps_its_limit_by_deleting_whole_traces_oldest_first(store):
    # One trace has a wrong clock. The age of a trace is the time when its spans arrived.
    traces = [new_trace_id(1 if place == 45 else 1_700_000_000 + place) for place in range(50)]
    for place, trace_id in enumerate(traces):
        add(store, trace_id, 10, order_id=f"o-{place}")
        assert store.count() <= 100
    kept = [trace_id for trace_id in traces if store.summary(trace_id)]
    assert kept == traces[-len(kept) :] and 9 <= len(kept) <= 10
    assert [len(store.trace(trace_id)) for trace_id in kept] == [10] * len(kept)
    assert store.trace(traces[0]) == [] and store.find("o-0", 10) == []
    assert [found["trace_id"] for found in store.find("o-49", 10)] == [traces[-1]]


def test_a_span_that_arrives_twice_is_stored_once(store):
    trace_id = new_trace_id()
    [one] = otlp.spans(span(trace_id, "work", error="no")[1])
    store.add([one, one])
    store.add([one])
    found = store.summary(trace_id)
    assert (found["spans"], found["errors"], len(store.trace(trace_id)), store.count()) == (1, 1, 1, 1)


def test_the_limit_includes_traces_of_earlier_runs(tmp_path):
    for _ in range(15):
        store = Store(tmp_path / "spans.sqlite3", most_spans=100)
        add(store, new_trace_id(), 10)
        assert store.count() <= 100
        store.close()

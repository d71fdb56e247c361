"""Shows the traces that have an id, as waterfalls; without an id, what there is."""

import re
from collections.abc import Iterable

from rich.markup import escape
from rich.text import Text

from infra.local.progress import console
from infra.local.settings import TRACE_FILE, Trouble
from infra.local.traces import process, waterfall
from infra.local.traces.store import Store

LISTED = 20
SHOWN = 5
MOST_FOUND = 100
# The request id of API Gateway. On AWS it is the request's; here each answer gets a random one.
GATEWAY_ID = re.compile(r"(?<![\w+/])[\w+/]{15}=(?!=)", re.ASCII)
USAGE = "make trace ID=<order, post, trace or request id, or the `instance` of a problem>"


def run(wanted: str, idle: bool = False) -> None:
    """Reads the file, so that it works while the local cloud is down."""
    if not TRACE_FILE.exists():
        raise Trouble("No trace has been kept: the system has not run here yet. `make demo` plays a story with some.")
    store = Store(TRACE_FILE)
    # What is no text is no id either, but can be said.
    wanted = wanted.encode(errors="replace").decode().strip()
    try:
        if wanted:
            _one(store, wanted)
        else:
            _latest(store, idle)
    finally:
        store.close()


def _one(store: Store, wanted: str) -> None:
    found = store.find(wanted, MOST_FOUND)
    if not found and GATEWAY_ID.search(wanted):
        raise Trouble(
            f"“{wanted}” is an `apigw-requestid`, which the local cloud makes up and no function hears of: take the "
            "header `traceresponse` of the answer, or the `instance` of a problem."
        )
    if not found:
        kept = waterfall.number(store.count(), "span")
        raise Trouble(
            f"No trace has the id “{wanted}”; {kept} are kept, `make trace` lists the latest traces. "
            "Spans arrive when an invocation ends, and those of requests that are not sampled never do."
        )
    older, shown = found[SHOWN:], found[:SHOWN]
    if older:
        console.print(f"{_many(found)} have the id {escape(wanted)}; the older ones each by its own id:")
        _table(reversed(older))
        console.print()
    elif len(shown) > 1:
        console.print(f"{len(shown)} traces have the id {escape(wanted)}, the newest last\n")

    def linked(trace_id: str) -> str | None:
        other = store.summary(trace_id)
        return waterfall.title(other["function"], other["name"]) if other else None

    for place, trace in enumerate(reversed(shown)):
        if place:
            console.print()
        waterfall.show(console, store.trace(trace["trace_id"]), linked)
    if not process.running():
        console.print("\nThe receiver is down: `make up` starts it.", style="dim")


def _latest(store: Store, idle: bool) -> None:
    traces = store.latest(LISTED, idle)
    left_out = 0 if idle else store.idle()
    if not traces and not left_out:
        raise Trouble("No span has arrived yet: a request through the API makes some, and `make demo` many.")
    console.print(f"The latest traces, of {waterfall.number(store.count(), 'span')} kept:")
    _table(reversed(traces))
    if left_out:
        runs = waterfall.number(left_out, "scheduled run")
        console.print(f"\n  without {runs} that found nothing to do: make trace ALL=1 shows all", style="dim")
    console.print(f"\n  {USAGE}", markup=False)


def _table(traces: Iterable[dict]) -> None:
    for trace in traces:
        took, spans = waterfall.length(trace["duration"]), waterfall.number(trace["spans"], "span")
        errors = waterfall.number(trace["errors"], "error") if trace["errors"] else ""
        line = Text(f"  {waterfall.when(trace['start'])}  {waterfall.xray_id(trace['trace_id'])}")
        line.append(f"  {took:>8}  {spans:>9}  ").append(f"{errors:<9} ", "red")
        line.append(waterfall.title(trace["function"], trace["name"]))
        console.print(line, no_wrap=True, soft_wrap=True)


def _many(found: list) -> str:
    return f"{MOST_FOUND} traces or more" if len(found) == MOST_FOUND else f"{len(found)} traces"

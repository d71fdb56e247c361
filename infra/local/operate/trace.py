"""Prints the traces that have an id as waterfalls; without an id, lists the latest."""

import re
from collections.abc import Iterable

from rich.markup import escape
from rich.text import Text

from infra.local.progress import console
from infra.local.settings import TRACE_FILE, CommandError
from infra.local.traces import process, waterfall
from infra.local.traces.store import Store

LISTED = 20
# How the kinds of hidden traces are called.
KINDS = {"scheduled_runs": "idle scheduled run", "polls": "queue or stream poll", "docs": "documentation request"}
SHOWN = 5
MAX_FOUND = 100
# The format of API Gateway's request id. The emulator puts a random one into each response.
GATEWAY_ID = re.compile(r"(?<![\w+/])[\w+/]{15}=(?!=)", re.ASCII)
USAGE = "make trace ID=<order, post, trace or request id, or the `instance` of a problem>"


def run(wanted: str, everything: bool = False) -> None:
    """Reads the file, so that it works while the local cloud is down."""
    if not TRACE_FILE.exists():
        raise CommandError("No trace is stored: the system has not run here yet. `make demo` creates some.")
    store = Store(TRACE_FILE)
    # Text that is no valid Unicode is no id, but the error message has to print it.
    wanted = wanted.encode(errors="replace").decode().strip()
    try:
        if wanted:
            _show(store, wanted)
        else:
            _latest(store, everything)
    finally:
        store.close()


def _show(store: Store, wanted: str) -> None:
    found = store.find(wanted, MAX_FOUND)
    if not found and GATEWAY_ID.search(wanted):
        raise CommandError(
            f"“{wanted}” is an `apigw-requestid`. The local cloud generates it and passes it to no function, so no "
            "trace contains it. Use the header `traceresponse` of the response, or the `instance` of a problem."
        )
    if not found:
        kept = waterfall.number(store.count(), "span")
        raise CommandError(
            f"No trace has the id “{wanted}” (stored: {kept}). `make trace` lists the latest traces. Spans arrive "
            "when an invocation ends. A request that is not sampled has none."
        )
    older, shown = found[SHOWN:], found[:SHOWN]
    if older:
        console.print(f"{_count(found)} have the id {escape(wanted)}. The older ones, which you can show by their ids:")
        _table(reversed(older))
        console.print()
    elif len(shown) > 1:
        console.print(f"{len(shown)} traces have the id {escape(wanted)}. The newest is last.\n")

    def linked(trace_id: str) -> str | None:
        other = store.summary(trace_id)
        return waterfall.title(other["function"], other["name"]) if other else None

    for place, trace in enumerate(reversed(shown)):
        if place:
            console.print()
        waterfall.show(console, store.trace(trace["trace_id"]), linked)
    if not process.running():
        console.print("\nThe trace receiver is not running. `make up` starts it.", style="dim")


def _latest(store: Store, everything: bool) -> None:
    traces = store.latest(LISTED, everything)
    hidden = {} if everything else store.hidden()
    if not traces and not hidden:
        raise CommandError("No span has arrived yet: a request through the API makes some, and `make demo` many.")
    if traces:
        console.print(f"The latest traces, of {waterfall.number(store.count(), 'span')} kept:")
        _table(reversed(traces))
    else:
        console.print("No trace of a request yet: `make demo` plays a story that leaves some.", markup=False)
    if hidden:
        kinds = ", ".join(waterfall.number(count, KINDS[kind]) for kind, count in hidden.items())
        console.print(f"\n  {kinds} hidden: make trace ALL=1 shows them", style="dim")
    console.print(f"\n  {USAGE}", markup=False)


def _table(traces: Iterable[dict]) -> None:
    for trace in traces:
        took, spans = waterfall.length(trace["duration"]), waterfall.number(trace["spans"], "span")
        errors = waterfall.number(trace["errors"], "error") if trace["errors"] else ""
        line = Text(f"  {waterfall.when(trace['start'])}  {waterfall.xray_id(trace['trace_id'])}")
        line.append(f"  {took:>8}  {spans:>9}  ").append(f"{errors:<9} ", "red")
        line.append(waterfall.title(trace["function"], trace["name"]))
        console.print(line, no_wrap=True, soft_wrap=True)


def _count(found: list) -> str:
    return f"{MAX_FOUND} traces or more" if len(found) == MAX_FOUND else f"{len(found)} traces"

"""The traces of a story's steps."""

import re
import time
from dataclasses import dataclass

import requests
from rich.markup import escape
from rich.text import Text

from infra.local.progress import console
from infra.local.settings import TRACE_URL
from infra.local.traces import waterfall
from infra.local.traces.otlp import UUID

# A function sends its spans when its invocation ends, soon after it has answered.
PATIENCE = 5


@dataclass
class Traced:
    """A step, and its trace."""

    chapter: str
    who: str
    what: str
    # From the answer. Empty if API Gateway has answered, without a function.
    trace_id: str = ""


def show(steps: list[Traced]) -> None:
    """Waits for the traces to arrive, and prints how to look at each. A step that no function has answered has none."""
    steps = [step for step in steps if step.trace_id]
    arrived = _await([step.trace_id for step in steps])
    if arrived is None:
        console.print(f"\n[yellow]The receiver of traces does not answer at {TRACE_URL}[/]: `make up` starts it.")
        return
    console.print(f"\n[bold]Traces of the story[/]: make trace ID=<one of these>, or {TRACE_URL}")
    whats = [re.sub(UUID, "{id}", step.what) for step in steps]
    what_width, who_width = (max(map(len, column), default=0) for column in (whats, [step.who for step in steps]))
    chapter = ""
    for step, what in zip(steps, whats, strict=True):
        if step.chapter != chapter:
            chapter = step.chapter
            console.print(f"  [dim]{escape(chapter)}[/]")
        found = arrived.get(step.trace_id)
        spans = waterfall.number(found["spans"], "span") if found else "no span"
        line = Text(f"    {step.who:<{who_width}}  {what:<{what_width}}  {waterfall.xray_id(step.trace_id)}  ")
        line.append(spans, "dim" if found else "yellow")
        if found and found["errors"]:
            line.append(f", {waterfall.number(found['errors'], 'error')}", "red")
        console.print(line, soft_wrap=True)
    if missing := len(steps) - len(arrived):
        console.print(
            f"[yellow]{waterfall.number(missing, 'trace')} did not arrive[/] within {PATIENCE} s: "
            + escape(f"{TRACE_URL}/api/receiver shows what did, `make down` and `make up` restart the receiver.")
        )


def _await(trace_ids: list[str]) -> dict[str, dict] | None:
    """The summaries of the traces that arrive in time, by id. None if the receiver does not answer."""
    deadline = time.monotonic() + PATIENCE
    try:
        while True:
            found = {trace_id: _summary(trace_id) for trace_id in trace_ids}
            arrived = {trace_id: summary for trace_id, summary in found.items() if summary}
            if len(arrived) == len(trace_ids) or time.monotonic() > deadline:
                return arrived
            time.sleep(0.2)
    except requests.RequestException:
        return None


def _summary(trace_id: str) -> dict | None:
    answer = requests.get(f"{TRACE_URL}/api/traces", params={"id": trace_id}, timeout=5)
    answer.raise_for_status()
    return next(iter(answer.json()["items"]), None)

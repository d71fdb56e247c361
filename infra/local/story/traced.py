"""The traces of the steps that a story took."""

import re
import secrets
import time
from dataclasses import dataclass, field

import requests
from rich.markup import escape
from rich.text import Text

from infra.local.progress import console
from infra.local.settings import TRACE_URL
from infra.local.traces import waterfall
from infra.local.traces.otlp import UUID

# A function sends its spans when its invocation ends, which is soon after its answer.
PATIENCE = 5


@dataclass
class Traced:
    """A step, and the trace that was begun for it."""

    chapter: str
    who: str
    what: str
    trace_id: str = field(default_factory=lambda: f"{int(time.time()):08x}{secrets.token_hex(12)}")

    def header(self, sampled: bool = True) -> str:
        """X-Amzn-Trace-Id, as a caller sends it that has a span of its own."""
        return f"Root={waterfall.xray_id(self.trace_id)};Parent={secrets.token_hex(8)};Sampled={sampled:d}"


def show(steps: list[Traced]) -> None:
    """Prints how to look at the traces, once their first spans have arrived."""
    arrived = _await([step.trace_id for step in steps])
    if arrived is None:
        console.print(f"\n[yellow]The receiver of traces does not answer at {TRACE_URL}[/]: `make up` starts it.")
        return
    console.print(f"\n[bold]Its traces[/], also to be seen at {TRACE_URL}")
    whats = [re.sub(UUID, "{id}", step.what) for step in steps]
    width = max(map(len, whats), default=0)
    chapter = ""
    for step, what in zip(steps, whats, strict=True):
        if step.chapter != chapter:
            chapter = step.chapter
            console.print(f"  [dim]{escape(chapter)}[/]")
        found = arrived.get(step.trace_id)
        spans = waterfall.number(found["spans"], "span") if found else "no span"
        line = Text(f"    {step.who:<8}{what:<{width}}  make trace ID={waterfall.xray_id(step.trace_id)}  ")
        line.append(spans, "dim" if found else "yellow")
        if found and found["errors"]:
            line.append(f", {waterfall.number(found['errors'], 'error')}", "red")
        console.print(line, soft_wrap=True)
    if missing := len(steps) - len(arrived):
        console.print(
            f"[yellow]Of {missing} nothing has arrived[/] within {PATIENCE} s: see "
            + escape(f"{TRACE_URL}/api/receiver for what came, or run `make down` and `make up`.")
        )


def _await(trace_ids: list[str]) -> dict[str, dict] | None:
    """What is known of each that has arrived; None without a receiver."""
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

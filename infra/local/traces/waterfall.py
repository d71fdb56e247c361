"""Prints a trace as a waterfall: the tree of its spans, and a bar for the time of each."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from rich.console import Console
from rich.text import Text

PLAIN_WIDTH = 140
SHORTEST_BAR = 24
COLOURS = ("cyan", "green", "magenta", "blue", "yellow", "bright_cyan", "bright_green", "bright_magenta")
# An idle stretch is drawn no longer than this fraction of the time in which something ran.
IDLE = 1 / 8

Span = dict[str, Any]


@dataclass
class Row:
    span: Span
    branches: str  # drawn before the span
    below: str  # drawn before the remarks about it
    function: str | None  # None if it is the parent's
    detached: bool  # its parent is missing, and it is not the first


class Axis:
    """Maps times to columns. Idle stretches, in which consumers wait for their turn, are shortened."""

    def __init__(self, spans: list[Span], width: int) -> None:
        busy = list(_busy(spans))
        most = sum(end - start for start, end in busy) * IDLE
        self.shortened: list[int] = []
        self._points = [(busy[0][0], 0.0)]
        for (start, end), following in zip(busy, [*busy[1:], None], strict=True):
            self._step(end, end - start)
            if following:
                idle = following[0] - end
                self._step(following[0], min(idle, most))
        scale = width / (self._points[-1][1] or 1)
        self._points = [(moment, place * scale) for moment, place in self._points]
        for (_, end), (start, _) in pairwise(busy):
            if start - end > most:
                self.shortened.append(min(round((self.place(end) + self.place(start)) / 2), width - 1))

    def place(self, moment: int) -> float:
        for (before, left), (after, right) in pairwise(self._points):
            if moment <= after:
                return left + (right - left) * (moment - before) / max(after - before, 1)
        return self._points[-1][1]

    def _step(self, moment: int, length: float) -> None:
        self._points.append((moment, self._points[-1][1] + length))


def show(console: Console, spans: list[Span], linked: Callable[[str], str | None] = lambda _: None) -> None:
    """Prints a trace. `linked` names another trace by its id, or returns None if it is not stored."""
    width = console.width if console.is_terminal else PLAIN_WIDTH
    first = min(span["start"] for span in spans)
    functions = list(dict.fromkeys(span["function"] for span in spans))
    colours = {function: COLOURS[place % len(COLOURS)] for place, function in enumerate(functions)}
    console.print(_heading(spans, first, len(functions)))

    rows = list(tree(spans))
    labels = [_label(row, colours) for row in rows]
    label_width = max(12, min(max(len(label) for label in labels), width - SHORTEST_BAR - 20))
    bar_width = max(SHORTEST_BAR, width - label_width - 20)
    axis = Axis(spans, bar_width)
    for row, label in zip(rows, labels, strict=True):
        label.truncate(label_width, overflow="ellipsis", pad=True)
        times = f" {'+' + length(row.span['start'] - first):>8} {length(row.span['duration']):>8}  "
        _line(console, label + Text(times, "dim") + _bar(row.span, axis, bar_width, colours))
        for text in _remarks(row, linked):
            _line(console, Text(row.below) + text)
    if axis.shortened:
        console.print(Text("┊ nothing ran: the time is shortened", "dim"))


def tree(spans: list[Span]) -> Iterator[Row]:
    """Yields parents before their children, and children in the order of their starts."""
    here = {span["span_id"] for span in spans}
    children: dict[str | None, list[Span]] = {}
    for span in sorted(spans, key=lambda span: (span["start"], -span["duration"])):
        parent = span["parent_id"] if span["parent_id"] in here else None
        children.setdefault(parent, []).append(span)
    tops = children.get(None, [])
    seen: set[str] = set()
    # Spans that are each other's ancestors have no top; they are shown all the same.
    for top in [*tops, *spans]:
        first = not seen
        waiting = [(top, "", "", None)]
        while waiting:
            span, branch, indent, parent = waiting.pop()
            if span["span_id"] in seen:
                continue
            seen.add(span["span_id"])
            below = [child for child in children.get(span["span_id"], []) if child["span_id"] not in seen]
            detached = parent is None and not first and span["parent_id"] is not None
            beneath = f"{indent}{'│ ' if below else '  '}"
            yield Row(span, branch, beneath, span["function"] if span["function"] != parent else None, detached)
            for child in reversed(below):
                last = child is below[-1]
                branch, beside = ("└─ ", "   ") if last else ("├─ ", "│  ")
                waiting.append((child, indent + branch, indent + beside, span["function"]))


def length(microseconds: int) -> str:
    if microseconds < 1_000:
        return f"{microseconds} µs"
    if microseconds < 10_000:
        return f"{microseconds / 1_000:.1f} ms"
    return f"{microseconds / 1_000:.0f} ms" if microseconds < 1_000_000 else f"{microseconds / 1_000_000:.2f} s"


def title(function: str, name: str) -> str:
    """A span's name after its function, unless the name begins with it."""
    return _clean(name if name.startswith(function) else f"{function} {name}")


def xray_id(trace_id: str) -> str:
    return f"1-{trace_id[:8]}-{trace_id[8:]}"


def when(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / 1_000_000).strftime("%Y-%m-%d %H:%M:%S")


def number(count: int, of: str) -> str:
    return f"{count} {of}" if count == 1 else f"{count} {of}s"


def _heading(spans: list[Span], first: int, functions: int) -> Text:
    took = max(span["start"] + span["duration"] for span in spans) - first
    errors = sum(span["status"] == "error" for span in spans)
    text = Text.assemble(("Trace ", "bold"), (xray_id(spans[0]["trace_id"]), "bold"), f"  {when(first)}\n")
    text.append(f"{length(took)}, {number(len(spans), 'span')} of {number(functions, 'function')}, ")
    return text.append(number(errors, "error") if errors else "no errors", "bold red" if errors else "")


def _label(row: Row, colours: dict[str, str]) -> Text:
    label = Text(row.branches, "dim")
    name = _clean(row.span["name"])
    if row.function:
        function = _clean(row.function)
        label.append(function, colours[row.span["function"]])
        name = title(function, name).removeprefix(function)
    return label.append(name, "bold red" if row.span["status"] == "error" else "")


def _bar(span: Span, axis: Axis, width: int, colours: dict[str, str]) -> Text:
    start = min(int(axis.place(span["start"])), width - 1)
    end = min(max(round(axis.place(span["start"] + span["duration"])), start + 1), width)
    line = [" "] * width
    for place in axis.shortened:
        line[place] = "┊"
    line[start:end] = "━" * (end - start)
    bar = Text("".join(line).rstrip(), "dim")
    bar.stylize("not dim bold red" if span["status"] == "error" else f"not dim {colours[span['function']]}", start, end)
    return bar


def _remarks(row: Row, linked: Callable[[str], str | None]) -> Iterator[Text]:
    span = row.span
    if span["status"] == "error":
        yield Text(f"✗ {_clean(reason(span))}", "red")
    if row.detached:
        yield Text(f"its parent {span['parent_id']} has not arrived", "yellow")
    for link in span["links"]:
        if link["trace_id"] != span["trace_id"]:
            name, trace = linked(link["trace_id"]), xray_id(link["trace_id"])
            yield Text(f"↗ {name}: make trace ID={trace}" if name else f"↗ {trace}: no span of it was received", "dim")


def reason(span: Span) -> str:
    """Why a span failed."""
    attributes = [span["attributes"], *(event["attributes"] for event in span["events"])]
    kinds = [found[name] for found in attributes for name in ("error.type", "exception.type") if name in found]
    messages = [found["exception.message"] for found in attributes if "exception.message" in found]
    kind = str(kinds[0]) if kinds else ""
    message = span["status_message"] or (str(messages[-1]) if messages else "")
    if message.startswith(kind):
        return message or kind or "failed"
    return f"{kind}: {message}" if message else kind


def _busy(spans: list[Span]) -> Iterator[tuple[int, int]]:
    """Yields the stretches in which at least one span ran."""
    begun = ended = None
    for start, end in sorted((span["start"], span["start"] + span["duration"]) for span in spans):
        if begun is None or ended is None:
            begun, ended = start, end
        elif start > ended:
            yield begun, ended
            begun, ended = start, end
        else:
            ended = max(ended, end)
    if begun is not None and ended is not None:
        yield begun, ended


def _clean(text: str) -> str:
    """The text on one line and without control characters, which a terminal would obey."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _line(console: Console, text: Text) -> None:
    text.rstrip()
    console.print(text, no_wrap=True, soft_wrap=True)

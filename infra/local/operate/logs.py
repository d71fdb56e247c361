"""Prints what the functions have logged: one function's lines or everyone's, all of them or those with an id."""

import difflib
import json
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from rich.text import Text

from infra.local.progress import console, notes
from infra.local.settings import Trouble, client
from infra.local.traces import waterfall
from infra.local.traces.otlp import UUID
from infra.local.traces.store import trace_id

USAGE = "make logs F=<function> ID=<order, request, trace or user id> SINCE=<10m, 14:30, …> FOLLOW=1 RAW=1"
# Without an id and a time.
LATEST = 100
# The most that FilterLogEvents answers at once.
PAGE = 10_000
# How far back each look goes, so that a line that is stored late is seen.
LATE = timedelta(seconds=10)
PAUSE = 1.0

# Lambda's own lines around an invocation.
LAMBDA = re.compile(r"(START|END|REPORT) RequestId: ")
AGO = re.compile(r"(\d+)\s*([smhd])")
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
COLOURS = {"ERROR": "bold red", "WARN": "yellow", "INFO": "green", "DEBUG": "blue", "TRACE": "dim"}
# Said at the beginning of a line, the rest behind it by name.
HEAD = {"timestamp", "level", "function", "message"}
# The span's name, which says no more than the function's.
LEFT_OUT = {"name"}
# The same in every line of a request, so they come last.
TAIL = ("request_id", "trace_id")


@dataclass(frozen=True)
class Line:
    """What a function has written."""

    function: str
    time: datetime  # when it was written
    stored: datetime  # when the local cloud read it: at once, or when the invocation ended
    text: str
    # The text's fields, if it is JSON.
    entry: dict[str, Any] | None = field(compare=False)

    @classmethod
    def read(cls, function: str, event: dict) -> "Line":
        text = event["message"].rstrip("\n")
        try:
            entry = json.loads(text)
        except ValueError:
            entry = None
        entry = entry if isinstance(entry, dict) else None
        stored = datetime.fromtimestamp(event["timestamp"] / 1000).astimezone()
        written = _time(entry.get("timestamp")) if entry else None
        return cls(function, written or stored, stored, text, entry)

    def is_told(self) -> bool:
        """Whether it tells of what happened: metrics and Lambda's own lines are for programs."""
        return bool(self.text) and not LAMBDA.match(self.text) and not (self.entry and "_aws" in self.entry)

    def show(self, width: int = 0) -> Text:
        """`width` is that of the column of functions."""
        function = (f"{self.function:<{width}}", "cyan")
        when = self.time.astimezone().strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        if not (self.entry and "message" in self.entry):
            return Text.assemble((when, "dim"), "       ", function, f"  {self.text}")
        level = str(self.entry.get("level", ""))
        names = [name for name in self.entry if name not in HEAD | LEFT_OUT and name not in TAIL]
        line = Text.assemble((when, "dim"), " ", (f"{level:<5}", COLOURS.get(level, "")), " ", function)
        line.append(f"  {self.entry['message']}")
        for name in [*names, *(name for name in TAIL if name in self.entry)]:
            if self.entry[name] != "":
                line.append(f"  {name}=", "dim").append(_value(self.entry[name]), "dim" if name in TAIL else "")
        return line


def run(outputs: dict, function: str, wanted: str, since: str, follow: bool, raw: bool) -> None:
    functions = sorted(outputs["functions"])
    if not (function or wanted or since or follow):
        _list(functions)
        return
    if function and function not in functions:
        raise Trouble(f"There is no function “{function}”{near(function, functions)}. `make logs` lists all.")
    chosen = [function] if function else functions
    has_id = Id(wanted) if wanted.strip() else None
    start = when(since, datetime.now().astimezone()) if since else None
    kept = [
        line for line in read(chosen, start, has_id) if (raw or line.is_told()) and (not start or line.time >= start)
    ]
    shown = kept if has_id or start else kept[-LATEST:]
    width = max((len(line.function) for line in shown), default=0)
    for line in shown:
        _print(line, raw, width)
    if len(shown) < len(kept):
        notes.print(f"The latest {LATEST} of {len(kept)} lines: SINCE=1h shows those of an hour.", style="dim")
    elif not shown and not follow:
        raise Trouble(_nothing(function, wanted, since))
    if follow:
        _follow(chosen, has_id, raw, width, kept)


class Id:
    """An id in any form that people have, as the lines have it."""

    def __init__(self, text: str) -> None:
        self.text = _normal(text)
        self._pattern = re.compile(rf"(?<![\w-]){re.escape(self.text)}(?![\w-])", re.IGNORECASE)

    def is_in(self, text: str) -> bool:
        return bool(self._pattern.search(text))

    def filter(self) -> dict[str, str]:
        """For FilterLogEvents, which finds words; an id with other signs is looked for here alone."""
        return {"filterPattern": f'"{self.text}"'} if re.fullmatch(r"[A-Za-z0-9-]+", self.text) else {}


def read(functions: Iterable[str], start: datetime | None = None, wanted: Id | None = None) -> list[Line]:
    """The functions' lines that were stored since `start`, in the order in which they were written."""
    filters = wanted.filter() if wanted else {}
    lines = [
        line
        for function in functions
        for line in (Line.read(function, event) for event in _events(function, start, filters))
        if not wanted or wanted.is_in(line.text)
    ]
    return sorted(lines, key=lambda line: line.time)


def _events(function: str, start: datetime | None, filters: dict[str, str]) -> Iterator[dict]:
    logs = client("logs")
    # What a page ends with begins the next one: the emulator has no tokens.
    arguments = {"logGroupName": f"/aws/lambda/{function}", "limit": PAGE, **filters}
    if start:
        arguments["startTime"] = int(start.timestamp() * 1000)
    told = 0  # of those at the start
    while True:
        try:
            events = logs.filter_log_events(**arguments)["events"]
        except logs.exceptions.ResourceNotFoundException:
            return
        yield from events[told:]
        if len(events) < PAGE:
            return
        last = events[-1]["timestamp"]
        if last == arguments.get("startTime"):
            raise Trouble(f"{function} has written {PAGE} lines within a millisecond: say which with ID=.")
        arguments["startTime"] = last
        told = sum(event["timestamp"] == last for event in events)


def when(text: str, now: datetime) -> datetime:
    """A moment as people write it: how long ago, a time of today, or a date with or without a time."""
    text = text.strip()
    if ago := AGO.fullmatch(text):
        return now - timedelta(**{UNITS[ago[2]]: int(ago[1])})
    if moment := _time(text) or (":" in text and _time(f"{now:%Y-%m-%d}T{text}")):
        return moment
    raise Trouble(f"“{text}” is no time: SINCE=10m, SINCE=2h, SINCE=14:30 or SINCE='2026-05-04 14:30'.")


def near(name: str, names: Iterable[str]) -> str:
    """“; near it: …” if something is."""
    names = list(names)
    close = difflib.get_close_matches(name, names, n=4, cutoff=0.7)
    close += [other for other in names if other not in close and name and name in other]
    return f"; near it: {', '.join(close[:12])}" if close else ""


def _list(functions: list[str]) -> None:
    width = max(map(len, functions), default=0)
    logs = client("logs")
    for function in functions:
        console.print(f"  {function:<{width}}  {_last_written(logs, function)}".rstrip(), markup=False)
    console.print(f"\n  {USAGE}", markup=False)


def _last_written(logs: Any, function: str) -> str:
    try:
        streams = logs.describe_log_streams(
            logGroupName=f"/aws/lambda/{function}", orderBy="LastEventTime", descending=True, limit=1
        )["logStreams"]
    except logs.exceptions.ResourceNotFoundException:
        return ""
    last = max((stream.get("lastEventTimestamp") or 0 for stream in streams), default=0)
    return waterfall.when(last * 1000) if last else ""


def _follow(functions: list[str], wanted: Id | None, raw: bool, width: int, known: list[Line]) -> None:
    seen = set(known)
    while True:
        start = datetime.now().astimezone() - LATE
        # Those that can come again.
        seen = {line for line in seen if line.stored >= start}
        time.sleep(PAUSE)
        for line in read(functions, start, wanted):
            if line not in seen and (raw or line.is_told()):
                seen.add(line)
                _print(line, raw, width)


def _print(line: Line, raw: bool, width: int) -> None:
    console.print(Text(line.text) if raw else line.show(width))


def _nothing(function: str, wanted: str, since: str) -> str:
    of = f"{function} has" if function else "No function has"
    not_ = " not" if function else ""
    what = f"logged a line with the id “{wanted.strip()}”" if wanted.strip() else "logged anything"
    return f"{of}{not_} {what}{f' since {since}' if since else ''}."


def _normal(text: str) -> str:
    """As lines have it: `urn:uuid:…` without its prefix, and a trace in X-Ray's form."""
    text = text.encode(errors="replace").decode().strip()
    if found := UUID.search(text):
        return found[0].lower()
    trace = trace_id(text)
    return waterfall.xray_id(trace) if re.fullmatch("[0-9a-f]{32}", trace) else text


def _time(text: object) -> datetime | None:
    if not isinstance(text, str):
        return None
    try:
        # Python 3.10 knows neither the Z nor more than six digits of a second.
        moment = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text).replace("Z", "+00:00"))
    except ValueError:
        return None
    return moment.astimezone()


def _value(value: object) -> str:
    if isinstance(value, str) and re.fullmatch(r"[^\s\"=]+", value):
        return value
    if isinstance(value, float):
        return f"{value:.1f}"
    return json.dumps(value, ensure_ascii=False)

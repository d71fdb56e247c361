"""Prints the log lines of one function or of all functions, optionally only those that contain an id."""

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
from infra.local.settings import CommandError, client
from infra.local.traces import waterfall
from infra.local.traces.otlp import UUID
from infra.local.traces.store import trace_id

USAGE = "make logs F=<function> ID=<order, request, trace or user id> SINCE=<10m, 14:30, …> FOLLOW=1 RAW=1"
# How many lines are printed if neither an id nor a time is given.
LATEST = 100
# The maximum number of lines in one response of FilterLogEvents.
PAGE = 10_000
# Each poll reads this far back, so that it includes lines that are stored late.
LATE = timedelta(seconds=10)
POLL_INTERVAL = 1.0

# Lambda's own lines around an invocation.
LAMBDA = re.compile(r"(START|END|REPORT) RequestId: ")
AGO = re.compile(r"(\d+)\s*([smhd])")
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
COLOURS = {"ERROR": "bold red", "WARN": "yellow", "INFO": "green", "DEBUG": "blue", "TRACE": "dim"}
# Printed at the start of a line without their names. The other fields follow as name=value.
HEAD = {"timestamp", "level", "function", "message"}
# Not printed: the span's name adds nothing to the function's.
OMITTED = {"name"}
# Printed last, because they are the same in every line of a request.
TAIL = ("request_id", "trace_id")


@dataclass(frozen=True)
class Line:
    """A log line of a function."""

    function: str
    time: datetime  # when the function wrote it
    stored: datetime  # when the local cloud stored it: at once, or at the end of the invocation
    text: str
    # The fields of the line if it is a JSON object.
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
        written = _parse_timestamp(entry.get("timestamp")) if entry else None
        return cls(function, written or stored, stored, text, entry)

    def is_message(self) -> bool:
        """Whether the line is for people. Metrics and Lambda's own lines are for programs."""
        return bool(self.text) and not LAMBDA.match(self.text) and not (self.entry and "_aws" in self.entry)

    def show(self, width: int = 0) -> Text:
        """The formatted line. `width` is the width of the column with the function's name."""
        function = (f"{self.function:<{width}}", "cyan")
        when = self.time.astimezone().strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        if not (self.entry and "message" in self.entry):
            return Text.assemble((when, "dim"), "       ", function, f"  {self.text}")
        level = str(self.entry.get("level", ""))
        names = [name for name in self.entry if name not in HEAD | OMITTED and name not in TAIL]
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
        raise CommandError(f"There is no function “{function}”{similar(function, functions)}. `make logs` lists all.")
    chosen = [function] if function else functions
    wanted_id = Id(wanted) if wanted.strip() else None
    start = parse_time(since, datetime.now().astimezone()) if since else None
    found = [
        line
        for line in read(chosen, start, wanted_id)
        if (raw or line.is_message()) and (not start or line.time >= start)
    ]
    shown = found if wanted_id or start else found[-LATEST:]
    width = max((len(line.function) for line in shown), default=0)
    for line in shown:
        _print(line, raw, width)
    if len(shown) < len(found):
        notes.print(f"The latest {LATEST} of {len(found)} lines. SINCE=1h shows those of the last hour.", style="dim")
    elif not shown and not follow:
        raise CommandError(_no_lines(function, wanted, since))
    if follow:
        _follow(chosen, wanted_id, raw, width, found)


class Id:
    """An id that the user gives in any format, normalized to the format in the log lines."""

    def __init__(self, text: str) -> None:
        self.text = _normalize(text)
        self._pattern = re.compile(rf"(?<![\w-]){re.escape(self.text)}(?![\w-])", re.IGNORECASE)

    def is_in(self, text: str) -> bool:
        return bool(self._pattern.search(text))

    def filter(self) -> dict[str, str]:
        """The filter for FilterLogEvents, which matches whole words. An id with other characters is matched here
        only."""
        return {"filterPattern": f'"{self.text}"'} if re.fullmatch(r"[A-Za-z0-9-]+", self.text) else {}


def read(functions: Iterable[str], start: datetime | None = None, wanted: Id | None = None) -> list[Line]:
    """The functions' lines that were stored since `start`, sorted by the time when they were written."""
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
    # The emulator returns no page tokens, so each page starts at the time of the previous page's last line.
    arguments = {"logGroupName": f"/aws/lambda/{function}", "limit": PAGE, **filters}
    if start:
        arguments["startTime"] = int(start.timestamp() * 1000)
    seen = 0  # lines at the start time that the previous page had already
    while True:
        try:
            events = logs.filter_log_events(**arguments)["events"]
        except logs.exceptions.ResourceNotFoundException:
            return
        yield from events[seen:]
        if len(events) < PAGE:
            return
        last = events[-1]["timestamp"]
        if last == arguments.get("startTime"):
            raise CommandError(f"{function} has written {PAGE} lines within a millisecond. Use ID= to select some.")
        arguments["startTime"] = last
        seen = sum(event["timestamp"] == last for event in events)


def parse_time(text: str, now: datetime) -> datetime:
    """Parses how long ago, a time of today, or a date with or without a time."""
    text = text.strip()
    if ago := AGO.fullmatch(text):
        return now - timedelta(**{UNITS[ago[2]]: int(ago[1])})
    if moment := _parse_timestamp(text) or (":" in text and _parse_timestamp(f"{now:%Y-%m-%d}T{text}")):
        return moment
    raise CommandError(f"“{text}” is not a time. Use SINCE=10m, SINCE=2h, SINCE=14:30 or SINCE='2026-05-04 14:30'.")


def similar(name: str, names: Iterable[str]) -> str:
    """“ (did you mean …?)” with the names that are similar or contain the name. Empty if there are none."""
    names = list(names)
    close = difflib.get_close_matches(name, names, n=4, cutoff=0.7)
    close += [other for other in names if other not in close and name and name in other]
    return f" (did you mean {', '.join(close[:12])}?)" if close else ""


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
        # Only lines that the next poll can read again.
        seen = {line for line in seen if line.stored >= start}
        time.sleep(POLL_INTERVAL)
        for line in read(functions, start, wanted):
            if line not in seen and (raw or line.is_message()):
                seen.add(line)
                _print(line, raw, width)


def _print(line: Line, raw: bool, width: int) -> None:
    console.print(Text(line.text) if raw else line.show(width))


def _no_lines(function: str, wanted: str, since: str) -> str:
    subject = f"{function} has not" if function else "No function has"
    what = f"logged a line with the id “{wanted.strip()}”" if wanted.strip() else "logged anything"
    return f"{subject} {what}{f' since {since}' if since else ''}."


def _normalize(text: str) -> str:
    """The id in the format of the log lines: a UUID without `urn:uuid:`, and a trace id in X-Ray's format."""
    text = text.encode(errors="replace").decode().strip()
    if found := UUID.search(text):
        return found[0].lower()
    trace = trace_id(text)
    return waterfall.xray_id(trace) if re.fullmatch("[0-9a-f]{32}", trace) else text


def _parse_timestamp(text: object) -> datetime | None:
    if not isinstance(text, str):
        return None
    try:
        # Python 3.10 parses neither the Z nor more than six digits of a second.
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

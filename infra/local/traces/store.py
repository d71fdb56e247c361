"""Stores spans in an SQLite file that one process writes and any process may read."""

import json
import re
import sqlite3
from pathlib import Path
from typing import Any

from infra.local.traces import otlp

MOST_SPANS = 200_000
# The kinds of traces that lists hide by default, because they are most of all traces and show no request.
HIDDEN = {
    # There is one every minute. It queries once and finds nothing; a run that finds something has more spans.
    "scheduled_runs": "name = 'schedule' and spans <= 2 and errors = 0",
    # An invocation that Lambda begins when it has polled a queue or a stream. What it does with each message is in the
    # trace of the request that the message came from. One that does something in its own trace is not hidden: it had
    # a message without a trace, or a relay set a record aside.
    "polls": """errors = 0 and (name = 'queue' and spans = 1 or name = 'stream' and not exists (
        select 1 from spans as other where other.trace_id = traces.trace_id
        and json_extract(other.span, '$.name') not in ('stream', 'EventBridge PutEvents')))""",
    # A browser that opens the page at /docs makes half a dozen.
    "docs": "function = 'api-docs' and errors = 0",
}
XRAY_ID = re.compile(r"\b1-([0-9a-f]{8})-([0-9a-f]{24})\b")
TRACEPARENT = re.compile(r"\b00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}\b")
# Often copied along with an id from JSON, a header or a sentence.
AROUND = " \t\r\n\"'`“”,;:.()[]{}<>"

# `arrived` numbers traces in the order in which their first spans arrived. The lowest is deleted first, because clocks
# may be wrong. A trace has the function and name of its earliest span, which arrives after its children.
SCHEMA = """
create table if not exists traces (
    arrived integer primary key, trace_id text not null unique, function text not null, name text not null,
    start integer not null, end integer not null, spans integer not null, errors integer not null);
create index if not exists traces_by_start on traces (start);
create table if not exists spans (
    trace_id text not null, span_id text not null, start integer not null, duration integer not null,
    span text not null, primary key (trace_id, span_id)) without rowid;
create table if not exists ids (id text not null, trace_id text not null, primary key (id, trace_id)) without rowid;
create index if not exists ids_by_trace on ids (trace_id);
"""
ADD_TO_TRACE = """
insert into traces (trace_id, function, name, start, end, spans, errors) values (?, ?, ?, ?, ?, 1, ?)
on conflict (trace_id) do update set
    function = case when excluded.start <= start then excluded.function else function end,
    name = case when excluded.start <= start then excluded.name else name end,
    start = min(start, excluded.start), end = max(end, excluded.end),
    spans = spans + 1, errors = errors + excluded.errors
"""
SUMMARY = "select trace_id, name, function, start, end - start as duration, spans, errors from traces"


class Store:
    def __init__(self, path: Path, most_spans: int = MOST_SPANS) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._most_spans = most_spans
        self._database = sqlite3.connect(path, timeout=10)
        self._database.row_factory = sqlite3.Row
        self._database.execute("pragma journal_mode = wal")
        # A crash of the machine may lose the last spans, but never damages the file.
        self._database.execute("pragma synchronous = normal")
        self._database.executescript(SCHEMA)
        self._kept: int | None = None  # counted when the first span is added

    def close(self) -> None:
        self._database.close()

    def add(self, spans: list[dict[str, Any]]) -> None:
        """Stores the spans in one transaction. A span that is stored already changes nothing."""
        added = 0
        with self._database as database:
            for span in spans:
                trace_id, start, duration = span["trace_id"], span["start"], span["duration"]
                kept = (trace_id, span["span_id"], start, duration, json.dumps(span, separators=(",", ":")))
                if not database.execute("insert or ignore into spans values (?, ?, ?, ?, ?)", kept).rowcount:
                    continue
                added += 1
                error = span["status"] == "error"
                summed = (trace_id, span["function"], span["name"], start, start + duration, error)
                database.execute(ADD_TO_TRACE, summed)
                found = ((text, trace_id) for text in set(otlp.ids(span)))
                database.executemany("insert or ignore into ids values (?, ?)", found)
            self._kept = self.count() if self._kept is None else self._kept + added
            if self._kept > self._most_spans:
                self._kept = self._forget_oldest(self._kept)

    def spans(self, trace_id: str) -> list[str]:
        """The spans of a trace as JSON, in the order of their starts."""
        query = "select span from spans where trace_id = ? order by start, duration desc"
        return [row["span"] for row in self._database.execute(query, (trace_id,))]

    def trace(self, trace_id: str) -> list[dict[str, Any]]:
        return [json.loads(span) for span in self.spans(trace_id)]

    def summary(self, trace_id: str) -> dict[str, Any] | None:
        row = self._database.execute(f"{SUMMARY} where trace_id = ?", (trace_id,)).fetchone()
        return dict(row) if row else None

    def find(self, text: str, limit: int) -> list[dict[str, Any]]:
        """The traces with an id, newest first: the trace's own in any form, or one of a span's."""
        wanted = candidates(text)
        for candidate in wanted:
            if found := self.summary(trace_id(candidate)):
                return [found]
        marks = ", ".join("?" * len(wanted))
        rows = self._database.execute(
            f"{SUMMARY} where trace_id in (select trace_id from ids where id in ({marks})) order by start desc limit ?",
            (*wanted, limit),
        )
        return [dict(row) for row in rows]

    def latest(self, limit: int, everything: bool = False) -> list[dict[str, Any]]:
        """The newest traces, those that lists hide only if everything is asked for."""
        wanted = "" if everything else "where " + " and ".join(f"not ({kind})" for kind in HIDDEN.values())
        rows = self._database.execute(f"{SUMMARY} {wanted} order by start desc limit ?", (limit,))
        return [dict(row) for row in rows]

    def hidden(self) -> dict[str, int]:
        """How many traces lists hide, by kind; nothing of a kind that has none."""
        query = "select count(*) from traces where "
        counts = {kind: self._database.execute(query + condition).fetchone()[0] for kind, condition in HIDDEN.items()}
        return {kind: count for kind, count in counts.items() if count}

    def count(self) -> int:
        """How many spans are stored."""
        return self._database.execute("select coalesce(sum(spans), 0) from traces").fetchone()[0]

    def _forget_oldest(self, kept: int) -> int:
        """Deletes the oldest traces until a tenth is free, so that it runs rarely. Returns how many spans are left."""
        oldest = self._database.execute("select trace_id, spans from traces order by arrived").fetchall()
        for trace_id, spans in oldest:
            if kept <= self._most_spans * 9 // 10:
                break
            for table in ("spans", "ids", "traces"):
                self._database.execute(f"delete from {table} where trace_id = ?", (trace_id,))
            kept -= spans
        return kept


def candidates(text: str) -> list[str]:
    """The ids that a text may stand for, the likeliest first: the text itself, the text without quotes and punctuation
    around it, and the UUID in it, as in `urn:uuid:…`, a path or a line of JSON."""
    bare = text.strip().strip(AROUND)
    uuids = [found[0].lower() for found in otlp.UUID.finditer(bare)]
    return list(dict.fromkeys([text.strip(), bare, bare.lower(), *uuids[:1]]))


def trace_id(text: str) -> str:
    """A trace's id as 32 hex digits, read from that form, from X-Ray's, or from a trace header."""
    text = text.lower()
    if found := XRAY_ID.search(text):
        return "".join(found.groups())
    if found := TRACEPARENT.search(text):
        return found[1]
    return text.replace("-", "")

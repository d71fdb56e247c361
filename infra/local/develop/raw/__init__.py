"""Sends the system requests that are built byte by byte, below an HTTP client, and judges the answers.

A client normalizes what it sends: it encodes targets and counts lengths. Attackers and broken programs do not. Each
request is a valid one of an operation in infra/openapi.json with one to three defects, so that most of them get past
the server in front and reach a function.

| module | what it holds |
|---|---|
| `description` | the operations, and whether an answer is described |
| `draft` | a valid request in its parts |
| `defects` | what can be wrong with it |
| `generate` | the request with a number |
| `wire` | the connection |
| `verdict` | what is wrong with an answer |
"""

import shlex
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from infra.local.develop.raw.description import Description
from infra.local.develop.raw.draft import World
from infra.local.develop.raw.generate import Request, request
from infra.local.develop.raw.verdict import Verdict, judge
from infra.local.develop.raw.wire import PATIENCE, send
from infra.local.progress import console
from infra.local.settings import LOGS, CommandError

__all__ = ["MIN_REACHED", "Description", "Report", "World", "fuzz"]

CONNECTIONS = 8
# The least share of requests that have to reach a function: what only the server in front has read tests nothing.
MIN_REACHED = 0.8
# Fewer requests than this are too few to demand a share of them.
ENOUGH = 500
# The most failures to print.
SHOWN = 10
# Longer requests are written to a file.
LONGEST_SHOWN = 4_000
FOLDER = LOGS / "raw"


@dataclass
class Report:
    """What was sent, and how it was answered."""

    seed: int
    sent: int = 0
    reached: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    # By defect: how many requests had it, and how many of these reached a function.
    defects: Counter[str] = field(default_factory=Counter)
    defects_reached: Counter[str] = field(default_factory=Counter)
    # By operation: how many requests reached its function.
    operations: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[Request, Verdict]] = field(default_factory=list)

    def add(self, sent: Request, verdict: Verdict) -> None:
        self.sent += 1
        self.reached += verdict.reached
        self.outcomes[verdict.outcome] += 1
        self.operations[sent.draft.operation.id] += verdict.reached
        for defect in sent.defects:
            self.defects[defect.name] += 1
            self.defects_reached[defect.name] += verdict.reached
        if verdict.faults:
            self.failures.append((sent, verdict))

    def show(self) -> None:
        """Prints how many requests there were by status and by defect."""
        console.print(f"  {self.sent} raw requests, {self.reached} reached a function (seed {self.seed})", markup=False)
        console.print(f"  by status: {_counts(sorted(self.outcomes.items()))}", markup=False)
        by_defect = ((name, f"{self.defects_reached[name]}/{sent}") for name, sent in sorted(self.defects.items()))
        console.print(f"  reached/sent by defect: {_counts(by_defect)}", markup=False, style="dim")

    def verify(self) -> None:
        """Raises `CommandError`, after printing what failed, if anything did."""
        for sent, verdict in self.failures[:SHOWN]:
            console.print(_explanation(sent, verdict, self.seed), markup=False, highlight=False)
        if self.failures:
            raise CommandError(f"{len(self.failures)} of {self.sent} raw requests were answered wrongly. See above.")
        if self.sent >= ENOUGH and self.reached < MIN_REACHED * self.sent:
            raise CommandError(
                f"Only {self.reached} of {self.sent} raw requests reached a function, less than {MIN_REACHED:.0%}: "
                "the others test nothing but the server in front."
            )
        unreached = [operation for operation, reached in self.operations.items() if not reached]
        if self.sent >= ENOUGH and unreached:
            raise CommandError(f"No raw request reached the function of {', '.join(sorted(unreached))}.")


def fuzz(
    description: Description,
    world: World,
    address: tuple[str, int],
    seed: int,
    numbers: Iterable[int],
    patience: float = PATIENCE,
) -> Report:
    """Sends the requests with these numbers, up to eight at a time."""

    def exchange(number: int) -> tuple[Request, Verdict]:
        sent = request(description, world, seed, number)
        return sent, judge(description, sent, send(address, sent.message, patience), patience)

    report = Report(seed)
    pool = ThreadPoolExecutor(max_workers=CONNECTIONS)
    try:
        for sent, verdict in pool.map(exchange, numbers):
            report.add(sent, verdict)
    finally:
        # After Ctrl-C only the requests that are under way are waited for.
        pool.shutdown(cancel_futures=True)
    return report


def _counts(pairs: Iterable[tuple[str, object]]) -> str:
    return ", ".join(f"{name} {count}" for name, count in pairs)


def _explanation(sent: Request, verdict: Verdict, seed: int) -> str:
    """What failed, the bytes that show it as a literal of Python, and the command that repeats it."""
    data = sent.message.data
    literal = repr(data)
    if len(literal) > LONGEST_SHOWN:
        FOLDER.mkdir(parents=True, exist_ok=True)
        file = FOLDER / f"{seed}-{sent.number}.bin"
        file.write_bytes(data)
        literal = f"open({str(file)!r}, 'rb').read()  # {len(data)} bytes: {data[:200]!r}…"
    command = ["python", "-m", "infra.local", "fuzz", "--seed", str(seed), "--number", str(sent.number)]
    lines = [f"request {sent.number} ({sent.title})", *verdict.faults, literal, f"Again: {shlex.join(command)}"]
    return "\n    ".join(lines)

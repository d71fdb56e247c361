"""Shows the progress of several tasks: a live table on a terminal, otherwise one line per change of state."""

import os
import re
import sys
import time
from threading import Lock

from rich.console import Console
from rich.live import Live
from rich.table import Table

# Keyed by the first word of a state.
COLOURS = {"waiting": "dim", "failed": "bold red", "skipped": "bold red"} | dict.fromkeys(
    ("unchanged", "created", "updated", "passed"), "green"
)


class Terminal(Console):
    """A console whose reader may close the pipe early, as `head` does. That is a failure, except for a command that
    only displays something."""

    only_displays = False

    def on_broken_pipe(self) -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0 if self.only_displays else 1)


console = Terminal(highlight=False, soft_wrap=True)
# For errors and notes, which must not end up in output that is piped into another program.
notes = Console(highlight=False, soft_wrap=True, stderr=True)


def duration(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


class Progress:
    def __init__(self, names: list[str]) -> None:
        self._state = dict.fromkeys(names, "waiting")
        self._started: dict[str, float] = {}
        self._ended: dict[str, float] = {}
        self._lock = Lock()
        self._live = Live(get_renderable=self._table, console=console, refresh_per_second=4)

    def __enter__(self) -> "Progress":
        if console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if console.is_terminal:
            self._live.stop()

    def update(self, name: str, state: str) -> None:
        with self._lock:
            self._state[name] = state
            self._started.setdefault(name, time.monotonic())
            if not console.is_terminal:
                console.print(f"  {name}: {state} {self._seconds(name)}".rstrip())

    def finish(self, name: str, state: str) -> None:
        self._ended[name] = time.monotonic()
        self.update(name, state)

    def fail(self, name: str) -> None:
        self.finish(name, "failed")

    def _seconds(self, name: str) -> str:
        if name not in self._started:
            return ""
        seconds = self._ended.get(name, time.monotonic()) - self._started[name]
        return f"({seconds:.0f} s)" if seconds >= 0.5 else ""

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for name, state in self._state.items():
            colour = COLOURS.get(re.split(r"\W", state)[0], "yellow")
            table.add_row(f"  {name}", f"[{colour}]{state}", self._seconds(name))
        return table

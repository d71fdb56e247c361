"""`make check` and `make test`: what has to pass, how long each step takes, and what it says when it fails.

A step that fails keeps no other from running. What a step prints goes to a file under .local/logs/gates/, and to the
terminal when it fails.
"""

import os
import re
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from infra.local.progress import Progress, console, duration
from infra.local.settings import LOCAL, LOGS, ROOT, Trouble

FOLDER = LOGS / "gates"
# What takes longer hangs, in seconds: several times what the longest step takes.
LONGEST = 20 * 60
PYTHON = str(LOCAL / "venv" / "bin" / "python")
TOOLS = LOCAL / "check" / "bin"
# What the last lines of cargo test and of pytest say.
CARGO = re.compile(r"^test result: \w+\. (\d+) passed; (\d+) failed", re.MULTILINE)
PYTEST = re.compile(r"^=*\s*(?:(\d+) failed, )?(\d+) passed\b.* in [\d.]+s", re.MULTILINE)
# The line that cargo test prints for a test that passed.
PASSED = re.compile(r"^test .+ \.\.\. ok\n", re.MULTILINE)
# What pytest -rs says of a test that cannot run here: how many, where, and why.
LEFT_OUT = re.compile(r"^SKIPPED \[(\d+)\] [^ ]+: (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Step:
    """A command that exits with 0 when all is well."""

    name: str
    command: str
    needs_system: bool = False
    # What puts it right, where a command does.
    remedy: str = ""
    # What it prints when this machine lacks what it needs, and what that is.
    cannot: tuple[str, str] | None = None

    @property
    def log(self) -> Path:
        return FOLDER / f"{self.name.replace(' ', '-')}.log"


@dataclass
class Result:
    """How a step ended: `skipped` says why it could not run."""

    step: Step
    passed: bool
    skipped: str | None = None
    tests: int = 0
    failures: int = 0
    left_out: str = ""

    def __str__(self) -> str:
        if self.skipped:
            return f"skipped: {self.skipped}"
        counted = f", {self.tests} tests" if self.tests else ""
        return f"passed{counted}{self.left_out}" if self.passed else "failed"


# Side by side: what cargo runs, which waits for cargo's lock anyway, and what it does not.
CHECKS = (
    (
        Step("formatting", "cargo fmt --all --check", remedy="cargo fmt --all"),
        # All targets with the features that tests turn on, and without them, as it goes to AWS.
        Step("lints", "cargo clippy --workspace --all-targets -- -D warnings"),
        Step("lints for aws", "cargo clippy --workspace --exclude system-tests --bins -- -D warnings"),
        Step("unit tests", "cargo test --workspace --lib"),
        Step("doc tests", "cargo test --workspace --doc"),
        Step("offline tests", "cargo test --workspace --test offline"),
        # Compiles the functions, and compares their binaries with their policies.
        Step("permissions", f"{PYTHON} -m pytest -q tests/templates/test_permissions.py"),
        # Binaries have nothing to link to.
        Step("documentation", "cargo doc --workspace --lib --no-deps --document-private-items"),
        Step("dependencies", f"{TOOLS}/cargo-deny --locked check bans licenses sources"),
        Step("unused dependencies", f"{TOOLS}/cargo-shear"),
        Step(
            "advisories",
            f"{TOOLS}/cargo-deny --locked check advisories",
            cannot=("failed to fetch advisory database", "no database of advisories is reachable"),
        ),
    ),
    (
        Step("templates", f"{PYTHON} -m pytest -q tests/templates --ignore tests/templates/test_permissions.py"),
        Step("local tools", f"{PYTHON} -m pytest -q tests/local"),
        Step("python lints", f"{TOOLS}/ruff check .", remedy=".local/check/bin/ruff check --fix ."),
        Step("python formatting", f"{TOOLS}/ruff format --check .", remedy=".local/check/bin/ruff format ."),
        Step("python types", f"{TOOLS}/mypy -p infra.local"),
    ),
)
SYSTEM = (
    (
        (
            Step("local system", f"{PYTHON} -m infra.local up"),
            Step(
                "system tests",
                "cargo test --workspace --test system -- --skip discovery:: --skip traces::",
                needs_system=True,
            ),
        ),
    ),
    # Side by side, since all of them wait most of the time.
    (
        # These await answers within a second, which the orders of the tests above would delay.
        (Step("discovery tests", "cargo test --workspace --test system discovery::", needs_system=True),),
        (Step("trace tests", "cargo test --workspace --test system traces::", needs_system=True),),
        (Step("operating", f"{PYTHON} -m pytest -q tests/operate", needs_system=True),),
    ),
    # One after the other: the emulator works on one core, and what tests await comes too late when it has more to do.
    (
        (
            Step("fuzzing", f"{PYTHON} -m infra.local fuzz --cases 2000", needs_system=True),
            # What these change would fail the tests above. Most of them wait, for an alarm's minute or for their turn.
            Step(
                "disruptive tests",
                "cargo test --workspace --test disruptive -- --test-threads 12 --skip restart::",
                needs_system=True,
            ),
            Step("restart", "cargo test --workspace --test disruptive restart::", needs_system=True),
        ),
    ),
    (
        # Moves a service to a place of its own, for a while.
        (Step("documents' commands", f"{PYTHON} -m pytest -q -rs tests/docs", needs_system=True),),
        # After the tests that made the functions write them.
        (Step("logs", f"{PYTHON} -m pytest -q tests/logs", needs_system=True),),
    ),
)

Lane = Sequence[Step]


def check() -> None:
    """All that needs no running system."""
    Gate((CHECKS,)).run()


def test() -> None:
    """All that has to pass. The local system stays up afterwards."""
    Gate((CHECKS, *SYSTEM)).run()


@dataclass
class Gate:
    """Phases, one after the other; in each, lanes side by side; in each of these, steps one after the other."""

    phases: Sequence[Sequence[Lane]]
    results: list[Result] = field(default_factory=list)
    _running: set[subprocess.Popen[bytes]] = field(default_factory=set)
    _stopped: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        FOLDER.mkdir(parents=True, exist_ok=True)
        # SIGTERM ends what was started too; and a step is never started deaf to SIGINT, as a job in the background is.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        began = time.monotonic()
        steps = [step for phase in self.phases for lane in phase for step in lane]
        with Progress([step.name for step in steps]) as progress:
            for phase in self.phases:
                with ThreadPoolExecutor() as pool:
                    try:
                        list(pool.map(lambda lane: self._lane(lane, progress), phase))
                    except KeyboardInterrupt:
                        # Before the pool waits for its threads, which wait for what they have started.
                        self._stop()
                        raise
        self._tell(time.monotonic() - began)

    def _lane(self, lane: Lane, progress: Progress) -> None:
        for step in lane:
            if self._stopped.is_set():
                return
            progress.update(step.name, "running")
            down = any(one.step.name == "local system" and not one.passed for one in self.results)
            if step.needs_system and down:
                result = Result(step, passed=True, skipped="the local system is not up")
            else:
                result = self._step(step)
            self.results.append(result)
            progress.finish(step.name, str(result))

    def _step(self, step: Step) -> Result:
        with step.log.open("wb") as log:
            process = subprocess.Popen(
                shlex.split(step.command),
                cwd=ROOT,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._running.add(process)
            try:
                passed = process.wait(LONGEST) == 0
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                passed = False
                log.write(f"\nIt did not end within {duration(LONGEST)}.\n".encode())
            self._running.discard(process)
        printed = step.log.read_text(errors="replace")
        if not passed and step.cannot and step.cannot[0] in printed:
            return Result(step, passed=True, skipped=step.cannot[1])
        tests, failures = counts(printed)
        left_out = "".join(f", {number} not run: {why}" for number, why in LEFT_OUT.findall(printed))
        return Result(step, passed, tests=tests, failures=failures, left_out=left_out)

    def _stop(self) -> None:
        """Ctrl-C: nothing that was started here goes on."""
        self._stopped.set()
        for process in list(self._running):
            os.killpg(process.pid, signal.SIGINT)
        for process in list(self._running):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)

    def _tell(self, seconds: float) -> None:
        failed = [result for result in self.results if not result.passed]
        for result in failed:
            console.rule(f"{result.step.name}: {result.step.command}", style="red", align="left")
            said = PASSED.sub("", result.step.log.read_text(errors="replace"))
            console.print(said, markup=False, highlight=False)
            if result.step.remedy:
                console.print(f"`{result.step.remedy}` puts it right.\n", markup=False)
        tests = sum(result.tests for result in self.results)
        failures = sum(max(result.failures, 1) for result in failed)
        console.print(f"\n{tests} passed, {failures} failed")
        if failed:
            names = ", ".join(result.step.name for result in failed)
            raise Trouble(f"Failed after {duration(seconds)}: {names}. What each printed is above and in {FOLDER}.")
        console.print(f"[bold green]All of it passed[/] in {duration(seconds)}")


def counts(text: str) -> tuple[int, int]:
    """How many tests passed and failed by what cargo test or pytest printed."""
    found = [(int(passed), int(failed or 0)) for passed, failed in CARGO.findall(text)]
    found += [(int(passed), int(failed or 0)) for failed, passed in PYTEST.findall(text)]
    return sum(passed for passed, _ in found), sum(failed for _, failed in found)


def _environment() -> dict[str, str]:
    """As in the shell that make was called from: what needs the local cloud's address and keys sets them itself."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return inherited | {"RUSTDOCFLAGS": "-D warnings", "CARGO_TERM_COLOR": "never"}

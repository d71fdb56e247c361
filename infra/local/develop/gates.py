"""The steps of `make check` and `make test`, and how they are run and reported.

If a step fails, the others still run. A step's output goes to a file under .local/logs/gates/. If the step fails, the
output is also printed on the terminal.
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
from infra.local.settings import LOCAL, LOGS, ROOT, CommandError

FOLDER = LOGS / "gates"
# A step that takes longer, in seconds, is assumed to hang: several times the duration of the longest step.
STEP_TIMEOUT = 20 * 60
PYTHON = str(LOCAL / "venv" / "bin" / "python")
TOOLS = LOCAL / "check" / "bin"
# The summary lines of cargo test and of pytest.
CARGO = re.compile(r"^test result: \w+\. (\d+) passed; (\d+) failed", re.MULTILINE)
PYTEST = re.compile(r"^=*\s*(?:(\d+) failed, )?(\d+) passed\b.* in [\d.]+s", re.MULTILINE)
# The line that cargo test prints for a test that passed.
PASSED = re.compile(r"^test .+ \.\.\. ok\n", re.MULTILINE)
# The lines of pytest -rs for skipped tests: their number and the reason.
SKIPPED = re.compile(r"^SKIPPED \[(\d+)\] [^ ]+: (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Step:
    """A command that exits with status 0 if the check passes."""

    name: str
    command: str
    needs_system: bool = False
    # A command that fixes a failure, if there is one.
    remedy: str = ""
    # The output by which a step is known to be impossible on this machine, and the reason to report.
    skip_if: tuple[str, str] | None = None

    @property
    def log(self) -> Path:
        return FOLDER / f"{self.name.replace(' ', '-')}.log"


@dataclass
class Result:
    """The result of a step. `skipped` is the reason why it could not run, if it could not."""

    step: Step
    passed: bool
    skipped: str | None = None
    tests: int = 0
    failures: int = 0
    skipped_tests: str = ""

    def __str__(self) -> str:
        if self.skipped:
            return f"skipped: {self.skipped}"
        counted = f", {self.tests} tests" if self.tests else ""
        return f"passed{counted}{self.skipped_tests}" if self.passed else "failed"


# Two lanes, because the steps that run Cargo wait for its lock anyway, and the others need not wait for them.
CHECKS = (
    (
        Step("formatting", "cargo fmt --all --check", remedy="cargo fmt --all"),
        # Once for all targets with the features that tests turn on, and once without them, as deployed to AWS.
        Step("lints", "cargo clippy --workspace --all-targets -- -D warnings"),
        Step("lints for aws", "cargo clippy --workspace --exclude system-tests --bins -- -D warnings"),
        Step("unit tests", "cargo test --workspace --lib"),
        Step("doc tests", "cargo test --workspace --doc"),
        Step("offline tests", "cargo test --workspace --test offline --test outages"),
        # Compiles the functions, and compares their binaries with their policies.
        Step("permissions", f"{PYTHON} -m pytest -q tests/templates/test_permissions.py"),
        # Libraries only, because nothing links to the documentation of binaries.
        Step("documentation", "cargo doc --workspace --lib --no-deps --document-private-items"),
        Step("dependencies", f"{TOOLS}/cargo-deny --locked check bans licenses sources"),
        Step("unused dependencies", f"{TOOLS}/cargo-shear"),
        Step(
            "advisories",
            f"{TOOLS}/cargo-deny --locked check advisories",
            skip_if=("failed to fetch advisory database", "the advisory database is not reachable"),
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
    # In parallel, because all of them wait most of the time.
    (
        # These expect responses within a second, which the orders of the system tests would delay.
        (Step("discovery tests", "cargo test --workspace --test system discovery::", needs_system=True),),
        (Step("trace tests", "cargo test --workspace --test system traces::", needs_system=True),),
        (Step("operator commands", f"{PYTHON} -m pytest -q tests/operate", needs_system=True),),
    ),
    # One after the other: the emulator uses one core, and under more load the effects that tests await come too late.
    (
        (
            Step("fuzzing", f"{PYTHON} -m infra.local fuzz --cases 2000 --raw 5000", needs_system=True),
            # After the tests above, which their changes to the system would break. Twelve threads, because most of
            # these tests wait: for the minute of an alarm, or for each other.
            Step(
                "disruptive tests",
                "cargo test --workspace --test disruptive -- --test-threads 12 --skip restart::",
                needs_system=True,
            ),
            Step("restart", "cargo test --workspace --test disruptive restart::", needs_system=True),
        ),
    ),
    (
        # Registers another address for a service, for a while.
        (Step("commands in documents", f"{PYTHON} -m pytest -q -rs tests/docs", needs_system=True),),
        # Checks the log lines that the tests above have caused.
        (Step("logs", f"{PYTHON} -m pytest -q tests/logs", needs_system=True),),
        # Compares the policies with the calls that the tests above have caused.
        (Step("used permissions", f"{PYTHON} -m pytest -q tests/permissions", needs_system=True),),
    ),
)

Lane = Sequence[Step]


def check() -> None:
    """Runs every step that needs no running system."""
    Gate((CHECKS,)).run()


def test() -> None:
    """Runs every step. The local system stays up afterwards."""
    Gate((CHECKS, *SYSTEM)).run()


@dataclass
class Gate:
    """Runs phases one after the other. The lanes of a phase run in parallel, and the steps of a lane in sequence."""

    phases: Sequence[Sequence[Lane]]
    results: list[Result] = field(default_factory=list)
    _running: set[subprocess.Popen[bytes]] = field(default_factory=set)
    _stopped: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        FOLDER.mkdir(parents=True, exist_ok=True)
        # So that SIGTERM stops the steps too, and so that steps do not inherit the ignored SIGINT of a background job.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        began = time.monotonic()
        steps = [step for phase in self.phases for lane in phase for step in lane]
        with Progress([step.name for step in steps]) as progress:
            for phase in self.phases:
                with ThreadPoolExecutor() as pool:
                    try:
                        list(pool.map(lambda lane: self._run_lane(lane, progress), phase))
                    except KeyboardInterrupt:
                        # Here, because on exit the pool waits for its threads, which wait for their processes.
                        self._stop()
                        raise
        self._report(time.monotonic() - began)

    def _run_lane(self, lane: Lane, progress: Progress) -> None:
        for step in lane:
            if self._stopped.is_set():
                return
            progress.update(step.name, "running")
            down = any(one.step.name == "local system" and not one.passed for one in self.results)
            if step.needs_system and down:
                result = Result(step, passed=True, skipped="the local system is not up")
            else:
                result = self._run_step(step)
            self.results.append(result)
            progress.finish(step.name, str(result))

    def _run_step(self, step: Step) -> Result:
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
                passed = process.wait(STEP_TIMEOUT) == 0
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                passed = False
                log.write(f"\nThe step did not end within {duration(STEP_TIMEOUT)} and was killed.\n".encode())
            self._running.discard(process)
        output = step.log.read_text(errors="replace")
        if not passed and step.skip_if and step.skip_if[0] in output and os.environ.get("MADANG_CONNECTED") != "1":
            return Result(step, passed=True, skipped=step.skip_if[1])
        tests, failures = counts(output)
        skipped_tests = "".join(f", {number} skipped: {reason}" for number, reason in SKIPPED.findall(output))
        return Result(step, passed, tests=tests, failures=failures, skipped_tests=skipped_tests)

    def _stop(self) -> None:
        """Stops every running step after Ctrl-C."""
        self._stopped.set()
        for process in list(self._running):
            os.killpg(process.pid, signal.SIGINT)
        for process in list(self._running):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)

    def _report(self, seconds: float) -> None:
        failed = [result for result in self.results if not result.passed]
        for result in failed:
            console.rule(f"{result.step.name}: {result.step.command}", style="red", align="left")
            output = PASSED.sub("", result.step.log.read_text(errors="replace"))
            console.print(output, markup=False, highlight=False)
            if result.step.remedy:
                console.print(f"`{result.step.remedy}` fixes it.\n", markup=False)
        tests = sum(result.tests for result in self.results)
        failures = sum(max(result.failures, 1) for result in failed)
        console.print(f"\n{tests} passed, {failures} failed")
        if failed:
            names = ", ".join(result.step.name for result in failed)
            raise CommandError(f"Failed after {duration(seconds)}: {names}. Their output is above and in {FOLDER}.")
        console.print(f"[bold green]All steps passed[/] in {duration(seconds)}")


def counts(text: str) -> tuple[int, int]:
    """The numbers of passed and failed tests in the output of cargo test or pytest."""
    found = [(int(passed), int(failed or 0)) for passed, failed in CARGO.findall(text)]
    found += [(int(passed), int(failed or 0)) for failed, passed in PYTEST.findall(text)]
    return sum(passed for passed, _ in found), sum(failed for _, failed in found)


def _environment() -> dict[str, str]:
    """The environment of a step: the caller's, without the AWS variables that `settings` has set. A step that needs the
    local cloud's address and keys sets them itself."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return inherited | {"RUSTDOCFLAGS": "-D warnings", "CARGO_TERM_COLOR": "never"}

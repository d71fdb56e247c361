"""`make check` and `make test`: how steps are run, skipped, timed out and reported."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from infra.local.develop import gates
from infra.local.develop.gates import Gate, Step
from infra.local.settings import CommandError

ROOT = Path(__file__).parents[2]
CARGO = "test result: ok. 3 passed; 0 failed; 0 ignored\\n"


def python(code: str) -> str:
    return f"{sys.executable} -c '{code}'"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(gates, "FOLDER", tmp_path)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    return tmp_path


def run(*phases) -> dict[str, str]:
    """The result of each step by its name, and the error message, if there is one, as "error"."""
    gate = Gate(phases)
    try:
        gate.run()
    except CommandError as error:
        return {result.step.name: str(result) for result in gate.results} | {"error": str(error)}
    return {result.step.name: str(result) for result in gate.results}


def test_the_other_steps_run_after_a_failure_which_is_named_at_the_end(capsys):
    ended = run(
        (
            (
                Step("broken", python('print("test a ... ok\\nno way"); exit(1)')),
                Step("after", python("pass")),
            ),
        ),
        ((Step("later", python("pass")),),),
    )
    error = ended.pop("error")
    assert ended == {"broken": "failed", "after": "passed", "later": "passed"}
    assert "broken" in error
    assert "later" not in error
    printed = capsys.readouterr().out
    assert "no way" in printed and "\ntest a ... ok\n" not in printed


def test_a_failed_step_names_the_command_that_fixes_it(capsys):
    run(((Step("unformatted", python("exit(1)"), remedy="cargo fmt --all"), Step("fine", "true", remedy="rm -r x")),))
    printed = capsys.readouterr().out
    assert "`cargo fmt --all` fixes it." in printed and "rm -r x" not in printed


def test_only_steps_that_need_the_system_are_skipped_if_it_is_not_up():
    ended = run(
        ((Step("local system", python("exit(1)")),),),
        ((Step("asks it", python("pass"), needs_system=True), Step("does not", python("pass"))),),
    )
    assert ended["asks it"] == "skipped: the local system is not up"
    assert ended["does not"] == "passed"


def test_tests_are_counted_from_the_output_of_cargo_and_pytest(capsys):
    cargo = python(f'print("{CARGO}{CARGO}")')
    pytest_says = python('print("1 failed, 4 passed in 0.31s"); exit(1)')
    ended = run(((Step("cargo", cargo), Step("pytest", pytest_says)),))
    assert ended["cargo"] == "passed, 6 tests"
    assert "\n10 passed, 1 failed\n" in capsys.readouterr().out


def test_a_step_is_skipped_for_the_known_reason_and_fails_for_any_other(monkeypatch):
    monkeypatch.delenv("MADANG_CONNECTED", raising=False)
    skip_if = ("no database", "no database is reachable")
    ended = run(
        (
            (Step("offline", python('print("no database"); exit(1)'), skip_if=skip_if),),
            (Step("online", python('print("a finding"); exit(1)'), skip_if=skip_if),),
        )
    )
    assert ended["offline"] == "skipped: no database is reachable"
    assert ended["online"] == "failed"


def test_no_step_is_skipped_on_a_machine_that_is_connected(monkeypatch):
    monkeypatch.setenv("MADANG_CONNECTED", "1")
    step = Step("online", python('print("no database"); exit(1)'), skip_if=("no database", "no database is reachable"))
    assert run(((step,),))["online"] == "failed"


def test_skipped_tests_are_reported_with_their_reason():
    skipped = python('print("SKIPPED [2] tests/docs/test_pages.py:9: no curl\\n3 passed, 2 skipped in 0.1s")')
    assert run(((Step("pytest", skipped),),)) == {"pytest": "passed, 3 tests, 2 skipped: no curl"}


def test_a_step_that_hangs_is_killed_and_fails(monkeypatch, capsys):
    monkeypatch.setattr(gates, "STEP_TIMEOUT", 2)
    ended = run(((Step("hangs", python("import time; time.sleep(60)")), Step("after", python("pass"))),))
    assert (ended["hangs"], ended["after"]) == ("failed", "passed")
    assert "The step did not end within 2.0 s and was killed." in capsys.readouterr().out


@pytest.mark.parametrize("ignored", [False, True], ids=["in the foreground", "as a background job"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_every_running_step(number, ignored, tmp_path):
    started = [tmp_path / "one", tmp_path / "two"]
    sleeps = [python(f'open("{file}", "w"); import time; time.sleep(60)') for file in started]
    code = (
        "from pathlib import Path; from infra.local.develop import gates; from infra.local.develop.gates import *;"
        f"gates.FOLDER = Path({str(tmp_path)!r});"
        f"Gate([[[Step('a', {sleeps[0]!r})], [Step('b', {sleeps[1]!r})]]]).run()"
    )
    shell = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh"] if ignored else []
    process = subprocess.Popen([*shell, sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not all(file.exists() for file in started):
        assert time.monotonic() < deadline, "both steps have to start"
        time.sleep(0.05)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    assert process.wait(20) != 0
    assert len(children) == 2
    assert psutil.wait_procs(children, timeout=5)[1] == []

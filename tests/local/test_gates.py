import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from infra.local.develop import gates
from infra.local.develop.gates import Gate, Step
from infra.local.settings import Trouble

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
    """How each step ended."""
    gate = Gate(phases)
    try:
        gate.run()
    except Trouble as trouble:
        return {result.step.name: str(result) for result in gate.results} | {"said": str(trouble)}
    return {result.step.name: str(result) for result in gate.results}


def test_a_step_that_fails_keeps_no_other_from_running_and_is_named_at_the_end(capsys):
    ended = run(
        (
            (
                Step("broken", python('print("test a ... ok\\nno way"); exit(1)')),
                Step("after", python("pass")),
            ),
        ),
        ((Step("later", python("pass")),),),
    )
    said = ended.pop("said")
    assert ended == {"broken": "failed", "after": "passed", "later": "passed"}
    assert "broken" in said
    assert "later" not in said
    printed = capsys.readouterr().out
    assert "no way" in printed and "\ntest a ... ok\n" not in printed


def test_a_step_that_fails_says_what_puts_it_right_where_a_command_does(capsys):
    run(((Step("unformatted", python("exit(1)"), remedy="cargo fmt --all"), Step("fine", "true", remedy="rm -r x")),))
    printed = capsys.readouterr().out
    assert "`cargo fmt --all` puts it right." in printed and "rm -r x" not in printed


def test_what_needs_the_system_is_skipped_when_it_is_not_up_and_the_rest_is_not():
    ended = run(
        ((Step("local system", python("exit(1)")),),),
        ((Step("asks it", python("pass"), needs_system=True), Step("does not", python("pass"))),),
    )
    assert ended["asks it"] == "skipped: the local system is not up"
    assert ended["does not"] == "passed"


def test_tests_are_counted_as_cargo_and_pytest_count_them(capsys):
    cargo = python(f'print("{CARGO}{CARGO}")')
    pytest_says = python('print("1 failed, 4 passed in 0.31s"); exit(1)')
    ended = run(((Step("cargo", cargo), Step("pytest", pytest_says)),))
    assert ended["cargo"] == "passed, 6 tests"
    assert "\n10 passed, 1 failed\n" in capsys.readouterr().out


def test_a_step_that_cannot_run_here_is_skipped_with_the_reason_and_fails_for_any_other():
    cannot = ("no database", "no database is reachable")
    ended = run(
        (
            (Step("offline", python('print("no database"); exit(1)'), cannot=cannot),),
            (Step("online", python('print("a finding"); exit(1)'), cannot=cannot),),
        )
    )
    assert ended["offline"] == "skipped: no database is reachable"
    assert ended["online"] == "failed"


def test_a_test_that_cannot_run_here_is_told_with_its_reason():
    skipped = python('print("SKIPPED [2] tests/docs/test_readme.py:9: no curl\\n3 passed, 2 skipped in 0.1s")')
    assert run(((Step("pytest", skipped),),)) == {"pytest": "passed, 3 tests, 2 not run: no curl"}


def test_a_step_that_hangs_is_ended_and_fails(monkeypatch, capsys):
    monkeypatch.setattr(gates, "LONGEST", 2)
    ended = run(((Step("hangs", python("import time; time.sleep(60)")), Step("after", python("pass"))),))
    assert (ended["hangs"], ended["after"]) == ("failed", "passed")
    assert "It did not end within 2.0 s." in capsys.readouterr().out


@pytest.mark.parametrize("ignored", [False, True], ids=["in front", "as a job in the background"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_what_was_started(number, ignored, tmp_path):
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
        assert time.monotonic() < deadline, "both steps run"
        time.sleep(0.05)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    assert process.wait(20) != 0
    assert len(children) == 2
    assert psutil.wait_procs(children, timeout=5)[1] == []

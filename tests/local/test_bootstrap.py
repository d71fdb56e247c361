"""infra/local/bootstrap on machines that lack something, with programs that only say that they are there."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# What every machine has.
SYSTEM = ("awk", "bash", "cat", "cksum", "cp", "df", "dirname", "mkdir", "rm", "sed", "sh", "sleep", "tail", "uname")
RUST = {"cargo": "exit 0", "rustc": "echo 'rustc 1.95.0 (f2d3ce0bd 2026-03-21)'", "cc": "exit 0"}
# Answers that it is new enough, makes virtual environments whose Python is itself, and installs with pip.
PYTHON = """
case "$*" in
*"-m venv"*) for folder; do :; done
    mkdir -p "$folder/bin" "$folder/lib/python3.12/site-packages/pip"
    cp "$0" "$folder/bin/python" ;;
esac
"""
BROKEN_PIP = PYTHON.replace("esac", '*"-m pip"*) echo "no such host" >&2; exit 1 ;;\nesac')


@pytest.fixture
def machine(tmp_path):
    """Runs bootstrap in a clone of its own, with the system's programs and the given ones on the PATH."""
    for file in (
        "Cargo.toml",
        "rust-toolchain.toml",
        "tests/client/package-lock.json",
        "tests/browser/package-lock.json",
    ):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    shutil.copytree(ROOT / "infra/local/requirements", tmp_path / "infra/local/requirements")
    shutil.copy(ROOT / "infra/local/bootstrap", tmp_path / "infra/local/bootstrap")
    programs = tmp_path / "programs"

    def run(*arguments: str, has: dict[str, str], **environment: str) -> subprocess.CompletedProcess[str]:
        shutil.rmtree(programs, ignore_errors=True)
        programs.mkdir()
        for name in set(SYSTEM) - has.keys():  # a link is never written through
            (programs / name).symlink_to(shutil.which(name))
        for name, script in has.items():
            (programs / name).touch(mode=0o755, exist_ok=False)
            (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        return subprocess.run(
            [tmp_path / "infra/local/bootstrap", *arguments],
            env={"PATH": str(programs), "MADANG_PORT": "1"} | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def test_all_that_a_machine_lacks_is_named_at_once_and_nothing_is_installed(machine, tmp_path):
    done = machine("test", has={"uname": "echo Linux aarch64"})
    assert done.returncode == 1
    assert done.stdout == ""
    heading, *lacks = done.stderr.splitlines()
    assert heading == "This machine lacks:"
    assert [lack.split(":")[0] for lack in lacks] == [
        "- Rust",
        "- a C compiler",
        "- Python 3.10 or newer",
        "- a browser",
    ]
    assert not any((tmp_path / ".local" / part).exists() for part in ("venv", "sam", "check", "node"))


def test_an_old_compiler_is_named_with_the_release_that_is_needed(machine):
    done = machine(has=RUST | {"python3": PYTHON, "rustc": "echo 'rustc 1.80.0 (051478957 2024-07-21)'"})
    assert done.returncode == 1
    assert "- Rust 1.95 or newer: " in done.stderr
    assert "is 1.80.0" in done.stderr


def test_a_c_compiler_that_compiles_nothing_is_named_with_what_it_said(machine):
    done = machine(has=RUST | {"python3": PYTHON, "cc": "echo 'stdlib.h: No such file or directory' >&2; exit 1"})
    assert done.returncode == 1
    assert "- a C compiler that works: stdlib.h: No such file or directory" in done.stderr


def test_a_browser_that_is_named_must_be_there(machine):
    done = machine("test", has=RUST | {"python3": PYTHON}, CHROMIUM="/nowhere/chromium")
    assert done.returncode == 1
    assert "- the browser that CHROMIUM names: /nowhere/chromium is no program." in done.stderr


def test_what_is_there_is_not_installed_again(machine):
    first = machine("check", has=RUST | {"python3": PYTHON})
    assert first.returncode == 0, first.stderr
    assert "SAM CLI (215 MB)" in first.stdout
    again = machine("check", has=RUST)  # without a Python: nothing is made
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


def test_an_install_that_fails_names_its_log_and_leaves_nothing_half_installed(machine, tmp_path):
    done = machine("check", has=RUST | {"python3": BROKEN_PIP})
    assert done.returncode == 1
    # The other parts are installed with the pip of this one, and may find it gone.
    assert "are made with could not be installed; the end of .local/venv.log:\n    no such host" in done.stderr
    left = {path.name for path in (tmp_path / ".local").iterdir()}
    assert left.isdisjoint({"venv", "sam", "check", "installing"})
    assert machine("check", has=RUST | {"python3": PYTHON}).returncode == 0, "the next try begins anew"


def test_an_unknown_argument_is_refused(machine):
    done = machine("everything", has=RUST)
    assert (done.returncode, done.stderr) == (64, "Usage: infra/local/bootstrap [check | fuzz | test]\n")

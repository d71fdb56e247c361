"""infra/local/bootstrap on machines that lack something. Stub programs stand for the real ones."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Programs that every machine has.
SYSTEM = ("awk", "bash", "cat", "chmod", "cksum", "cp", "df", "dirname", "find", "mkdir", "rm", "sed", "sh", "sleep")
SYSTEM += ("tail", "uname")
RUST = {"cargo": "exit 0", "rustc": "echo 'rustc 1.95.0 (f2d3ce0bd 2026-03-21)'", "cc": "exit 0"}
# A stub of Python: it accepts the version check, creates virtual environments with itself as their Python, and accepts
# pip commands.
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
    """Runs bootstrap in its own clone. The PATH has the system's programs and the given ones."""
    for file in (
        "Cargo.toml",
        "rust-toolchain.toml",
        "tests/clients/package-lock.json",
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
        for name in set(SYSTEM) - has.keys():  # so that no stub is written through a link to the real program
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
            umask=0o022,
        )

    return run


def test_everything_that_is_missing_is_listed_at_once_and_nothing_is_installed(machine, tmp_path):
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


def test_an_old_rust_is_refused_with_the_required_release(machine):
    done = machine(has=RUST | {"python3": PYTHON, "rustc": "echo 'rustc 1.80.0 (051478957 2024-07-21)'"})
    assert done.returncode == 1
    assert "- Rust 1.95 or newer: " in done.stderr
    assert "is 1.80.0" in done.stderr


def test_a_broken_c_compiler_is_reported_with_its_error_message(machine):
    done = machine(has=RUST | {"python3": PYTHON, "cc": "echo 'stdlib.h: No such file or directory' >&2; exit 1"})
    assert done.returncode == 1
    assert "- a working C compiler: stdlib.h: No such file or directory" in done.stderr


def test_the_browser_in_chromium_must_exist(machine):
    done = machine("test", has=RUST | {"python3": PYTHON}, CHROMIUM="/nowhere/chromium")
    assert done.returncode == 1
    assert "- the browser that CHROMIUM names: /nowhere/chromium is not an executable file." in done.stderr


def test_an_installed_part_is_not_installed_again(machine):
    first = machine("check", has=RUST | {"python3": PYTHON})
    assert first.returncode == 0, first.stderr
    assert "SAM CLI (215 MB)" in first.stdout
    again = machine("check", has=RUST)  # no Python, so it could not install anything
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


def test_a_failed_installation_names_its_log_and_leaves_nothing_half_installed(machine, tmp_path):
    done = machine("check", has=RUST | {"python3": BROKEN_PIP})
    assert done.returncode == 1
    # The other parts use the pip of this one, and may fail because it has been removed.
    message = "the libraries of the local tools could not be installed. The end of .local/venv.log:\n    no such host"
    assert message in done.stderr
    left = {path.name for path in (tmp_path / ".local").iterdir()}
    assert left.isdisjoint({"venv", "sam", "check", "installing"})
    assert machine("check", has=RUST | {"python3": PYTHON}).returncode == 0, "the next run has to install everything"


def others_may(folder):
    """The files and folders that anyone but their owner may read, write or run."""
    paths = [path for path in (folder, *folder.rglob("*")) if not path.is_symlink()]
    return {str(path.relative_to(folder)) for path in paths if path.stat().st_mode & 0o077}


# pip makes programs executable for everyone, whatever the umask is.
OPEN_PIP = PYTHON.replace("esac", '*"-m pip"*) echo >"$(dirname "$0")/tool"; chmod 755 "$(dirname "$0")/tool" ;;\nesac')


def test_everything_that_is_installed_is_for_its_owner_only(machine, tmp_path):
    done = machine("check", has=RUST | {"python3": OPEN_PIP})
    assert done.returncode == 0, done.stderr
    assert others_may(tmp_path / ".local") == set()
    for tool in (tmp_path / ".local").glob("*/bin/*"):
        assert os.access(tool, os.X_OK), tool
    assert (tmp_path / ".local/check/bin/tool").exists()


def test_a_folder_that_others_can_read_is_corrected(machine, tmp_path):
    local = tmp_path / ".local"
    (local / "state").mkdir(parents=True)
    (local / "state/cognito.json").write_text("{}")
    (local / "state/tool").touch(mode=0o755)
    (local / "link").symlink_to(tmp_path / "Cargo.toml")
    for path, mode in ((local, 0o755), (local / "state", 0o777), (local / "state/cognito.json", 0o644)):
        path.chmod(mode)
    before = (tmp_path / "Cargo.toml").stat().st_mode
    assert machine(has=RUST | {"python3": PYTHON}).returncode == 0
    assert others_may(local) == set()
    assert os.access(local / "state/tool", os.X_OK)
    assert (tmp_path / "Cargo.toml").stat().st_mode == before, "a link does not lead out of the folder"


def test_an_unknown_argument_is_refused(machine):
    done = machine("everything", has=RUST)
    assert (done.returncode, done.stderr) == (64, "Usage: infra/local/bootstrap [check | clients | fuzz | test]\n")

"""The commands of "Running one check" in CONTRIBUTING.md run a check each."""

import re
import shlex
import subprocess

import pytest

from infra.local.develop.gates import counts
from infra.local.settings import ROOT

ROW = re.compile(r"^\| (?P<what>[^|]+) \| (?:`make up`, then )?`(?P<command>[^`]+)` \|$", re.MULTILINE)
SECTION = (ROOT / "CONTRIBUTING.md").read_text().partition("\n## Running one check\n")[2].partition("\n## ")[0]
COMMANDS = {row["what"]: row["command"] for row in ROW.finditer(SECTION)}


def test_the_section_has_commands():
    assert len(COMMANDS) == SECTION.count("\n| ") - 1


@pytest.mark.parametrize("what", COMMANDS)
def test_the_command_runs_what_it_is_said_to(what):
    done = subprocess.run(shlex.split(COMMANDS[what]), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    passed, _ = counts(done.stdout)
    assert passed == 1 if what.startswith("one ") else passed > 1, done.stdout

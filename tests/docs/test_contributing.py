"""Each command in the section "Running one check" of CONTRIBUTING.md runs the check that it is listed for."""

import re
import shlex
import subprocess

import pytest

from infra.local.develop.gates import counts
from infra.local.settings import ROOT

ROW = re.compile(r"^\| (?P<what>[^|]+) \| (?:`make up`, then )?`(?P<command>[^`]+)` \|$", re.MULTILINE)
SECTION = (ROOT / "CONTRIBUTING.md").read_text().partition("\n## Running one check\n")[2].partition("\n## ")[0]
COMMANDS = {row["what"]: row["command"] for row in ROW.finditer(SECTION)}


def test_every_row_of_the_section_has_a_command():
    assert len(COMMANDS) == SECTION.count("\n| ") - 1


@pytest.mark.parametrize("what", COMMANDS)
def test_the_command_passes_and_runs_the_stated_number_of_tests(what):
    done = subprocess.run(shlex.split(COMMANDS[what]), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    passed, _ = counts(done.stdout)
    assert passed == 1 if what.startswith("one ") else passed > 1, done.stdout

"""What is printed on a terminal or into a pipe."""

import subprocess
import sys

import pytest

from infra.local.settings import ROOT

ENDLESS = "from infra.local.progress import console; console.only_shows = {}\nwhile True: console.print('a line')"


@pytest.mark.parametrize("only_shows", [True, False])
def test_a_reader_that_has_enough_fails_no_command_but_one_that_does_something(only_shows):
    command = f'set -o pipefail; {sys.executable} -c "{ENDLESS.format(only_shows)}" | head -n 1'
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode == 0, done.stdout, done.stderr) == (only_shows, "a line\n", "")

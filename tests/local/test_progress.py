"""How commands behave when the reader of their output closes the pipe."""

import subprocess
import sys

import pytest

from infra.local.settings import ROOT

ENDLESS = "from infra.local.progress import console; console.only_displays = {}\nwhile True: console.print('a line')"


@pytest.mark.parametrize("only_displays", [True, False])
def test_a_closed_pipe_is_a_failure_except_for_a_command_that_only_displays(only_displays):
    command = f'set -o pipefail; {sys.executable} -c "{ENDLESS.format(only_displays)}" | head -n 1'
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode == 0, done.stdout, done.stderr) == (only_displays, "a line\n", "")

"""What is printed on a terminal or into a pipe."""

import subprocess
import sys

from infra.local.settings import ROOT

ENDLESS = "from infra.local.progress import console\nwhile True: console.print('a line')"


def test_a_reader_that_has_enough_is_no_failure():
    command = f'set -o pipefail; {sys.executable} -c "{ENDLESS}" | head -n 1'
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "a line\n", "")

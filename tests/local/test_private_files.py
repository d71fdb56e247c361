"""The commands write only for the owner, whatever the caller's umask is."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from wire import free_port

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = "Resources:\n  Topic: {Type: AWS::SNS::Topic}\n"
# Everything that the commands write without the local cloud: the receiver's files and log, the lock of a deployment,
# the digests of templates, the logs of gates.
PROGRAM = """
from infra.local import __main__ as local
from infra.local.develop.gates import Gate, Step
from infra.local.lifecycle import lint
from infra.local.settings import ROOT
from infra.local.traces import process

process.start()
try:
    with local.deployment_lock():
        lint.check([ROOT / "template.yaml"])
        Gate([[[Step("a step", "sh -c 'echo written >.local/by-a-step; mkdir .local/folder'")]]]).run()
finally:
    process.stop()
"""


def test_every_file_of_a_command_and_its_children_is_for_the_owner_only(tmp_path):
    shutil.copytree(ROOT / "infra/local", tmp_path / "infra/local", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "events").symlink_to(ROOT / "events")
    (tmp_path / "template.yaml").write_text(TEMPLATE)
    # The receiver's port is the next one.
    port = free_port() - 1
    subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env=os.environ | {"MADANG_PORT": str(port)},
        check=True,
        timeout=120,
        umask=0,
        stdout=subprocess.DEVNULL,
    )
    local = tmp_path / ".local"
    modes = {str(path.relative_to(tmp_path)): path.stat().st_mode & 0o777 for path in (local, *local.rglob("*"))}
    written = {".local/lock", ".local/linted.json", ".local/receiver.log", ".local/traces/spans.sqlite3"}
    written |= {".local/by-a-step", ".local/logs/gates/a-step.log"}
    assert written <= set(modes)
    assert modes == {path: 0o700 if (tmp_path / path).is_dir() else 0o600 for path in modes}

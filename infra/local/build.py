"""Builds every function for this machine and lays it out where the templates expect it."""

import filecmp
import json
import shutil
import subprocess

from .settings import ARTIFACTS, ROOT, Trouble

PROFILE = "local"


def functions() -> list[str]:
    """Compiles the workspace's binaries; answers the names of the functions, each placed in target/lambda/<name>/."""
    # The whole workspace, always: a selection of packages would unify features differently and
    # compile the AWS SDKs a second time for the tests.
    command = ["cargo", "build", "--workspace", "--bins", "--profile", PROFILE]
    done = subprocess.run(
        [*command, "--message-format", "json-render-diagnostics"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    if done.returncode != 0:
        raise Trouble("The functions do not compile: see the messages above.")
    names = []
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message["reason"] == "compiler-artifact" and _is_function(message):
            _place(message["executable"], message["target"]["name"])
            names.append(message["target"]["name"])
    return sorted(names)


def _is_function(artifact: dict) -> bool:
    return artifact["target"]["kind"] == ["bin"] and artifact["manifest_path"].startswith(f"{ROOT}/functions/")


def _place(executable: str, name: str) -> None:
    bootstrap = ARTIFACTS / name / "bootstrap"
    if bootstrap.exists() and filecmp.cmp(executable, bootstrap):  # same size and time, or same bytes
        return
    bootstrap.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(executable, bootstrap)

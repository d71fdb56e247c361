"""Builds every function for this machine and lays it out where the templates expect it."""

import filecmp
import json
import shutil
import subprocess

from .settings import ARTIFACTS, ROOT, Trouble

PROFILE = "local"


def functions() -> list[str]:
    """Compiles the functions; answers their names, each placed in target/lambda/<name>/."""
    # --workspace although only functions are wanted: it is the selection of packages that decides about features, and
    # another one than the tests' would compile the AWS SDKs twice.
    command = ["cargo", "build", "--workspace", "--profile", PROFILE, "--message-format", "json-render-diagnostics"]
    for name in (names := _names()):
        command += ["--bin", name]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise Trouble("The functions do not compile: see the messages above.")
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] in names:
            _place(message["executable"], message["target"]["name"])
    return names


def _names() -> list[str]:
    """Every binary of a crate in functions/ is a Lambda function."""
    command = ["cargo", "metadata", "--no-deps", "--format-version", "1"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise Trouble("Cargo cannot read the workspace: see the message above.")
    crates = [
        crate
        for crate in json.loads(done.stdout)["packages"]
        if crate["manifest_path"].startswith(f"{ROOT}/functions/")
    ]
    return sorted(target["name"] for crate in crates for target in crate["targets"] if target["kind"] == ["bin"])


def _place(executable: str, name: str) -> None:
    bootstrap = ARTIFACTS / name / "bootstrap"
    if bootstrap.exists() and filecmp.cmp(executable, bootstrap):  # same size and time, or same bytes
        return
    bootstrap.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(executable, bootstrap)

"""Builds every function for this machine and lays it out where the templates expect it."""

import json
import os
import shutil
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from infra.local.settings import ARTIFACTS, ROOT, Trouble


def functions(wanted: list[str]) -> None:
    """Compiles the functions of these names and packs each as target/lambda/<name>/bootstrap.zip."""
    _need_disk()
    # --workspace although only functions are wanted: it is the selection of packages that decides about features, and
    # another one than the tests' would compile the AWS SDKs twice.
    command = ["cargo", "build", "--workspace", "--message-format", "json-render-diagnostics"]
    for name in wanted:
        command += ["--bin", name]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise Trouble("The functions do not compile: see the messages above.")
    with ThreadPoolExecutor() as pool:
        placed = [
            pool.submit(_place, message["executable"], message["target"]["name"])
            for message in map(json.loads, done.stdout.splitlines())
            if message.get("executable") and message["target"]["name"] in wanted
        ]
    for future in placed:
        future.result()


def names() -> list[str]:
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


def _need_disk() -> None:
    """Rather here than in the middle of a build, or of what the local cloud writes afterwards."""
    needed = 1000 if (ROOT / "target").exists() else 6000
    free = shutil.disk_usage(ROOT).free // 1_000_000
    if free < needed:
        raise Trouble(f"Not enough disk space: building and running the functions needs {needed} MB; {free} are free.")


def _place(executable: str, name: str) -> None:
    built = Path(executable).stat().st_mtime_ns
    archive = ARTIFACTS / name / "bootstrap.zip"
    if archive.exists() and archive.stat().st_mtime_ns == built:
        return
    archive.parent.mkdir(parents=True, exist_ok=True)
    _zip(executable, archive)
    os.utime(archive, ns=(built, built))


def _zip(executable: str, archive: Path) -> None:
    """As `cargo lambda build --output-format zip` does. The same binary makes the same bytes, and sam uploads a zip
    as it is; given a folder it compresses all functions of a stack for a change in one (40 s instead of 10)."""
    entry = ZipInfo("bootstrap")
    entry.external_attr = (stat.S_IFREG | 0o755) << 16
    with ZipFile(archive, "w") as file:
        # Fast rather than small: it does not travel far.
        file.writestr(entry, Path(executable).read_bytes(), ZIP_DEFLATED, compresslevel=1)

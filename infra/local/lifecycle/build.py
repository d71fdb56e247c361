"""Builds every function for this machine and places the artifact where the templates expect it."""

import json
import os
import shutil
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from infra.local.settings import ARTIFACTS, ROOT, CommandError


def functions(wanted: list[str]) -> None:
    """Compiles the functions with these names and packs each as target/lambda/<name>/bootstrap.zip."""
    _check_disk_space()
    # --workspace although only functions are built, because Cargo derives the features from the selected packages. A
    # selection other than that of the tests would compile the AWS SDKs a second time.
    command = ["cargo", "build", "--workspace", "--message-format", "json-render-diagnostics"]
    for name in wanted:
        command += ["--bin", name]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise CommandError("The functions do not compile. See the messages above.")
    with ThreadPoolExecutor() as pool:
        placed = [
            pool.submit(_place, message["executable"], message["target"]["name"])
            for message in map(json.loads, done.stdout.splitlines())
            if message.get("executable") and message["target"]["name"] in wanted
        ]
    for future in placed:
        future.result()


def names() -> list[str]:
    """The names of all functions: every binary of a crate in functions/ is one."""
    command = ["cargo", "metadata", "--no-deps", "--format-version", "1"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise CommandError("Cargo cannot read the workspace. See the message above.")
    crates = [
        crate
        for crate in json.loads(done.stdout)["packages"]
        if crate["manifest_path"].startswith(f"{ROOT}/functions/")
    ]
    return sorted(target["name"] for crate in crates for target in crate["targets"] if target["kind"] == ["bin"])


def _check_disk_space() -> None:
    """Raises `CommandError` before the build, so that the disk does not fill up during it or in the running system."""
    needed = 1000 if (ROOT / "target").exists() else 6000
    free = shutil.disk_usage(ROOT).free // 1_000_000
    if free < needed:
        raise CommandError(
            f"Building and running the functions needs {needed} MB of disk space, but {free} MB are free."
        )


def _place(executable: str, name: str) -> None:
    built = Path(executable).stat().st_mtime_ns
    archive = ARTIFACTS / name / "bootstrap.zip"
    if archive.exists() and archive.stat().st_mtime_ns == built:
        return
    archive.parent.mkdir(parents=True, exist_ok=True)
    _zip(executable, archive)
    os.utime(archive, ns=(built, built))


def _zip(executable: str, archive: Path) -> None:
    """Writes the same zip as `cargo lambda build --output-format zip`, with the same bytes for the same binary. SAM
    uploads a zip unchanged. If it were given folders, it would compress every function of a stack after a change to one
    of them, which takes 40 s instead of 10."""
    entry = ZipInfo("bootstrap")
    entry.external_attr = (stat.S_IFREG | 0o755) << 16
    with ZipFile(archive, "w") as file:
        # Speed matters more than size, because the zip stays on this machine.
        file.writestr(entry, Path(executable).read_bytes(), ZIP_DEFLATED, compresslevel=1)

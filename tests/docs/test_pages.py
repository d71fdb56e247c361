"""Runs the `sh` blocks of the pages for users, page by page and in order, against the running system. The comment on
each call states the expected status and words in the response.
"""

import os
import re
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.local.settings import ENDPOINT, ROOT

# The pages, each with the recipe that has to run until Ctrl-C meanwhile, if there is one.
PAGES = {"README.md": None, "docs/calling.md": None, "docs/developing.md": "watch"}
WRITTEN_ENDPOINT = "http://127.0.0.1:4566"
FENCED = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Calls of curl or of the function `signed`, but not the definition of that function.
CALL = re.compile(r"(?<!\{ )\b(?:curl|signed) ")
SAYS = re.compile(r"# (\d{3})(?:: (.+))?$", re.MULTILINE)

# Replaces curl: calls it with the same arguments and stores the response.
CURL = """#!/usr/bin/env bash
set -o pipefail
answer="$ANSWERS/$(printf %03d "$(ls "$ANSWERS" | wc -l)")"
mkdir "$answer"
"$REAL_CURL" --dump-header "$answer/headers" "$@" | tee "$answer/body"
"""
# Replaces sleep: waits twice as long, because the machine may be busy with other tests.
SLEEP = '#!/bin/sh\nexec "$REAL_SLEEP" $(($1 * 2))\n'


@dataclass
class Call:
    """A call of curl in a page, with the expected status and words of the response."""

    text: str
    status: int
    words: list[str]


@dataclass
class Answer:
    status: int
    body: str


def blocks(page: str) -> list[str]:
    return FENCED.findall((ROOT / page).read_text())


def calls(page: str) -> list[Call]:
    """Every call in a page. A call without an expected status has the status 0."""
    found = []
    for block in blocks(page):
        places = [call.start() for call in CALL.finditer(block)]
        for place, following in zip(places, [*places, len(block)][1:], strict=True):
            text = block[place:following]
            says = SAYS.search(text)
            words = says[2].split(", ") if says and says[2] else []
            found.append(Call(text.strip(), int(says[1]) if says else 0, words))
    return found


def environment() -> dict[str, str]:
    """The environment without the options of a `make` that runs these tests. They must not reach the
    `make` in a page."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}


@contextmanager
def running(recipe: str) -> Iterator[None]:
    """Starts a recipe, waits until it serves requests, and stops it with Ctrl-C after the block."""
    process = subprocess.Popen(
        ["make", "-s", recipe],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    output = ""
    try:
        for line in process.stdout:
            output += line
            if "functions answer at" in line:
                break
        else:
            pytest.fail(f"make {recipe} exited: {output}")
        yield
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=60)


def answers(page: str, folder: Path) -> list[Answer]:
    """Runs a page's commands, which all have to succeed, and returns the responses to its calls."""
    programs, kept = folder / "programs", folder / "answers"
    for made in (programs, kept):
        made.mkdir()
    for name, text in (("curl", CURL), ("sleep", SLEEP)):
        (programs / name).write_text(text)
        (programs / name).chmod(stat.S_IRWXU)
    settings = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "ANSWERS": str(kept),
        "REAL_CURL": shutil.which("curl"),
        "REAL_SLEEP": shutil.which("sleep"),
    }
    script = "\n".join(blocks(page)).replace(WRITTEN_ENDPOINT, ENDPOINT)
    done = subprocess.run(
        ["bash", "-xeuo", "pipefail", "-c", script],
        cwd=ROOT,
        env=environment() | settings,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return [read(folder) for folder in sorted(kept.iterdir())]


def read(folder: Path) -> Answer:
    status = (folder / "headers").read_text().split()[1]
    return Answer(int(status), (folder / "body").read_text())


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_calls_and_each_states_its_expected_status(page):
    assert len(calls(page)) > (1 if page == "README.md" else 3)
    assert [call.text for call in calls(page) if not call.status] == []


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
@pytest.mark.parametrize("page", PAGES)
def test_each_call_gets_the_stated_response(page, tmp_path):
    recipe = PAGES[page]
    with running(recipe) if recipe else nullcontext():
        answered = answers(page, tmp_path)
    assert len(answered) == len(calls(page))
    for call, answer in zip(calls(page), answered, strict=True):
        assert answer.status == call.status, f"{call.text}\n{answer.body}"
        for word in call.words:
            assert word in answer.body, f"{call.text}\n{answer.body}"

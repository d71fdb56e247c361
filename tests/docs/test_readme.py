"""The commands of "Call it" in README.md, run in order against the running system. A comment says how each `curl` is
answered: the status, and words that the answer has to contain.
"""

import os
import re
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.local.settings import ENDPOINT, ROOT

SECTION = "Call it"
WRITTEN_ENDPOINT = "http://127.0.0.1:4566"
FENCED = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CALL = re.compile(r"\bcurl ")
SAYS = re.compile(r"# (\d{3})(?:: (.+))?$", re.MULTILINE)

# Calls curl as it was called, and keeps the answer.
CURL = """#!/usr/bin/env bash
set -o pipefail
answer="$ANSWERS/$(printf %03d "$(ls "$ANSWERS" | wc -l)")"
mkdir "$answer"
"$REAL_CURL" --dump-header "$answer/headers" "$@" | tee "$answer/body"
"""
# The machine may be busy with other tests.
SLEEP = '#!/bin/sh\nexec "$REAL_SLEEP" $(($1 * 2))\n'


@dataclass
class Call:
    """A `curl` of the README, with what the text says of its answer."""

    text: str
    status: int
    words: list[str]


@dataclass
class Answer:
    status: int
    body: str


def section() -> str:
    readme = (ROOT / "README.md").read_text()
    return readme.partition(f"\n## {SECTION}\n")[2].partition("\n## ")[0]


def blocks() -> list[str]:
    return FENCED.findall(section())


def calls() -> list[Call]:
    """Every `curl`; one that does not say how it is answered has the status 0."""
    found = []
    for block in blocks():
        places = [call.start() for call in CALL.finditer(block)]
        for place, following in zip(places, [*places, len(block)][1:], strict=True):
            text = block[place:following]
            says = SAYS.search(text)
            words = says[2].split(", ") if says and says[2] else []
            found.append(Call(text.strip(), int(says[1]) if says else 0, words))
    return found


@pytest.fixture(scope="module")
def answers(tmp_path_factory) -> list[Answer]:
    """What the calls were answered, all commands of the section having succeeded."""
    programs, kept = tmp_path_factory.mktemp("programs"), tmp_path_factory.mktemp("answers")
    for name, text in (("curl", CURL), ("sleep", SLEEP)):
        (programs / name).write_text(text)
        (programs / name).chmod(stat.S_IRWXU)
    # Those of a `make` around this one are not meant for those in the README.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    environment |= {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "ANSWERS": str(kept),
        "REAL_CURL": shutil.which("curl") or "curl",
        "REAL_SLEEP": shutil.which("sleep") or "sleep",
    }
    script = "\n".join(blocks()).replace(WRITTEN_ENDPOINT, ENDPOINT)
    done = subprocess.run(
        ["bash", "-xeuo", "pipefail", "-c", script],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return [read(folder) for folder in sorted(kept.iterdir())]


def read(folder: Path) -> Answer:
    status = (folder / "headers").read_text().split()[1]
    return Answer(int(status), (folder / "body").read_text())


def test_the_section_has_commands_and_says_how_each_call_is_answered():
    assert len(calls()) > 3
    assert [call.text for call in calls() if not call.status] == []


def test_each_call_is_answered_as_the_text_says(answers):
    assert len(answers) == len(calls())
    for call, answer in zip(calls(), answers, strict=True):
        assert answer.status == call.status, f"{call.text}\n{answer.body}"
        for word in call.words:
            assert word in answer.body, f"{call.text}\n{answer.body}"

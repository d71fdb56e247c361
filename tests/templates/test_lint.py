import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from cfnlint.api import ManualArgs, lint_file
from stacks import ROOT, TEMPLATES, fail, need

from infra.local.lifecycle import lint
from infra.local.settings import Trouble

SAM = Path(os.environ.get("SAM", ROOT / ".local/sam/bin/sam"))
# `sam validate` of several templates: loading it takes longer than all of them.
VALIDATE = """
import contextlib, io, json, sys
from samcli.cli.main import cli

answers = {}
for template in sys.argv[1:]:
    said = io.StringIO()
    command = ["validate", "--lint", "--region", "us-east-1", "--template-file", template]
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            cli.main(command, prog_name="sam", standalone_mode=False)
            answers[template] = ""
        except Exception as error:
            answers[template] = f"{said.getvalue()}{error}"
print(json.dumps(answers))
"""


def brief(message: str) -> str:
    """Without the list of everything that a name could be."""
    return re.sub(r"is not one of \[[^]]{200,}]", "names nothing here", message)


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_cfn_lint_finds_nothing(template):
    matches = lint_file(template, config=ManualArgs(regions=["us-east-1"]))
    if matches:
        here = template.relative_to(ROOT)
        # One match a line.
        first = {match.linenumber: match for match in reversed(matches)}
        fail(*(f"{here}:{line}: {brief(match.message)} ({match.rule.id})" for line, match in sorted(first.items())))


@pytest.fixture(scope="session")
def validated(request) -> dict[str, str]:
    """What SAM has to say against each template that is asked for in this run."""
    asked = [item for item in request.session.items if "validated" in item.fixturenames]
    done = subprocess.run(
        [SAM.with_name("python"), "-c", VALIDATE, *(str(item.callspec.params["template"]) for item in asked)],
        env=os.environ | {"SAM_CLI_TELEMETRY": "0"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_sam_validates_the_template(template, validated):
    said = validated[str(template)]
    need(not said, f"sam validate {template.relative_to(ROOT)}:\n{brief(said)}")


def test_cfn_lint_finds_nothing_in_what_sam_makes_of_the_templates():
    # Once more, because it passes over the policies of SAM's functions. Quick while no template changes.
    try:
        lint.check(TEMPLATES)
    except Trouble as trouble:
        fail(str(trouble))

"""cfn-lint and `sam validate` accept every template."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from cfnlint.api import ManualArgs, lint_file
from stacks import ROOT, TEMPLATES, fail, need

from infra.local.lifecycle import lint
from infra.local.settings import CommandError

SAM = Path(os.environ.get("SAM", ROOT / ".local/sam/bin/sam"))
# Runs `sam validate` on several templates in one process, because loading SAM takes longer than validating all of them.
VALIDATE = """
import contextlib, io, json, sys
from samcli.cli.main import cli

errors = {}
for template in sys.argv[1:]:
    output = io.StringIO()
    command = ["validate", "--lint", "--region", "us-east-1", "--template-file", template]
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            cli.main(command, prog_name="sam", standalone_mode=False)
            errors[template] = ""
        except Exception as error:
            errors[template] = f"{output.getvalue()}{error}"
print(json.dumps(errors))
"""


def shorten(message: str) -> str:
    """Removes cfn-lint's list of all known names from a message."""
    return re.sub(r"is not one of \[[^]]{200,}]", "is not a known name", message)


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_cfn_lint_finds_nothing_in_the_template(template):
    matches = lint_file(template, config=ManualArgs(regions=["us-east-1"]))
    if matches:
        file = template.relative_to(ROOT)
        # Only the first match of each line.
        first = {match.linenumber: match for match in reversed(matches)}
        fail(*(f"{file}:{line}: {shorten(match.message)} ({match.rule.id})" for line, match in sorted(first.items())))


@pytest.fixture(scope="session")
def validated(request) -> dict[str, str]:
    """The error message of `sam validate`, empty if there is none, for each template that is tested in this run."""
    selected = [item for item in request.session.items if "validated" in item.fixturenames]
    done = subprocess.run(
        [SAM.with_name("python"), "-c", VALIDATE, *(str(item.callspec.params["template"]) for item in selected)],
        env=os.environ | {"SAM_CLI_TELEMETRY": "0"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_sam_validate_accepts_the_template(template, validated):
    error = validated[str(template)]
    need(not error, f"sam validate {template.relative_to(ROOT)}:\n{shorten(error)}")


def test_cfn_lint_finds_nothing_in_the_expanded_templates():
    # cfn-lint does not look into the policies of SAM's functions before they are expanded. The results are cached.
    try:
        lint.check(TEMPLATES)
    except CommandError as error:
        fail(str(error))

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


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_sam_validates_the_template(template):
    result = subprocess.run(
        [SAM, "validate", "--lint", "--region", "us-east-1", "--template-file", template],
        env=os.environ | {"SAM_CLI_TELEMETRY": "0"},
        capture_output=True,
        text=True,
    )
    need(result.returncode == 0, f"sam validate {template.relative_to(ROOT)}:\n{brief(result.stdout + result.stderr)}")


def test_cfn_lint_finds_nothing_in_what_sam_makes_of_the_templates():
    # Once more, because it passes over the policies of SAM's functions. Quick while no template changes.
    try:
        lint.check(TEMPLATES)
    except Trouble as trouble:
        fail(str(trouble))

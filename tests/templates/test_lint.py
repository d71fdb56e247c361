import os
import subprocess
from pathlib import Path

import pytest
from cfnlint.api import ManualArgs, lint_file
from stacks import ROOT, TEMPLATES

from infra.local.lifecycle import lint

SAM = Path(os.environ.get("SAM", ROOT / ".local/sam/bin/sam"))


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_cfn_lint_finds_nothing(template):
    assert [str(match) for match in lint_file(template, config=ManualArgs(regions=["us-east-1"]))] == []


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_sam_validates_the_template(template):
    result = subprocess.run(
        [SAM, "validate", "--lint", "--region", "us-east-1", "--template-file", template],
        env=os.environ | {"SAM_CLI_TELEMETRY": "0"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_cfn_lint_finds_nothing_in_what_sam_makes_of_the_templates():
    # Once more, because it passes over the policies of SAM's functions. Quick while no template changes.
    lint.check(TEMPLATES)

"""Refuses templates that AWS would refuse. The local cloud does not check references: a `!GetAtt` to what is not there
deploys, and the function finds an empty value.

cfn-lint reads each template as SAM expands it, because it passes over the policies of `AWS::Serverless::Function`. Only
errors count here; `tests/templates` wants no warnings either. A template takes about a second and loading cfn-lint
another, so those that were found clean are remembered by their digests."""

import copy
import hashlib
import json
import logging
import re
from collections.abc import Iterable
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from infra.local.lifecycle.stacks import load, path
from infra.local.settings import BUCKET, LOCAL, REGION, Trouble

CLEAN = LOCAL / "linted.json"
# Whatever changes what is found.
VERSIONS = Path(__file__).parents[1] / "requirements" / "tools.txt"
# A choice that is not among those there are; cfn-lint lists all of them.
NOT_ONE_OF = re.compile(r"'(?P<value>.*?)' is not one of \[(?P<choices>.*)\]( in .*)?", re.DOTALL)


def check(templates: list[Path]) -> int:
    """Raises `Trouble` with a line for each error. Templates are taken as clean if they were and have not changed;
    answers how many had to be looked at."""
    digests = {str(path(template)): _digest(template) for template in templates}
    clean = _remembered()
    changed = [template for template in templates if clean.get(str(path(template))) != digests[str(path(template))]]
    if found := [line for template in changed for line in findings(template)]:
        raise Trouble("\n".join([*found, "Nothing was deployed."]))
    if changed:
        CLEAN.write_text(json.dumps(digests, indent=2) + "\n")
    return len(changed)


def findings(template: Path) -> list[str]:
    """What is wrong with a template: file, line, resource, and what it is about."""
    # Loading these takes longer than all of an unchanged `make up`.
    from cfnlint.api import ManualArgs, lint
    from cfnlint.decode import decode
    from samtranslator.model.exceptions import InvalidDocumentException

    _, unreadable = decode(str(template))
    if unreadable:
        return [f"{path(template)}:{match.linenumber}: {match.message} ({match.rule.id})" for match in unreadable]
    try:
        expanded = expand(load(template))
    except InvalidDocumentException as invalid:
        return [f"{path(template)}: {cause.message}" for cause in invalid.causes]
    config = ManualArgs(regions=[REGION], ignore_checks=["W", "I"])
    return list(dict.fromkeys(_told(template, expanded, match) for match in lint(json.dumps(expanded), config=config)))


def expand(template: dict[str, Any]) -> dict[str, Any]:
    """What SAM makes of a template: functions with their roles, Globals applied."""
    from samtranslator.translator.transform import transform

    # The translator logs a warning that its usage metrics are not collected.
    logging.getLogger("samtranslator").setLevel(logging.ERROR)
    if "Transform" not in template:
        return template
    template = copy.deepcopy(template)
    for resource in template["Resources"].values():
        # `sam deploy` uploads the files and leaves their addresses here.
        for name in ("CodeUri", "ContentUri", "DefinitionUri"):
            if name in resource.get("Properties", {}):
                resource["Properties"][name] = f"s3://{BUCKET}/{name}"
    return transform(template, {}, _NoManagedPolicies())


class _NoManagedPolicies:
    """Managed policies by name would be looked up in an account; none are used here."""

    def load(self) -> dict[str, str]:
        return {}


def _told(template: Path, expanded: dict[str, Any], match: Any) -> str:
    """One finding as a line, about the resource as it is written: SAM makes roles and more of a function."""
    written = load(template)["Resources"]
    section, name = [*map(str, match.path or ["the template"]), ""][:2]
    if section == "Resources" and name not in written:
        name = max((one for one in written if name.startswith(one)), key=len, default=name)
    found = NOT_ONE_OF.fullmatch(match.message)
    reference = _reference(expanded, match.path or [])
    if found and reference:
        near = get_close_matches(found["value"], re.findall(r"'(.*?)'", found["choices"]), n=1)
        what = f"{reference} refers to something that does not exist{f'; did you mean {near[0]}?' if near else ''}"
        line = _line(template, name, found["value"])
    else:
        what, line = match.message, _line(template, name, "")
    return f"{path(template)}:{line}: {name or section}: {what} ({match.rule.id})"


def _reference(expanded: Any, place: Iterable[str | int]) -> str | None:
    """The reference that a finding is about, as it is written."""
    node = expanded
    for part in place:
        match node, part:
            case {"Ref": str(name)}, "Ref":
                return f"!Ref {name}"
            case {"Fn::GetAtt": [*parts]}, "Fn::GetAtt":
                return f"!GetAtt {'.'.join(map(str, parts))}"
            case {"Fn::Sub": text}, "Fn::Sub":
                return f"!Sub {text if isinstance(text, str) else text[0]}"
            case {"DependsOn": names}, "DependsOn":
                return f"DependsOn {names}"
            case {"Condition": str(name)}, "Condition":
                return f"Condition {name}"
        try:
            node = node[part]
        except (KeyError, IndexError, TypeError):
            return None
    return None


def _line(template: Path, name: str, value: str) -> int:
    """Where the value is, at or after the line on which the resource or output of that name begins."""
    lines = template.read_text().splitlines()
    begins = next((number for number, line in enumerate(lines, 1) if re.match(rf"\s+{re.escape(name)}:", line)), 1)
    within = (number for number in range(begins, len(lines) + 1) if value and _mentions(lines[number - 1], value))
    return next(within, begins)


def _mentions(line: str, value: str) -> bool:
    return re.search(rf"\b{re.escape(value)}\b", line) is not None


def _remembered() -> dict[str, str]:
    with suppress(FileNotFoundError, ValueError):
        return json.loads(CLEAN.read_text())
    return {}


def _digest(template: Path) -> str:
    digest = hashlib.sha256(template.read_bytes())
    digest.update(VERSIONS.read_bytes())
    digest.update(Path(__file__).read_bytes())
    return digest.hexdigest()

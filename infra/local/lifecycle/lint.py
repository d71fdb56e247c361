"""Refuses templates that AWS would refuse. The local cloud does not check references: a `!GetAtt` of a missing resource
is deployed, and the function gets an empty value.

cfn-lint reads each template after SAM has expanded it, because it does not look into the policies of an
`AWS::Serverless::Function`. Only errors count here; `tests/templates` accepts no warnings either. Linting takes about a
second for each template, and loading cfn-lint takes another, so the digests of templates without errors are cached."""

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
from infra.local.settings import BUCKET, LOCAL, REGION, CommandError

CACHE = LOCAL / "linted.json"
# Pins the version of cfn-lint, so a change of this file invalidates the cache.
VERSIONS = Path(__file__).parents[1] / "requirements" / "tools.txt"
# cfn-lint's message for an unknown name. It lists every name that exists.
NOT_ONE_OF = re.compile(r"'(?P<value>.*?)' is not one of \[(?P<choices>.*)\]( in .*)?", re.DOTALL)


def check(templates: list[Path]) -> int:
    """Lints the templates that have changed since they were last found to have no errors. Returns how many these were.
    Raises `CommandError` with one line for each error."""
    digests = {str(path(template)): _digest(template) for template in templates}
    cached = _read_cache()
    changed = [template for template in templates if cached.get(str(path(template))) != digests[str(path(template))]]
    if found := [line for template in changed for line in findings(template)]:
        raise CommandError("\n".join([*found, "Nothing was deployed."]))
    if changed:
        CACHE.write_text(json.dumps(digests, indent=2) + "\n")
    return len(changed)


def findings(template: Path) -> list[str]:
    """The errors in a template, each as a line with the file, the line number, the resource and the message."""
    # Imported here because these imports take longer than a whole `make up` without changes.
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
    matches = lint(json.dumps(expanded), config=config)
    return list(dict.fromkeys(_format(template, expanded, match) for match in matches))


def expand(template: dict[str, Any]) -> dict[str, Any]:
    """The template after SAM has expanded it: functions have roles, and Globals are applied."""
    from samtranslator.translator.transform import transform

    # The translator logs a warning that its usage metrics are not collected.
    logging.getLogger("samtranslator").setLevel(logging.ERROR)
    if "Transform" not in template:
        return template
    template = copy.deepcopy(template)
    for resource in template["Resources"].values():
        # `sam deploy` uploads the files and writes their S3 addresses into these properties.
        for name in ("CodeUri", "ContentUri", "DefinitionUri"):
            if name in resource.get("Properties", {}):
                resource["Properties"][name] = f"s3://{BUCKET}/{name}"
    return transform(template, {}, _NoManagedPolicies())


class _NoManagedPolicies:
    """SAM would look up managed policies by name in an AWS account. The templates use none."""

    def load(self) -> dict[str, str]:
        return {}


def _format(template: Path, expanded: dict[str, Any], match: Any) -> str:
    """One finding as a line. It names the resource in the template, not one that SAM derives from it, as a role."""
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
    """The reference that a finding is about, in the short form of the template."""
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
    """The number of the first line that mentions the value, searched from where the resource or output begins."""
    lines = template.read_text().splitlines()
    begins = next((number for number, line in enumerate(lines, 1) if re.match(rf"\s+{re.escape(name)}:", line)), 1)
    within = (number for number in range(begins, len(lines) + 1) if value and _mentions(lines[number - 1], value))
    return next(within, begins)


def _mentions(line: str, value: str) -> bool:
    return re.search(rf"\b{re.escape(value)}\b", line) is not None


def _read_cache() -> dict[str, str]:
    with suppress(FileNotFoundError, ValueError):
        return json.loads(CACHE.read_text())
    return {}


def _digest(template: Path) -> str:
    digest = hashlib.sha256(template.read_bytes())
    digest.update(VERSIONS.read_bytes())
    digest.update(Path(__file__).read_bytes())
    return digest.hexdigest()

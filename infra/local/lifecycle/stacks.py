"""What is deployed, read from the root template, so that here and on AWS the same stacks get the same parameters."""

import hashlib
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from samtranslator.yaml_helper import yaml_parse

from infra.local.settings import API_ID, ENDPOINT, ROOT, Trouble

ROOT_TEMPLATE = ROOT / "template.yaml"

# The only parameters of the root template that differ on this machine.
LOCAL_PARAMETERS = {
    "Architecture": "arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64",
    "DeletionProtection": "false",
    # The address that API Gateway gives an API leads to AWS.
    "ApiUrl": f"{ENDPOINT}/_aws/execute-api/{API_ID}",
}

# Properties that name files which sam uploads with the template.
UPLOADED = ("CodeUri", "ContentUri", "DefinitionUri")


@dataclass(frozen=True)
class Stack:
    logical_id: str  # in the root template
    template: Path
    parameters: dict[str, Any]  # as the root template passes them
    depends_on: frozenset[str]  # logical ids

    @property
    def name(self) -> str:
        return "madang-" + re.sub(r"(?<!^)(?=[A-Z])", "-", self.logical_id).lower()

    def digest(self, values: dict[str, str], inherited: dict[str, str]) -> str:
        """Changes with everything that a deployment of this stack could change."""
        digest = hashlib.sha256(self.template.read_bytes())
        digest.update(repr((sorted(values.items()), sorted(inherited.items()))).encode())
        for uri in sorted(set(_uploads(load(self.template)))):
            path = (self.template.parent / uri).resolve()
            files = sorted(path.rglob("*")) if path.is_dir() else [path]
            if not any(file.is_file() for file in files):
                raise Trouble(
                    f"{self.template.relative_to(ROOT)} wants {path.relative_to(ROOT)}, which no build makes."
                )
            for file in filter(Path.is_file, files):
                digest.update(f"{file.name} {_file_digest(file)}".encode())
        return digest.hexdigest()


def read() -> list[Stack]:
    """The nested stacks of the root template."""
    stacks = []
    for logical_id, resource in load(ROOT_TEMPLATE)["Resources"].items():
        properties = resource.get("Properties", {})
        if resource["Type"] == "AWS::CloudFormation::Stack":
            template = properties["TemplateURL"]
        elif resource["Type"] == "AWS::Serverless::Application":
            template = properties["Location"]
        else:
            continue
        parameters = properties.get("Parameters", {})
        named = resource.get("DependsOn", [])
        depends_on = {named} if isinstance(named, str) else set(named)
        depends_on.update(source for source, _ in _outputs_used(parameters))
        stacks.append(Stack(logical_id, (ROOT / template).resolve(), parameters, frozenset(depends_on)))
    return stacks


def resolve(stack: Stack, outputs: dict[str, dict[str, str]]) -> dict[str, str]:
    """The stack's parameters with this machine's values; outputs of other stacks by logical id."""
    return {name: _value(stack, name, value, outputs) for name, value in stack.parameters.items()}


def load(template: Path) -> dict[str, Any]:
    try:
        return yaml_parse(template.read_text())
    except FileNotFoundError:
        raise Trouble(f"{template.relative_to(ROOT)} is missing.") from None


def _value(stack: Stack, name: str, value: Any, outputs: dict[str, dict[str, str]]) -> str:
    match value:
        case {"Ref": reference} if reference in _root_parameters():
            return _root_parameters()[reference]
        case {"Fn::GetAtt": [source, attribute]} if source in outputs and attribute.startswith("Outputs."):
            return outputs[source][attribute.removeprefix("Outputs.")]
        case {"Fn::Join": [separator, {"Ref": reference}]} if reference in _root_parameters():
            return _root_parameters()[reference].replace(",", separator)
        case bool():
            return str(value).lower()
        case str() | int() | float():
            return str(value)
    raise Trouble(f"template.yaml passes {name} to {stack.logical_id} in a way that is not understood here: {value}.")


@cache
def _root_parameters() -> dict[str, str]:
    declared = load(ROOT_TEMPLATE).get("Parameters", {})
    defaults = {name: _text(parameter.get("Default", "")) for name, parameter in declared.items()}
    return defaults | {name: value for name, value in LOCAL_PARAMETERS.items() if name in declared}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _outputs_used(node: Any) -> Iterator[tuple[str, str]]:
    for found in _find(node, "Fn::GetAtt"):
        source, attribute = found
        yield source, attribute


def _uploads(template: dict[str, Any]) -> Iterator[str]:
    for name in UPLOADED:
        yield from (uri for uri in _find(template, name) if isinstance(uri, str) and not uri.startswith("s3:"))


def _find(node: Any, key: str) -> Iterator[Any]:
    if isinstance(node, dict):
        if key in node:
            yield node[key]
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from _find(child, key)


@cache
def _file_digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()

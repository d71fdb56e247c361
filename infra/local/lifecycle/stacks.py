"""What is deployed, read from the root template, so that here and on AWS the same stacks get the same parameters."""

import hashlib
import os
import platform
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import yaml
from samtranslator.yaml_helper import yaml_parse

from infra.local.settings import API_ID, ARTIFACTS, ENDPOINT, ROOT, Trouble

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
        for named in sorted({self.template.parent / uri for _, _, uri in _uploads(load(self.template))}):
            for file in sorted(named.rglob("*")) if named.is_dir() else [named]:
                if file.is_file():
                    digest.update(f"{file.name} {_file_digest(file)}".encode())
        return digest.hexdigest()


def read() -> list[Stack]:
    """The nested stacks of the root template. What could not be deployed is refused here, before anything is begun."""
    stacks = []
    for logical_id, resource in load(ROOT_TEMPLATE)["Resources"].items():
        properties = resource.get("Properties", {})
        match resource["Type"]:
            case "AWS::CloudFormation::Stack":
                location = "TemplateURL"
            case "AWS::Serverless::Application":
                location = "Location"
            case _:
                continue
        if not isinstance(properties.get(location), str):
            raise Trouble(f"{path(ROOT_TEMPLATE)}: {logical_id} names no template: it needs the property {location}.")
        template = (ROOT / properties[location]).resolve()
        parameters = properties.get("Parameters", {})
        named = resource.get("DependsOn", [])
        depends_on = {named} if isinstance(named, str) else set(named)
        depends_on.update(source for source, _ in _find(parameters, "Fn::GetAtt"))
        stacks.append(Stack(logical_id, template, parameters, frozenset(depends_on)))
    _check_order(stacks)
    # What each stack answers is not known yet, but by what names it does.
    outputs = {stack.logical_id: dict.fromkeys(load(stack.template).get("Outputs", {}), "") for stack in stacks}
    for stack in stacks:
        _check_parameters(stack)
        resolve(stack, outputs)
    return stacks


def check_uploads(stacks: Iterable[Stack], functions: list[str]) -> None:
    """Refuses a template that wants a file which is not there, or a function that no crate has: what an earlier build
    left in its place would be deployed."""
    for stack in stacks:
        for logical_id, name, uri in _uploads(load(stack.template)):
            file = Path(os.path.normpath(stack.template.parent / uri))
            where = f"{path(stack.template)}: {logical_id} has the {name} {uri}"
            if file.is_relative_to(ARTIFACTS):
                if (function := file.relative_to(ARTIFACTS).parts[0]) not in functions:
                    raise Trouble(f"{where}, but no crate in functions/ has a binary called {function}.")
            elif not file.exists():
                raise Trouble(f"{where}, but there is no {path(file)}.")


def resolve(stack: Stack, outputs: dict[str, dict[str, str]]) -> dict[str, str]:
    """The stack's parameters with this machine's values; outputs of other stacks by logical id."""
    return {name: _value(stack, name, value, outputs) for name, value in stack.parameters.items()}


@cache
def load(template: Path) -> dict[str, Any]:
    """A template as it is written, with every intrinsic function in its long form."""
    try:
        read = yaml_parse(template.read_text())
    except FileNotFoundError:
        raise Trouble(f"{path(template)} is missing.") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        what = ", ".join(filter(None, [error.context, error.problem]))
        raise Trouble(f"{path(template)}{where} is not YAML: {what}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Trouble(f"{path(template)} is not YAML: {error}.") from None
    if not isinstance(read, dict):
        raise Trouble(f"{path(template)} is {'empty' if read is None else 'not a template'}: it needs `Resources`.")
    resources = read.get("Resources")
    if not isinstance(resources, dict) or not resources:
        raise Trouble(f"{path(template)} has no `Resources`: there is nothing to deploy.")
    for logical_id, resource in resources.items():
        if not isinstance(resource, dict) or not isinstance(resource.get("Type"), str):
            raise Trouble(f"{path(template)}: the resource {logical_id} has no `Type`.")
    for section in ("Parameters", "Outputs"):
        if not isinstance(read.get(section, {}), dict):
            raise Trouble(f"{path(template)}: `{section}` has to be a mapping from names.")
    return read


def _check_order(stacks: list[Stack]) -> None:
    known = {stack.logical_id for stack in stacks}
    for stack in stacks:
        for missing in sorted(stack.depends_on - known):
            raise Trouble(f"{path(ROOT_TEMPLATE)}: {stack.logical_id} depends on {missing}, which is no stack.")
    try:
        TopologicalSorter({stack.logical_id: stack.depends_on for stack in stacks}).prepare()
    except CycleError as error:
        circle = " → ".join(reversed(error.args[1]))
        raise Trouble(f"{path(ROOT_TEMPLATE)}: stacks depend on each other in a circle: {circle}.") from None


def _check_parameters(stack: Stack) -> None:
    declared = load(stack.template).get("Parameters", {})
    for name in sorted(stack.parameters.keys() - declared.keys()):
        raise Trouble(
            f"{path(ROOT_TEMPLATE)} passes {name} to {stack.logical_id}, "
            f"but {path(stack.template)} declares no such parameter."
        )
    for name, parameter in declared.items():
        if name not in stack.parameters and "Default" not in parameter:
            raise Trouble(
                f"{path(stack.template)} needs the parameter {name}, "
                f"which {path(ROOT_TEMPLATE)} does not pass to {stack.logical_id}."
            )


def _value(stack: Stack, name: str, value: Any, outputs: dict[str, dict[str, str]]) -> str:
    root_parameters = _root_parameters()
    match value:
        case {"Ref": str(reference)} if reference in root_parameters:
            return root_parameters[reference]
        case {"Ref": str(reference)}:
            what = f"!Ref {reference}, which is no parameter of {path(ROOT_TEMPLATE)}"
        case {"Fn::GetAtt": [source, str(attribute)]} if source in outputs and attribute.startswith("Outputs."):
            if (output := attribute.removeprefix("Outputs.")) in outputs[source]:
                return outputs[source][output]
            what = f"!GetAtt {source}.{attribute}, but the template of {source} has no such output"
        case {"Fn::Join": [str(separator), {"Ref": str(reference)}]} if reference in root_parameters:
            return root_parameters[reference].replace(",", separator)
        case str() | bool() | int() | float():
            return _text(value)
        case _:
            what = f"{value}, which `make up` does not understand: it knows !Ref, !GetAtt, !Join and plain values"
    raise Trouble(f"{path(ROOT_TEMPLATE)}: the parameter {name} of {stack.logical_id} is {what}.")


def _root_parameters() -> dict[str, str]:
    declared = load(ROOT_TEMPLATE).get("Parameters", {})
    values = {name: LOCAL_PARAMETERS.get(name, parameter.get("Default")) for name, parameter in declared.items()}
    for name, value in values.items():
        if value is None:
            raise Trouble(f"{path(ROOT_TEMPLATE)}: the parameter {name} has no default, so it has no value here.")
    return {name: _text(value) for name, value in values.items()}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _uploads(template: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """What sam uploads: the resource, the property and the path that it names."""
    for logical_id, resource in template["Resources"].items():
        for name in UPLOADED:
            for uri in _find(resource, name):
                if isinstance(uri, str) and not uri.startswith("s3:"):
                    yield logical_id, name, uri


def _find(node: Any, key: str) -> Iterator[Any]:
    if isinstance(node, dict):
        if key in node:
            yield node[key]
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from _find(child, key)


def path(file: Path) -> Path:
    """A file as people call it: from the root of the repository."""
    return file.relative_to(ROOT) if file.is_relative_to(ROOT) else file


@cache
def _file_digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()

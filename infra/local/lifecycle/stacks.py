"""Reads the stacks from the root template, so that the same stacks get the same parameters here and on AWS."""

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

from infra.local.settings import API_ID, ARTIFACTS, ENDPOINT, ROOT, CommandError

ROOT_TEMPLATE = ROOT / "template.yaml"

# The only parameters of the root template that differ on this machine.
LOCAL_PARAMETERS = {
    "Architecture": "arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64",
    "DeletionProtection": "false",
    # The address that API Gateway would give the API is on AWS.
    "ApiUrl": f"{ENDPOINT}/_aws/execute-api/{API_ID}",
    # One person plays many here: tests, load and fuzzing come from a handful of people.
    "PostsPerHour": "100000",
    "CommentsPerHour": "100000",
    "OrdersPerHour": "100000",
}

# Properties that name files which `sam deploy` uploads with the template.
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
        """A digest of everything that a deployment of this stack depends on."""
        digest = hashlib.sha256(self.template.read_bytes())
        digest.update(repr((sorted(values.items()), sorted(inherited.items()))).encode())
        for named in sorted({self.template.parent / uri for _, _, uri in _uploads(load(self.template))}):
            for file in sorted(named.rglob("*")) if named.is_dir() else [named]:
                if file.is_file():
                    digest.update(f"{file.name} {_file_digest(file)}".encode())
        return digest.hexdigest()


def read() -> list[Stack]:
    """The nested stacks of the root template. Raises `CommandError` if they could not be deployed together."""
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
            raise CommandError(f"{path(ROOT_TEMPLATE)}: {logical_id} names no template. Add the property {location}.")
        template = (ROOT / properties[location]).resolve()
        parameters = properties.get("Parameters", {})
        declared = resource.get("DependsOn", [])
        depends_on = {declared} if isinstance(declared, str) else set(declared)
        depends_on.update(source for source, _ in _find(parameters, "Fn::GetAtt"))
        stacks.append(Stack(logical_id, template, parameters, frozenset(depends_on)))
    _check_order(stacks)
    # The values of the outputs are not known before the deployment, but their names are.
    outputs = {stack.logical_id: dict.fromkeys(load(stack.template).get("Outputs", {}), "") for stack in stacks}
    for stack in stacks:
        _check_parameters(stack)
        resolve(stack, outputs)
    return stacks


def check_uploads(stacks: Iterable[Stack], functions: list[str]) -> None:
    """Raises `CommandError` if a template names a file that does not exist, or a function that no crate has. An
    artifact that an earlier build left there would be deployed otherwise."""
    for stack in stacks:
        for logical_id, name, uri in _uploads(load(stack.template)):
            file = Path(os.path.normpath(stack.template.parent / uri))
            where = f"{path(stack.template)}: {logical_id} has the {name} {uri}"
            if file.is_relative_to(ARTIFACTS):
                if (function := file.relative_to(ARTIFACTS).parts[0]) not in functions:
                    raise CommandError(f"{where}, but no crate in functions/ has a binary called {function}.")
            elif not file.exists():
                raise CommandError(f"{where}, but {path(file)} does not exist.")


def resolve(stack: Stack, outputs: dict[str, dict[str, str]]) -> dict[str, str]:
    """The values of the stack's parameters on this machine. `outputs` has the other stacks' outputs by logical id."""
    return {name: _value(stack, name, value, outputs) for name, value in stack.parameters.items()}


@cache
def load(template: Path) -> dict[str, Any]:
    """A template before SAM expands it, with every intrinsic function in its long form."""
    try:
        read = yaml_parse(template.read_text())
    except FileNotFoundError:
        raise CommandError(f"{path(template)} is missing.") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        what = ", ".join(filter(None, [error.context, error.problem]))
        raise CommandError(f"{path(template)}{where} is not YAML: {what}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CommandError(f"{path(template)} is not YAML: {error}.") from None
    if not isinstance(read, dict):
        raise CommandError(
            f"{path(template)} is {'empty' if read is None else 'not a template'}: it needs `Resources`."
        )
    resources = read.get("Resources")
    if not isinstance(resources, dict) or not resources:
        raise CommandError(f"{path(template)} has no `Resources`: there is nothing to deploy.")
    for logical_id, resource in resources.items():
        if not isinstance(resource, dict) or not isinstance(resource.get("Type"), str):
            raise CommandError(f"{path(template)}: the resource {logical_id} has no `Type`.")
    for section in ("Parameters", "Outputs"):
        if not isinstance(read.get(section, {}), dict):
            raise CommandError(f"{path(template)}: `{section}` has to be a mapping.")
    return read


def _check_order(stacks: list[Stack]) -> None:
    known = {stack.logical_id for stack in stacks}
    for stack in stacks:
        for missing in sorted(stack.depends_on - known):
            raise CommandError(f"{path(ROOT_TEMPLATE)}: {stack.logical_id} depends on {missing}, which is no stack.")
    try:
        TopologicalSorter({stack.logical_id: stack.depends_on for stack in stacks}).prepare()
    except CycleError as error:
        cycle = " → ".join(reversed(error.args[1]))
        raise CommandError(f"{path(ROOT_TEMPLATE)}: the stacks depend on each other in a cycle: {cycle}.") from None


def _check_parameters(stack: Stack) -> None:
    declared = load(stack.template).get("Parameters", {})
    for name in sorted(stack.parameters.keys() - declared.keys()):
        raise CommandError(
            f"{path(ROOT_TEMPLATE)} passes {name} to {stack.logical_id}, "
            f"but {path(stack.template)} declares no such parameter."
        )
    for name, parameter in declared.items():
        if name not in stack.parameters and "Default" not in parameter:
            raise CommandError(
                f"{path(stack.template)} needs the parameter {name}, "
                f"which {path(ROOT_TEMPLATE)} does not pass to {stack.logical_id}."
            )


def _value(stack: Stack, name: str, value: Any, outputs: dict[str, dict[str, str]]) -> str:
    root_parameters = _root_parameters()
    match value:
        case {"Ref": str(reference)} if reference in root_parameters:
            return root_parameters[reference]
        case {"Ref": str(reference)}:
            what = f"!Ref {reference}, which is not a parameter of {path(ROOT_TEMPLATE)}"
        case {"Fn::GetAtt": [source, str(attribute)]} if source in outputs and attribute.startswith("Outputs."):
            if (output := attribute.removeprefix("Outputs.")) in outputs[source]:
                return outputs[source][output]
            what = f"!GetAtt {source}.{attribute}, but the template of {source} has no such output"
        case {"Fn::Join": [str(separator), {"Ref": str(reference)}]} if reference in root_parameters:
            return root_parameters[reference].replace(",", separator)
        case str() | bool() | int() | float():
            return _text(value)
        case _:
            what = f"{value}, which `make up` does not support. Use !Ref, !GetAtt, !Join or a plain value"
    raise CommandError(f"{path(ROOT_TEMPLATE)}: the parameter {name} of {stack.logical_id} is {what}.")


def _root_parameters() -> dict[str, str]:
    declared = load(ROOT_TEMPLATE).get("Parameters", {})
    values = {name: LOCAL_PARAMETERS.get(name, parameter.get("Default")) for name, parameter in declared.items()}
    for name, value in values.items():
        if value is None:
            raise CommandError(f"{path(ROOT_TEMPLATE)}: the parameter {name} needs a default, which `make up` uses.")
    return {name: _text(value) for name, value in values.items()}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _uploads(template: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """The files that `sam deploy` uploads: logical id, property and path of each."""
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
    """The file's path relative to the root of the repository, for messages."""
    return file.relative_to(ROOT) if file.is_relative_to(ROOT) else file


@cache
def _file_digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()

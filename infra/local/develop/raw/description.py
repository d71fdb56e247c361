"""The operations of infra/openapi.json, and whether an answer is described for one of them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from infra.local.develop.exact_schemas import use_exact_schemas
from infra.local.develop.raw.wire import Answer
from infra.local.settings import ROOT

DOCUMENT = "urn:openapi"


@dataclass(frozen=True)
class Operation:
    """An operation of the API."""

    id: str
    method: str
    path: str
    # "accessToken", "awsSignature", "providerSignature", or "" if anyone may call it.
    security: str
    parameters: tuple[dict, ...] = field(hash=False)
    # The example of the body, None if the operation takes none.
    body: Any = field(hash=False)

    @property
    def title(self) -> str:
        return f"{self.method} {self.path}"


class Description:
    """The description of the API."""

    def __init__(self, document: dict) -> None:
        self.document = document
        resource = Resource.from_contents(document, default_specification=DRAFT202012)
        self._registry: Registry = Registry().with_resource(DOCUMENT, resource)
        self._validators: dict[str, Draft202012Validator] = {}

    @classmethod
    def committed(cls) -> "Description":
        document = json.loads((ROOT / "infra" / "openapi.json").read_text())
        use_exact_schemas(document)
        return cls(document)

    @cached_property
    def operations(self) -> list[Operation]:
        return list(self._operations())

    def _operations(self) -> Iterator[Operation]:
        for path, item in self.document["paths"].items():
            for method, raw in item.items():
                schemes = [name for requirement in raw.get("security", []) for name in requirement]
                content = raw.get("requestBody", {}).get("content", {}).get("application/json", {})
                examples = [example["value"] for example in content.get("examples", {}).values()]
                yield Operation(
                    id=raw["operationId"],
                    method=method.upper(),
                    path=path,
                    security=schemes[0] if schemes else "",
                    parameters=tuple(raw.get("parameters", [])),
                    body=examples[0] if examples else None,
                )

    def violation(self, operation: Operation, answer: Answer) -> str | None:
        """What of an answer is not described for the operation, None if all is."""
        described_at = ("paths", operation.path, operation.method.lower(), "responses", str(answer.status))
        described, at = self._resolve(described_at)
        if described is None:
            return f"{operation.title} does not describe the status {answer.status}"
        for name in described.get("headers", {}):
            header, header_at = self._resolve((*at, "headers", name))
            if found := self._header(name, header, header_at, answer):
                return found
        content = described.get("content")
        if content is None:
            return f"{answer.status} is described without a body" if answer.body else None
        media_type = answer.header("content-type").split(";")[0].strip().lower()
        known = next((known for known in content if known.split(";")[0] == media_type), None)
        if known is None:
            return f"{answer.status} is not described as “{media_type}”, but as {' or '.join(content)}"
        if not media_type.endswith("json") or answer.header("content-encoding"):
            return None
        try:
            body = json.loads(answer.body)
        except ValueError as error:
            return f"the body is not JSON: {error}"
        if "schema" not in content[known]:
            return None
        return self._invalid((*at, "content", known, "schema"), body)

    def _header(self, name: str, header: dict, at: tuple[str, ...], answer: Answer) -> str | None:
        value: Any = answer.header(name)
        if not value:
            return f"the header {name} is missing" if header.get("required") else None
        if header["schema"].get("type") == "integer":
            value = int(value) if value.isdecimal() else value
        found = self._invalid((*at, "schema"), value)
        return f"the header {name}: {found}" if found else None

    def _resolve(self, at: tuple[str, ...]) -> tuple[Any, tuple[str, ...]]:
        """The part of the document at a place, and its own place if that is a reference."""
        part: Any = self.document
        for step in at:
            part = part.get(step) if isinstance(part, dict) else None
        if isinstance(part, dict) and "$ref" in part:
            return self._resolve(tuple(part["$ref"].removeprefix("#/").split("/")))
        return part, at

    def _invalid(self, at: tuple[str, ...], value: Any) -> str | None:
        pointer = "/".join(step.replace("~", "~0").replace("/", "~1") for step in at)
        # In a URI's fragment, braces have to be escaped.
        reference = f"{DOCUMENT}#/{pointer}".replace("{", "%7B").replace("}", "%7D")
        if reference not in self._validators:
            self._validators[reference] = Draft202012Validator({"$ref": reference}, registry=self._registry)
        error = next(self._validators[reference].iter_errors(value), None)
        return f"{error.json_path}: {error.message[:200]}" if error else None

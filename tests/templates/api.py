"""The operations in infra/openapi.json: the function that serves each, and its authorization.

`make contract` writes that file from `functions/<service>/src/contract.rs`, and a test in Rust fails if it is out of
date."""

import json
from dataclasses import dataclass

from stacks import ROOT

JWT, IAM, PUBLIC = "JWT", "AWS_IAM", "NONE"
# The function verifies the provider's signature of the body, because API Gateway cannot.
AUTHORIZATION = {"accessToken": JWT, "awsSignature": IAM, "providerSignature": PUBLIC}


@dataclass(frozen=True)
class Operation:
    route: str  # "GET /posts/{id}"
    function: str
    service: str
    authorization: str

    @property
    def contract(self) -> str:
        return f"functions/{self.service}/src/contract.rs"

    def __str__(self) -> str:
        return f"{self.service}: {self.route}"


def _read() -> dict[str, Operation]:
    document = json.loads((ROOT / "infra/openapi.json").read_text())
    operations = {}
    for path, methods in document["paths"].items():
        for method, described in methods.items():
            route = f"{method.upper()} {path}"
            [service] = described["tags"]
            schemes = [name for scheme in described["security"] for name in scheme]
            [authorization] = {AUTHORIZATION[name] for name in schemes} or {PUBLIC}
            operations[route] = Operation(route, described["x-function"], service, authorization)
    return operations


OPERATIONS = _read()


def served_by(function: str) -> list[Operation]:
    """The operations that the function with this FunctionName serves."""
    return [operation for operation in OPERATIONS.values() if operation.function == function]

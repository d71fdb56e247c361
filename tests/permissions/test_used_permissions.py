"""Each permission of each function is used by the function.

tests/templates/test_permissions.py compares the policies with the operations that a binary can call. That does not show
whether it calls them, nor on what. Here the policies of the deployed roles are compared with the calls that the
emulator has allowed while the system tests ran: `make test` runs this last."""

import json
from collections import defaultdict
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

from infra.local.settings import STATE, client

Permission = tuple[str, str, str]  # function, action, resource

# What Lambda itself does with a function's role: the emulator does it without asking whether the role may.
BY_LAMBDA = {
    "sqs": {"ReceiveMessage", "DeleteMessage", "GetQueueAttributes"},
    "dynamodb": {"DescribeStream", "GetRecords", "GetShardIterator", "ListStreams"},
    "s3": {"PutObject", "ListBucket"},
    "logs": {"CreateLogGroup", "CreateLogStream", "PutLogEvents"},
    "xray": {"PutTraceSegments", "PutTelemetryRecords"},
}


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def permissions() -> Iterator[Permission]:
    """What the inline policies of the functions' roles allow."""
    iam = client("iam")
    for page in client("lambda").get_paginator("list_functions").paginate():
        for function in page["Functions"]:
            role = function["Role"].rsplit("/", 1)[-1]
            for name in iam.list_role_policies(RoleName=role)["PolicyNames"]:
                document = iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
                document = json.loads(document) if isinstance(document, str) else document
                for statement in as_list(document["Statement"]):
                    for action in as_list(statement["Action"]):
                        for resource in as_list(statement["Resource"]):
                            yield function["FunctionName"], action, resource


def uses() -> dict[str, set[tuple[str, str]]]:
    """The actions and resources that each function was allowed. Its role's session has its name."""
    found: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for line in (STATE / "used-permissions.jsonl").read_text().splitlines():
        principal, action, resource = json.loads(line)
        if ":assumed-role/" in principal:
            found[principal.rsplit("/", 1)[-1]].add((action, resource))
    return found


def is_used(permission: Permission, used: dict[str, set[tuple[str, str]]]) -> bool:
    function, action, resource = permission
    service, operation = action.split(":")
    if operation in BY_LAMBDA.get(service, ()):
        return True
    return any(fnmatchcase(one, action) and fnmatchcase(on, resource) for one, on in used[function])


def test_every_permission_of_a_function_is_used() -> None:
    used = uses()
    allowed = set(permissions())
    assert allowed, "no function has a permission"
    unused = sorted(permission for permission in allowed if not is_used(permission, used))
    lines = [f"{function} may {action} on {resource}" for function, action, resource in unused]
    assert not unused, "Nothing used these permissions. Remove them, or test what needs them:\n" + "\n".join(lines)

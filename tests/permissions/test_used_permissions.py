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

Permission = tuple[str, str, str]  # role, action, resource

# What Lambda itself does with a function's role: the emulator does it without asking whether the role may.
BY_LAMBDA = {
    "sqs": {"ReceiveMessage", "DeleteMessage", "GetQueueAttributes"},
    "dynamodb": {"DescribeStream", "GetRecords", "GetShardIterator", "ListStreams"},
    "s3": {"PutObject", "ListBucket"},
    "logs": {"CreateLogGroup", "CreateLogStream", "PutLogEvents"},
    "xray": {"PutTraceSegments", "PutTelemetryRecords"},
}
# What a function needs, and the tests do not always cause.
RARELY_USED = {
    # It reads the order again if a step of the saga has changed it in between.
    ("orders-cancel", "dynamodb:GetItem"),
}


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def roles() -> dict[str, str]:
    """The functions by their roles. Each has one of its own, with which tests also run copies of it."""
    pages = client("lambda").get_paginator("list_functions").paginate()
    functions = (function for page in pages for function in page["Functions"])
    return {function["Role"].rsplit("/", 1)[-1]: function["FunctionName"] for function in functions}


def permissions(role: str) -> Iterator[Permission]:
    """What the inline policies of a role allow."""
    iam = client("iam")
    for name in iam.list_role_policies(RoleName=role)["PolicyNames"]:
        document = iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
        document = json.loads(document) if isinstance(document, str) else document
        for statement in as_list(document["Statement"]):
            for action in as_list(statement["Action"]):
                for resource in as_list(statement["Resource"]):
                    yield role, action, resource


def uses() -> dict[str, set[tuple[str, str]]]:
    """The actions and resources that each role was allowed."""
    found: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for line in (STATE / "used-permissions.jsonl").read_text().splitlines():
        principal, action, resource = json.loads(line)
        if ":assumed-role/" in principal:
            found[principal.split("/")[1]].add((action, resource))
    return found


def is_used(permission: Permission, used: dict[str, set[tuple[str, str]]]) -> bool:
    role, action, resource = permission
    service, operation = action.split(":")
    if operation in BY_LAMBDA.get(service, ()):
        return True
    return any(fnmatchcase(one, action) and fnmatchcase(on, resource) for one, on in used[role])


def test_every_permission_of_a_function_is_used() -> None:
    functions, used = roles(), uses()
    allowed = {permission for role in functions for permission in permissions(role)}
    assert allowed, "no function has a permission"
    unused = [permission for permission in allowed if not is_used(permission, used)]
    found = [(functions[role], action, resource) for role, action, resource in unused]
    lines = [
        f"{name} may {action} on {resource}" for name, action, resource in found if (name, action) not in RARELY_USED
    ]
    assert not lines, "Nothing used these permissions. Remove them, or test what needs them:\n" + "\n".join(
        sorted(lines)
    )

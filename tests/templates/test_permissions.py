"""A function's policy allows exactly the AWS operations that its binary can call.

The linker removes code that a binary never calls. So a binary contains the code of exactly those operations that it can
call, and its policy has to name exactly these. The functions are compiled first if necessary."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from stacks import EVERY_FUNCTION, ROOT, as_list, fail, label, need

# Actions that Lambda itself needs, because it reads queues and streams, and keeps records that a function could not
# process, with the function's role.
FOR_LAMBDA = {
    "s3:PutObject",
    "s3:ListBucket",
    *(f"sqs:{name}" for name in ("ReceiveMessage", "DeleteMessage", "GetQueueAttributes")),
    *(f"dynamodb:{name}" for name in ("DescribeStream", "GetRecords", "GetShardIterator", "ListStreams")),
}
# Actions whose name differs from that of the operation in the SDK's type `<operation>Input`.
OPERATIONS = {"lambda:InvokeFunction": "Invoke"}
# A transaction needs the action of each of its parts.
IN_TRANSACTIONS = {"dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem", "dynamodb:ConditionCheckItem"}
# Functions that call users by HTTP need this action (see test_discovery.py). The client for invocations is linked too.
BY_HTTP = {"execute-api:Invoke"}
KNOWN = {
    "cognito-idp": "AdminDeleteUser AdminGetUser AdminListGroupsForUser",
    "dynamodb": "BatchGetItem BatchWriteItem DeleteItem GetItem PutItem Query Scan TransactWriteItems UpdateItem",
    "events": "PutEvents",
    "lambda": "InvokeFunction",
    "secretsmanager": "GetSecretValue",
    "servicediscovery": "DeregisterInstance DiscoverInstances GetOperation ListServices RegisterInstance",
    "ses": "SendEmail",
    "sqs": "ChangeMessageVisibility SendMessage",
    "states": "DescribeExecution StartExecution",
}
ACTIONS = {f"{service}:{name}" for service, names in KNOWN.items() for name in names.split()}


@pytest.fixture(scope="session")
def binaries() -> dict[str, Path]:
    """The binary of each function, as `make up` builds it."""
    command = ["cargo", "build", "--workspace", "--bins", "--message-format", "json-render-diagnostics"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    need(done.returncode == 0, f"The functions do not compile:\n{done.stderr}")
    built = [message for message in map(json.loads, done.stdout.splitlines()) if message.get("executable")]
    return {message["target"]["name"]: Path(message["executable"]) for message in built}


def callable_actions(binary: Path) -> set[str]:
    """The actions of the operations whose input types a binary contains."""
    data = binary.read_bytes()
    types = set()
    at = data.find(b"Input")
    while at != -1:
        # The strings in a binary follow each other without separators.
        types.update(
            match[0].decode() for match in [re.search(rb"[A-Z][A-Za-z]*$", data[max(at - 48, 0) : at])] if match
        )
        at = data.find(b"Input", at + 1)
    return {
        action for action in ACTIONS if any(_is(OPERATIONS.get(action, action.split(":")[1]), name) for name in types)
    }


def _is(operation: str, name: str) -> bool:
    return name.endswith(operation) and not name.endswith(f"Batch{operation}")


@pytest.mark.parametrize("stack, function", EVERY_FUNCTION, ids=label)
def test_a_policy_allows_exactly_what_the_binary_can_call(stack, function, binaries):
    allowed = {action for s in stack.statements_of(function) for action in as_list(s["Action"])} - FOR_LAMBDA
    name = stack.functions[function]["FunctionName"]
    binary = "relay" if name.endswith("-relay") else name
    need(binary in binaries, f"functions/{stack.name}/src/bin/{binary}.rs, the binary of {function}, is missing.")
    called = callable_actions(binaries[binary])
    if "dynamodb:TransactWriteItems" in called:
        called = called - {"dynamodb:TransactWriteItems"} | allowed & IN_TRANSACTIONS
    if allowed & BY_HTTP:
        called = called - {"lambda:InvokeFunction"} | BY_HTTP
    unused = [f"never calls {action}. Remove it from" for action in sorted(allowed - called)]
    missing = [f"calls {action} without the permission. Add it to" for action in sorted(called - allowed)]
    if unused or missing:
        fail(*(f"{stack.file}: {function} {what} its Policies." for what in unused + missing))


def test_this_test_knows_every_action_of_the_policies():
    allowed = {a for stack, f in EVERY_FUNCTION for s in stack.statements_of(f) for a in as_list(s["Action"])}
    unknown = allowed - ACTIONS - FOR_LAMBDA - BY_HTTP - IN_TRANSACTIONS
    need(not unknown, f"tests/templates/test_permissions.py: add {', '.join(sorted(unknown))} to KNOWN.")

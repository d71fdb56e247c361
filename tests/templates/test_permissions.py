"""A function may do what its binary can ask of AWS, and nothing else.

The linker leaves out what a binary never calls. So the operations of AWS whose code is in it are those that some path
of it can ask for, and its policy has to name exactly these. Functions that are not compiled yet are compiled first."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from stacks import EVERY_FUNCTION, ROOT, as_list, fail, label, need

# Lambda takes from queues and streams with the function's role.
FOR_LAMBDA = {
    *(f"sqs:{name}" for name in ("ReceiveMessage", "DeleteMessage", "GetQueueAttributes")),
    *(f"dynamodb:{name}" for name in ("DescribeStream", "GetRecords", "GetShardIterator", "ListStreams")),
}
# Actions that are not called as the operation is, for which the SDK has a type `<operation>Input`.
OPERATIONS = {"lambda:InvokeFunction": "Invoke"}
# Each part of a transaction has an action of its own.
IN_TRANSACTIONS = {"dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem", "dynamodb:ConditionCheckItem"}
# Calls users by HTTP, whose permission test_discovery.py has; the client for direct invokes is linked beside it.
BY_HTTP = {"execute-api:Invoke"}
KNOWN = {
    "cognito-idp": "AdminDeleteUser AdminGetUser",
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


def asked_for(binary: Path) -> set[str]:
    """The actions of the operations whose input types a binary has."""
    data = binary.read_bytes()
    types = set()
    at = data.find(b"Input")
    while at != -1:
        # Texts stand in a binary one after the other, without anything between them.
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
def test_a_function_may_do_what_its_binary_asks_for_and_nothing_else(stack, function, binaries):
    allowed = {action for s in stack.statements_of(function) for action in as_list(s["Action"])} - FOR_LAMBDA
    name = stack.functions[function]["FunctionName"]
    binary = "relay" if name.endswith("-relay") else name
    need(binary in binaries, f"functions/{stack.name}/src/bin/{binary}.rs is missing, the binary of {function}.")
    asked = asked_for(binaries[binary])
    if "dynamodb:TransactWriteItems" in asked:
        asked = asked - {"dynamodb:TransactWriteItems"} | allowed & IN_TRANSACTIONS
    if allowed & BY_HTTP:
        asked = asked - {"lambda:InvokeFunction"} | BY_HTTP
    unused = [f"may {action} and never asks for it: take it out of" for action in sorted(allowed - asked)]
    missing = [f"asks for {action} and may not: add it to" for action in sorted(asked - allowed)]
    if unused or missing:
        fail(*(f"{stack.file}: {function} {what} its Policies." for what in unused + missing))


def test_every_action_of_a_policy_is_known_here():
    allowed = {a for stack, f in EVERY_FUNCTION for s in stack.statements_of(f) for a in as_list(s["Action"])}
    unknown = allowed - ACTIONS - FOR_LAMBDA - BY_HTTP - IN_TRANSACTIONS
    need(
        not unknown, f"tests/templates/test_permissions.py does not know {', '.join(sorted(unknown))}: add it to KNOWN."
    )

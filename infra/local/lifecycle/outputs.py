"""Writes and reads .local/outputs.json, which has the addresses and names of everything that is deployed."""

import json
from typing import Any

from infra.local.lifecycle.stacks import Stack
from infra.local.settings import ENDPOINT, OUTPUTS, REGION, ROOT, TRACE_URL, CommandError, client


def write(stacks: list[Stack], outputs: dict[str, dict[str, str]]) -> dict[str, Any]:
    platform = outputs["Platform"]
    found: dict[str, Any] = {
        "api_url": f"{ENDPOINT}/_aws/execute-api/{platform['ApiId']}",
        "endpoint_url": ENDPOINT,
        "trace_url": TRACE_URL,
        "region": REGION,
        "user_pool_id": platform["UserPoolId"],
        "user_pool_client_id": platform["UserPoolClientId"],
        "event_bus": platform["EventBusName"],
        "tables": [],
        "queues": {},
        "functions": [],
    }
    for stack in stacks:
        for resource in client("cloudformation").describe_stack_resources(StackName=stack.name)["StackResources"]:
            physical = resource["PhysicalResourceId"]
            match resource["ResourceType"]:
                case "AWS::DynamoDB::Table":
                    found["tables"].append(physical)
                case "AWS::SQS::Queue":
                    found["queues"][physical.rsplit("/", 1)[-1]] = physical
                case "AWS::Lambda::Function":
                    found["functions"].append(physical)
                case "AWS::StepFunctions::StateMachine":
                    found["state_machine_arn"] = physical
    OUTPUTS.write_text(json.dumps(found, indent=2) + "\n")
    return found


def read() -> dict[str, Any]:
    """The outputs that the last `make up` wrote. Raises `CommandError` if they are not those of the running system."""
    file = OUTPUTS.relative_to(ROOT)
    try:
        found = json.loads(OUTPUTS.read_text())
        endpoint, pool = found["endpoint_url"], found["user_pool_id"]
    except FileNotFoundError:
        raise CommandError("The system has not been deployed completely. Run `make up`.") from None
    except (ValueError, TypeError, KeyError):
        raise CommandError(f"{file} cannot be read. Run `make up` to write it again.") from None
    if endpoint != ENDPOINT:
        raise CommandError(f"{file} belongs to the system at {endpoint}, but this one is at {ENDPOINT}. Run `make up`.")
    cognito = client("cognito-idp")
    try:
        cognito.describe_user_pool(UserPoolId=pool)
    except cognito.exceptions.ResourceNotFoundException:
        raise CommandError(f"{file} belongs to an earlier system, whose state was deleted. Run `make up`.") from None
    return found

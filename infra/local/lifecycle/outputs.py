"""Writes .local/outputs.json, which tells tests and people where everything is."""

import json
from typing import Any

from infra.local.lifecycle.stacks import Stack
from infra.local.settings import ENDPOINT, OUTPUTS, REGION, TRACE_URL, client


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


def read() -> dict:
    return json.loads(OUTPUTS.read_text())

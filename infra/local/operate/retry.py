"""Resumes an order's saga where it stopped, once the cause is fixed."""

import json
import time
import uuid

from infra.local.operate import saga
from infra.local.progress import console, duration
from infra.local.settings import CommandError, client


def order_id(text: str) -> str:
    if not text:
        raise CommandError("Name the order: `make order-retry ID=<order id>`.")
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise CommandError(
            f"“{text}” is not an order id, because it is not a UUID: `make order-retry ID=<order id>`."
        ) from None


def run(outputs: dict, order: str) -> None:
    if "state_machine_arn" not in outputs:
        raise CommandError("The local system has no order saga. Run `make up` first.")
    execution = saga.latest_execution(outputs["state_machine_arn"], order)
    if not execution:
        raise CommandError(f"There is nothing to retry: the order {order} has no execution of the order saga.")
    name, arn = execution["name"], execution["executionArn"]
    if execution["status"] == "RUNNING":
        raise CommandError(f"There is nothing to retry yet: the execution {name} is still running.")
    if execution["status"] == "SUCCEEDED":
        outcome = _outcome(execution)
        console.print(f"There is nothing to retry: the execution {name} has succeeded with the outcome {outcome}.")
        return

    console.print(f"The execution {name} {_ending(execution)}. Its last steps:")
    for step in saga.steps(arn)[-3:]:
        console.print(f"  {step}", markup=False)
    began = time.monotonic()
    states = client("stepfunctions")
    try:
        states.redrive_execution(executionArn=arn)
    except states.exceptions.ExecutionNotRedrivable as error:
        raise CommandError(f"The execution {name} cannot be resumed: {error.response['Error']['Message']}.") from None
    console.print("It resumes:")
    saga.follow(arn)
    execution = saga.describe(arn) or execution
    if execution["status"] != "SUCCEEDED":
        raise CommandError(f"The order is not settled: the execution {name} {_ending(execution)}.")
    took = duration(time.monotonic() - began)
    console.print(f"[bold green]The order is settled[/]: {_outcome(execution)} [dim]({took})[/]")


def _outcome(execution: dict) -> str:
    output = json.loads(execution["output"])
    return " for ".join(text for text in (output.get("outcome", "without an outcome"), output.get("reason")) if text)


def _ending(execution: dict) -> str:
    ending = {"FAILED": "failed", "ABORTED": "was aborted", "TIMED_OUT": "timed out"}[execution["status"]]
    return ending + (f" with {execution['error']}" if execution.get("error") else "")

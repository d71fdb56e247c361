"""Resumes an order's saga where it stopped, once the cause is fixed."""

import json
import time
import uuid

from infra.local.operate import saga
from infra.local.progress import console, duration
from infra.local.settings import Trouble, client


def order_id(text: str) -> str:
    if not text:
        raise Trouble("Which order? `make order-retry ID=<order id>`.")
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise Trouble(f"“{text}” is no order id, which is a UUID: `make order-retry ID=<order id>`.") from None


def run(outputs: dict, order: str) -> None:
    if "state_machine_arn" not in outputs:
        raise Trouble("There is no order saga in the local system: run `make up` first.")
    execution = saga.newest(outputs["state_machine_arn"], order)
    if not execution:
        raise Trouble(f"The order {order} has no execution of the order saga: there is nothing to retry.")
    name, arn = execution["name"], execution["executionArn"]
    if execution["status"] == "RUNNING":
        raise Trouble(f"The execution {name} is still running: there is nothing to retry yet.")
    if execution["status"] == "SUCCEEDED":
        console.print(f"The execution {name} has succeeded, {_outcome(execution)}: there is nothing to retry.")
        return

    console.print(f"The execution {name} {_ending(execution)}; its last steps were")
    for step in saga.path(arn)[-3:]:
        console.print(f"  {step}", markup=False)
    began = time.monotonic()
    states = client("stepfunctions")
    try:
        states.redrive_execution(executionArn=arn)
    except states.exceptions.ExecutionNotRedrivable as error:
        raise Trouble(f"The execution {name} cannot be redriven: {error.response['Error']['Message']}.") from None
    console.print("It goes on:")
    saga.tell(arn)
    execution = saga.describe(arn) or execution
    if execution["status"] != "SUCCEEDED":
        raise Trouble(f"The order is not settled: the execution {name} {_ending(execution)}.")
    took = duration(time.monotonic() - began)
    console.print(f"[bold green]The order is settled[/], {_outcome(execution)} [dim]({took})[/]")


def _outcome(execution: dict) -> str:
    output = json.loads(execution["output"])
    return " for ".join(text for text in (output.get("outcome", "without an outcome"), output.get("reason")) if text)


def _ending(execution: dict) -> str:
    ending = {"FAILED": "failed", "ABORTED": "was stopped", "TIMED_OUT": "ran out of time"}[execution["status"]]
    return ending + (f" with {execution['error']}" if execution.get("error") else "")

"""Executions of the order saga, told from their histories."""

import time
from dataclasses import dataclass, field
from datetime import datetime

from rich.markup import escape

from infra.local.progress import console, duration
from infra.local.settings import Trouble, client

# An order's executions are <order id>, <order id>-2 and <order id>-3.
MOST_ATTEMPTS = 3


@dataclass
class Step:
    """A state's turn: what came of it, after how many invocations."""

    name: str
    began: datetime
    ended: datetime | None = None
    invocations: int = 0
    succeeded: bool = False
    errors: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"✓ {self.name}" if self.succeeded else " ".join([f"✗ {self.name}", *self.errors[-1:]])

    def lines(self) -> list[str]:
        told = [f"[yellow]↻[/] {self.name} {escape(error)}" for error in self.errors[: max(self.invocations - 1, 0)]]
        if self.ended:
            colour = "green" if self.succeeded else "red"
            took = duration((self.ended - self.began).total_seconds())
            told.append(f"[{colour}]{escape(str(self)[0])}[/]{escape(str(self)[1:])} [dim]({took})[/]")
        return told


def arn(state_machine: str, name: str) -> str:
    return state_machine.replace(":stateMachine:", ":execution:") + f":{name}"


def newest(state_machine: str, order: str) -> dict | None:
    """The last execution that the order has had."""
    for attempt in range(MOST_ATTEMPTS, 0, -1):
        if found := describe(arn(state_machine, order if attempt == 1 else f"{order}-{attempt}")):
            return found
    return None


def describe(execution: str) -> dict | None:
    states = client("stepfunctions")
    try:
        return states.describe_execution(executionArn=execution)
    except states.exceptions.ExecutionDoesNotExist:
        return None


def path(execution: str) -> list[Step]:
    """The steps since the execution was started, or redriven if it has been."""
    steps: list[Step] = []
    pages = client("stepfunctions").get_paginator("get_execution_history").paginate(executionArn=execution)
    for event in (event for page in pages for event in page["events"]):
        match event:
            case {"stateEnteredEventDetails": {"name": name}}:
                steps.append(Step(name, event["timestamp"]))
            case {"type": "ExecutionRedriven"}:
                # A redrive does not enter the state anew in which the execution had ended.
                steps = [Step(step.name, event["timestamp"]) for step in steps[-1:]]
            case {"type": "TaskScheduled"}:
                steps[-1].invocations += 1
            case {"type": "TaskSucceeded"}:
                steps[-1].succeeded = True
            case {"taskFailedEventDetails": {"error": error}}:
                steps[-1].succeeded = False
                steps[-1].errors.append(error)
            case {"type": "TaskStateExited" | "ExecutionFailed" | "ExecutionAborted" | "ExecutionTimedOut"} if steps:
                steps[-1].ended = event["timestamp"]
    return steps


def tell(execution: str, indent: int = 2, patience: float = float("inf")) -> list[Step]:
    """Prints each step as it ends and each attempt that is followed by another; answers the steps at the end."""
    began = time.monotonic()
    told = 0
    while True:
        found = describe(execution)
        steps = path(execution) if found else []
        lines = [line for step in steps for line in step.lines()]
        for line in lines[told:]:
            console.print(" " * indent + line)
        told = max(told, len(lines))
        if found and found["status"] != "RUNNING":
            return steps
        if time.monotonic() - began > patience:
            name, state = execution.rsplit(":", 1)[-1], "still runs" if found else "has not been started"
            raise Trouble(f"The execution {name} of the order saga {state} after {patience:.0f} s.")
        time.sleep(0.1)

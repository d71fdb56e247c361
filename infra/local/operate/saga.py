"""Reads executions of the order saga from their histories, and prints their steps."""

import time
from dataclasses import dataclass, field
from datetime import datetime

from rich.markup import escape

from infra.local.progress import console, duration
from infra.local.settings import CommandError, client

# An order's executions are <order id>, <order id>-2 and <order id>-3.
MAX_ATTEMPTS = 3


@dataclass
class Step:
    """One state of an execution: its result, and how many invocations it took."""

    name: str
    began: datetime
    ended: datetime | None = None
    invocations: int = 0
    succeeded: bool = False
    errors: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"✓ {self.name}" if self.succeeded else " ".join([f"✗ {self.name}", *self.errors[-1:]])

    def lines(self) -> list[str]:
        lines = [f"[yellow]↻[/] {self.name} {escape(error)}" for error in self.errors[: max(self.invocations - 1, 0)]]
        if self.ended:
            colour = "green" if self.succeeded else "red"
            took = duration((self.ended - self.began).total_seconds())
            lines.append(f"[{colour}]{escape(str(self)[0])}[/]{escape(str(self)[1:])} [dim]({took})[/]")
        return lines


def arn(state_machine: str, name: str) -> str:
    return state_machine.replace(":stateMachine:", ":execution:") + f":{name}"


def latest_execution(state_machine: str, order: str) -> dict | None:
    """The order's latest execution, or None if it has none."""
    for attempt in range(MAX_ATTEMPTS, 0, -1):
        if found := describe(arn(state_machine, order if attempt == 1 else f"{order}-{attempt}")):
            return found
    return None


def describe(execution: str) -> dict | None:
    states = client("stepfunctions")
    try:
        return states.describe_execution(executionArn=execution)
    except states.exceptions.ExecutionDoesNotExist:
        return None


def steps(execution: str) -> list[Step]:
    """The steps since the execution was started or last redriven."""
    found: list[Step] = []
    pages = client("stepfunctions").get_paginator("get_execution_history").paginate(executionArn=execution)
    for event in (event for page in pages for event in page["events"]):
        match event:
            case {"stateEnteredEventDetails": {"name": name}}:
                found.append(Step(name, event["timestamp"]))
            case {"type": "ExecutionRedriven"}:
                # A redrive resumes the last state without a StateEntered event.
                found = [Step(step.name, event["timestamp"]) for step in found[-1:]]
            case {"type": "TaskScheduled"}:
                found[-1].invocations += 1
            case {"type": "TaskSucceeded"}:
                found[-1].succeeded = True
            case {"taskFailedEventDetails": {"error": error}}:
                found[-1].succeeded = False
                found[-1].errors.append(error)
            case {"type": "TaskStateExited" | "ExecutionFailed" | "ExecutionAborted" | "ExecutionTimedOut"} if found:
                found[-1].ended = event["timestamp"]
    return found


def follow(execution: str, indent: int = 2, timeout: float = float("inf")) -> list[Step]:
    """Prints each step when it ends, and each attempt that was retried, until the execution ends. Returns the steps."""
    began = time.monotonic()
    printed = 0
    while True:
        found = describe(execution)
        taken = steps(execution) if found else []
        lines = [line for step in taken for line in step.lines()]
        for line in lines[printed:]:
            console.print(" " * indent + line)
        printed = max(printed, len(lines))
        if found and found["status"] != "RUNNING":
            return taken
        if time.monotonic() - began > timeout:
            name, state = execution.rsplit(":", 1)[-1], "is still running" if found else "has not been started"
            raise CommandError(f"The execution {name} of the order saga {state} after {timeout:.0f} s.")
        time.sleep(0.1)

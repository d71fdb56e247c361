"""Judges what came back for a request.

Three parties answer. A *function* names the trace in `traceresponse`; all that it answers has to be described for its
operation. *API Gateway* answers `{"message": …}` if no route matches or the caller is unknown. The *server* in front
refuses what is not HTTP, or closes the connection.
"""

import re
from dataclasses import dataclass

from infra.local.develop.raw.description import Description, Operation
from infra.local.develop.raw.generate import Request
from infra.local.develop.raw.wire import PATIENCE, Answer, Exchange

# The statuses with which a server refuses a message.
REFUSALS = {400, 408, 411, 413, 414, 417, 421, 426, 431}
# Those that say that the server lacks a feature of HTTP, and not that something broke.
NOT_IMPLEMENTED = {501, 505}
# What API Gateway answers to OPTIONS by itself.
PREFLIGHT = {200, 204, 403}
# What no client may read: a panic's text, a place in the code, a program's trace, an AWS resource.
INNER = re.compile(
    rb"panicked|called `|\bsrc/|\.rs:\d+|RUST_BACKTRACE|thread '|Traceback|File \"|\bserde\b|aws_sdk|arn:aws:|DynamoDB"
    rb"|Exception"
)


@dataclass(frozen=True)
class Verdict:
    """The judgement on one exchange."""

    # What is wrong, empty if nothing is.
    faults: tuple[str, ...]
    # The status of the answer, or in one word why there is none.
    outcome: str
    # Whether the request reached a function.
    reached: bool


def judge(description: Description, request: Request, exchange: Exchange, patience: float = PATIENCE) -> Verdict:
    """Judges an exchange."""
    if request.message.leaves:
        return Verdict((), "left", False)
    refusable = any(defect.refusable for defect in request.defects)
    faults = []
    if exchange.hangs:
        faults.append(f"no answer within {patience:g} s")
    elif exchange.seconds > patience:
        faults.append(f"the answer took {exchange.seconds:.1f} s")
    if exchange.broken:
        faults.append(exchange.broken)
    if not exchange.answers:
        if not (faults or refusable):
            faults.append("the connection was closed without an answer")
        return Verdict(tuple(faults), "hangs" if exchange.hangs else "closed", False)
    first, *later = exchange.answers
    if fault := _fault(description, request, first):
        faults.append(fault)
    if request.draft.probe and not refusable:
        faults += _fault_of_probe(first, later)
    return Verdict(tuple(faults), str(first.status), is_functions(first))


def is_functions(answer: Answer) -> bool:
    """Whether a function made the answer."""
    return bool(answer.header("traceresponse"))


def _fault(description: Description, request: Request, answer: Answer) -> str | None:
    """What is wrong with an answer."""
    refusable = any(defect.refusable for defect in request.defects)
    said = answer.body[:300].decode("utf-8", "replace")
    # What is not for the API may be answered by another service of the emulator, in that service's words.
    elsewhere = any(defect.escapes for defect in request.defects) and not is_functions(answer)
    if answer.status >= 400 and not elsewhere and (inner := INNER.search(answer.body)):
        return f"{answer.status} tells inner text, “{inner[0].decode()}”: {said}"
    if is_functions(answer):
        if answer.status >= 500:
            return f"{answer.status}: {said}"
        return _undescribed(description, request, answer)
    if answer.header("content-type").startswith("application/problem+json"):
        return f"{answer.status} is a problem without a traceresponse: {said}"
    if refusable and answer.status in REFUSALS | NOT_IMPLEMENTED:
        return None
    if answer.status >= 500:
        return f"{answer.status}: {said}"
    if elsewhere:
        return None
    return _undescribed_of_gateway(description, request, answer)


def _undescribed_of_gateway(description: Description, request: Request, answer: Answer) -> str | None:
    """What is wrong with an answer that no function made."""
    if answer.status == 404:
        # Described as API Gateway's own for paths with parameters, because a parameter can contain a slash.
        reroutes = any(defect.reroutes for defect in request.defects)
        return None if reroutes else "no route was found, although the path is not changed"
    if request.draft.method == b"OPTIONS" and answer.status in PREFLIGHT:
        return None
    # If IAM denies access, the emulator's answer differs from that of API Gateway.
    if any(defect.unauthorized for defect in request.defects) and answer.header("x-amzn-errortype"):
        return None
    if answer.status < 400:
        return f"{answer.status} has no traceresponse"
    return _undescribed(description, request, answer)


def _undescribed(description: Description, request: Request, answer: Answer) -> str | None:
    """What of an answer is not described. If the route may be another, the answer has to be described for any."""
    reroutes = any(defect.reroutes for defect in request.defects)
    operations: list[Operation] = description.operations if reroutes else [request.draft.operation]
    violations = [description.violation(operation, answer) for operation in operations]
    if None in violations:
        return None
    said = answer.body[:300].decode("utf-8", "replace")
    return f"{violations[0] if len(violations) == 1 else f'no operation describes {answer.status}'}: {said}"


def _fault_of_probe(first: Answer, later: list[Answer]) -> list[str]:
    """What is wrong with the answer to the next request on the connection: a GET of a post that does not exist."""
    if not later:
        closes = first.header("connection").lower() == "close"
        return [] if closes else ["the next request on the connection got no answer"]
    second = later[0]
    if second.status == 404 and is_functions(second):
        return []
    return [f"the next request on the connection got {second.status}: {second.body[:300].decode('utf-8', 'replace')}"]

"""Starts MiniStack with seven of its faults patched.

- Nagle's algorithm is off in its Runtime API server: a warm invocation costs 9 ms instead of 50.
- A table's stream survives a restart. MiniStack keeps the place that each reader has reached, but not the records:
  after a restart readers would wait at places that the new stream has not reached yet, and events would stay away.
- What a function that reads a stream reports as failed is delivered again. MiniStack knows batch item failures for
  queues only, and would move on. Here they fail the whole batch; AWS starts again at the first record that failed.
  Either way no record is passed that was not handled.
- An execution that failed, was stopped or ran out of time can be redriven. MiniStack does not know RedriveExecution,
  which goes on at the state that failed, with that state's input. Two things are not as on AWS: the definition is the
  present one instead of the one that the execution started with, and variables (`Assign`) are lost.
- A function that is invoked through the API goes on in the caller's trace: the header X-Amzn-Trace-Id of Invoke is
  handed to it, as on AWS. MiniStack begins a new trace with every invocation.
- Cloud Map's ListServices heeds the filter by namespace, as on AWS. MiniStack lists the services of all namespaces.
- A function's log lines are taken whole, and without asking for them every millisecond. MiniStack takes those that have
  come 5 ms after the last one, and on a busy machine its own thread that reads them needs longer: what was left waited
  for the process's next invocation.
"""

import contextvars
import copy
import json
import queue
import socketserver
import sys
import threading
import uuid
from contextlib import suppress
from pathlib import Path
from types import FunctionType

socketserver.StreamRequestHandler.disable_nagle_algorithm = True

from ministack.app import main  # noqa: E402  (the switch has to come first)
from ministack.core import lambda_runtime  # noqa: E402
from ministack.services import dynamodb, lambda_svc, servicediscovery, stepfunctions  # noqa: E402

# For what a function has written to be read, in seconds.
LONGEST_READ = 5
REDRIVABLE = ("FAILED", "ABORTED", "TIMED_OUT")


def keep_streams() -> None:
    state, restore = dynamodb.get_state, dynamodb.load_persisted_state
    kept = {"stream_records": dynamodb._stream_records, "stream_trimmed": dynamodb._stream_trimmed}

    def state_with_streams():
        return state() | {name: copy.deepcopy(store) for name, store in kept.items()}

    def restore_with_streams(data):
        restore(data)
        for name, store in kept.items():
            store.update((data or {}).get(name, {}))

    dynamodb.get_state, dynamodb.load_persisted_state = state_with_streams, restore_with_streams


def deliver_failed_records_again() -> None:
    poll, execute = lambda_svc._poll_dynamodb_streams, lambda_svc._execute_function
    thread = threading.local()

    def poll_streams():
        thread.reads_a_stream = True
        try:
            return poll()
        finally:
            thread.reads_a_stream = False

    def execute_and_heed_failures(function, event):
        result = execute(function, event)
        body = result.get("body")
        if getattr(thread, "reads_a_stream", False) and isinstance(body, dict) and body.get("batchItemFailures"):
            return result | {"error": True}
        return result

    lambda_svc._poll_dynamodb_streams, lambda_svc._execute_function = poll_streams, execute_and_heed_failures


def redrive_executions() -> None:
    handle, describe = stepfunctions.handle_request, stepfunctions._describe_execution

    async def handle_or_redrive(method, path, headers, body, query):
        if headers.get("x-amz-target", "").endswith(".RedriveExecution"):
            return stepfunctions._finalize_response(redrive(json.loads(body or "{}").get("executionArn")))
        return await handle(method, path, headers, body, query)

    def describe_with_redrives(request):
        status, headers, body = describe(request)
        if status != 200:
            return status, headers, body
        answer, execution = json.loads(body), stepfunctions._executions[request["executionArn"]]
        answer |= {"redriveCount": execution.get("redriveCount", 0), "redriveStatus": "REDRIVABLE"}
        if "redriveDate" in execution:
            answer["redriveDate"] = execution["redriveDate"]
        if execution["status"] not in REDRIVABLE:
            answer |= {"redriveStatus": "NOT_REDRIVABLE", "redriveStatusReason": not_redrivable(execution)}
        return stepfunctions.json_response(answer)

    stepfunctions.handle_request, stepfunctions._describe_execution = handle_or_redrive, describe_with_redrives


def redrive(arn):
    ended = stepfunctions._executions.get(arn)
    if not ended:
        return stepfunctions.error_response_json("ExecutionDoesNotExist", f"Execution Does Not Exist: '{arn}'", 400)
    if ended["status"] not in REDRIVABLE:
        return stepfunctions.error_response_json("ExecutionNotRedrivable", not_redrivable(ended), 400)
    date, count = stepfunctions.now_iso(), ended.get("redriveCount", 0) + 1
    # A new record: the thread of a stopped execution may still wait for its task, and must not find it running again.
    execution = ended | {"status": "RUNNING", "redriveCount": count, "redriveDate": date, "events": [*ended["events"]]}
    execution |= dict.fromkeys(("stopDate", "output", "error", "cause"))
    stepfunctions._executions[arn] = execution
    stepfunctions._add_event(execution, "ExecutionRedriven", {"executionRedrivenEventDetails": {"redriveCount": count}})
    stepfunctions._emit_execution_status_event(execution)
    threading.Thread(target=contextvars.copy_context().run, args=(go_on, execution), daemon=True).start()
    return stepfunctions.json_response({"redriveDate": date})


def not_redrivable(execution):
    return f"Execution is {execution['status']} and cannot be redriven"


def go_on(execution):
    """MiniStack's own interpreter, with a definition that starts at the state that failed."""
    failed = [event for event in execution["events"] if event["type"].endswith("StateEntered")][-1:]
    start = {"StartAt": failed[0]["stateEnteredEventDetails"]["name"]} if failed else {}

    def add_event(execution, *event):
        # The state is not entered anew: on AWS too the history goes on with what the state does.
        if not failed:
            stepfunctions._add_event(execution, *event)

    def with_redrive(run_state):
        def run(state, state_input, *rest):
            context = rest[-1]
            context["Execution"] |= {"RedriveCount": execution["redriveCount"], "RedriveTime": execution["redriveDate"]}
            if failed:
                entered = failed.pop()
                context["State"]["EnteredTime"] = entered["timestamp"]
                state_input = json.loads(entered["stateEnteredEventDetails"]["input"])
            return run_state(state, state_input, *rest)

        return run

    machine = stepfunctions._state_machines.get(execution["stateMachineArn"])
    if machine:
        machine = machine | {"definition": json.dumps(json.loads(machine["definition"]) | start)}
    changed = {"_state_machines": {execution["stateMachineArn"]: machine}, "_add_event": add_event}
    for kind in ("pass", "task", "choice", "wait", "parallel", "map"):
        changed[f"_execute_{kind}"] = with_redrive(getattr(stepfunctions, f"_execute_{kind}"))
    interpreter = stepfunctions._run_execution
    FunctionType(interpreter.__code__, vars(stepfunctions) | changed)(execution["executionArn"])


def continue_traces() -> None:
    invoke, trace_of = lambda_svc._invoke, lambda_svc._xray_trace_id_for_invocation
    header = contextvars.ContextVar("trace_header", default=None)

    async def invoke_in_trace(name, event, headers, *rest, **named):
        # Of this invocation alone: what it leads to may run in the same context.
        token = header.set(headers.get("x-amzn-trace-id"))
        try:
            return await invoke(name, event, headers, *rest, **named)
        finally:
            header.reset(token)

    lambda_svc._invoke = invoke_in_trace
    lambda_svc._xray_trace_id_for_invocation = lambda config, inbound=None: trace_of(config, inbound or header.get())


def filter_services() -> None:
    def list_services(request):
        filters = [wanted for wanted in request.get("Filters", []) if wanted["Name"] == "NAMESPACE_ID"]
        services = [
            service
            for service in servicediscovery._services.values()
            if all(service["NamespaceId"] in wanted["Values"] for wanted in filters)
        ]
        return servicediscovery.json_response({"Services": services})

    servicediscovery._list_services = list_services


def take_lines_whole() -> None:
    original = lambda_runtime.ProvidedWorker._drain_stderr_bounded

    def drain(worker, first_line_wait=0.05, idle_confirm=0.005, hard_cap=0.25):
        # A line of our own, in the same pipe behind all that the process has written so far.
        mark = f"\0{uuid.uuid4()}"
        try:
            with Path(f"/proc/{worker._proc.pid}/fd/1").open("wb", buffering=0) as output:
                output.write(f"{mark}\n".encode())
        except OSError:  # the process is gone, or this is macOS
            return original(worker, first_line_wait, idle_confirm, hard_cap)
        lines = []
        with suppress(queue.Empty):
            while not (line := worker._stderr_queue.get(timeout=LONGEST_READ)).endswith(mark):
                lines.append(line)
            lines += filter(None, [line.removesuffix(mark)])
        return "\n".join(lines)

    lambda_runtime.ProvidedWorker._drain_stderr_bounded = drain


# Each of hundreds of threads that await Python's lock wakes up as often as this, in seconds, to ask for it: at the
# usual 5 ms the processors do little else.
sys.setswitchinterval(0.05)
keep_streams()
deliver_failed_records_again()
redrive_executions()
continue_traces()
filter_services()
take_lines_whole()
main()

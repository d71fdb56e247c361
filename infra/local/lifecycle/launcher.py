"""Starts MiniStack behind a door that web pages cannot pass, with patches for seven of its faults.

The door is infra/local/door.py. It is in front of the port of the AWS APIs and of each function's Runtime API. Files
are written for their owner only. The permissions that roles use are written down, for tests/permissions.

- Nagle's algorithm is disabled in its Runtime API server. A warm invocation takes 9 ms instead of 50.
- A table's stream survives a restart. MiniStack stores the position of each reader, but not the records. After a
  restart readers would wait at positions that the new stream has not reached, and events would not arrive.
- Stream records that a function reports as failed are delivered again. MiniStack supports batch item failures for
  queues only, and would skip the records. Here they fail the whole batch, whereas AWS retries from the first record
  that failed. In both cases no record is skipped.
- An execution that failed, was aborted or timed out can be redriven. MiniStack does not implement RedriveExecution,
  which resumes an execution at the state that failed, with that state's input. There are two differences from AWS: the
  execution uses the current definition instead of the one that it was started with, and variables (`Assign`) are lost.
- A function that is invoked by the Invoke API continues the caller's trace, because it gets the header X-Amzn-Trace-Id
  as on AWS. MiniStack starts a new trace with every invocation.
- Cloud Map's ListServices applies the filter by namespace, as on AWS. MiniStack lists the services of all namespaces.
- All log lines of an invocation are read when it ends, without polling every millisecond. MiniStack stops reading when
  no line has arrived for 5 ms. On a busy machine its reader thread needs longer, and the remaining lines would be
  stored only after the process's next invocation.
"""

import contextvars
import copy
import json
import os
import queue
import socketserver
import sys
import threading
import uuid
from contextlib import suppress
from pathlib import Path
from types import FunctionType

socketserver.StreamRequestHandler.disable_nagle_algorithm = True

from ministack import app as emulator  # noqa: E402  (Nagle's algorithm has to be disabled before this import)
from ministack.core import iam_evaluator, lambda_runtime  # noqa: E402
from ministack.services import dynamodb, lambda_svc, servicediscovery, stepfunctions  # noqa: E402

# Python runs isolated (-I), so the repository has to be named. It comes last, so that it hides no package.
sys.path.append(str(Path(__file__).resolve().parents[3]))
from infra.local import door  # noqa: E402

# Maximum seconds to wait for the log lines of an invocation.
READ_TIMEOUT = 5
REDRIVABLE = ("FAILED", "ABORTED", "TIMED_OUT")


def persist_streams() -> None:
    state, restore = dynamodb.get_state, dynamodb.load_persisted_state
    kept = {"stream_records": dynamodb._stream_records, "stream_trimmed": dynamodb._stream_trimmed}

    def state_with_streams():
        return state() | {name: copy.deepcopy(store) for name, store in kept.items()}

    def restore_with_streams(data):
        restore(data)
        for name, store in kept.items():
            store.update((data or {}).get(name, {}))

    dynamodb.get_state, dynamodb.load_persisted_state = state_with_streams, restore_with_streams


def redeliver_failed_records() -> None:
    poll, execute = lambda_svc._poll_dynamodb_streams, lambda_svc._execute_function
    thread = threading.local()

    def poll_streams():
        thread.reads_a_stream = True
        try:
            return poll()
        finally:
            thread.reads_a_stream = False

    def execute_and_check_failures(function, event):
        result = execute(function, event)
        body = result.get("body")
        if getattr(thread, "reads_a_stream", False) and isinstance(body, dict) and body.get("batchItemFailures"):
            return result | {"error": True}
        return result

    lambda_svc._poll_dynamodb_streams, lambda_svc._execute_function = poll_streams, execute_and_check_failures


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
            answer |= {"redriveStatus": "NOT_REDRIVABLE", "redriveStatusReason": not_redrivable_reason(execution)}
        return stepfunctions.json_response(answer)

    stepfunctions.handle_request, stepfunctions._describe_execution = handle_or_redrive, describe_with_redrives


def redrive(arn):
    ended = stepfunctions._executions.get(arn)
    if not ended:
        return stepfunctions.error_response_json("ExecutionDoesNotExist", f"Execution Does Not Exist: '{arn}'", 400)
    if ended["status"] not in REDRIVABLE:
        return stepfunctions.error_response_json("ExecutionNotRedrivable", not_redrivable_reason(ended), 400)
    date, count = stepfunctions.now_iso(), ended.get("redriveCount", 0) + 1
    # A copy, because the thread of an aborted execution may still wait for its task and must not see RUNNING again.
    execution = ended | {"status": "RUNNING", "redriveCount": count, "redriveDate": date, "events": [*ended["events"]]}
    execution |= dict.fromkeys(("stopDate", "output", "error", "cause"))
    stepfunctions._executions[arn] = execution
    stepfunctions._add_event(execution, "ExecutionRedriven", {"executionRedrivenEventDetails": {"redriveCount": count}})
    stepfunctions._emit_execution_status_event(execution)
    threading.Thread(target=contextvars.copy_context().run, args=(resume, execution), daemon=True).start()
    return stepfunctions.json_response({"redriveDate": date})


def not_redrivable_reason(execution):
    return f"Execution is {execution['status']} and cannot be redriven"


def resume(execution):
    """Runs MiniStack's own interpreter on a definition that starts at the state that failed."""
    failed = [event for event in execution["events"] if event["type"].endswith("StateEntered")][-1:]
    start = {"StartAt": failed[0]["stateEnteredEventDetails"]["name"]} if failed else {}

    def add_event(execution, *event):
        # No second StateEntered event: on AWS the history continues with the events of the state itself.
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


def propagate_traces() -> None:
    invoke, trace_of = lambda_svc._invoke, lambda_svc._xray_trace_id_for_invocation
    header = contextvars.ContextVar("trace_header", default=None)

    async def invoke_in_trace(name, event, headers, *rest, **named):
        # Reset afterwards, because later invocations may run in the same context.
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


def keep_files_private() -> None:
    """Makes the code of functions executable for the owner only, like everything else that is written."""
    change = os.chmod

    def change_for_owner(path, mode, **named):
        change(path, mode & 0o700, **named)

    os.chmod = change_for_owner


def note_used_permissions() -> None:
    """Writes each action that a role was allowed, with the resource, to a file, once each."""
    evaluate, noted = iam_evaluator.evaluate, set()
    file = Path(os.environ["STATE_DIR"]) / "used-permissions.jsonl"

    def evaluate_and_note(request, *policies):
        result = evaluate(request, *policies)
        use = request.principal_arn, request.action, request.resource_arn
        if result.decision == "Allow" and use not in noted:
            noted.add(use)
            with file.open("a") as uses:
                uses.write(json.dumps(use) + "\n")
        return result

    iam_evaluator.evaluate = evaluate_and_note


def read_complete_logs() -> None:
    original = lambda_runtime.ProvidedWorker._drain_stderr_bounded

    def drain(worker, first_line_wait=0.05, idle_confirm=0.005, hard_cap=0.25):
        # A marker line, written to the same pipe after everything that the process has written so far.
        mark = f"\0{uuid.uuid4()}"
        try:
            with Path(f"/proc/{worker._proc.pid}/fd/1").open("wb", buffering=0) as output:
                output.write(f"{mark}\n".encode())
        except OSError:  # the process has exited, or this is macOS
            return original(worker, first_line_wait, idle_confirm, hard_cap)
        lines = []
        with suppress(queue.Empty):
            while not (line := worker._stderr_queue.get(timeout=READ_TIMEOUT)).endswith(mark):
                lines.append(line)
            lines += filter(None, [line.removesuffix(mark)])
        return "\n".join(lines)

    lambda_runtime.ProvidedWorker._drain_stderr_bounded = drain


# In seconds: a thread that waits for Python's global interpreter lock wakes up at this interval to request it.
# MiniStack has hundreds of threads; at the default of 5 ms, waking up would use most of the processors' time.
sys.setswitchinterval(0.05)
persist_streams()
redeliver_failed_records()
redrive_executions()
propagate_traces()
filter_services()
read_complete_logs()
keep_files_private()
note_used_permissions()
door.guard_http_servers()
emulator.app = door.guard(emulator.app)
emulator.main()

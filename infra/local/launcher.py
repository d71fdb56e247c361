"""Starts MiniStack, with three of its faults mended from outside.

- Nagle's algorithm is off in its Runtime API server: a warm invocation costs 9 ms instead of 50.
- A table's stream survives a restart. MiniStack keeps the place that each reader has reached, but not the records: after
  a restart readers would wait at places that the new stream has not reached yet, and events would stay away.
- What a function that reads a stream reports as failed is delivered again. MiniStack knows batch item failures for queues
  only, and would move on. Here they fail the whole batch; AWS starts again at the first record that failed. Either way no
  record is passed that was not handled.
"""

import copy
import socketserver
import threading

socketserver.StreamRequestHandler.disable_nagle_algorithm = True

from ministack.app import main  # noqa: E402  (the switch has to come first)
from ministack.services import dynamodb, lambda_svc  # noqa: E402


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


keep_streams()
deliver_failed_records_again()
main()

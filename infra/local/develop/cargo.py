#!/usr/bin/env python3
"""Replaces Cargo under `cargo lambda watch`, which starts each function with `$CARGO run --bin <function>`.

It compiles the function and runs it with that function's environment. A function that does not compile, or exits at
once, never polls for requests, and `cargo lambda watch` lets their senders wait for ever. This program then polls in
its place and answers 502 with the compiler's message. When a file is saved, `cargo lambda watch` restarts this
process."""

import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NoReturn

# The environment variable with the folder in which `make watch` writes each function's environment.
ENVIRONMENTS = "MADANG_WATCH"
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
# The relay is one binary that is deployed once per service. Here it runs as the relay of posts.
NAMES = {"relay": "posts-relay"}


def main() -> None:
    # Child processes have to use the real Cargo.
    os.environ.pop("CARGO", None)
    # Functions handle one request at a time. If this variable is set, they log at each start that they ignore it.
    os.environ.pop("AWS_LAMBDA_MAX_CONCURRENCY", None)
    arguments = sys.argv[1:]
    if arguments[:1] != ["run"]:
        os.execvp("cargo", ["cargo", *arguments])
    function = arguments[arguments.index("--bin") + 1]
    executable, messages = compile_(arguments[1:])
    if executable is None:
        answer_all(f"{function} does not compile.\n\n{messages}")
    environment = os.environ | environment_of(function)
    exit_status = subprocess.run([executable], env=environment, check=False).returncode
    answer_all(f"{function} exited with status {exit_status}. Its output is in the terminal of `make watch`.\n")


def compile_(arguments: list[str]) -> tuple[str | None, str]:
    """Compiles the function and shows the compiler's output. Returns the path of the executable, or None if it does not
    compile, and the output without colours."""
    command = ["cargo", "build", "--message-format", "json-render-diagnostics", *arguments]
    with tempfile.TemporaryFile("w+") as built:
        cargo = subprocess.Popen(command, stdout=built, stderr=subprocess.PIPE, text=True, errors="replace")
        output = []
        for line in cargo.stderr or ():
            sys.stderr.write(line)
            output.append(COLOURS.sub("", line))
        if cargo.wait() != 0:
            return None, "".join(output)
        built.seek(0)
        messages = [json.loads(line) for line in built]
        return next(message["executable"] for message in messages if message.get("executable")), "".join(output)


def environment_of(function: str) -> dict[str, str]:
    file = Path(os.environ[ENVIRONMENTS], f"{NAMES.get(function, function)}.json")
    return json.loads(file.read_text()) if file.exists() else {}


def answer_all(text: str) -> NoReturn:
    """Answers every invocation in the function's place, by the Runtime API:
    https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html."""
    # Lambda sets a host and a port here, `cargo lambda watch` a URL.
    address, _, path = os.environ["AWS_LAMBDA_RUNTIME_API"].removeprefix("http://").partition("/")
    base = f"/{path}/2018-06-01/runtime/invocation"
    while True:
        runtime = http.client.HTTPConnection(address)
        try:
            runtime.request("GET", f"{base}/next")
            invocation = runtime.getresponse()
            event = invocation.read()
            if invocation.status == http.HTTPStatus.OK:
                kind, answer = response_to(event, text)
                runtime.request("POST", f"{base}/{invocation.headers['lambda-runtime-aws-request-id']}/{kind}", answer)
                runtime.getresponse().read()
            else:  # there is no request
                time.sleep(0.1)
        except (OSError, http.client.HTTPException):
            sys.exit("`cargo lambda watch` has ended.")
        finally:
            runtime.close()


def response_to(event: bytes, text: str) -> tuple[str, str]:
    """The last part of the Runtime API's path, and the body: a 502 for an API request, an error for any other event."""
    if b'"requestContext"' not in event:
        return "error", json.dumps({"errorType": "NotRunning", "errorMessage": text})
    answer: dict[str, Any] = {"statusCode": 502, "headers": {"content-type": "text/plain; charset=utf-8"}, "body": text}
    # `cargo lambda watch` requires these fields.
    answer |= {"multiValueHeaders": {}, "cookies": [], "isBase64Encoded": False}
    return "response", json.dumps(answer)


if __name__ == "__main__":
    main()

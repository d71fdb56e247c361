#!/usr/bin/env python3
"""Replaces Cargo under `cargo lambda watch`, which starts each function with `$CARGO run --bin <function>`.

It compiles the function and runs it with that function's environment. A function that does not compile, or ends at
once, never asks for its requests, and `cargo lambda watch` lets their senders wait for ever: here they are answered
502, with the compiler's words. When a file is saved, `cargo lambda watch` restarts this process."""

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

# Where `make watch` writes what each function's environment is.
ENVIRONMENTS = "MADANG_WATCH"
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
# The relay is one binary deployed once per service; here it stands for the one of posts.
NAMES = {"relay": "posts-relay"}


def main() -> None:
    # From here on Cargo is Cargo, for itself and for what it starts.
    os.environ.pop("CARGO", None)
    # A function takes one request at a time, and says so at each start if it is told to.
    os.environ.pop("AWS_LAMBDA_MAX_CONCURRENCY", None)
    arguments = sys.argv[1:]
    if arguments[:1] != ["run"]:
        os.execvp("cargo", ["cargo", *arguments])
    function = arguments[arguments.index("--bin") + 1]
    executable, messages = compile_(arguments[1:])
    if executable is None:
        answer_all(f"{function} does not compile.\n\n{messages}")
    environment = os.environ | environment_of(function)
    ended = subprocess.run([executable], env=environment, check=False).returncode
    answer_all(f"{function} ended with status {ended}: its last words are where `make watch` runs.\n")


def compile_(arguments: list[str]) -> tuple[str | None, str]:
    """Where the executable is, and what the compiler said, which is shown as well."""
    command = ["cargo", "build", "--message-format", "json-render-diagnostics", *arguments]
    with tempfile.TemporaryFile("w+") as built:
        cargo = subprocess.Popen(command, stdout=built, stderr=subprocess.PIPE, text=True, errors="replace")
        said = []
        for line in cargo.stderr or ():
            sys.stderr.write(line)
            said.append(COLOURS.sub("", line))
        if cargo.wait() != 0:
            return None, "".join(said)
        built.seek(0)
        messages = [json.loads(line) for line in built]
        return next(message["executable"] for message in messages if message.get("executable")), "".join(said)


def environment_of(function: str) -> dict[str, str]:
    file = Path(os.environ[ENVIRONMENTS], f"{NAMES.get(function, function)}.json")
    return json.loads(file.read_text()) if file.exists() else {}


def answer_all(text: str) -> NoReturn:
    """Takes the function's place: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html."""
    # Lambda names a host and a port, `cargo lambda watch` a URL.
    address, _, path = os.environ["AWS_LAMBDA_RUNTIME_API"].removeprefix("http://").partition("/")
    base = f"/{path}/2018-06-01/runtime/invocation"
    while True:
        runtime = http.client.HTTPConnection(address)
        try:
            runtime.request("GET", f"{base}/next")
            invocation = runtime.getresponse()
            event = invocation.read()
            if invocation.status == http.HTTPStatus.OK:
                kind, answer = answer_to(event, text)
                runtime.request("POST", f"{base}/{invocation.headers['lambda-runtime-aws-request-id']}/{kind}", answer)
                runtime.getresponse().read()
            else:  # nobody asks
                time.sleep(0.1)
        except (OSError, http.client.HTTPException):
            sys.exit("`cargo lambda watch` has ended.")
        finally:
            runtime.close()


def answer_to(event: bytes, text: str) -> tuple[str, str]:
    """What is answered to a request of the API, and to an event that is none."""
    if b'"requestContext"' not in event:
        return "error", json.dumps({"errorType": "NotRunning", "errorMessage": text})
    answer: dict[str, Any] = {"statusCode": 502, "headers": {"content-type": "text/plain; charset=utf-8"}, "body": text}
    # Which `cargo lambda watch` does not do without.
    answer |= {"multiValueHeaders": {}, "cookies": [], "isBase64Encoded": False}
    return "response", json.dumps(answer)


if __name__ == "__main__":
    main()

"""The replacement of Cargo under `make watch`, which answers in place of functions that do not compile or have
exited."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

CARGO = Path(__file__).resolve().parents[2] / "infra" / "local" / "develop" / "cargo.py"
PATIENCE = 20
EVENT = {"requestContext": {"http": {"method": "GET", "path": "/posts"}}}
# A shell script that stands for Cargo and fails to compile.
BROKEN = "echo '   Compiling posts' >&2; printf '\\033[31merror\\033[0m: expected `;`\\n' >&2; exit 101"


@pytest.fixture
def emulator():
    """A stub of cargo-lambda's Runtime API. It answers 204 if there is no event."""

    class RuntimeApi(BaseHTTPRequestHandler):
        def do_GET(self):
            event = None if self.server.events.empty() else self.server.events.get()
            body = json.dumps(event).encode() if event else b""
            self.send_response(200 if event else 204)
            self.send_header("lambda-runtime-aws-request-id", "r-1")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            self.server.answers.put((self.path, body))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), RuntimeApi) as server:
        server.events, server.answers = queue.Queue(), queue.Queue()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def start(tmp_path, emulator):
    started = []

    def start(cargo, arguments=("run", "--bin", "posts-list"), environment=None):
        script = tmp_path / "bin" / "cargo"
        script.parent.mkdir(exist_ok=True)
        script.write_text(f"#!/bin/sh\n{cargo}\n")
        script.chmod(0o755)
        (tmp_path / "posts-list.json").write_text(json.dumps(environment or {}))
        settings = {
            "PATH": f"{script.parent}{os.pathsep}{os.environ['PATH']}",
            "CARGO": str(CARGO),
            "AWS_LAMBDA_MAX_CONCURRENCY": "1",
            "MADANG_WATCH": str(tmp_path),
            "AWS_LAMBDA_RUNTIME_API": f"http://127.0.0.1:{emulator.server_port}/.rt/posts-list",
        }
        command = [sys.executable, str(CARGO), *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        # In its own process group, as under cargo-lambda.
        started.append(subprocess.Popen(command, env=os.environ | settings, start_new_session=True, **pipes))
        return started[-1]

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def built(executable):
    """Cargo's messages about a crate without a binary and about a compiled binary."""
    for artifact in ({"executable": None}, {"executable": str(executable)}):
        yield f"echo '{json.dumps({'reason': 'compiler-artifact', **artifact})}'"


def test_requests_to_a_function_that_does_not_compile_get_502_with_the_compilers_message(start, emulator):
    process = start(BROKEN)
    for _ in range(2):  # until a file is saved
        emulator.events.put(EVENT)
        path, answer = emulator.answers.get(timeout=PATIENCE)
        assert path == "/.rt/posts-list/2018-06-01/runtime/invocation/r-1/response"
        assert answer == {
            "statusCode": 502,
            "headers": {"content-type": "text/plain; charset=utf-8"},
            "body": "posts-list does not compile.\n\n   Compiling posts\nerror: expected `;`\n",
            "multiValueHeaders": {},
            "cookies": [],
            "isBase64Encoded": False,
        }
    process.kill()
    assert "\x1b[31merror\x1b[0m: expected `;`" in process.communicate()[1], "the terminal shows the message too"


def test_events_other_than_requests_get_an_error(start, emulator):
    start(BROKEN)
    emulator.events.put({"Records": []})
    path, answer = emulator.answers.get(timeout=PATIENCE)
    assert path.endswith("/r-1/error")
    assert answer["errorType"] == "NotRunning" and "expected `;`" in answer["errorMessage"]


def test_requests_to_a_function_that_has_exited_get_502(start, emulator, tmp_path):
    function = tmp_path / "posts-list"
    function.write_text("#!/bin/sh\nexit 3\n")
    function.chmod(0o755)
    start("\n".join(built(function)))
    emulator.events.put(EVENT)
    _, answer = emulator.answers.get(timeout=PATIENCE)
    assert answer["statusCode"] == 502 and answer["body"].startswith("posts-list exited with status 3")


def test_a_function_runs_with_its_own_variables_and_without_ours(start, tmp_path):
    function = tmp_path / "posts-list"
    seen = '"$TABLE, $QUOTED, ${CARGO-unset}, ${AWS_LAMBDA_MAX_CONCURRENCY-unset}"'
    function.write_text(f'#!/bin/sh\necho {seen} >"$0.seen"\nsleep 60\n')
    function.chmod(0o755)
    process = start("\n".join(built(function)), environment={"TABLE": "posts", "QUOTED": "it's $HOME"})
    file = tmp_path / "posts-list.seen"
    for _ in range(PATIENCE * 20):
        if file.exists() and file.read_text():
            break
        threading.Event().wait(0.05)
    assert file.read_text() == "posts, it's $HOME, unset, unset\n"
    assert process.poll() is None


def test_commands_other_than_run_are_passed_to_cargo(start):
    process = start('echo "cargo $* ${CARGO-unset}"', ["metadata", "--format-version", "1"])
    assert process.communicate(timeout=PATIENCE)[0] == "cargo metadata --format-version 1 unset\n"


def test_it_exits_when_cargo_lambda_has_exited(start, emulator):
    process = start(BROKEN)
    emulator.events.put(EVENT)
    emulator.answers.get(timeout=PATIENCE)
    emulator.shutdown()
    emulator.server_close()
    assert process.wait(PATIENCE) == 1

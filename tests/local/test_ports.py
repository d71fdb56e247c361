"""Who has a port, and what is known of a system that is not there any more."""

import json
import os
import signal
import socket
import subprocess

import psutil
import pytest
import requests
from botocore.exceptions import EndpointConnectionError, ReadTimeoutError

from infra.local import __main__ as local
from infra.local.develop import watch
from infra.local.lifecycle import cloud, outputs, pids, ports
from infra.local.settings import ENDPOINT, PORT, Trouble
from infra.local.traces import process


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_who_has_a_port_is_named_and_a_free_one_is_free(kind, host):
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind((host, 0))
        if kind == socket.SOCK_STREAM:
            taken.listen()
        port = taken.getsockname()[1]
        who = ports.taken(port, kind)
        assert who is not None and f"(process {os.getpid()})" in who
    assert ports.taken(port, kind) is None


def test_a_connection_that_was_closed_keeps_nobody_from_the_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        with socket.create_connection(address), server.accept()[0]:
            pass
    assert ports.taken(address[1]) is None


def test_each_command_that_listens_names_who_has_its_port(monkeypatch):
    monkeypatch.setattr(ports, "taken", lambda *_: "python3 (process 7)")
    for begin, port in [(cloud._port_is_free, PORT), (process._port_is_free, PORT + 1), (lambda: watch.run({}), 9000)]:
        with pytest.raises(Trouble, match=rf"ort {port}.* taken by python3 \(process 7\)"):
            begin()


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Writes what the last `make up` left; the user pool is there until it is said to be gone."""
    monkeypatch.setattr(outputs, "ROOT", tmp_path)
    monkeypatch.setattr(outputs, "OUTPUTS", tmp_path / "outputs.json")

    class Cognito:
        class exceptions:
            class ResourceNotFoundException(Exception):
                pass

        def describe_user_pool(self, UserPoolId):
            if UserPoolId == "gone":
                raise self.exceptions.ResourceNotFoundException

    monkeypatch.setattr(outputs, "client", lambda _: Cognito())
    return (tmp_path / "outputs.json").write_text


def test_what_the_last_deployment_left_is_read(written):
    written(json.dumps({"endpoint_url": ENDPOINT, "user_pool_id": "pool"}))
    assert outputs.read() == {"endpoint_url": ENDPOINT, "user_pool_id": "pool"}


@pytest.mark.parametrize(
    ("left", "words"),
    [
        (None, "The system has not been deployed here, or not to its end: run `make up`."),
        ("{", "outputs.json cannot be read: run `make up` to rewrite it."),
        ("[]", "outputs.json cannot be read: run `make up` to rewrite it."),
        ("{}", "outputs.json cannot be read: run `make up` to rewrite it."),
        (
            json.dumps({"endpoint_url": "http://127.0.0.1:1", "user_pool_id": "pool"}),
            f"outputs.json is about the system at http://127.0.0.1:1, and this one is at {ENDPOINT}: run `make up`.",
        ),
        (
            json.dumps({"endpoint_url": ENDPOINT, "user_pool_id": "gone"}),
            "outputs.json is about an earlier system, whose state is gone: run `make up`.",
        ),
    ],
)
def test_what_a_system_left_that_is_not_this_one_is_refused(written, left, words):
    if left is not None:
        written(left)
    with pytest.raises(Trouble) as trouble:
        outputs.read()
    assert str(trouble.value) == words


def test_a_command_that_needs_the_system_says_so(monkeypatch):
    monkeypatch.setattr(cloud, "running", lambda: None)
    with pytest.raises(Trouble, match=r"The system has to be up for `make watch`: run `make up` first\."):
        local.has_to_be_up("make watch")


def test_a_command_with_the_port_of_another_system_names_the_right_one(tmp_path, monkeypatch):
    (tmp_path / "pid").write_text(json.dumps({"port": 4566 if PORT != 4566 else 4666}))
    monkeypatch.setattr(cloud, "PID_FILE", tmp_path / "pid")
    monkeypatch.setattr(cloud, "running", lambda: object())
    with pytest.raises(Trouble, match=r"runs on port 4[56]66: use MADANG_PORT=4[56]66"):
        local.has_to_be_up("make watch")


def test_a_process_is_remembered_although_ctrl_c_came_while_it_was_started(tmp_path, monkeypatch):
    start = psutil.Popen

    def start_and_interrupt(*arguments, **details):
        process = start(*arguments, **details)
        os.kill(os.getpid(), signal.SIGINT)
        return process

    monkeypatch.setattr(psutil, "Popen", start_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        pids.start(tmp_path / "pid", ["sleep", "60"], dict(os.environ), cwd=tmp_path, log=tmp_path / "log", port=4566)
    process = pids.recall(tmp_path / "pid")
    assert process is not None and pids.detail(tmp_path / "pid", "port") == 4566
    process.kill()
    with pytest.raises(KeyboardInterrupt):  # as it was before
        os.kill(os.getpid(), signal.SIGINT)
        subprocess.run(["sleep", "5"], check=False)


@pytest.mark.parametrize(
    "failure",
    [
        EndpointConnectionError(endpoint_url=ENDPOINT),
        ReadTimeoutError(endpoint_url=ENDPOINT),
        requests.ConnectionError("refused"),
    ],
)
def test_a_system_that_does_not_answer_is_told_in_one_sentence(monkeypatch, capsys, failure):
    def fail(_):
        raise failure

    monkeypatch.setitem(local.COMMANDS, "down", (fail, ""))
    monkeypatch.setattr("sys.argv", ["infra.local", "down"])
    assert local.main() == 1
    told = "".join(capsys.readouterr())
    assert told.startswith("The local cloud does not answer any more: run `make down`, then `make up` (log: ")
    assert told.count("\n") == 1

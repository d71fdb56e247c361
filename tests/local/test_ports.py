"""Ports that are taken, and the outputs and processes of a system that is no longer running."""

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
from infra.local.settings import ENDPOINT, PORT, CommandError
from infra.local.traces import process


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_the_listener_of_a_port_is_named_and_a_free_port_has_none(kind, host):
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind((host, 0))
        if kind == socket.SOCK_STREAM:
            taken.listen()
        port = taken.getsockname()[1]
        listener = ports.find_listener(port, kind)
        assert listener is not None and f"(process {os.getpid()})" in listener
    assert ports.find_listener(port, kind) is None


def test_a_port_with_only_a_closed_connection_is_free():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        with socket.create_connection(address), server.accept()[0]:
            pass
    assert ports.find_listener(address[1]) is None


def test_each_command_that_listens_names_the_process_that_uses_its_port(monkeypatch):
    monkeypatch.setattr(ports, "find_listener", lambda *_: "python3 (process 7)")
    for check, port in [
        (cloud._check_port_is_free, PORT),
        (process._port_is_free, PORT + 1),
        (lambda: watch.run({}), 9000),
    ]:
        with pytest.raises(CommandError, match=rf"ort {port}.* taken by python3 \(process 7\)"):
            check()


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Writes the outputs of the last `make up`. Every user pool exists except the one with the id "gone"."""
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


def test_the_outputs_of_the_last_deployment_are_read(written):
    written(json.dumps({"endpoint_url": ENDPOINT, "user_pool_id": "pool"}))
    assert outputs.read() == {"endpoint_url": ENDPOINT, "user_pool_id": "pool"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "The system has not been deployed completely. Run `make up`."),
        ("{", "outputs.json cannot be read. Run `make up` to write it again."),
        ("[]", "outputs.json cannot be read. Run `make up` to write it again."),
        ("{}", "outputs.json cannot be read. Run `make up` to write it again."),
        (
            json.dumps({"endpoint_url": "http://127.0.0.1:1", "user_pool_id": "pool"}),
            f"outputs.json belongs to the system at http://127.0.0.1:1, but this one is at {ENDPOINT}. Run `make up`.",
        ),
        (
            json.dumps({"endpoint_url": ENDPOINT, "user_pool_id": "gone"}),
            "outputs.json belongs to an earlier system, whose state was deleted. Run `make up`.",
        ),
    ],
)
def test_the_outputs_of_another_system_are_refused(written, content, message):
    if content is not None:
        written(content)
    with pytest.raises(CommandError) as error:
        outputs.read()
    assert str(error.value) == message


def test_a_command_that_needs_the_running_system_fails_without_it(monkeypatch):
    monkeypatch.setattr(cloud, "running", lambda: None)
    with pytest.raises(CommandError, match=r"`make watch` needs the running system\. Run `make up` first\."):
        local.require_running_system("make watch")


def test_a_command_with_a_wrong_port_names_the_port_of_the_running_system(tmp_path, monkeypatch):
    (tmp_path / "pid").write_text(json.dumps({"port": 4566 if PORT != 4566 else 4666}))
    monkeypatch.setattr(cloud, "PID_FILE", tmp_path / "pid")
    monkeypatch.setattr(cloud, "running", lambda: object())
    with pytest.raises(CommandError, match=r"runs on port 4[56]66\. Use MADANG_PORT=4[56]66"):
        local.require_running_system("make watch")


def test_a_process_is_recorded_even_if_ctrl_c_arrives_while_it_starts(tmp_path, monkeypatch):
    start = psutil.Popen

    def start_and_interrupt(*arguments, **details):
        process = start(*arguments, **details)
        os.kill(os.getpid(), signal.SIGINT)
        return process

    monkeypatch.setattr(psutil, "Popen", start_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        pids.start(tmp_path / "pid", ["sleep", "60"], dict(os.environ), cwd=tmp_path, log=tmp_path / "log", port=4566)
    process = pids.find(tmp_path / "pid")
    assert process is not None and pids.read_field(tmp_path / "pid", "port") == 4566
    process.kill()
    with pytest.raises(KeyboardInterrupt):  # the previous handler is restored
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
def test_a_system_that_does_not_answer_is_reported_in_one_line(monkeypatch, capsys, failure):
    def fail(_):
        raise failure

    monkeypatch.setitem(local.COMMANDS, "down", (fail, ""))
    monkeypatch.setattr("sys.argv", ["infra.local", "down"])
    assert local.main() == 1
    output = "".join(capsys.readouterr())
    assert output.startswith("The local cloud does not answer any more. Run `make down`, then `make up` (log: ")
    assert output.count("\n") == 1

"""What a web page, another machine or another user reaches of the running system: the API, and nothing else."""

import http.client
from contextlib import closing, suppress

import psutil
import pytest
import requests

from infra.local.lifecycle import cloud
from infra.local.settings import ENDPOINT, HOST, LOCAL, PORT, TRACE_PORT
from infra.local.traces import process as receiver

EVIL = "https://evil.example"
PAGES = [
    {"Origin": EVIL},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Referer": f"{EVIL}/page"},
]


def listeners() -> list[tuple[str, int]]:
    """Every address at which a process of the local system accepts connections."""
    found = []
    for process in (cloud.running(), receiver.running()):
        assert process, "the local system has to be up"
        for one in (process, *process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                connections = one.net_connections("tcp")
                found += [connection.laddr[:2] for connection in connections if connection.status == psutil.CONN_LISTEN]
    return sorted(set(found))


def status(port: int, path: str, headers: dict) -> int | None:
    """The status of the answer, or None if the port has been closed, because its function was idle."""
    connection = http.client.HTTPConnection(HOST, port, timeout=30)
    with closing(connection), suppress(ConnectionError, http.client.BadStatusLine):
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status
    return None


def test_every_port_is_on_the_loopback_interface_and_refuses_pages_and_foreign_hosts(system):
    assert requests.get(f"{system['api_url']}/posts", timeout=30).ok, "a function runs, so that it has a Runtime API"
    ports = dict.fromkeys(port for _, port in listeners())
    assert {PORT, TRACE_PORT} < set(ports)
    assert {address for address, _ in listeners()} == {HOST}
    path = "/2018-06-01/runtime/invocation/next"
    answers = {port: {status(port, path, {"Host": "evil.example"})} for port in ports}
    assert set().union(*answers.values()) - {None} == {421}
    answers = {port: {status(port, path, headers) for headers in PAGES} for port in ports}
    assert set().union(*answers.values()) - {None} == {403}


@pytest.mark.parametrize("headers", PAGES, ids=str)
def test_a_page_of_any_origin_reaches_the_api(system, headers):
    assert requests.get(f"{system['api_url']}/posts", headers=headers, timeout=30).status_code == 200
    foreign = requests.get(f"{system['api_url']}/posts", headers=headers | {"Host": "evil.example"}, timeout=30)
    assert foreign.status_code == 421


def test_no_page_resets_the_emulator_or_reads_its_mails(system):
    for path in ("/_ministack/reset", "/_ministack/ses/messages", "/"):
        for method in ("GET", "POST", "OPTIONS"):
            answer = requests.request(method, f"{ENDPOINT}{path}", headers={"Origin": EVIL}, timeout=30)
            assert (answer.status_code, "access-control-allow-origin" in answer.headers) == (403, False)
    assert requests.get(f"{system['api_url']}/posts", timeout=30).ok


def test_every_file_of_the_local_system_is_for_its_owner_only():
    readable = []
    # mypy's cache of the sources can also come from an editor.
    everything = (path for path in LOCAL.rglob("*") if LOCAL / "mypy" not in (path, *path.parents))
    for path in (LOCAL, *everything):
        with suppress(FileNotFoundError):  # the file of a function that has ended meanwhile
            if not path.is_symlink() and path.stat().st_mode & 0o077:
                readable.append(str(path))
    assert readable == []

import base64
import contextlib
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from pathlib import Path

import pytest
from spans import SERVER, new_trace_id, span
from wire import ask, free_port, raw

from infra.local.traces import otlp

ROOT = Path(__file__).resolve().parents[2]
# Seconds. It usually takes 50 ms, and longer on a busy machine.
PATIENCE = 20


BODY_OF_421 = (
    "This machine answers only to its own name: send one Host header with 127.0.0.1, localhost or "
    "<id>.execute-api.localhost.\n"
)


class Receiver:
    def __init__(self, file):
        self.file = file

    def __enter__(self):
        self.port = free_port()
        command = [sys.executable, "-m", "infra.local.traces.receiver", "127.0.0.1", str(self.port), str(self.file)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        eventually(lambda: self.numbers() is not None)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(("127.0.0.1", self.port))
        return self

    def __exit__(self, *_):
        self.socket.close()
        self.process.terminate()
        assert self.process.wait(PATIENCE) == 0

    def send(self, *datagrams):
        for datagram in datagrams:
            self.socket.send(datagram)

    def get(self, path):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as answer:
            return answer.code, json.load(answer)

    def trace(self, trace_id, spans):
        """Waits until this many spans of a trace have arrived, and returns it."""
        eventually(lambda: len(self.get(f"/api/traces/{trace_id}")[1].get("spans", [])) == spans)
        return self.get(f"/api/traces/{trace_id}")[1]

    def find(self, text):
        status, body = self.get(f"/api/traces?id={urllib.parse.quote(text)}")
        assert status == 200
        return [item["trace_id"] for item in body["items"]]

    def numbers(self):
        with contextlib.suppress(urllib.error.URLError):
            return self.get("/api/receiver")[1]


def eventually(holds):
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, f"not within {PATIENCE} s"
        time.sleep(0.02)


@pytest.fixture
def receiver(tmp_path):
    with Receiver(tmp_path / "traces" / "spans.sqlite3") as receiver:
        yield receiver


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One receiver for the tests that send no spans."""
    with Receiver(tmp_path_factory.mktemp("traces") / "spans.sqlite3") as receiver:
        yield receiver


def test_a_span_is_returned_with_all_its_fields(receiver):
    trace_id, linked = new_trace_id(), (new_trace_id(), "53995c3f42cd8ad8")
    parent = "0123456789abcdef"
    attributes = {"order_id": "o-1", "aws__retries": 2, "faas__coldstart": True, "share": 0.5, "names": ["a", "b"]}
    error = {"error": "the card was declined", "links": (linked,)}
    child, second = span(trace_id, "work", 2, 1.5, parent, "payments-authorize", SERVER, **error, **attributes)
    first_id, first = span(trace_id, "before", 0, 1)
    receiver.send(second, first)
    start = int(trace_id[:8], 16) * 1_000_000
    nothing = {"status": "unset", "status_message": "", "attributes": {}, "links": [], "events": []}
    assert receiver.trace(trace_id, 2) == {
        "trace_id": trace_id,
        "spans": [
            {"trace_id": trace_id, "span_id": first_id, "parent_id": None, "name": "before", "kind": "internal"}
            | {"function": "posts-create", "start": start, "duration": 1000, **nothing},
            {"trace_id": trace_id, "span_id": child, "parent_id": parent, "name": "work", "kind": "server"}
            | {"function": "payments-authorize", "start": start + 2000, "duration": 1500}
            | {"status": "error", "status_message": "the card was declined"}
            | {"attributes": {name.replace("__", "."): value for name, value in attributes.items()}}
            | {"links": [{"trace_id": linked[0], "span_id": linked[1]}], "events": []},
        ],
    }


def test_every_kind_of_id_finds_its_trace_and_no_other(receiver):
    trace_id, order, request = new_trace_id(), str(uuid.uuid4()), str(uuid.uuid4())
    root, datagram = span(trace_id, "POST /orders", 1, 5, order_id=order, faas__invocation_id=request)
    ids = {"post_id": "p-1", "user_id": "u-1", "comment_id": "c-1", "event_id": "e-1", "messaging__message__id": "m-1"}
    receiver.send(datagram, span(trace_id, "inner", 2, 1, root, note="not an id", **ids)[1])
    receiver.send(span(new_trace_id(), "another", order_id=str(uuid.uuid4()))[1])
    receiver.trace(trace_id, 2)
    xray = f"1-{trace_id[:8]}-{trace_id[8:]}"
    headers = [f"Root={xray};Parent=53995c3f42cd8ad8;Sampled=1", f"00-{trace_id}-53995c3f42cd8ad8-01"]
    names = [trace_id, trace_id.upper(), str(uuid.UUID(trace_id)), xray, *headers]
    names += [order, order.upper(), f" {request} ", *ids.values()]
    assert {name: receiver.find(name) for name in names} == {name: [trace_id] for name in names}
    assert receiver.find("not an id") == []
    assert receiver.get(f"/api/traces/{xray}")[1]["trace_id"] == trace_id


def test_traces_are_listed_newest_first_by_their_first_span(receiver):
    now = time.time()
    older, newer = new_trace_id(now - 60), new_trace_id(now)
    root, sent_last = span(older, "POST /orders", 1, 9, function="orders-place", order_id="o-1")
    receiver.send(span(older, "inner", 2, 3, root, error="no", order_id="o-1")[1], sent_last)
    receiver.send(span(newer, "later", 0, 1, order_id="o-1")[1])
    receiver.trace(older, 2), receiver.trace(newer, 1)
    start = int(older[:8], 16) * 1_000_000
    first = {"trace_id": newer, "name": "later", "function": "posts-create", "spans": 1, "errors": 0}
    first |= {"start": start + 60_000_000, "duration": 1000}
    second = {"trace_id": older, "name": "POST /orders", "function": "orders-place", "spans": 2, "errors": 1}
    second |= {"start": start + 1000, "duration": 9000}
    assert receiver.get("/api/traces") == (200, {"items": [first, second], "hidden": {}})
    assert receiver.get("/api/traces?id=o-1&limit=1") == (200, {"items": [first]})


def test_an_unknown_trace_or_path_is_404_and_a_bad_limit_400(receiver):
    assert receiver.get(f"/api/traces/{new_trace_id()}")[0] == 404
    assert receiver.get("/api/nothing")[0] == 404
    assert receiver.get("/api/traces?id=nothing") == (200, {"items": []})
    for limit in ("many", "0", "1001", "9" * 5000):
        assert receiver.get(f"/api/traces?limit={limit}")[0] == 400
    with socket.create_connection(("127.0.0.1", receiver.port)) as connection:
        connection.sendall(b"GET http://[ HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")


def test_malformed_datagrams_do_not_stop_it(receiver):
    trace_id = new_trace_id()
    _, good = span(trace_id, "good")
    begin = otlp.HEADER + otlp.SAMPLED
    malformed = [b"", b"\0\xff", os.urandom(1400), otlp.HEADER, begin + b"%%%", begin + b"AAAA", good[:-9], good[20:]]
    malformed += [otlp.HEADER + b'{"trace_id": "1-67890abc-0123456789abcdef01234567"}']
    receiver.send(*malformed, good)
    assert receiver.trace(trace_id, 1)["spans"][0]["name"] == "good"
    told = {"datagrams": len(malformed) + 1, "spans": 1, "malformed": len(malformed)}
    assert told.items() <= receiver.numbers().items()


def test_a_burst_of_2000_spans_is_kept(receiver):
    trace_id = new_trace_id()
    datagrams = [span(trace_id, f"span {place}", place, order_id="o-1")[1] for place in range(2000)]
    # All at once, unless the buffer is small, as Linux grants it to users other than root.
    pause = 0 if receiver.numbers()["buffer"] > 2_000_000 else 0.002
    for begin in range(0, len(datagrams), 20):
        receiver.send(*datagrams[begin : begin + 20])
        time.sleep(pause)
    spans = receiver.trace(trace_id, 2000)["spans"]
    assert [span["name"] for span in spans] == [f"span {place}" for place in range(2000)]


def test_a_trace_survives_a_restart(tmp_path):
    trace_id = new_trace_id()
    with Receiver(tmp_path / "spans.sqlite3") as receiver:
        # Not awaited, because spans that have arrived are stored before it stops.
        receiver.send(span(trace_id, "before", order_id="o-1")[1])
    with Receiver(tmp_path / "spans.sqlite3") as receiver:
        assert [span["name"] for span in receiver.trace(trace_id, 1)["spans"]] == ["before"]
        receiver.send(span(trace_id, "after", 5)[1])
        assert [span["name"] for span in receiver.trace(trace_id, 2)["spans"]] == ["before", "after"]
        assert receiver.find("o-1") == [trace_id]


def test_the_page_runs_nothing_but_its_own_script(receiver):
    with urllib.request.urlopen(f"http://127.0.0.1:{receiver.port}/", timeout=5) as answer:
        page, policy = answer.read().decode(), answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-") and "connect-src 'self'" in policy
    assert "unsafe" not in policy and "frame-ancestors 'none'" in policy
    [script] = re.findall("<script>(.*?)</script>", page, re.DOTALL)
    assert f"script-src 'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in policy
    assert "http://" not in page and "https://" not in page
    assert "innerHTML" not in page


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example", "localhost."])
def test_a_dns_rebinding_attack_reads_nothing(shared, host):
    status, _, body = ask(shared.port, "/api/traces", Host=host.format(port=shared.port))
    assert (status, body) == (421, BODY_OF_421)


def test_this_machines_names_are_answered(shared):
    for host in ("127.0.0.1", f"127.0.0.1:{shared.port}", "localhost", f"localhost:{shared.port}", "[::1]"):
        assert ask(shared.port, "/api/traces", Host=host)[0] == 200, host


@pytest.mark.parametrize("path", ["/", "/api/traces", "/api/traces/00", "/api/receiver", "/nothing"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Referer": "https://evil.example/"},
        {"Referer": "http://127.0.0.1:{port}.evil.example/"},
    ],
    ids=str,
)
def test_a_page_of_another_site_reads_nothing(shared, path, headers):
    status, answered, body = ask(
        shared.port, path, **{name: value.format(port=shared.port) for name, value in headers.items()}
    )
    assert (status, answered["content-type"]) == (403, "text/plain; charset=utf-8")
    assert body == (
        f"Another page asked for this. To see it, type the address into the browser: http://127.0.0.1:{shared.port}/\n"
    )


@pytest.mark.parametrize("site", ["same-origin", "none"])
def test_the_page_itself_and_a_typed_address_are_answered(shared, site):
    own = f"http://127.0.0.1:{shared.port}"
    assert ask(shared.port, "/api/traces", **{"Sec-Fetch-Site": site, "Origin": own, "Referer": f"{own}/"})[0] == 200


@pytest.mark.parametrize("path", ["/", "/api/traces", "/nothing", "/api/traces?limit=x"])
def test_no_answer_is_stored_or_taken_for_another_type(shared, path):
    _, headers, _ = ask(shared.port, path)
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"].startswith("default-src 'none'")


def test_an_unsupported_method_a_body_or_garbage_closes_the_connection(shared):
    own = f"Host: 127.0.0.1:{shared.port}\r\n"
    for request, status in (
        (f"POST / HTTP/1.1\r\n{own}\r\n", 501),
        (f"GET / HTTP/1.1\r\n{own}Content-Length: 4\r\n\r\nGET ", 413),
        (f"GET / HTTP/1.1\r\n{own}Transfer-Encoding: chunked\r\n\r\n", 413),
        ("GET /\r\n\r\n", 421),
        ("one two three four\r\n\r\n", 400),
    ):
        answer = raw(shared.port, request.encode())
        assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer
        assert b"\r\nx-content-type-options: nosniff\r\n" in answer and b"\r\nconnection: close\r\n" in answer


def test_a_request_that_is_too_large_is_refused(shared):
    for request in (b"GET /" + b"x" * 20_000, b"GET / HTTP/1.1\r\n" + b"X-A: b\r\n" * 3_000):
        # Without the rest of the request, so that no unread byte makes the system drop the answer.
        assert raw(shared.port, request[: 16 * 1024]).startswith(b"HTTP/1.1 431 ")


def test_a_client_that_sends_too_slowly_is_disconnected(shared):
    """The client sends a byte now and then, which a time-out of the socket would allow for ever."""
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", shared.port)) as connection:
        connection.settimeout(0.2)
        while time.monotonic() - began < PATIENCE:
            try:
                connection.send(b"x")
                if connection.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
    assert time.monotonic() - began < PATIENCE


def test_connections_are_limited_and_others_are_served_when_they_end(shared):
    with contextlib.ExitStack() as opened:
        for _ in range(64):
            opened.enter_context(socket.create_connection(("127.0.0.1", shared.port)))
        with socket.create_connection(("127.0.0.1", shared.port)) as connection, contextlib.suppress(OSError):
            connection.settimeout(5)
            assert connection.recv(1) == b""
    eventually(lambda: shared.numbers() is not None)


def test_idle_scheduled_runs_and_polls_are_hidden_from_the_list_and_counted(receiver):
    idle, poll, request = new_trace_id(), new_trace_id(), new_trace_id()
    root, run = span(idle, "schedule", 0, 9, function="orders-reconcile")
    receiver.send(span(idle, "DynamoDB Query", 1, 1, root, "orders-reconcile")[1], run, span(request, "GET /posts")[1])
    receiver.send(span(poll, "queue", 0, 1, function="posts-on-user")[1])
    receiver.trace(idle, 2), receiver.trace(request, 1), receiver.trace(poll, 1)

    def listed(path):
        status, body = receiver.get(path)
        assert status == 200
        return sorted(item["trace_id"] for item in body["items"]), body.get("hidden")

    assert listed("/api/traces") == ([request], {"scheduled_runs": 1, "polls": 1})
    assert listed("/api/traces?all=true") == (sorted([idle, poll, request]), None)
    assert listed(f"/api/traces?id={idle}") == ([idle], None)

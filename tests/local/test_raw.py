"""The requests that are built byte by byte, and the judge of their answers, on a small server that answers badly."""

import contextlib
import json
import random
import socket
import socketserver
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from infra.local.develop import raw
from infra.local.develop.raw import wire
from infra.local.develop.raw.defects import BLOCKING, DEFECTS
from infra.local.develop.raw.draft import valid
from infra.local.develop.raw.generate import Request, request
from infra.local.develop.raw.verdict import Verdict, judge
from infra.local.settings import CommandError

DESCRIPTION = raw.Description.committed()
WORLD = raw.World(
    "/api", "localhost", {"user": "u.s.er", "admin": "a.d.min"}, {"posts": "a-post", "DELETE posts": "another"}
)
SEED = 7
PATIENCE = 1.0
TRACE = "00-69f868da4a5b6c7d8e9f0a1b2c3d4e5f-53995c3f42cd8ad8-01"


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    return [request(DESCRIPTION, WORLD, SEED, number) for number in range(5_000)]


def test_the_same_seed_and_number_give_the_same_bytes(requests: list[Request]) -> None:
    again = [request(DESCRIPTION, WORLD, SEED, number) for number in reversed(range(5_000))]
    assert [one.message for one in requests] == [one.message for one in reversed(again)]
    other = [request(DESCRIPTION, WORLD, SEED + 1, number) for number in range(5_000)]
    same = sum(one.message == another.message for one, another in zip(requests, other, strict=True))
    assert same < 250, "another seed gives other requests"


def test_every_operation_and_every_defect_occurs(requests: list[Request]) -> None:
    operations = Counter(one.draft.operation.id for one in requests)
    assert set(operations) == {operation.id for operation in DESCRIPTION.operations}
    assert min(operations.values()) >= 5_000 // len(operations)
    defects = Counter(defect.name for one in requests for defect in one.defects)
    assert set(defects) == {defect.name for defect in DEFECTS}
    assert max(defects.values()) < 500, defects.most_common(5)
    # Each operation meets many kinds of defects.
    kinds: dict[str, set[str]] = {}
    for one in requests:
        kinds.setdefault(one.draft.operation.id, set()).update(defect.name for defect in one.defects)
    assert min(map(len, kinds.values())) > 30


def test_a_request_has_one_to_three_defects_of_different_stages(requests: list[Request]) -> None:
    numbers = Counter(len(one.defects) for one in requests)
    assert set(numbers) == {1, 2, 3} and min(numbers.values()) > 1_250
    for one in requests:
        stages = [defect.stage for defect in one.defects]
        assert len(set(stages)) == len(stages), one.title
    blocked = sum(any(defect.blocking for defect in one.defects) for one in requests)
    assert 0.1 < blocked / len(requests) < 1 - raw.MIN_REACHED


def test_names_of_defects_are_unique_and_those_that_block_exist() -> None:
    names = Counter(defect.name for defect in DEFECTS)
    assert max(names.values()) == 1
    assert set(names) >= BLOCKING


def test_requests_name_what_exists_and_never_the_services_of_the_registry(requests: list[Request]) -> None:
    world = raw.World("/api", "localhost", {}, {"registry": "fuzz-1", "posts": "a-post"})
    for number in range(5_000):
        one = request(DESCRIPTION, world, SEED, number)
        if one.draft.operation.path.startswith("/registry/"):
            assert b"users" not in one.draft.path.lower() and b"users" not in (one.draft.target or b""), one.title
    paths = {one.draft.path for one in requests if one.draft.operation.path == "/posts/{id}"}
    assert b"/posts/a-post" in paths
    deleted = [one for one in requests if one.draft.operation.id == "deletePost"]
    assert not any(b"a-post" in one.draft.path for one in deleted)


def test_only_the_one_who_leaves_deletes_a_profile(requests: list[Request]) -> None:
    world = raw.World("/api", "localhost", {"user": "u.s.er", "admin": "a.d.min", "leaving": "l.e.aving"}, {})
    for number in range(4_000):
        one = request(DESCRIPTION, world, SEED, number)
        if one.draft.operation.id == "deleteUser":
            assert b"u.s.er" not in one.message.data and b"a.d.min" not in one.message.data
        elif one.draft.operation.path == "/users/me":
            assert not one.message.data.lstrip().startswith(b"DELETE"), one.title


# The server

# What the server sends for each request: bytes, None to close the connection, or "hang".
Reply = bytes | None | str


class _Handler(socketserver.BaseRequestHandler):
    server: "_Server"

    def handle(self) -> None:
        self.request.settimeout(5)
        data = b""
        with contextlib.suppress(OSError):
            while b"\r\n\r\n" not in data and b"\n\n" not in data and (more := self.request.recv(65536)):
                data += more
        reply = self.server.reply
        if reply == "hang":
            self.server.over.wait(10)
        elif isinstance(reply, bytes):
            with contextlib.suppress(OSError):
                self.request.sendall(reply)
                # So that closing does not reset the connection before the answer is read.
                self.request.shutdown(socket.SHUT_WR)
                while self.request.recv(65536):
                    pass


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    reply: Reply = None

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.over = threading.Event()


@pytest.fixture
def server() -> Iterator[_Server]:
    with _Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()


def http(status: int, body: object = None, media_type: str = "application/json", **headers: str) -> bytes:
    payload = b"" if body is None else json.dumps(body).encode() if not isinstance(body, bytes) else body
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(payload)}"]
    lines += [f"Content-Type: {media_type}"] if body is not None else []
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + payload


def problem(status: int, kind: str, detail: str = "no", **more: object) -> bytes:
    body = {"type": f"urn:madang:problem:{kind}", "title": "No", "status": status, "detail": detail}
    body |= {"instance": "urn:uuid:6f1c2f9e-3b1d-4c8e-9a53-0d2f4c8e9a53"} | more
    return http(status, body, "application/problem+json", traceresponse=TRACE)


NOT_FOUND = problem(404, "not-found")
GATEWAY_NOT_FOUND = http(404, {"message": "Not Found"})


def with_defect(operation: str, defect: str = "odd Accept") -> Request:
    """A request for an operation with one defect."""
    found = next(one for one in DESCRIPTION.operations if one.id == operation)
    chosen = next(one for one in DEFECTS if one.name == defect)
    choice = random.Random(SEED)
    draft = valid(found, WORLD, choice)
    chosen.change(draft, choice)
    return Request(0, draft, (chosen,), draft.write())


def verdict(server: _Server, one: Request, reply: Reply) -> Verdict:
    server.reply = reply
    address = server.server_address[:2]
    assert isinstance(address[0], str)
    exchange = wire.send((address[0], address[1]), one.message, PATIENCE)
    return judge(DESCRIPTION, one, exchange, PATIENCE)


def test_a_described_answer_of_a_function_passes(server: _Server) -> None:
    assert verdict(server, with_defect("getPost"), NOT_FOUND) == Verdict((), "404", True)
    post = DESCRIPTION.document["paths"]["/posts/{id}"]["get"]["responses"]["200"]
    example = post["content"]["application/json"]["examples"]
    good = http(200, next(iter(example.values()))["value"], traceresponse=TRACE, ETag='"1"')
    assert verdict(server, with_defect("getPost"), good) == Verdict((), "200", True)


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        (http(502, {"message": "Internal Server Error"}), "502"),
        (problem(500, "internal"), "500"),
        (problem(503, "unavailable"), "503"),
        (http(502, b"called `Option::unwrap()` on a `None` value", "text/plain"), "tells inner text, “called `”"),
        (problem(404, "not-found", "thread 'main' panicked at src/main.rs:7"), "tells inner text"),
        (problem(404, "not-found", "invalid type in src/text.rs"), "tells inner text, “src/”"),
        (problem(418, "teapot"), "does not describe the status 418"),
        (problem(404, "invalid"), "$.type"),
        (problem(404, "not-found", title=7), "$.title: 7 is not of type 'string'"),
        (http(404, {"a": 1}, "text/plain", traceresponse=TRACE), "is not described as “text/plain”"),
        (http(404, b"{", "application/problem+json", traceresponse=TRACE), "the body is not JSON"),
        (NOT_FOUND.replace(b"traceresponse: 00-", b"x: "), "without a traceresponse"),
        (NOT_FOUND.replace(b"traceresponse: 00-", b"traceresponse: zz-"), "the header traceresponse"),
        (http(200, {}), "200 has no traceresponse"),
        (http(200, {}, traceresponse=TRACE, ETag='"1"'), "$"),
        (GATEWAY_NOT_FOUND, "no route was found"),
        (http(400), "the header traceresponse is missing"),
        (http(402), "does not describe the status 402"),
        (None, "closed without an answer"),
        (b"SSH-2.0-x\r\n", "not HTTP"),
        (http(404, b"{}", traceresponse=TRACE).replace(b"Content-Length: 2", b"Content-Length: 9"), "not HTTP"),
        ("hang", "no answer within 1 s"),
        (b"HTTP/1.1 200 OK\r\n", "200 has no traceresponse"),
    ],
)
def test_each_bad_answer_is_caught(server: _Server, reply: Reply, fault: str) -> None:
    found = verdict(server, with_defect("getPost"), reply)
    assert len(found.faults) == 1 and fault in found.faults[0], found


def test_only_a_message_that_is_not_http_may_be_refused_by_the_server_in_front(server: _Server) -> None:
    malformed = with_defect("getPost", "not a header's name")
    for reply in [None, http(400), http(431), http(501), http(505)]:
        assert verdict(server, malformed, reply).faults == (), reply
    for reply in [http(500), http(502, {"message": "x"}), problem(500, "internal"), "hang"]:
        assert len(verdict(server, malformed, reply).faults) == 1, reply
    # A function that answers has to describe its answer nevertheless.
    assert verdict(server, malformed, problem(418, "teapot")).faults


def test_only_a_changed_route_may_be_unknown_to_the_gateway(server: _Server) -> None:
    assert verdict(server, with_defect("getPost", "unknown method"), GATEWAY_NOT_FOUND).faults == ()
    assert verdict(server, with_defect("getPost", "longer path"), GATEWAY_NOT_FOUND).faults == ()
    assert verdict(server, with_defect("getPost", "quotes in the query"), GATEWAY_NOT_FOUND).faults
    assert verdict(server, with_defect("getPost", "longer path"), http(502)).faults


def test_a_target_outside_the_api_may_be_answered_by_anyone_but_not_by_a_fault(server: _Server) -> None:
    outside = with_defect("lookUpUser", "absolute target")
    assert b"Authorization" not in outside.message.data
    assert verdict(server, outside, http(403, {"__type": "AccessDeniedException"})).faults == ()
    assert verdict(server, outside, http(500, {"message": "x"})).faults
    assert verdict(server, outside, problem(404, "not-found", "panicked at src/main.rs:7")).faults


def test_the_gateways_own_answers_have_to_be_described_too(server: _Server) -> None:
    unauthorized = http(401, {"message": "Unauthorized"})
    assert verdict(server, with_defect("createPost", "odd Authorization"), unauthorized).faults == ()
    assert verdict(server, with_defect("getPost"), unauthorized).faults


def test_the_next_request_on_the_connection_is_judged_too(server: _Server) -> None:
    pipelined = with_defect("getPost", "pipelined request")
    assert verdict(server, pipelined, NOT_FOUND + NOT_FOUND).faults == ()
    for reply, fault in [
        (NOT_FOUND, "got no answer"),
        (NOT_FOUND + http(400), "got 400"),
        (NOT_FOUND + GATEWAY_NOT_FOUND, "got 404"),
    ]:
        found = verdict(server, pipelined, reply)
        assert len(found.faults) == 1 and fault in found.faults[0], found
    assert verdict(server, pipelined, NOT_FOUND.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)).faults == ()


def test_an_answer_that_is_late_is_caught() -> None:
    exchange = wire.Exchange([wire.Answer(404, (("traceresponse", TRACE),), b"")], seconds=5.1)
    found = judge(DESCRIPTION, with_defect("getPost"), exchange)
    assert "the answer took 5.1 s" in found.faults


# The run


def _fuzz(server: _Server, reply: Reply, count: int) -> raw.Report:
    server.reply = reply
    host, port = server.server_address[:2]
    assert isinstance(host, str)
    return raw.fuzz(DESCRIPTION, WORLD, (host, port), SEED, range(count), PATIENCE)


def test_a_failure_is_reported_with_its_bytes_and_the_command_that_repeats_it(
    server: _Server, capsys: pytest.CaptureFixture[str]
) -> None:
    report = _fuzz(server, http(502, b"x"), 3)
    with pytest.raises(CommandError, match="raw requests were answered wrongly"):
        report.verify()
    number, said = report.failures[0][0].number, capsys.readouterr().out
    assert f"fuzz --seed {SEED} --number {number}" in said
    assert repr(report.failures[0][0].message.data) in said


def test_a_run_whose_requests_do_not_reach_a_function_fails(server: _Server) -> None:
    report = raw.Report(SEED)
    good, one = Verdict((), "200", True), with_defect("getPost")
    for number in range(1_000):
        report.add(one, good if number < 800 else Verdict((), "400", False))
    report.verify()
    report.add(one, Verdict((), "400", False))
    with pytest.raises(CommandError, match="Only 800 of 1001 raw requests reached a function, less than 80%"):
        report.verify()


def test_a_run_that_reaches_no_function_of_an_operation_fails() -> None:
    report = raw.Report(SEED)
    for _ in range(999):
        report.add(with_defect("getPost"), Verdict((), "200", True))
    report.add(with_defect("createPost"), Verdict((), "401", False))
    with pytest.raises(CommandError, match=r"No raw request reached the function of createPost\."):
        report.verify()


def test_a_run_counts_statuses_and_defects(server: _Server, capsys: pytest.CaptureFixture[str]) -> None:
    report = _fuzz(server, NOT_FOUND, 100)
    assert report.sent == 100 and report.reached == report.outcomes["404"]
    assert sum(report.outcomes.values()) == 100
    assert sum(report.defects.values()) == sum(
        len(request(DESCRIPTION, WORLD, SEED, number).defects) for number in range(100)
    )
    report.show()
    said = capsys.readouterr().out
    assert f"100 raw requests, {report.reached} reached a function (seed {SEED})" in said

"""The port of `make watch`: what reaches `cargo lambda watch`, for which a server stands that keeps what it gets."""

import json
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from wire import ask, raw

from infra.local.develop import front

API = "This port answers browsers only at the paths of the API, such as /posts.\n"
INVOKE = "/2015-03-31/functions/users-delete/invocations"
RUNTIME = "/.rt/users-delete/2018-06-01/runtime/invocation/next"
PAGES = [
    {"Origin": "https://evil.example"},
    {"Origin": "http://127.0.0.1:9000"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-origin"},
    {"Referer": "http://127.0.0.1:9000/docs"},
    {"User-Agent": "Mozilla/5.0"},
]


@pytest.fixture(scope="module")
def watch():
    class Watch(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            self.server.received.append((self.command, self.path, dict(self.headers.items()), body.decode()))
            self.send_response(200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        do_POST = do_OPTIONS = do_GET

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Watch) as server:
        server.received = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers = front.serve(0, ("127.0.0.1", server.server_port), front.api_paths())
        server.port = servers[0].server_address[1]
        yield server
        for one in (server, *servers):
            one.shutdown()
        for one in servers:
            one.server_close()


@pytest.fixture
def received(watch):
    watch.received.clear()
    return watch.received


@pytest.mark.parametrize("path", [INVOKE, RUNTIME, "/posts"])
def test_a_tool_reaches_everything(watch, received, path):
    assert ask(watch.port, path, "POST", json.dumps({"a": "é"}), Connection="keep-alive", Accept="*/*")[0::2] == (
        200,
        "ok",
    )
    [(method, seen, headers, body)] = received
    assert (method, seen, json.loads(body)) == ("POST", path, {"a": "é"})
    assert (headers["Connection"], headers["Accept"]) == ("close", "*/*")


@pytest.mark.parametrize("headers", PAGES, ids=str)
def test_a_page_reaches_the_api(watch, received, headers):
    for path in ("/posts", "/posts/1?x=2", "/docs", "/openapi.json", "/users/me"):
        assert ask(watch.port, path, **headers)[0] == 200, path
    assert len(received) == 5


@pytest.mark.parametrize("headers", PAGES, ids=str)
@pytest.mark.parametrize("path", [INVOKE, RUNTIME, "/", "/postsx", "//posts", "/%70osts", "/lambda-url/users-delete/"])
def test_a_page_reaches_nothing_else(watch, received, headers, path):
    for method in ("GET", "POST", "OPTIONS"):
        status, answered, body = ask(watch.port, path, method, **headers)
        assert (status, body) == (403, API)
        assert (answered["content-type"], answered["x-content-type-options"]) == (
            "text/plain; charset=utf-8",
            "nosniff",
        )
    assert received == []


@pytest.mark.parametrize("host", ["evil.example", "evil.example:9000", "localhost.evil.example", ""])
def test_a_foreign_host_reaches_nothing(watch, received, host):
    for path in (INVOKE, "/posts"):
        assert ask(watch.port, path, Host=host)[0] == 421
    assert received == []


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /posts HTTP/1.1\r\n\r\n", 421),
        (b"GET /posts HTTP/1.0\r\n\r\n", 421),
        (b"GET /posts HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", 421),
        (b"GET http://localhost/posts HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /posts HTTP/1.1\r\nHost: localhost\r\nA: b\n\nGET /2015 HTTP/1.1\r\n\r\n", 400),
        (b"GET /posts HTTP/1.1\r\nHost: localhost\r\nA: b\r\n Origin: c\r\n\r\n", 400),
        (b"GET /posts\r\nHost: localhost\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(watch, received, request_bytes, status):
    assert raw(watch.port, request_bytes).startswith(f"HTTP/1.1 {status} ".encode())
    assert received == []


def test_a_connection_carries_one_request(watch, received):
    """A browser may send the requests of several pages by one connection."""
    first = f"GET /posts HTTP/1.1\r\nHost: 127.0.0.1:{watch.port}\r\nConnection: keep-alive\r\n\r\n"
    second = f"POST {INVOKE} HTTP/1.1\r\nHost: 127.0.0.1:{watch.port}\r\nOrigin: a\r\n\r\n"
    assert raw(watch.port, (first + second).encode()).count(b"HTTP/1.1 200 ") == 1
    assert [path for _, path, _, _ in received] == ["/posts"]


def test_it_listens_on_ipv6_too(watch, received):
    try:
        connection = socket.create_connection(("::1", watch.port), timeout=5)
    except OSError:
        pytest.skip("no IPv6")
    with connection:
        connection.sendall(b"GET /posts HTTP/1.1\r\nHost: [::1]:9000\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")


@pytest.mark.skipif(sys.platform != "linux", reason="macOS has one loopback address")
def test_the_address_behind_it_cannot_be_guessed():
    addresses = [front.private_address(9000)[0] for _ in range(50)]
    assert len(set(addresses)) == 50
    assert all(address.startswith("127.") and address != "127.0.0.1" for address in addresses)
    with socket.create_server((addresses[0], 0)):
        pass  # such an address exists on this machine


def test_every_route_of_the_api_is_one_that_pages_reach():
    api = front.api_paths()
    for route in ("/posts", "/users/me", "/docs/a.js", "/notifications/read-all", "/registry/users/instances/1"):
        assert api.fullmatch(route), route

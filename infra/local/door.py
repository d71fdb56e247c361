"""Decides which requests the ports of the local system refuse because a web page may have sent them.

The ports are on the loopback interface, where every page in the developer's browser can reach them too, and the
emulator takes known keys: a page could create a function and run it. Two marks tell a page's request from a tool's.

- The name in `Host`. If a site's name leads to 127.0.0.1 (DNS rebinding), its pages have the same origin as the port,
  but their requests carry that name. Only this machine's own names are answered.
- What a browser adds: `Sec-Fetch-Site`, `Origin` in requests to other origins and in those that change something,
  `Referer` unless the page hides it, and a `User-Agent` that begins with `Mozilla/`. Older browsers send only some of
  them, so each of them is enough. `Sec-Fetch-Mode` is not among them, because Node.js sends it.

No forwarding header (`X-Forwarded-Host`, `Forwarded`) is read. The launcher imports this module in a process of its
own, so it uses the standard library only, and not `settings`, which changes the environment.
"""

import http.server
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

# Browsers resolve names that end in `.localhost` to this machine themselves, so no site can have one.
HOST = re.compile(r"(?:127\.0\.0\.1|localhost|\[::1\]|[0-9a-z]+\.execute-api\.localhost)(?::[0-9]{1,5})?", re.I | re.A)
# The path of a deployed API. The API decides which origins it answers, as on AWS.
API = re.compile(r"/_aws/execute-api/[0-9A-Za-z]+/")
# What a developer opens in a browser. These only read.
LISTINGS = ("/_ministack/health", "/_ministack/ready", "/_ministack/ses/messages", "/_ministack/sqs/messages")
# The API's page /docs signs people in at the emulator, which has the same origin. This needs no AWS credentials.
SIGN_IN = "AWSCognitoIdentityProviderService.InitiateAuth"
BROWSER_MARKS = ("origin", "referer", "sec-fetch-site")

Headers = dict[str, list[str]]
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Refusal(NamedTuple):
    """The answer to a refused request. The text says what to do."""

    status: HTTPStatus
    text: str


def collect(headers: Iterable[tuple[str, str]]) -> Headers:
    """All values of each header by its lower-case name. A header that is sent twice must not hide one of its values."""
    collected: Headers = {}
    for name, value in headers:
        collected.setdefault(name.lower(), []).append(value.strip())
    return collected


def refuse_at_emulator(method: str, target: str, query: str, headers: Headers) -> Refusal | None:
    """The rule of the emulator's port: the API answers everyone, and nothing else answers a browser."""
    if refusal := _refuse_target(target) or _refuse_host(headers):
        return refusal
    if not _is_from_browser(headers) or _is_typed_listing(method, target, headers):
        return None
    if API.match(target):
        return _refuse_signature(query, headers)
    if _is_sign_in(method, target, query, headers):
        return None
    return Refusal(
        HTTPStatus.FORBIDDEN,
        "The local AWS answers no browser, because every web page could use it. Use the AWS CLI, an SDK or curl. The "
        "API itself answers browsers at /_aws/execute-api/<id>/.",
    )


def refuse_browsers(target: str, headers: Headers) -> Refusal | None:
    """The rule of a port for programs."""
    if refusal := _refuse_target(target) or _refuse_host(headers):
        return refusal
    if _is_from_browser(headers):
        return Refusal(HTTPStatus.FORBIDDEN, "This port is for programs of the local system and answers no browser.")
    return None


def refuse_at_watch(target: str, headers: Headers, api: re.Pattern[str]) -> Refusal | None:
    """The rule of the port of `make watch`: browsers reach the API's paths and nothing else."""
    if refusal := _refuse_target(target) or _refuse_host(headers):
        return refusal
    if not _is_from_browser(headers):
        return None
    path, _, query = target.partition("?")
    if api.fullmatch(path):
        return _refuse_signature(query, headers)
    return Refusal(HTTPStatus.FORBIDDEN, "This port answers browsers only at the paths of the API, such as /posts.")


def refuse_other_sites(target: str, headers: Headers) -> Refusal | None:
    """The rule of a port that serves a page: it answers that page, tools, and an address that was typed."""
    if refusal := _refuse_target(target) or _refuse_host(headers):
        return refusal
    own = f"http://{headers['host'][0].lower()}"
    sites, origins, referers = (headers.get(name, []) for name in ("sec-fetch-site", "origin", "referer"))
    if (
        all(site in ("same-origin", "none") for site in sites)
        and all(origin.lower() == own for origin in origins)
        and all(referer.lower() == own or referer.lower().startswith(f"{own}/") for referer in referers)
    ):
        return None
    return Refusal(
        HTTPStatus.FORBIDDEN, f"Another page asked for this. To see it, type the address into the browser: {own}/"
    )


def _refuse_target(target: str) -> Refusal | None:
    if target.startswith("/"):
        return None
    return Refusal(
        HTTPStatus.BAD_REQUEST, "This is not a proxy: send only the path in the request line, such as GET /path."
    )


def _refuse_host(headers: Headers) -> Refusal | None:
    match headers.get("host", []):
        case [host] if HOST.fullmatch(host):
            return None
    return Refusal(
        HTTPStatus.MISDIRECTED_REQUEST,
        "This machine answers only to its own name: send one Host header with 127.0.0.1, localhost or "
        "<id>.execute-api.localhost.",
    )


def _refuse_signature(query: str, headers: Headers) -> Refusal | None:
    """Some routes of the API ask for AWS credentials. Every page knows those of the local AWS."""
    names = [name.lower() for name, _ in parse_qsl(query, keep_blank_values=True)]
    # In the query also in the older form (SigV2), and in the header anything but a token: the emulator takes SigV2 too.
    presigned = any(name.startswith("x-amz-") or name in ("awsaccesskeyid", "signature") for name in names)
    if presigned or any(not value.lower().startswith("bearer ") for value in headers.get("authorization", [])):
        return Refusal(
            HTTPStatus.FORBIDDEN,
            "A browser may not use AWS credentials here. Use an SDK or curl, or send a bearer token.",
        )
    return None


def _is_from_browser(headers: Headers) -> bool:
    marked = any(name in headers for name in BROWSER_MARKS)
    return marked or any(agent.startswith("Mozilla/") for agent in headers.get("user-agent", []))


def _is_typed_listing(method: str, target: str, headers: Headers) -> bool:
    if method not in ("GET", "HEAD") or target not in LISTINGS or "origin" in headers or "referer" in headers:
        return False
    return headers.get("sec-fetch-site", ["none"]) == ["none"]


def _is_sign_in(method: str, target: str, query: str, headers: Headers) -> bool:
    """Whether the page /docs signs someone in. Without a query and a signature the request can be nothing else."""
    own = f"http://{headers['host'][0]}"
    return (
        (method, target, query) == ("POST", "/", "")
        and headers.get("x-amz-target") == [SIGN_IN]
        and "authorization" not in headers
        and headers.get("origin") == [own]
        and headers.get("sec-fetch-site", ["same-origin"]) == ["same-origin"]
        and all(urlsplit(referer).netloc == headers["host"][0] for referer in headers.get("referer", []))
    )


def guard(app: App) -> App:
    """Wraps an ASGI application in the rule of the emulator's port. It runs before anything else reads the request."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await app(scope, receive, send)
            return
        headers = collect((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
        # The decoded path, because the emulator decides by it too.
        target, query = scope["path"], scope.get("query_string", b"").decode("latin-1")
        refusal = refuse_at_emulator(scope.get("method", "GET"), target, query, headers)
        if refusal:
            await _answer(scope, receive, send, refusal)
        elif API.match(target):
            await app(scope, receive, send)
        else:
            await app(scope, receive, _without_cors(send))

    return guarded


def _without_cors(send: Send) -> Send:
    """Removes the permission for pages of every origin that the emulator adds to its answers."""

    async def send_without_cors(message: Message) -> None:
        if "headers" in message:
            allowed = [
                (name, value) for name, value in message["headers"] if not name.lower().startswith(b"access-control-")
            ]
            message = {**message, "headers": allowed}
        await send(message)

    return send_without_cors


async def _answer(scope: Scope, receive: Receive, send: Send, refusal: Refusal) -> None:
    prefix = "http"
    if scope["type"] == "websocket":
        await receive()  # the request to connect
        prefix = "websocket.http"
    body = f"{refusal.text}\n".encode()
    headers = [(name.encode(), value.encode()) for name, value in answer_headers(body)]
    await send({"type": f"{prefix}.response.start", "status": int(refusal.status), "headers": headers})
    await send({"type": f"{prefix}.response.body", "body": body})


def answer_headers(body: bytes) -> list[tuple[str, str]]:
    """The headers of a refusal with this body."""
    return [
        ("content-type", "text/plain; charset=utf-8"),
        ("content-length", str(len(body))),
        ("x-content-type-options", "nosniff"),
        ("cache-control", "no-store"),
    ]


def guard_http_servers() -> None:
    """Makes every server of this process that is based on `http.server` a port for programs. MiniStack's Runtime API,
    from which functions take their events, is one for each process of a function."""
    parse = http.server.BaseHTTPRequestHandler.parse_request

    def parse_and_check(handler: http.server.BaseHTTPRequestHandler) -> bool:
        if not parse(handler):
            return False
        if refusal := refuse_browsers(handler.path, collect(handler.headers.items())):
            send_refusal(handler, refusal)
            return False
        return True

    http.server.BaseHTTPRequestHandler.parse_request = parse_and_check  # type: ignore[assignment, method-assign]


def send_refusal(handler: http.server.BaseHTTPRequestHandler, refusal: Refusal) -> None:
    """Sends a refusal from a server that is based on `http.server`, and closes the connection."""
    body = f"{refusal.text}\n".encode()
    handler.send_response(refusal.status)
    for name, value in answer_headers(body):
        handler.send_header(name, value)
    handler.send_header("connection", "close")  # because the request's body is not read
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)

"""What is wrong with a request: each defect changes a valid one in one respect.

Some are not wrong at all, only rare: the API has to take them. A defect says in what respect the answer may differ from
what the operation describes.
"""

import base64
import gzip
import json
import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from infra.local.develop.raw.draft import Draft

Change = Callable[[Draft, random.Random], None]

STAGES = ("method", "target", "headers", "body", "framing")


@dataclass(frozen=True)
class Defect:
    """A change of a valid request."""

    name: str
    # Defects are applied in the order of the stages, and no two of a request are of one stage.
    stage: str
    change: Change
    # Which requests can have it.
    applies: Callable[[Draft], bool] = lambda draft: True
    # The message is not HTTP, or larger than a server has to take: the server may refuse it, or close the connection.
    refusable: bool = False
    # API Gateway may find another route for it, or none.
    reroutes: bool = False
    # It may not be for the API at all.
    escapes: bool = False
    # API Gateway may refuse the caller.
    unauthorized: bool = False

    @property
    def blocking(self) -> bool:
        """Whether it is likely that the request does not reach a function."""
        return self.name in BLOCKING or self.reroutes or self.escapes or self.unauthorized


def _has_body(draft: Draft) -> bool:
    return draft.body is not None


def _has_no_body(draft: Draft) -> bool:
    return draft.body is None


def _has_parameter(draft: Draft) -> bool:
    return "{" in draft.operation.path


def _is_protected(draft: Draft) -> bool:
    return draft.operation.security in ("accessToken", "awsSignature")


def _is_public(draft: Draft) -> bool:
    return not _is_protected(draft)


# Methods


def _method(*methods: bytes) -> Change:
    def change(draft: Draft, choice: random.Random) -> None:
        draft.method = choice.choice(methods)

    return change


def _lower_case_method(draft: Draft, choice: random.Random) -> None:
    draft.method = choice.choice([draft.method.lower(), draft.method.capitalize()])


METHODS = [
    Defect("unknown method", "method", _method(b"BREW", b"PROPFIND", b"M-SEARCH", b"!#$"), reroutes=True),
    Defect("lower-case method", "method", _lower_case_method, reroutes=True),
    Defect("long method", "method", _method(b"A" * 300), reroutes=True, refusable=True),
    Defect("HEAD", "method", _method(b"HEAD"), reroutes=True),
    Defect("OPTIONS", "method", _method(b"OPTIONS"), reroutes=True),
    Defect("TRACE", "method", _method(b"TRACE"), reroutes=True),
    # A target of CONNECT is a host and a port.
    Defect("CONNECT", "method", _method(b"CONNECT"), reroutes=True, refusable=True, escapes=True),
    Defect(
        "not a method",
        "method",
        _method(b"G\x00T", b"G T", b"", b"(GET)", b"G\xc3\x89T"),
        reroutes=True,
        refusable=True,
    ),
]


# Targets


def _query(*queries: bytes) -> Change:
    def change(draft: Draft, choice: random.Random) -> None:
        draft.query = b"&".join(filter(None, [draft.query, choice.choice(queries)]))

    return change


def _segment(*values: bytes) -> Change:
    """Replaces the last path parameter."""

    def change(draft: Draft, choice: random.Random) -> None:
        sent, described = draft.path.split(b"/"), draft.operation.path.split("/")
        last = max(number for number, segment in enumerate(described) if segment.startswith("{"))
        sent[last] = choice.choice(values)
        draft.path = b"/".join(sent)

    return change


def _doubled_slash(draft: Draft, choice: random.Random) -> None:
    at = choice.choice([number for number, character in enumerate(draft.path) if character == ord("/")])
    draft.path = draft.path[:at] + b"//" + draft.path[at + 1 :]


def _dots(draft: Draft, choice: random.Random) -> None:
    draft.path = choice.choice([b"/.", b"/posts/..", b"/%2e", b"/..;"]) + draft.path


def _path_ends_with(*ends: bytes) -> Change:
    def change(draft: Draft, choice: random.Random) -> None:
        draft.path += choice.choice(ends)
        draft.query = b""

    return change


def _upper_case_path(draft: Draft, choice: random.Random) -> None:
    draft.path = draft.path.upper()


def _absolute_target(draft: Draft, choice: random.Random) -> None:
    # Other services of the emulator may get the request, and would believe the signature.
    draft.remove(b"Authorization")
    host = dict(draft.headers).get(b"Host", b"localhost")
    draft.target = choice.choice([b"http://", b"HTTP://someone@", b"https://", b"//"]) + host + draft.base + draft.path


def _target(*targets: bytes) -> Change:
    def change(draft: Draft, choice: random.Random) -> None:
        draft.remove(b"Authorization")
        draft.target = choice.choice(targets)

    return change


def _whole_path_encoded(draft: Draft, choice: random.Random) -> None:
    draft.path = b"/" + b"".join(b"%%%02x" % byte for byte in draft.path[1:])


TARGETS = [
    Defect("quotes in the query", "target", _query(b'q="x"', b'limit="5"', b'"', b"'=\"")),
    Defect(
        "brackets in the query", "target", _query(b"q=<script>", b"<>=<>", b"limit[]=1", b"a{b}=|^`\\", b"a[b][c]=1")
    ),
    Defect(
        "broken percent-encoding in the query",
        "target",
        _query(b"limit=%", b"limit=%zz", b"%u0041=1", b"q=%C3%28", b"cursor=%ff%fe", b"%=%", b"q=%C0%AF"),
    ),
    Defect(
        "encoded control characters in the query",
        "target",
        _query(b"q=%00", b"limit=5%0d%0aX-A:1", b"%0a=1", b"cursor=%7f"),
    ),
    Defect(
        "repeated parameter",
        "target",
        _query(b"limit=1&limit=2", b"limit=5&limit=x", b"cursor=a&cursor=b", b"author=&author="),
    ),
    Defect("unknown parameter", "target", _query(b"lim=5", b"Limit=5", b"__proto__=1", b"limit=5&limit%00=6")),
    Defect(
        "broken query",
        "target",
        _query(b"&&=&&", b"=", b"?", b"limit", b"limit=5;cursor=x", b"limit=+5", b"=limit", b"a=b=c"),
    ),
    Defect(
        "odd numbers in the query",
        "target",
        _query(b"limit=-1", b"limit=0", b"limit=1e2", b"limit=%D9%A3", b"limit=" + b"9" * 40),
    ),
    Defect("many parameters", "target", _query(b"&".join(b"p%d=1" % number for number in range(400)))),
    Defect("long query", "target", _query(b"cursor=" + b"A" * 6000, b"q=" + b"%41" * 2000)),
    Defect("very long query", "target", _query(b"cursor=" + b"A" * 70_000), refusable=True),
    Defect("non-ASCII byte in the target", "target", _query(b"q=\xe9", b"q=\xc3\xa9", b"\xff=1"), refusable=True),
    Defect(
        "control character in the target", "target", _query(b"q=\x01", b"q=\x00", b"q=\x7f", b"q=\t"), refusable=True
    ),
    Defect("space in the target", "target", _query(b"q=a b"), refusable=True),
    Defect("fragment", "target", _path_ends_with(b"#x", b"#"), refusable=True, reroutes=True),
    Defect("doubled slash", "target", _doubled_slash, reroutes=True),
    Defect("dots", "target", _dots, reroutes=True, escapes=True),
    Defect("longer path", "target", _path_ends_with(b"/", b"/x", b";a=b", b"%20", b"%2f", b"/%00"), reroutes=True),
    Defect("upper-case path", "target", _upper_case_path, reroutes=True),
    Defect("encoded path", "target", _whole_path_encoded, reroutes=True),
    Defect("absolute target", "target", _absolute_target, reroutes=True, refusable=True, escapes=True),
    # No route is for these, whatever the API is.
    Defect("other target", "target", _target(b"*", b"localhost:80", b"x"), reroutes=True, refusable=True, escapes=True),
    Defect(
        "odd path parameter",
        "target",
        _segment(
            b"-",
            b"x" * 1500,
            b"%20",
            b"%C3%A9",
            b"%F0%9F%91%A8",
            b"%3Cx%3E",
            b"%22",
            b"0",
            b"%7B%7D",
            b"%27OR%201",
            b"~",
        ),
        _has_parameter,
    ),
    Defect(
        "broken percent-encoding in the path",
        "target",
        _segment(b"%", b"%zz", b"%C3%28", b"%ff", b"%00", b"%u0041", b"%0d%0a", b"%2f", b"%5c"),
        _has_parameter,
        reroutes=True,
    ),
]


# Headers


def _header(*headers: tuple[bytes, bytes]) -> Change:
    """Adds one of these headers, or replaces the one that is there."""

    def change(draft: Draft, choice: random.Random) -> None:
        draft.set(*choice.choice(headers))

    return change


def _values(name: bytes, *values: bytes) -> Change:
    return _header(*((name, value) for value in values))


def _lines(*lines: bytes) -> Change:
    def change(draft: Draft, choice: random.Random) -> None:
        draft.lines.append(choice.choice(lines))

    return change


def _duplicate(draft: Draft, choice: random.Random) -> None:
    name, value = choice.choice([header for header in draft.headers if header[0] not in (b"Host", b"Authorization")])
    draft.headers.append((name.swapcase(), choice.choice([value, b"", b"other"])))


def _without(name: bytes) -> Change:
    return lambda draft, choice: draft.remove(name)


def _many_headers(draft: Draft, choice: random.Random) -> None:
    draft.headers += [(b"X-%d" % number, b"y") for number in range(150)]


def _odd_authorization(draft: Draft, choice: random.Random) -> None:
    present = dict(draft.headers).get(b"Authorization", b"Bearer a.b.c")
    token = present.split(b" ")[-1]
    draft.remove(b"Authorization")
    none = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=") + b"." + token.split(b".")[-1] + b"."
    forms = [
        None, b"", b"Bearer", b"Bearer ", b"bearer " + token, b"Bearer  " + token, token, b"Basic dTpw",
        b"Bearer a.b.c", b"Bearer " + none, present + b", " + present, b"Bearer " + token[:-3], b"Digest x",
        b"Bearer " + token + b"x", b"Bearer " + b"a" * 3000, b"Bearer \xe9", b"AWS4-HMAC-SHA256 Credential=",
    ]  # fmt: skip
    form = choice.choice(forms)
    if form is not None:
        draft.headers.append((b"Authorization", form))


CONDITIONS = (
    b"rubbish", b'"1', b'W/"1"', b'"3",', b',"3"', b'*, "1"', b"1", b'"' + b"9" * 40 + b'"', b'"-1"', b'"1" "2"',
    b'"\xe9"', b"*", b'"1", "2", "3"', b"", b'"999"', b'w/"1"', b"'1'", b'"1.5"', b'"' + b"a" * 3000 + b'"',
)  # fmt: skip
DATES = (b"Mon, 01 Jan 1990 00:00:00 GMT", b"yesterday", b"Mon, 99 Foo 9999 99:99:99 GMT", b"0", b"-1")
TRACES = (
    b"Root=1-67890abc-0123456789abcdef01234567;Parent=53995c3f42cd8ad8;Sampled=0", b"Sampled=1", b"rubbish",
    b"Root=1-x-y;=;;",
    b"Root=1-67890abc-0123456789abcdef01234567;Parent=53995c3f42cd8ad8;Sampled=1;" + b"A=B;" * 500, b"\xe9", b"",
)  # fmt: skip

HEADERS = [
    Defect(
        "odd host",
        "headers",
        _values(
            b"Host",
            b"evil.example",
            b"localhost:99999",
            b"[::1",
            b"a b",
            b'"',
            b"user@host",
            b"<x>",
            b"%",
            b"\xe9",
            b"a" * 300,
        ),
        # A server has to refuse a host that is none.
        refusable=True,
    ),
    Defect("empty host", "headers", _values(b"Host", b""), refusable=True),
    Defect("no host", "headers", _without(b"Host"), refusable=True),
    Defect("two hosts", "headers", _lines(b"Host: other.example"), refusable=True),
    Defect(
        "odd forwarding header",
        "headers",
        _header(
            (b"X-Forwarded-Proto", b'"'),
            (b"X-Forwarded-Proto", b"javascript:"),
            (b"X-Forwarded-Proto", b"https,http"),
            (b"X-Forwarded-Proto", b"ht tp"),
            (b"X-Forwarded-Proto", b"\x01"),
            (b"X-Forwarded-Proto", b"1" * 2000),
            (b"X-Forwarded-Host", b'<"evil">'),
            (b"X-Forwarded-Port", b"-1"),
            (b"X-Forwarded-Port", b"99999999"),
            (b"X-Forwarded-For", b"127.0.0.1, \xe9, ::ffff:0"),
            (b"Forwarded", b'for="_x;proto=;;host="'),
            (b"X-Forwarded-Prefix", b"/../.."),
            (b"X-Original-URL", b"/users/me"),
            (b"X-HTTP-Method-Override", b"DELETE"),
        ),
    ),
    Defect("odd trace header", "headers", _values(b"X-Amzn-Trace-Id", *TRACES)),
    Defect(
        "odd traceparent",
        "headers",
        _values(b"traceparent", b"00-0-0-01", b"ff-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01", b"\xe9", b""),
    ),
    Defect(
        "control character in a header", "headers", _values(b"X-Odd", b"a\x01b", b"\x08", b"\x1b[31m"), refusable=True
    ),
    Defect(
        "forbidden character in a header",
        "headers",
        _values(b"X-Odd", b"a\x00b", b"a\rb", b"a\x7fb", b"a\nb"),
        refusable=True,
    ),
    Defect(
        "non-ASCII header", "headers", _values(b"X-Odd", b"caf\xe9", b"caf\xc3\xa9", b"\xff\xfe", b"\xf0\x9f\x91\xa8")
    ),
    Defect(
        "not a header's name",
        "headers",
        _lines(b"X Y: 1", b": 1", b"X@: 1", b"X-\xe9: 1", b"X : 1", b"X\x00: 1"),
        refusable=True,
    ),
    Defect("line without a colon", "headers", _lines(b"rubbish", b"\x01"), refusable=True),
    Defect("folded header", "headers", _lines(b"X-Odd: a\r\n b", b"X-Odd:\r\n\tb"), refusable=True),
    Defect("duplicate header", "headers", _duplicate),
    Defect(
        "empty header", "headers", _header((b"Accept", b""), (b"X-Odd", b""), (b"Cookie", b""), (b"User-Agent", b""))
    ),
    Defect("long header", "headers", _values(b"X-Odd", b"a" * 4000)),
    Defect("very long header", "headers", _values(b"X-Odd", b"a" * 70_000), refusable=True),
    Defect("many headers", "headers", _many_headers),
    Defect("odd If-Match", "headers", _values(b"If-Match", *CONDITIONS)),
    Defect("odd If-None-Match", "headers", _values(b"If-None-Match", *CONDITIONS)),
    Defect(
        "conditional date",
        "headers",
        _header(*((name, date) for date in DATES for name in (b"If-Modified-Since", b"If-Unmodified-Since"))),
    ),
    Defect("range", "headers", _header((b"Range", b"bytes=0-0"), (b"Range", b"bytes=9-1,-"), (b"If-Range", b'"1"'))),
    Defect(
        "odd Idempotency-Key",
        "headers",
        _values(b"Idempotency-Key", b"", b'""', b'"', b"a" * 300, b"\xe9", b"a b", b'"a", "b"', b"?1", b":YQ==:"),
    ),
    Defect("odd Authorization", "headers", _odd_authorization, _is_protected, unauthorized=True),
    Defect("Authorization nobody asked for", "headers", _odd_authorization, _is_public),
    Defect(
        "odd Content-Type",
        "headers",
        _values(
            b"Content-Type",
            b"",
            b"text/plain",
            b"APPLICATION/JSON",
            b"application/json;",
            b"application/json; charset=utf-16",
            b"application/problem+json",
            b"*/*",
            b"application/json, text/plain",
            b";",
            b'application/json; charset="',
            b"json",
            b"application/x-www-form-urlencoded",
            b"multipart/form-data; boundary=",
            b"\xe9/\xe9",
            b"application/json; charset=\xe9",
        ),
        _has_body,
    ),
    Defect("no Content-Type", "headers", _without(b"Content-Type"), _has_body),
    Defect(
        "odd Accept",
        "headers",
        _values(b"Accept", b"text/html", b"*/*;q=0", b"application/json;q=x", b",,,", b"image/*", b"\xe9"),
    ),
    Defect(
        "odd Accept-Encoding",
        "headers",
        _values(b"Accept-Encoding", b"br;q=1, gzip;q=x", b"*;q=0", b"identity;q=0", b"gzip;q=2", b"\xe9"),
    ),
    Defect(
        "odd Origin",
        "headers",
        _values(b"Origin", b"null", b"https://evil.example", b"\xe9", b""),
        # infra/local/door.py refuses a signature from a browser, in words of its own.
        applies=lambda draft: draft.operation.security != "awsSignature",
    ),
    Defect("odd Cookie", "headers", _values(b"Cookie", b"a=b; a=c", b"=;=;", b"\xe9", b"a" * 3000)),
    Defect("odd Connection", "headers", _values(b"Connection", b"keep-alive, authorization", b"x,,", b"te")),
    Defect("Expect", "headers", _values(b"Expect", b"100-continue")),
    Defect("odd Expect", "headers", _values(b"Expect", b"rubbish", b"200-ok"), refusable=True),
    Defect("Upgrade", "headers", _values(b"Upgrade", b"foo/1")),
]


# Bodies


def _body(*bodies: bytes) -> Change:
    def change(draft: Draft, choice: random.Random) -> None:
        draft.body = choice.choice(bodies)

    return change


def _text(draft: Draft) -> str:
    return (draft.body or b"{}").decode()


def _encoded(*encodings: str) -> Change:
    def change(draft: Draft, choice: random.Random) -> None:
        encoding = choice.choice(encodings)
        text = _in_a_string(_text(draft), "caf\u00e9")
        draft.body = text.encode(encoding, "replace")

    return change


def _in_a_string(text: str, inserted: str) -> str:
    """Puts text at the beginning of the last string of a JSON document."""
    at = text.rstrip().rfind('": "')
    return text[: at + 4] + inserted + text[at + 4 :] if at >= 0 else text.replace("{", f'{{"text": "{inserted}", ', 1)


def _inserted(*texts: str) -> Change:
    def change(draft: Draft, choice: random.Random) -> None:
        draft.body = _in_a_string(_text(draft), choice.choice(texts)).encode()

    return change


def _inserted_bytes(*inserted: bytes) -> Change:
    def change(draft: Draft, choice: random.Random) -> None:
        marked = _in_a_string(_text(draft), "@@").encode()
        draft.body = marked.replace(b"@@", choice.choice(inserted), 1)

    return change


def _members(*members: str) -> Change:
    """Adds members to the object."""

    def change(draft: Draft, choice: random.Random) -> None:
        draft.body = _text(draft).replace("{", "{" + choice.choice(members) + ", ", 1).encode()

    return change


def _duplicate_member(draft: Draft, choice: random.Random) -> None:
    name = next(iter(json.loads(_text(draft))), "name")
    first = choice.choice(["5", "null", '"x"', "{}"])
    written = choice.choice([json.dumps(name), '"' + "".join(f"\\u{ord(letter):04x}" for letter in name) + '"'])
    draft.body = _text(draft).replace("{", f"{{{written}: {first}, ", 1).encode()


def _wrong_type(draft: Draft, choice: random.Random) -> None:
    value = json.loads(_text(draft))
    if not value:
        return
    wrong: Any = choice.choice([None, True, 7, -0.5, "", [], {}, [[]], "x" * 100, 2**63, 1.5])
    value[choice.choice(list(value))] = wrong
    draft.body = json.dumps(value).encode()


def _missing_member(draft: Draft, choice: random.Random) -> None:
    value = json.loads(_text(draft))
    if value:
        del value[choice.choice(list(value))]
    draft.body = json.dumps(value).encode()


def _compressed(draft: Draft, choice: random.Random) -> None:
    body, coding = draft.body or b"", choice.choice([b"gzip", b"deflate", b"x-gzip", b"GZIP"])
    draft.body = zlib.compress(body) if coding == b"deflate" else gzip.compress(body, mtime=0)
    if choice.random() < 0.7:
        draft.set(b"Content-Encoding", coding)


def _only_said_to_be_compressed(draft: Draft, choice: random.Random) -> None:
    coding = choice.choice(
        [b"gzip", b"br", b"identity", b"Identity", b"gzip, gzip", b"", b"rubbish", b"\xe9", b"identity, identity"]
    )
    draft.set(b"Content-Encoding", coding)


def _base64(draft: Draft, choice: random.Random) -> None:
    draft.body = base64.b64encode(draft.body or b"")


def _random_bytes(draft: Draft, choice: random.Random) -> None:
    draft.body = choice.randbytes(choice.randrange(1, 400))


def _unasked(*bodies: bytes) -> Change:
    def change(draft: Draft, choice: random.Random) -> None:
        draft.body = choice.choice(bodies)
        if choice.random() < 0.5:
            draft.set(b"Content-Type", choice.choice([b"application/json", b"text/plain", b""]))

    return change


DEEP = 20_000

BODIES = [
    Defect("body in Latin-1", "body", _encoded("latin-1"), _has_body),
    Defect("body in UTF-16", "body", _encoded("utf-16", "utf-16-le", "utf-16-be", "utf-32"), _has_body),
    Defect("byte order mark", "body", _encoded("utf-8-sig"), _has_body),
    Defect(
        "bytes that are not UTF-8",
        "body",
        _inserted_bytes(b"\xc0\xaf", b"\xed\xa0\x80", b"\xff", b"\xe2\x82", b"\xf4\x90\x80\x80", b"\x80"),
        _has_body,
    ),
    Defect(
        "lone surrogate",
        "body",
        _inserted("\\ud800", "\\udc00", "\\ud800\\u0041", "\\udc00\\ud800", "\\uD83D"),
        _has_body,
    ),
    Defect("broken escape", "body", _inserted("\\x41", "\\u12", "\\", "\\u{41}", "\\U00000041"), _has_body),
    Defect(
        "escaped control character", "body", _inserted("\\u0000", "\\u001b", "\\u007f", "\\u0085", "\\u2028"), _has_body
    ),
    Defect("raw control character in a string", "body", _inserted("\x00", "\n", "\t", "\x1f"), _has_body),
    Defect(
        "odd text",
        "body",
        _inserted("\u200b", "\u202e", "\u3164", "\U000e0001", "\ufeff", "\ufffd", "\ufffe", "e" + "\u0301" * 500),
        _has_body,
    ),
    Defect("duplicate member", "body", _duplicate_member, _has_body),
    Defect(
        "unknown member",
        "body",
        _members('"": 1', '"__proto__": {}', '"id": "x"', '"\\u0000": 1', '"admin": true'),
        _has_body,
    ),
    Defect("many members", "body", _members(", ".join(f'"m{number}": {number}' for number in range(5000))), _has_body),
    Defect("wrong type", "body", _wrong_type, _has_body),
    Defect("missing member", "body", _missing_member, _has_body),
    Defect(
        "deep nesting",
        "body",
        _body(b"[" * DEEP + b"]" * DEEP, b'{"a":' * DEEP + b"1" + b"}" * DEEP, b"[" * DEEP),
        _has_body,
    ),
    Defect(
        "huge number",
        "body",
        _members(
            '"n": 1e999',
            '"n": ' + "9" * 5000,
            '"n": -1e-9999',
            '"quantity": 18446744073709551616',
            '"on_hand": 1e400',
            '"n": -0',
        ),
        _has_body,
    ),
    Defect(
        "no JSON",
        "body",
        _body(b"{", b"NaN", b"{'a': 1}", b'{"a": 1,}', b"// x\n{}", b"{} {}", b"{]", b"tru", b"01", b"+1", b"\x00"),
        _has_body,
    ),
    Defect("no object", "body", _body(b"[]", b"null", b'"x"', b"7", b"true", b"[{}]", b'""'), _has_body),
    Defect("empty body", "body", _body(b"", b" ", b"\r\n", b"{}"), _has_body),
    Defect("long text", "body", _inserted("a" * 300_000, "\U0001f469\u200d" * 30_000), _has_body),
    Defect("too large", "body", _inserted("a" * 700_000), _has_body),
    Defect("compressed body", "body", _compressed, _has_body),
    Defect("odd Content-Encoding", "body", _only_said_to_be_compressed, _has_body),
    Defect("body in Base64", "body", _base64, _has_body),
    Defect(
        "form",
        "body",
        _body(b"title=a&body=b", b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--x--\r\n'),
        _has_body,
    ),
    Defect("random bytes", "body", _random_bytes, _has_body),
    Defect(
        "body nobody asked for", "body", _unasked(b"{}", b"{", b"\xff\xfe", b"a" * 5000, b'{"id": 1}'), _has_no_body
    ),
]


# Framing


def _content_length(write: Callable[[bytes], bytes]) -> Change:
    def change(draft: Draft, choice: random.Random) -> None:
        draft.framing = lambda payload: ([b"Content-Length: " + write(payload)], payload)

    return change


def _odd_content_length(draft: Draft, choice: random.Random) -> None:
    odd = choice.choice([b"-1", b"+2", b"0x2", b"2 ", b"", b"two", b"2,3", b"9" * 30, b"2.0", b"\xd9\xa2"])
    # The server may wait for as many bytes as it reads there.
    draft.framing, draft.cut = lambda payload: ([b"Content-Length: " + odd], payload), True


def _two_lengths(draft: Draft, choice: random.Random) -> None:
    other = choice.choice([0, 1, -1])
    draft.framing = lambda payload: (
        [b"Content-Length: %d" % len(payload), b"Content-Length: %d" % max(0, len(payload) + other)],
        payload,
    )


def _longer_than_sent(draft: Draft, choice: random.Random) -> None:
    draft.framing, draft.cut = lambda payload: ([b"Content-Length: %d" % (len(payload) + 10)], payload), True


def _chunked(draft: Draft, choice: random.Random) -> None:
    size = choice.choice([1, 7, 100_000])
    extension = choice.choice([b"", b"", b";a=b", b';a="b;c"', b";a"])
    trailer = choice.choice([b"", b"", b"X-Trailer: 1\r\n"])
    style = choice.choice([b"%x", b"%X", b"00%x"])

    def framing(payload: bytes) -> tuple[list[bytes], bytes]:
        # So many chunks would be a test of patience.
        step = max(size, len(payload) // 500)
        parts = [payload[start : start + step] for start in range(0, len(payload), step)]
        chunks = [(style % len(part)) + extension + b"\r\n" + part + b"\r\n" for part in parts]
        return [b"Transfer-Encoding: chunked"], b"".join(chunks) + b"0" + extension + b"\r\n" + trailer + b"\r\n"

    draft.framing = framing


def _broken_chunks(draft: Draft, choice: random.Random) -> None:
    broken = choice.choice(
        [
            b"xyz\r\n{}\r\n0\r\n\r\n",
            b"-2\r\n{}\r\n0\r\n\r\n",
            b"2\r\n{}0\r\n\r\n",
            b"f" * 20 + b"\r\n{}",
            b"2;\x00\r\n{}\r\n0\r\n\r\n",
            b"2",
        ]
    )
    draft.framing, draft.cut = lambda payload: ([b"Transfer-Encoding: chunked"], broken), True


def _length_and_chunks(draft: Draft, choice: random.Random) -> None:
    draft.framing = lambda payload: (
        [b"Content-Length: 5", b"Transfer-Encoding: chunked"],
        (b"%x\r\n" % len(payload) + payload + b"\r\n" if payload else b"") + b"0\r\n\r\n",
    )


def _other_coding(draft: Draft, choice: random.Random) -> None:
    line = choice.choice(
        [
            b"Transfer-Encoding: gzip, chunked",
            b"Transfer-Encoding: identity",
            b"Transfer-Encoding : chunked",
            b"Transfer-Encoding: xchunked",
            b"Transfer-Encoding: chunked, chunked",
        ]
    )
    draft.framing, draft.cut = lambda payload: ([line], b"0\r\n\r\n"), True


def _version(*versions: bytes) -> Change:
    def change(draft: Draft, choice: random.Random) -> None:
        draft.version = choice.choice(versions)

    return change


def _lf_only(draft: Draft, choice: random.Random) -> None:
    def last(data: bytes) -> bytes:
        head, _, body = data.partition(b"\r\n\r\n")
        return head.replace(b"\r\n", b"\n") + b"\n\n" + body

    draft.last = last


def _start_line(*changes: tuple[bytes, bytes]) -> Change:
    """Replaces something in the start line."""

    def change(draft: Draft, choice: random.Random) -> None:
        old, new = choice.choice(changes)

        def last(data: bytes) -> bytes:
            line, end, rest = data.partition(b"\r\n")
            return line.replace(old, new) + end + rest

        draft.last = last

    return change


def _before(*noise: bytes) -> Change:
    def change(draft: Draft, choice: random.Random) -> None:
        chosen = choice.choice(noise)
        draft.last = lambda data: chosen + data

    return change


def _cut_head(draft: Draft, choice: random.Random) -> None:
    share = choice.uniform(0.1, 0.9)

    def last(data: bytes) -> bytes:
        head = data.partition(b"\r\n\r\n")[0]
        return head[: int(len(head) * share)]

    draft.last, draft.cut = last, True


def _leaves(draft: Draft, choice: random.Random) -> None:
    draft.leaves = True


def _slowly(draft: Draft, choice: random.Random) -> None:
    draft.slowly = True


def _pipelined(draft: Draft, choice: random.Random) -> None:
    host = dict(draft.headers).get(b"Host", b"localhost")
    draft.probe = b"GET " + draft.base + b"/posts/" + PROBE + b" HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"


# The id in a request that follows another: there is no such post.
PROBE = b"00000000-0000-7000-8000-000000000000"

FRAMING = [
    Defect("pipelined request", "framing", _pipelined, lambda draft: draft.method != b"CONNECT"),
    Defect("slow request", "framing", _slowly),
    Defect("chunked body", "framing", _chunked, _has_body),
    Defect("HTTP/1.0", "framing", _version(b"HTTP/1.0"), refusable=True),
    Defect("empty line before", "framing", _before(b"\r\n", b"\r\n\r\n"), refusable=True),
    Defect("line feeds only", "framing", _lf_only, refusable=True),
    Defect("odd Content-Length", "framing", _odd_content_length, refusable=True),
    Defect("two Content-Lengths", "framing", _two_lengths, refusable=True),
    Defect(
        "too small a Content-Length",
        "framing",
        _content_length(lambda payload: b"%d" % (len(payload) // 2)),
        _has_body,
        refusable=True,
    ),
    Defect("truncated body", "framing", _longer_than_sent, refusable=True),
    Defect("length and chunks", "framing", _length_and_chunks, refusable=True),
    Defect("broken chunks", "framing", _broken_chunks, refusable=True),
    Defect("other Transfer-Encoding", "framing", _other_coding, refusable=True),
    Defect(
        "odd version",
        "framing",
        _version(b"HTTP/9.9", b"HTTP/2.0", b"http/1.1", b"HTTP/1.x", b"HTTP/1", b"", b"FTP/1.1"),
        refusable=True,
    ),
    Defect(
        "odd start line",
        "framing",
        _start_line((b" ", b"  "), (b" ", b"\t"), (b" HTTP", b" x HTTP"), (b" ", b"\x00")),
        refusable=True,
    ),
    Defect(
        "noise before",
        "framing",
        _before(b"\x16\x03\x01\x02\x00", b"\x00", b"EHLO x\r\n", b"rubbish\r\n"),
        refusable=True,
    ),
    Defect("truncated head", "framing", _cut_head, refusable=True),
    Defect("client that leaves", "framing", _leaves),
]

# The server is likely to refuse these, or sends nothing that shows what it has done.
BLOCKING = {
    "not a method", "very long query", "non-ASCII byte in the target", "control character in the target",
    "space in the target", "fragment", "no host", "two hosts", "forbidden character in a header", "not a header's name",
    "line without a colon", "very long header", "odd Expect", "odd Content-Length", "two Content-Lengths",
    "too small a Content-Length",
    "truncated body", "length and chunks", "broken chunks", "other Transfer-Encoding", "odd version", "odd start line",
    "noise before",
    "truncated head", "client that leaves", "empty host", "empty line before",
}  # fmt: skip

DEFECTS = [*METHODS, *TARGETS, *HEADERS, *BODIES, *FRAMING]

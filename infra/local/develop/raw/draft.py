"""A request in its parts, before it becomes bytes."""

import json
import random
import urllib.parse
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from infra.local.develop.raw.description import Operation
from infra.local.develop.raw.wire import Message

# The emulator does not verify the signature of its root account, so it may be the same in every request.
SIGNATURE = (
    b"AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/execute-api/aws4_request, SignedHeaders=host;x-amz-date, "
    b"Signature=" + b"0" * 64
)


@dataclass(frozen=True)
class World:
    """What valid requests need to know of the system."""

    # The path of the API, and the host, as requests name them.
    base: str
    host: str
    # Access tokens by caller: "user", "admin", "unregistered", "leaving". A caller without one is anonymous.
    tokens: Mapping[str, str] = field(default_factory=dict)
    # Values of path parameters, by the segment before. A method before it overrides that: "DELETE posts".
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Draft:
    """A valid request, until defects are added."""

    operation: Operation
    method: bytes
    # The path as a whole, and the part of it that belongs to the API.
    base: bytes
    path: bytes
    query: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes | None
    version: bytes = b"HTTP/1.1"
    # Replaces the target as a whole.
    target: bytes | None = None
    # Writes the headers that frame the body, and the body. None: Content-Length.
    framing: Callable[[bytes], tuple[list[bytes], bytes]] | None = None
    # Lines among the headers that are not headers.
    lines: list[bytes] = field(default_factory=list)
    # What is done to the bytes at the end.
    last: Callable[[bytes], bytes] | None = None
    slowly: bool = False
    cut: bool = False
    leaves: bool = False
    # A request that follows on the same connection.
    probe: bytes = b""

    def set(self, name: bytes, value: bytes) -> None:
        """Replaces a header."""
        self.remove(name)
        self.headers.append((name, value))

    def remove(self, name: bytes) -> None:
        self.headers = [(known, value) for known, value in self.headers if known.lower() != name.lower()]

    def write(self) -> Message:
        target = self.target
        if target is None:
            target = self.base + self.path + (b"?" + self.query if self.query else b"")
        head = [b" ".join(part for part in (self.method, target, self.version) if part)]
        head += [name + b": " + value for name, value in self.headers]
        head += self.lines
        payload = self.body or b""
        if self.framing:
            framing, payload = self.framing(payload)
            head += framing
        elif self.body is not None:
            head.append(b"Content-Length: %d" % len(payload))
        data = b"\r\n".join([*head, b"", b""]) + payload
        if self.last:
            data = self.last(data)
        methods = [self.method.decode("latin-1")] + (["GET"] if self.probe else [])
        return Message(data + self.probe, tuple(methods), self.slowly, self.cut, self.leaves)


def valid(operation: Operation, world: World, choice: random.Random) -> Draft:
    """A valid request for an operation."""
    headers = [(b"Host", world.host.encode()), (b"Accept", b"application/json"), (b"User-Agent", b"raw")]
    authorization = _authorization(operation, world, choice)
    if authorization:
        headers.append((b"Authorization", authorization))
    if operation.security == "awsSignature":
        headers.append((b"X-Amz-Date", b"20260101T000000Z"))
    query = []
    for parameter in operation.parameters:
        name, value = parameter["name"], parameter.get("example")
        if parameter["in"] == "query" and value is not None and choice.random() < 0.5:
            query.append(f"{name}={urllib.parse.quote(json.dumps(value).strip(chr(34)))}")
        if parameter["in"] == "header" and (parameter.get("required") or choice.random() < 0.5):
            # A key of its own, because requests with the same key and different bodies would all be refused.
            fresh = f'"{uuid.UUID(int=choice.getrandbits(128))}"'
            value = fresh if name == "Idempotency-Key" else str(value)
            headers.append((name.encode(), value.encode()))
    body = None
    if operation.body is not None:
        headers.append((b"Content-Type", b"application/json"))
        body = json.dumps(operation.body, ensure_ascii=False).encode()
    return Draft(
        operation=operation,
        method=operation.method.encode(),
        base=world.base.encode(),
        path=_path(operation, world).encode(),
        query="&".join(query).encode(),
        headers=headers,
        body=body,
    )


def _authorization(operation: Operation, world: World, choice: random.Random) -> bytes:
    if operation.security == "awsSignature":
        return SIGNATURE
    if operation.security != "accessToken":
        return b""
    # The other requests need these users, so only one who is there for it may delete the profile.
    callers = ["leaving"] if operation.id == "deleteUser" else ["user"] * 7 + ["admin"] * 2 + ["unregistered"]
    if operation.path.startswith(("/inventory", "/staff")):
        callers = ["admin"] * 9 + ["user"]
    token = world.tokens.get(choice.choice(callers), "")
    return b"Bearer " + token.encode() if token else b""


def _path(operation: Operation, world: World) -> str:
    examples = {parameter["name"]: parameter.get("example") for parameter in operation.parameters}
    segments: list[str] = []
    for segment in operation.path.split("/"):
        if segment.startswith("{"):
            before = segments[-1]
            value = world.values.get(f"{operation.method} {before}") or world.values.get(before)
            segments.append(urllib.parse.quote(str(value or examples[segment.strip("{}")]), safe=""))
        else:
            segments.append(segment)
    return "/".join(segments)

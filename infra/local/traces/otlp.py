"""Reads the datagrams that functions send to the X-Ray daemon: a header line, then OTLP in base64."""

import base64
import math
import re
from collections.abc import Iterator
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

HEADER = b'{"format":"json","version":1}\n'
SAMPLED = b"T1S"  # precedes the spans of a sampled trace; others are not kept
KINDS = ("internal", "internal", "server", "client", "producer", "consumer")
STATUSES = ("unset", "ok", "error")
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
LONGEST_ID = 200


class Malformed(ValueError):
    """A datagram that is not the spans of a sampled trace."""


def spans(datagram: bytes) -> list[dict[str, Any]]:
    """The spans of a datagram, in the form that the API returns."""
    header, _, body = datagram.partition(b"\n")
    if not header.startswith(b"{") or not body.startswith(SAMPLED):
        raise Malformed("not a header and sampled spans")
    try:
        request = ExportTraceServiceRequest.FromString(base64.b64decode(body[len(SAMPLED) :], validate=True))
    except Exception as error:  # protobuf has no error class for everything that can be wrong
        raise Malformed(str(error)) from None
    return list(_spans(request))


def ids(span: dict[str, Any]) -> Iterator[str]:
    """The ids by which a span can be found: attributes that are named like an id, and UUIDs."""
    for name, value in span["attributes"].items():
        for text in value if isinstance(value, list) else [value]:
            named = name.endswith(("_id", ".id")) or name == "id"
            if isinstance(text, str) and 0 < len(text) <= LONGEST_ID and (named or UUID.match(text)):
                yield text


def _spans(request: ExportTraceServiceRequest) -> Iterator[dict[str, Any]]:
    for group in request.resource_spans:
        function = str(_attributes(group.resource.attributes).get("service.name", "unknown"))
        for span in (span for scope in group.scope_spans for span in scope.spans):
            if len(span.trace_id) != 16 or len(span.span_id) != 8:
                raise Malformed("a span without ids")
            # Both ends are rounded down, so that a span still lies within its parent.
            start, end = span.start_time_unix_nano // 1000, span.end_time_unix_nano // 1000
            yield {
                "trace_id": span.trace_id.hex(),
                "span_id": span.span_id.hex(),
                "parent_id": span.parent_span_id.hex() or None,
                "name": span.name,
                "kind": KINDS[span.kind] if 0 <= span.kind < len(KINDS) else KINDS[0],
                "function": function,
                "start": start,
                "duration": max(end - start, 0),
                "status": STATUSES[span.status.code] if 0 <= span.status.code < len(STATUSES) else STATUSES[0],
                "status_message": span.status.message,
                "attributes": _attributes(span.attributes),
                "links": [{"trace_id": link.trace_id.hex(), "span_id": link.span_id.hex()} for link in span.links],
                "events": [_event(event) for event in span.events],
            }


def _event(event: Any) -> dict[str, Any]:
    return {"name": event.name, "time": event.time_unix_nano // 1000, "attributes": _attributes(event.attributes)}


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    match value.WhichOneof("value"):
        case "string_value":
            return value.string_value
        case "int_value":
            return value.int_value
        case "bool_value":
            return value.bool_value
        case "double_value":
            # JSON has neither NaN nor infinity.
            return value.double_value if math.isfinite(value.double_value) else str(value.double_value)
        case "array_value":
            return [_value(one) for one in value.array_value.values]
        case "kvlist_value":
            return _attributes(value.kvlist_value.values)
        case "bytes_value":
            return base64.b64encode(value.bytes_value).decode()
    return None

"""Creates spans in the format in which functions send them."""

import base64
import secrets
import time
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from infra.local.traces import otlp

SERVER, CLIENT, PRODUCER, CONSUMER, INTERNAL = 2, 3, 4, 5, 1


def new_trace_id(seconds: float | None = None) -> str:
    return f"{int(seconds or time.time()):08x}{secrets.token_hex(12)}"


def span(
    trace_id: str,
    name: str,
    start: float = 0,
    duration: float = 1,
    parent: str = "",
    function: str = "posts-create",
    kind: int = INTERNAL,
    error: str = "",
    links: tuple[tuple[str, str], ...] = (),
    **attributes: Any,
) -> tuple[str, bytes]:
    """Returns a span's id and its datagram. `start` is in milliseconds after the second in the trace id, `duration` in
    milliseconds. In the name of an attribute, `__` stands for a dot."""
    span_id = secrets.token_hex(8)
    began = int(trace_id[:8], 16) * 1_000_000_000 + int(start * 1_000_000)
    sent = Span(
        trace_id=bytes.fromhex(trace_id),
        span_id=bytes.fromhex(span_id),
        parent_span_id=bytes.fromhex(parent),
        name=name,
        kind=kind,
        start_time_unix_nano=began,
        end_time_unix_nano=began + int(duration * 1_000_000),
        status=Status(code=Status.STATUS_CODE_ERROR, message=error) if error else Status(),
        attributes=[KeyValue(key=key.replace("__", "."), value=_value(value)) for key, value in attributes.items()],
        links=[Span.Link(trace_id=bytes.fromhex(trace), span_id=bytes.fromhex(linked)) for trace, linked in links],
    )
    return span_id, datagram(sent, function)


def datagram(sent: Span, function: str) -> bytes:
    resource = Resource(attributes=[KeyValue(key="service.name", value=_value(function))])
    group = ResourceSpans(resource=resource, scope_spans=[ScopeSpans(spans=[sent])])
    request = ExportTraceServiceRequest(resource_spans=[group])
    return otlp.HEADER + otlp.SAMPLED + base64.b64encode(request.SerializeToString())


def _value(value: Any) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, list):
        return AnyValue(array_value=ArrayValue(values=[_value(one) for one in value]))
    return AnyValue(string_value=value)

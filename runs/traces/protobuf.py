"""OTLP's protobuf: read as spans, and as the OTLP JSON that all else reads.

In the JSON ids are hex, enums numbers and times texts. Nothing in here but the parsing itself raises.
"""

from base64 import b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from runs.traces.model import Attributes, Json, Span, SpanEvent, SpanStatus
from runs.traces.values import MAX_DEPTH, plain

_STATUSES: dict[int, SpanStatus] = {1: "ok", 2: "error"}


@dataclass(frozen=True, slots=True, eq=False)
class Wire:
    """What spans of one resource and one scope share: as it is read, and its bytes."""

    attributes: Attributes
    scope: str
    resource_bytes: bytes
    scope_bytes: bytes


def wires_of(data: bytes) -> Iterator[tuple[Wire, Iterable[Any]]]:
    """The spans of an ExportTraceServiceRequest, as protobuf has them, by what they share. Raises
    google.protobuf.message.DecodeError."""
    for block in ExportTraceServiceRequest.FromString(data).resource_spans:
        attributes, own = _plain_attributes(block.resource.attributes), _bytes(block, "resource")
        for inner in block.scope_spans:
            yield Wire(attributes, inner.scope.name, own, _bytes(inner, "scope")), inner.spans


def span_of(raw: Any, wire: Wire) -> Span:
    """A span; its ids are whatever was sent."""
    status = raw.status
    return Span(
        raw.trace_id.hex(),
        raw.span_id.hex(),
        raw.parent_span_id.hex() if any(raw.parent_span_id) else "",
        raw.name,
        raw.start_time_unix_nano,
        raw.end_time_unix_nano,
        _plain_attributes(raw.attributes),
        wire.attributes,
        wire.scope,
        _STATUSES.get(status.code, "unset"),
        status.message,
        tuple(map(_plain_event, raw.events)) if raw.events else (),
    )


def request_of(blocks: Iterable[tuple[Wire, Iterable[Any]]]) -> bytes:
    """An ExportTraceServiceRequest of these spans."""
    return b"".join(
        _field(1, wire.resource_bytes + _field(2, wire.scope_bytes + b"".join(_spans(raws))))
        for wire, raws in blocks
    )


def _spans(raws: Iterable[Any]) -> Iterator[bytes]:
    return (_field(2, raw.SerializeToString()) for raw in raws)


def _bytes(block: Any, name: str) -> bytes:
    return _field(1, getattr(block, name).SerializeToString())


def _field(number: int, content: bytes) -> bytes:
    """A field of protobuf's wire format that has a length."""
    length, size = bytearray(), len(content)
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    return bytes((number << 3 | 2, *length, size)) + content


def _plain_attributes(pairs: Iterable[Any]) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for pair in pairs:
        value = pair.value
        if text := value.string_value:  # most are texts, and to ask which one takes as long again
            found[pair.key] = text
        elif (kind := value.WhichOneof("value")) is not None:
            found[pair.key] = _plain(value, kind, 0)
    return found


def _plain(value: Any, kind: str | None, depth: int) -> Json:
    """An AnyValue as plain JSON; None where there is none, and for what is nested too deeply."""
    if kind is None or depth > MAX_DEPTH:
        return None
    held = getattr(value, kind)
    if kind == "array_value":
        return [_plain(item, item.WhichOneof("value"), depth + 1) for item in held.values]
    if kind == "kvlist_value":
        return {
            pair.key: _plain(pair.value, pair.value.WhichOneof("value"), depth + 1) for pair in held.values
        }
    return plain(held)


def _plain_event(event: Any) -> SpanEvent:
    return SpanEvent(event.name, event.time_unix_nano, _plain_attributes(event.attributes))


# ── As JSON ────────────────────────────────────────────────────────────────


def traces_as_json(data: bytes) -> dict[str, Json]:
    """An ExportTraceServiceRequest. Raises google.protobuf.message.DecodeError."""
    request = ExportTraceServiceRequest.FromString(data)
    return {
        "resourceSpans": [
            {
                "resource": _resource(block.resource),
                "scopeSpans": [
                    {"scope": _scope(inner.scope), "spans": [_span(span) for span in inner.spans]}
                    for inner in block.scope_spans
                ],
            }
            for block in request.resource_spans
        ]
    }


def logs_as_json(data: bytes) -> dict[str, Json]:
    """An ExportLogsServiceRequest. Raises google.protobuf.message.DecodeError."""
    request = ExportLogsServiceRequest.FromString(data)
    return {
        "resourceLogs": [
            {
                "resource": _resource(block.resource),
                "scopeLogs": [
                    {"scope": _scope(inner.scope), "logRecords": [_log(log) for log in inner.log_records]}
                    for inner in block.scope_logs
                ],
            }
            for block in request.resource_logs
        ]
    }


def refusal_as_protobuf(spans: bool, number: int, message: str) -> bytes:
    """The answer that says how many spans, or else log records, were refused and why."""
    told: Any = {"error_message": message, "rejected_spans" if spans else "rejected_log_records": number}
    kind: Any = ExportTraceServiceResponse if spans else ExportLogsServiceResponse
    return bytes(kind(partial_success=told).SerializeToString())


def _resource(resource: Any) -> dict[str, Json]:
    return {"attributes": _attributes(resource.attributes)}


def _scope(scope: Any) -> dict[str, Json]:
    told = {"name": scope.name, "version": scope.version, "attributes": _attributes(scope.attributes)}
    return {key: value for key, value in told.items() if value}


def _span(span: Any) -> dict[str, Json]:
    told: dict[str, Json] = {
        "traceId": span.trace_id.hex(),
        "spanId": span.span_id.hex(),
        "name": span.name,
        "kind": span.kind,
        "startTimeUnixNano": str(span.start_time_unix_nano),
        "endTimeUnixNano": str(span.end_time_unix_nano),
        "attributes": _attributes(span.attributes),
    }
    if span.parent_span_id:
        told["parentSpanId"] = span.parent_span_id.hex()
    if span.trace_state:
        told["traceState"] = span.trace_state
    if span.flags:
        told["flags"] = span.flags
    if span.events:
        told["events"] = [_event(event) for event in span.events]
    if span.links:
        told["links"] = [_link(link) for link in span.links]
    if span.HasField("status"):
        status = span.status
        told["status"] = {"code": status.code, **({"message": status.message} if status.message else {})}
    return told


def _event(event: Any) -> dict[str, Json]:
    at, attributes = str(event.time_unix_nano), _attributes(event.attributes)
    return {"timeUnixNano": at, "name": event.name, "attributes": attributes}


def _link(link: Any) -> dict[str, Json]:
    ids = {"traceId": link.trace_id.hex(), "spanId": link.span_id.hex()}
    return {**ids, "attributes": _attributes(link.attributes)}


def _log(log: Any) -> dict[str, Json]:
    told = {
        "timeUnixNano": str(log.time_unix_nano),
        "observedTimeUnixNano": str(log.observed_time_unix_nano),
        "severityText": log.severity_text,
        "attributes": _attributes(log.attributes),
        "traceId": log.trace_id.hex(),
        "spanId": log.span_id.hex(),
        "eventName": log.event_name,
    }
    if log.HasField("body"):
        told["body"] = _value(log.body)
    return {key: value for key, value in told.items() if value}


def _attributes(pairs: Iterable[Any]) -> list[Json]:
    return [{"key": pair.key, "value": _value(pair.value)} for pair in pairs]


def _value(value: Any) -> dict[str, Json]:
    """Nested as deep as protobuf reads: 100 levels."""
    kind = value.WhichOneof("value")
    if kind == "string_value":
        return {"stringValue": value.string_value}
    if kind == "int_value":
        return {"intValue": str(value.int_value)}
    if kind == "double_value":
        return {"doubleValue": _number(value.double_value)}
    if kind == "bool_value":
        return {"boolValue": value.bool_value}
    if kind == "array_value":
        return {"arrayValue": {"values": [_value(item) for item in value.array_value.values]}}
    if kind == "kvlist_value":
        return {"kvlistValue": {"values": _attributes(value.kvlist_value.values)}}
    if kind == "bytes_value":
        return {"bytesValue": b64encode(value.bytes_value).decode()}
    return {}


def _number(number: float) -> float | str:
    """JSON has no NaN and no infinity: OTLP writes them as text."""
    if number != number:
        return "NaN"
    return number if abs(number) != float("inf") else f"{'-' if number < 0 else ''}Infinity"

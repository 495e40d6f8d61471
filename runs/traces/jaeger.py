"""Jaeger's JSON, as its UI and its query API export it: `{"data": [{"spans", "processes"}]}`.

A trace without that envelope is read as well, and lists of either.

Jaeger keeps OTLP's own fields as tags (`span.kind`, `otel.status_code`, `otel.scope.name`). They are
taken back out here; everything else stays an attribute.
"""

from collections.abc import Iterator
from typing import Any

from runs.traces.model import Attributes, Span, SpanEvent, SpanStatus, TraceError
from runs.traces.values import hex_id, integer, items, mapping, plain, scalar_text

_STATUSES: dict[str, SpanStatus] = {"OK": "ok", "ERROR": "error"}
_SCOPE_TAGS = ("otel.scope.name", "otel.library.name")
_NUMBERS: dict[str, type[int] | type[float]] = {"int64": int, "float64": float}


def is_jaeger(document: Any) -> bool:
    """Whether this is Jaeger's, going by its outermost names."""
    listed = document if isinstance(document, list) else [document]
    return bool(listed) and all("data" in mapping(one) or _is_trace(one) for one in listed)


def spans_of(document: Any) -> Iterator[Span | None]:
    """Every span of the export, and None in the place of each that has no usable ids."""
    listed = document if isinstance(document, list) else [document]
    if not listed or not all(isinstance(mapping(one).get("data"), list) or _is_trace(one) for one in listed):
        raise TraceError("not a Jaeger JSON document: expected a list under data")
    for trace in (trace for one in listed for trace in ([one] if _is_trace(one) else one["data"])):
        if isinstance(trace, dict):
            resources = _resources(trace)
            for raw in items(trace.get("spans")):
                yield _span(raw, resources)


def _is_trace(raw: Any) -> bool:
    return isinstance(mapping(raw).get("spans"), list) and "processes" in raw


def _resources(trace: dict[str, Any]) -> dict[str, Attributes]:
    found: dict[str, Attributes] = {}
    for key, process in mapping(trace.get("processes")).items():
        tags = _tags(mapping(process).get("tags"))
        name = mapping(process).get("serviceName")
        found[key] = {"service.name": name, **tags} if isinstance(name, str) else tags
    return found


def _span(raw: Any, resources: dict[str, Attributes]) -> Span | None:
    raw = mapping(raw)
    trace_id, span_id = hex_id(raw.get("traceID"), 16), hex_id(raw.get("spanID"), 8)
    if not trace_id or not span_id:
        return None
    tags = _tags(raw.get("tags"))
    start = integer(raw.get("startTime")) or 0
    duration = integer(raw.get("duration")) or 0
    return Span(
        trace_id=trace_id,
        span_id=span_id,
        parent_id=_parent(raw.get("references")),
        name=scalar_text(raw.get("operationName")),
        start=start * 1000,
        end=(start + duration) * 1000,
        attributes=tags,
        resource=resources.get(scalar_text(raw.get("processID")), {}),
        scope=next((tags[tag] for tag in _SCOPE_TAGS if isinstance(tags.get(tag), str)), ""),
        status=_status(tags),
        status_message=scalar_text(tags.get("otel.status_description")),
        events=tuple(_event(log) for log in items(raw.get("logs")) if isinstance(log, dict)),
    )


def _parent(references: Any) -> str:
    for reference in items(references):
        if mapping(reference).get("refType") == "CHILD_OF" and (span := hex_id(reference.get("spanID"), 8)):
            return span
    return ""


def _status(tags: Attributes) -> SpanStatus:
    said = _STATUSES.get(scalar_text(tags.get("otel.status_code")).upper(), "unset")
    return "error" if said == "unset" and tags.get("error") is True else said


def _event(log: dict[str, Any]) -> SpanEvent:
    fields = _tags(log.get("fields"))
    name = scalar_text(fields.pop("event", "log"))
    return SpanEvent(name, (integer(log.get("timestamp")) or 0) * 1000, fields)


def _tags(raw: Any) -> dict[str, Any]:
    return {
        tag["key"]: _value(tag)
        for tag in items(raw)
        if isinstance(tag, dict) and isinstance(tag.get("key"), str)
    }


def _value(tag: dict[str, Any]) -> Any:
    """The tag's value; numbers and booleans may come as text. Binary stays the base64 that it is."""
    value, kind = tag.get("value"), tag.get("type")
    if kind == "bool" and value in ("true", "false"):
        return value == "true"
    if isinstance(value, str) and isinstance(kind, str) and kind in _NUMBERS:
        try:
            value = _NUMBERS[kind](value)
        except (ValueError, OverflowError):
            return value
    return plain(value)

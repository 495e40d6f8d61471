"""OTLP JSON: `resourceSpans` and `resourceLogs`, and the shapes that others make of it.

Understood beside the standard: Tempo's `batches` with `instrumentationLibrarySpans`, and its
`{"trace": {...}}`; protobuf's field names (`resource_spans`, `trace_id`); attributes as an object
instead of a list; enums by name; bare spans, alone or in a list; and lists of exports.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from runs.traces.model import Attributes, LogRecord, Span, SpanEvent, SpanStatus, TraceError
from runs.traces.values import MAX_DEPTH, hex_id, integer, items, mapping, plain, scalar_text

_ROOTS = ("resourceSpans", "resourceLogs", "batches", "resource_spans", "resource_logs")
_EVENT_NAME_ATTRIBUTES = ("otel.event.name", "event.name")
_STATUSES: dict[Any, SpanStatus] = {"STATUS_CODE_OK": "ok", "STATUS_CODE_ERROR": "error", 1: "ok", 2: "error"}


def is_otlp(document: Any) -> bool:
    """Whether this is an OTLP export, or spans without an envelope."""
    return bool(_exports(document)) or _is_span(document) or _is_span_list(document)


def is_export(document: Any) -> bool:
    """Whether this is an export: `ExportTraceServiceRequest`, `ExportLogsServiceRequest` or Tempo's trace."""
    document = mapping(document)
    inner = mapping(document.get("trace"))
    return any(key in document for key in _ROOTS) or "resourceSpans" in inner or "batches" in inner


def spans_of(document: Any) -> Iterator[Span | None]:
    """Every span of the document, and None in the place of each that has no usable ids."""
    if exports := _exports(document):
        for export in map(_unwrapped, exports):
            blocks = _get(export, "resourceSpans") or export.get("batches")
            for resource, scope, raw in _entries(blocks, "Spans"):
                yield read_span(raw, resource, scope)
    elif _is_span(document) or _is_span_list(document):
        for raw in document if isinstance(document, list) else [document]:
            yield read_span(raw, {}, "")
    else:
        raise TraceError("not an OTLP JSON document: expected resourceSpans, resourceLogs or batches")


def logs_of(document: Any) -> Iterator[LogRecord]:
    """Every log record that names a trace."""
    for export in map(_unwrapped, _exports(document)):
        for resource, _, raw in _entries(_get(export, "resourceLogs"), "Logs"):
            if record := read_log(raw, resource):
                yield record


def _exports(document: Any) -> list[Any]:
    """The exports in a document: itself, or those in a list, as files with one on each line become."""
    listed = document if isinstance(document, list) else [document]
    return listed if all(is_export(one) for one in listed) else []


def _is_span(raw: Any) -> bool:
    return isinstance(raw, dict) and ("spanId" in raw or "traceId" in raw)


def _is_span_list(document: Any) -> bool:
    return isinstance(document, list) and bool(document) and all(_is_span(raw) for raw in document)


def _unwrapped(document: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = mapping(document.get("trace"))
    return inner if "resourceSpans" in inner or "batches" in inner else document


def _get(raw: Mapping[str, Any], key: str) -> Any:
    """A field by its JSON name, or by the name that it has in the protobuf file."""
    return raw[key] if key in raw else raw.get(_snake(key))


@cache
def _snake(key: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in key)


def _entries(resources: Any, kind: str) -> Iterator[tuple[Attributes, str, Any]]:
    """(resource attributes, scope name, entry) for `kind` Spans or Logs."""
    entry_key = "spans" if kind == "Spans" else "logRecords"
    for raw in items(resources):
        block = mapping(raw)
        resource = attributes_of(mapping(block.get("resource")).get("attributes"))
        for inner in items(_get(block, f"scope{kind}") or _get(block, f"instrumentationLibrary{kind}")):
            library = mapping(inner).get("scope") or _get(mapping(inner), "instrumentationLibrary")
            name = scalar_text(mapping(library).get("name"))
            for entry in items(_get(mapping(inner), entry_key)):
                yield resource, name, entry


def read_span(raw: Any, resource: Attributes, scope: str) -> Span | None:
    """One span as OTLP JSON has it; None where it has no usable ids."""
    raw = mapping(raw)
    trace_id, span_id = hex_id(_get(raw, "traceId"), 16), hex_id(_get(raw, "spanId"), 8)
    if not trace_id or not span_id:
        return None
    status = mapping(raw.get("status"))
    return Span(
        trace_id=trace_id,
        span_id=span_id,
        parent_id=hex_id(_get(raw, "parentSpanId"), 8),
        name=scalar_text(raw.get("name")),
        start=integer(_get(raw, "startTimeUnixNano")) or 0,
        end=integer(_get(raw, "endTimeUnixNano")) or 0,
        attributes=attributes_of(raw.get("attributes")),
        resource=resource,
        scope=scope,
        status=_status(status.get("code")),
        status_message=scalar_text(status.get("message")),
        events=tuple(_event(event) for event in items(raw.get("events")) if isinstance(event, dict)),
    )


def _status(code: Any) -> SpanStatus:
    if isinstance(code, str) and code in _STATUSES:
        return _STATUSES[code]
    return _STATUSES.get(integer(code), "unset")


def _event(raw: dict[str, Any]) -> SpanEvent:
    at = integer(_get(raw, "timeUnixNano")) or 0
    return SpanEvent(scalar_text(raw.get("name")), at, attributes_of(raw.get("attributes")))


def read_log(raw: Any, resource: Attributes) -> LogRecord | None:
    """One log record as OTLP JSON has it; None where it names no trace."""
    raw = mapping(raw)
    trace_id = hex_id(_get(raw, "traceId"), 16)
    if not trace_id:
        return None
    attributes = attributes_of(raw.get("attributes"))
    return LogRecord(
        name=_event_name(raw, attributes),
        at=integer(_get(raw, "timeUnixNano")) or integer(_get(raw, "observedTimeUnixNano")) or 0,
        body=_value(raw.get("body"), 0),
        attributes=attributes,
        trace_id=trace_id,
        span_id=hex_id(_get(raw, "spanId"), 8),
        resource=resource,
    )


def _event_name(raw: Mapping[str, Any], attributes: Attributes) -> str:
    names = [_get(raw, "eventName"), *(attributes.get(key) for key in _EVENT_NAME_ATTRIBUTES)]
    return next((name for name in names if isinstance(name, str) and name), "")


def attributes_of(raw: Any) -> dict[str, Any]:
    """OTLP's list of {key, value}, or an object, whose nesting becomes dotted names."""
    if isinstance(raw, dict):
        return dict(_flattened(raw, "", 0))
    found: dict[str, Any] = {}
    for item in items(raw):
        key, value = mapping(item).get("key"), mapping(item).get("value")
        if type(value) is dict and type(text := value.get("stringValue")) is str and isinstance(key, str):
            found[key] = text  # as nearly always
        elif isinstance(key, str) and (reader := _reader_of(value)):
            found[key] = reader(value, 0)
    return found


def _flattened(raw: Mapping[str, Any], prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    for key, value in raw.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, Mapping) and depth < MAX_DEPTH:
            yield from _flattened(value, name, depth + 1)
        else:
            yield name, plain(value)


def _value(raw: Any, depth: int) -> Any:
    """An OTLP AnyValue as plain JSON; None where there is none."""
    reader = _reader_of(raw)
    return reader(raw, depth) if reader and depth <= MAX_DEPTH else None


def _reader_of(raw: Any) -> Any:
    if not isinstance(raw, Mapping):
        return None
    return next((reader for key, reader in _READERS.items() if key in raw), None)


def _string(raw: Mapping[str, Any], depth: int) -> str:
    value = _get(raw, "stringValue")
    return value if isinstance(value, str) else str(plain(value))


def _boolean(raw: Mapping[str, Any], depth: int) -> bool:
    return bool(_get(raw, "boolValue"))


def _integer(raw: Mapping[str, Any], depth: int) -> int:
    """64 bits with a sign, as a number or as text; 0 when it is neither."""
    value = _get(raw, "intValue")
    if isinstance(value, str) and value.startswith("-"):
        return -(integer(value[1:]) or 0)
    if isinstance(value, (int, float)) and value < 0:
        return -(integer(-value) or 0)
    return integer(value) or 0


def _double(raw: Mapping[str, Any], depth: int) -> Any:
    try:
        return plain(float(_get(raw, "doubleValue")))
    except (TypeError, ValueError, OverflowError):
        return None


def _bytes(raw: Mapping[str, Any], depth: int) -> str | None:
    value = _get(raw, "bytesValue")
    return value if isinstance(value, str) else None


def _array(raw: Mapping[str, Any], depth: int) -> list[Any]:
    values = mapping(_get(raw, "arrayValue")).get("values")
    return [_value(value, depth + 1) for value in items(values) if isinstance(value, Mapping)]


def _object(raw: Mapping[str, Any], depth: int) -> dict[str, Any]:
    pairs = items(mapping(_get(raw, "kvlistValue")).get("values"))
    return {
        pair["key"]: _value(pair.get("value"), depth + 1)
        for pair in pairs
        if isinstance(pair, Mapping) and isinstance(pair.get("key"), str)
    }


# In this order: the first field present decides.
_READERS = {
    "stringValue": _string,
    "boolValue": _boolean,
    "intValue": _integer,
    "doubleValue": _double,
    "bytesValue": _bytes,
    "arrayValue": _array,
    "kvlistValue": _object,
}
_READERS |= {_snake(key): reader for key, reader in _READERS.items()}

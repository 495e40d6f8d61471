"""From a JSON document to traces: which format it is, and how its spans hang together."""

import json
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable
from typing import Any

from runs.traces import jaeger, otlp
from runs.traces.log_spans import spans_from_logs
from runs.traces.model import LogRecord, Span, Trace, TraceError

JAEGER_JSON = "jaeger-json"
OTLP_JSON = "otlp-json"
FORMATS = (JAEGER_JSON, OTLP_JSON)


def read_document(data: bytes, read_json: Callable[[bytes], Any] = json.loads) -> Any:
    """The document in a file: JSON, or a list of the JSON on each line, as the collector's file exporter
    writes; a byte order mark is passed over. `read_json` raises a ValueError for what it refuses; so does
    this, with the line's number."""
    data = data.removeprefix(BOM_UTF8)
    try:
        return read_json(data)
    except RecursionError:
        raise TraceError("the document is nested too deeply") from None
    except ValueError:
        lines = [(number, line) for number, line in enumerate(data.split(b"\n"), 1) if line.strip()]
        if len(lines) < 2 or not all(line.lstrip().startswith(b"{") for _, line in lines):
            raise
    found = []
    for number, line in lines:
        try:
            found.append(read_json(line))
        except (ValueError, RecursionError) as error:
            raise TraceError(f"line {number} is not JSON: {error}") from None
    return found


def as_one_document(document: Any) -> Any:
    """A list of exports as one export: what is an object already comes back as it is."""
    if not isinstance(document, list) or not all(isinstance(one, dict) for one in document):
        return document
    joined: dict[str, list[Any]] = {}
    for one in document:
        for key, value in one.items():
            joined.setdefault(key, []).extend(value if isinstance(value, list) else [value])
    return joined


def read_traces(document: object, trace_format: str | None = None) -> list[Trace]:
    """The traces in a document that was parsed from JSON, in order of first appearance.

    `trace_format` is jaeger-json, otlp-json or None to find out. Raises TraceError when the document
    is of neither kind, or the format has another name. Single spans that cannot be read are left out,
    with a warning on the first trace. (CONTRACTS 1.7)
    """
    if trace_format not in (None, *FORMATS):
        raise TraceError(f"unknown trace format {trace_format!r}: expected one of {', '.join(FORMATS)}")
    if (trace_format or _format_of(document)) == JAEGER_JSON:
        return traces_of(jaeger.spans_of(document), ())
    spans, logs = list(otlp.spans_of(document)), list(otlp.logs_of(document))
    if not spans and logs:
        return traces_of(*spans_from_logs(logs))
    return traces_of(spans, logs)


def _format_of(document: Any) -> str:
    return JAEGER_JSON if jaeger.is_jaeger(document) and not otlp.is_otlp(document) else OTLP_JSON


def traces_of(spans: Iterable[Span | None], logs: Iterable[LogRecord]) -> list[Trace]:
    """The traces that these spans make, None for one that could not be read, and what the records tell."""
    traces: dict[str, Trace] = {}
    refused = 0
    for span in spans:
        if span is None:
            refused += 1
            continue
        trace = traces.setdefault(span.trace_id, Trace(span.trace_id))
        if span.span_id in trace.spans:  # an exporter's retry: the first copy counts
            trace.warnings.append(f"span {span.span_id} came more than once; the first one counts")
        else:
            trace.spans[span.span_id] = span
    for trace in traces.values():
        _link(trace)
    _attach(logs, traces)
    found = list(traces.values())
    if refused and found:
        found[0].warnings.append(f"{refused} span(s) left out: no usable trace id or span id")
    return found


def _link(trace: Trace) -> None:
    """Fill in children and roots. Linear: each span is walked upwards from once."""
    spans = trace.spans
    parents = {key: span.parent_id for key, span in spans.items() if span.parent_id in spans}
    for span_id in _circle_breaks(spans, parents):
        del parents[span_id]
        trace.warnings.append(f"span {span_id} is among its own ancestors; it counts as a root")
    for span_id in sorted(spans, key=lambda key: _order(spans[key])):
        if parent := parents.get(span_id):
            trace.children.setdefault(parent, []).append(span_id)
        else:
            trace.roots.append(span_id)


def _circle_breaks(spans: dict[str, Span], parents: dict[str, str]) -> list[str]:
    """From every circle of parents the member that started first, whatever order they came in."""
    breaks: list[str] = []
    walked: dict[str, str] = {}  # span id -> the span that the walk which reached it began from
    for start in parents:
        here: str | None = start
        while here is not None and here not in walked:
            walked[here] = start
            here = parents.get(here)
        if here is not None and walked[here] == start and here in parents:
            circle = [here]
            while parents[circle[-1]] != here:
                circle.append(parents[circle[-1]])
            breaks.append(min(circle, key=lambda key: _order(spans[key])))
    return breaks


def _order(span: Span) -> tuple[int, str]:
    return span.start, span.span_id


def _attach(logs: Iterable[LogRecord], traces: dict[str, Trace]) -> None:
    for record in logs:
        trace = traces.get(record.trace_id)
        if trace is None:
            continue
        if record.span_id in trace.spans:
            trace.logs.setdefault(record.span_id, []).append(record)
        elif not record.span_id:
            trace.loose_logs.append(record)

"""Files of traces: Jaeger's JSON and OTLP's, one document or one on each line, by the way that exporters take
(runs.ingest)."""

import gzip
import zlib
from collections.abc import Iterator, Mapping
from itertools import batched
from typing import IO, Any

from django.db.models import Sum

from runs.api.strict_json import read_json
from runs.importers.report import Report
from runs.ingest import Arrival, Export, logs_in, spans_in, take_in
from runs.models import Owner
from runs.models.span import Trace, id_of
from runs.traces import TraceError, read_document
from runs.traces.jaeger import is_jaeger, spans_of
from runs.traces.model import Span
from runs.traces.otlp import is_otlp

_AT_ONCE = 100  # traces in one transaction
_STATUSES = {"ok": 1, "error": 2}
_NOTHING = "traces with nothing of an agent in them: they are forgotten after a day, unless more comes"

type Json = Any


def take(file: IO[bytes], owner: Owner, name: str, most: int | None = None) -> Iterator[Report]:
    """Takes in the traces of a file, gzipped or not, and gives the report so far after each batch.

    `most` is how many bytes it may have, unpacked. May be done again: spans that are there are passed over.
    """
    report = Report("traces")
    yield report
    try:
        for document in _documents(file, most):
            for arrivals in batched(_arrivals(document, report), _AT_ONCE):
                _take(owner, list(arrivals), report)
                yield report
        if not report.read:
            report.note(name, "there is no trace in it: give Jaeger's JSON or OTLP's")
    except (ValueError, OSError, EOFError, zlib.error) as error:
        report.note(name, f"nothing more of it is read: {error}")
    yield report


def _take(owner: Owner, arrivals: list[Arrival], report: Report) -> None:
    traces = Trace.objects.filter(owner=owner, pk__in=[id_of(owner, one.trace_id) for one in arrivals])
    before = _count(traces)
    export = Export(arrivals)
    take_in(owner, export)
    after = _count(traces)
    report.read += len(arrivals)
    report.expected = report.read
    report.taken["traces"] += after[0] - before[0]
    report.taken["spans"] += after[1] - before[1]
    report.there += before[0]
    for reason, number in export.refused.items():
        report.skipped[f"spans: {reason}"] += number
    if waiting := traces.filter(state=Trace.State.WAITING).count():
        report.skipped[_NOTHING] += waiting


def _count(traces: Any) -> tuple[int, int]:
    return traces.count(), traces.aggregate(spans=Sum("span_count"))["spans"] or 0


# ── Reading ────────────────────────────────────────────────────────────────
def _documents(file: IO[bytes], most: int | None) -> Iterator[Json]:
    """The document that the file is, or those on its lines. Raises ValueError for what is no JSON."""
    lines = _limited(_unpacked(file), most)
    first = next(lines, b"")
    try:
        document = read_json(first)
    except ValueError:
        yield read_document(first + b"".join(lines), read_json)
        return
    yield document
    for number, line in enumerate(lines, 2):
        if line.strip():
            try:
                yield read_json(line)
            except ValueError as error:
                raise TraceError(f"line {number} is no JSON: {error}") from None


def _unpacked(file: IO[bytes]) -> Iterator[bytes]:
    begins = file.read(2)
    file.seek(0)
    return iter(gzip.GzipFile(fileobj=file) if begins == b"\x1f\x8b" else file)


def _limited(lines: Iterator[bytes], most: int | None) -> Iterator[bytes]:
    size = 0
    for line in lines:
        size += len(line)
        if most is not None and size > most:
            raise TraceError(f"it has more than {most:,} bytes")
        yield line


def _arrivals(document: Json, report: Report) -> Iterator[Arrival]:
    if is_jaeger(document) and not is_otlp(document):
        document = _as_otlp(span for span in spans_of(document) if span is not None)
    for export in (spans_in(document), logs_in(document)):
        for reason, number in export.refused.items():
            report.skipped[f"spans: {reason}"] += number
        yield from export.arrivals


# ── Jaeger's as OTLP ───────────────────────────────────────────────────────
def _as_otlp(spans: Iterator[Span]) -> Json:
    """The same in OTLP's JSON, which is kept of every trace; a resource for each process."""
    blocks: dict[tuple[int, str], tuple[Span, list[Json]]] = {}
    for span in spans:
        blocks.setdefault((id(span.resource), span.scope), (span, []))[1].append(_span(span))
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": _attributes(first.resource)},
                "scopeSpans": [{"scope": {"name": first.scope}, "spans": raws}],
            }
            for first, raws in blocks.values()
        ]
    }


def _span(span: Span) -> Json:
    return {
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "parentSpanId": span.parent_id,
        "name": span.name,
        "startTimeUnixNano": str(span.start),
        "endTimeUnixNano": str(span.end),
        "attributes": _attributes(span.attributes),
        "status": {"code": _STATUSES.get(span.status, 0), "message": span.status_message},
        "events": [
            {"name": one.name, "timeUnixNano": str(one.at), "attributes": _attributes(one.attributes)}
            for one in span.events
        ],
    }


def _attributes(attributes: Mapping[str, Json]) -> list[Json]:
    return [{"key": key, "value": _value(value)} for key, value in attributes.items()]


def _value(value: Json) -> Json:
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case list():
            return {"arrayValue": {"values": [_value(one) for one in value]}}
        case dict():
            return {"kvlistValue": {"values": _attributes(value)}}
        case None:
            return {}
        case _:
            return {"stringValue": str(value)}

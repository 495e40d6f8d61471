"""Files of traces: Jaeger's JSON and OTLP's, one document or one on each line, by the way that exporters take
(runs.ingest)."""

import gzip
import sys
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping
from typing import IO, Any, cast
from uuid import UUID

from runs.api.strict_json import read_json
from runs.importers.report import Report
from runs.ingest import Arrival, Export, logs_in, spans_in, take_in
from runs.ingest.arrivals import BAD_IDS
from runs.models import Owner
from runs.models.span import Trace, id_of
from runs.traces import TraceError, read_document
from runs.traces.jaeger import is_jaeger, spans_of
from runs.traces.model import Span
from runs.traces.otlp import is_otlp

_AT_ONCE = 100  # traces in one transaction
_BYTES = 2**20  # of lines that one transaction takes
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
        for arrivals in _batches(_documents(file, most), report):
            _take(owner, arrivals, report)
            yield report
        if not report.read:
            report.note(name, "there is no trace in it: give Jaeger's JSON or OTLP's")
    except _BROKEN as error:
        report.note(name, f"nothing more of it is read: {error}")
    yield report


_BROKEN = (ValueError, OSError, EOFError, zlib.error)


def _batches(documents: Iterator[tuple[Json, int]], report: Report) -> Iterator[list[Arrival]]:
    """What comes of one trace twice, such as its spans and its log records, is taken one after the other.

    What stands before a broken line is given before its error is raised.
    """
    batch: dict[str, Arrival] = {}
    size, broken = 0, None
    try:
        for document, length in documents:
            for one in _arrivals(document, report):
                if len(batch) == _AT_ONCE or one.trace_id in batch:
                    yield list(batch.values())
                    batch = {}
                batch[one.trace_id] = one
            size += length
            if size >= _BYTES and batch:
                yield list(batch.values())
                batch, size = {}, 0
    except _BROKEN as error:
        broken = error
    if batch:
        yield list(batch.values())
    if broken is not None:
        raise broken


def _take(owner: Owner, arrivals: list[Arrival], report: Report) -> None:
    traces = Trace.objects.filter(owner=owner, pk__in=[id_of(owner, one.trace_id) for one in arrivals])
    before = _states(traces)
    told = {id_of(owner, one.trace_id) for one in arrivals if one.spans}  # not what log records add
    export = Export(arrivals)
    take_in(owner, export)
    after = _states(traces)
    report.read += len(arrivals)
    report.expected = report.read
    report.taken["traces"] += len(after) - len(before)
    report.taken["spans"] += _spans(after) - _spans(before)
    report.there += sum(1 for pk, (spans, _) in before.items() if pk in told and after[pk][0] == spans)
    for reason, number in export.refused.items():
        report.skipped[f"spans: {reason}"] += number
    report.skipped[_NOTHING] += _waiting(after) - _waiting(before)


type States = dict[UUID, tuple[int, str]]  # of a trace: its spans, and how it stands


def _states(traces: Any) -> States:
    return {pk: (spans, state) for pk, spans, state in traces.values_list("pk", "span_count", "state")}


def _spans(states: States) -> int:
    return sum(spans for spans, _ in states.values())


def _waiting(states: States) -> int:
    return sum(1 for _, state in states.values() if state == Trace.State.WAITING)


# ── Reading ────────────────────────────────────────────────────────────────
def _documents(file: IO[bytes], most: int | None) -> Iterator[tuple[Json, int]]:
    """The document that the file is, or those on its lines, with their bytes. Raises ValueError for what is
    no JSON."""
    lines = _limited(_unpacked(file), most)
    first = next(lines, b"").removeprefix(BOM_UTF8)
    try:
        document = read_json(first)
    except ValueError:
        yield read_document(first + b"".join(lines), read_json), 0
        return
    yield document, len(first)
    for number, line in enumerate(lines, 2):
        if line.strip():
            try:
                yield read_json(line), len(line)
            except ValueError as error:
                raise TraceError(f"line {number} is no JSON: {error}") from None


def _unpacked(file: IO[bytes]) -> IO[bytes]:
    begins = file.read(2)
    file.seek(0)
    return cast("IO[bytes]", gzip.GzipFile(fileobj=file)) if begins == b"\x1f\x8b" else file


def _limited(file: IO[bytes], most: int | None) -> Iterator[bytes]:
    """Its lines. No more is unpacked than it may have, however long a line is."""
    left = sys.maxsize - 1 if most is None else most
    while line := file.readline(left + 1):
        left -= len(line)
        if left < 0:
            raise TraceError(f"it has more than {most:,} bytes")
        yield line


def _arrivals(document: Json, report: Report) -> Iterator[Arrival]:
    if is_jaeger(document) and not is_otlp(document):
        spans = list(spans_of(document))
        if lost := spans.count(None):
            report.skipped[f"spans: {BAD_IDS}"] += lost
        document = _as_otlp(span for span in spans if span is not None)
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

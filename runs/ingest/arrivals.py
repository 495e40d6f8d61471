"""An export, sorted by trace: what is kept of it, and what is refused, span by span."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from runs.traces.log_spans import is_told, spans_from_logs
from runs.traces.model import Json, LogRecord, Span, Trace
from runs.traces.otlp import attributes_of, read_log, read_span
from runs.traces.protobuf import request_of, span_of, wires_of
from runs.traces.reading import traces_of
from runs.traces.values import items, mapping, scalar_text

BAD_IDS = "invalid trace or span id"
MOST_SPANS = 10_000  # of one trace; and so many log records
TOO_MANY = f"more than {MOST_SPANS:,} in one trace"

# What the attributes of an agent's work begin with, in whatever dialect (runs.traces).
_OF_AGENTS = (
    *("gen_ai.", "llm.", "openinference.", "traceloop.", "gcp.vertex.agent."),
    *("ai.operationId", "ai.telemetry.", "langsmith.", "pydantic_ai."),
)
# Nothing but zeros is how OpenTelemetry says "no id".
_TRACE_ID, _SPAN_ID = re.compile("(?!0{32})[0-9a-f]{32}"), re.compile("(?!0{16})[0-9a-f]{16}")
_REMOTE_PARENT = 0x300  # in a span's flags: it says where its parent is, and that is elsewhere

# Entries with what they share, and what makes a document of them.
type Blocks = list[tuple[Any, list[Any]]]
type Encode = Callable[[Blocks], bytes]


@dataclass(slots=True)
class Arrival:
    """What came of one trace.

    is_agents: some of it tells of an agent's work. has_root: the span is in it that the trace began with, as
    far as we can see it. batches: in how many it came before, where it is what is known.
    """

    trace_id: str
    spans: dict[str, Span] = field(default_factory=dict)
    logs: list[LogRecord] = field(default_factory=list)
    is_agents: bool = False
    has_root: bool = False
    batches: int = 0
    encode: Encode | None = None
    blocks: Blocks = field(default_factory=list)

    @property
    def trace(self) -> Trace:
        """As a forest; of log records alone, the model calls that they tell of.

        As long as the root is to come, spans that miss the same parent belong together: it has only not
        ended yet.
        """
        if self.spans:
            known = self.spans.values() if self.has_root else [*_awaited(self.spans), *self.spans.values()]
            return traces_of(known, self.logs)[0]
        found = traces_of(*spans_from_logs(self.logs))
        return found[0] if found else Trace(self.trace_id)

    @property
    def number(self) -> int:
        """How many spans and log records."""
        return len(self.spans) + len(self.logs)

    @property
    def document(self) -> bytes:
        """What came, as SpanBatch keeps it."""
        return self.encode(self.blocks) if self.encode else b"{}"

    @property
    def is_protobuf(self) -> bool:
        return self.encode is request_of

    def put(self, source: Any, raw: Any) -> None:
        if not self.blocks or self.blocks[-1][0] is not source:
            self.blocks.append((source, []))
        self.blocks[-1][1].append(raw)


@dataclass(slots=True)
class Export:
    """What is taken of an export, and how many entries are refused, by the reason."""

    arrivals: list[Arrival] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)

    def refuse(self, reason: str, number: int = 1) -> None:
        self.refused[reason] = self.refused.get(reason, 0) + number


def spans_in(document: Json) -> Export:
    """The spans of an ExportTraceServiceRequest in JSON, or of several; old names are understood as well."""
    return _sorted_spans(
        (
            (source, raw, read_span(raw, source.attributes, source.name), raw.get("flags"))
            for source, raw in _entries(document, "Spans")
        ),
        _spans_as_json,
    )


def spans_in_protobuf(data: bytes) -> Export:
    """The same of one in protobuf. Raises google.protobuf.message.DecodeError."""
    return _sorted_spans(
        ((wire, raw, span_of(raw, wire), raw.flags) for wire, raws in wires_of(data) for raw in raws),
        request_of,
    )


def logs_in(document: Json) -> Export:
    """The log records that tell what was said. Others are nothing to us: they are taken and not kept."""
    export = Export()
    found: dict[str, Arrival] = {}
    for source, raw in _entries(document, "Logs"):
        log = read_log(raw, source.attributes)
        if log is None or not _TRACE_ID.fullmatch(log.trace_id) or not is_told(log):
            continue
        arrival = found.get(log.trace_id)
        if arrival is None:
            arrival = found[log.trace_id] = Arrival(log.trace_id, is_agents=True, encode=_logs_as_json)
        if len(arrival.logs) == MOST_SPANS:
            export.refuse(TOO_MANY)
            continue
        arrival.logs.append(log)
        arrival.put(source, raw)
    export.arrivals = list(found.values())
    return export


def joined(trace_id: str, documents: Sequence[Json]) -> Arrival:
    """What came of one trace in several batches, as one; it has no document of its own."""
    whole = Arrival(trace_id, batches=len(documents))
    for document in documents:
        for arrival in (*spans_in(document).arrivals, *logs_in(document).arrivals):
            for span_id, span in arrival.spans.items():
                whole.spans.setdefault(span_id, span)
            whole.logs.extend(arrival.logs)
            whole.is_agents = whole.is_agents or arrival.is_agents
            whole.has_root = whole.has_root or arrival.has_root
    return whole


def without(arrival: Arrival, known: Arrival) -> Arrival:
    """What `arrival` has and `known` has not: spans are told apart by their ids, records by all they say."""
    said = {_said(log) for log in known.logs}
    fresh = Arrival(
        arrival.trace_id,
        spans={key: span for key, span in arrival.spans.items() if key not in known.spans},
        logs=[log for log in arrival.logs if _said(log) not in said],
        is_agents=arrival.is_agents,
        has_root=arrival.has_root,
        encode=arrival.encode,
    )
    kept = {*map(id, fresh.logs)}
    entries = [(source, raw) for source, raws in arrival.blocks for raw in raws]
    for (source, raw), entry in zip(entries, [*arrival.spans.values(), *arrival.logs], strict=True):
        if entry.span_id in fresh.spans if isinstance(entry, Span) else id(entry) in kept:
            fresh.put(source, raw)
    return fresh


def merged(known: Arrival, fresh: Arrival) -> Arrival:
    """Both as one, without a document of its own; of a span that is in both, the known one."""
    return Arrival(
        trace_id=known.trace_id,
        spans={**fresh.spans, **known.spans} if known.spans else fresh.spans,
        logs=known.logs + fresh.logs,
        is_agents=known.is_agents or fresh.is_agents,
        has_root=known.has_root or fresh.has_root,
        batches=known.batches,
    )


def _sorted_spans(entries: Iterable[tuple[Any, Any, Span | None, Any]], encode: Encode) -> Export:
    """Of each entry: what it shares with others, as it came, as it is read, and its flags."""
    export = Export()
    found: dict[str, Arrival] = {}
    for source, raw, span, flags in entries:
        if span is None or not _has_ids(span):
            export.refuse(BAD_IDS)
            continue
        arrival = found.get(span.trace_id)
        if arrival is None:
            arrival = found[span.trace_id] = Arrival(span.trace_id, encode=encode)
        if span.span_id in arrival.spans:  # an exporter's retry: the first copy counts
            continue
        if len(arrival.spans) == MOST_SPANS:
            export.refuse(TOO_MANY)
            continue
        arrival.spans[span.span_id] = span
        arrival.put(source, raw)
        if not arrival.is_agents:
            arrival.is_agents = any(key.startswith(_OF_AGENTS) for key in span.attributes)
        if not span.parent_id or (isinstance(flags, int) and flags & _REMOTE_PARENT == _REMOTE_PARENT):
            arrival.has_root = True
    export.arrivals = list(found.values())
    return export


def _awaited(spans: dict[str, Span]) -> list[Span]:
    """The parents that are not here, as far as their children tell of them."""
    missing: dict[str, list[Span]] = {}
    for span in spans.values():
        if span.parent_id not in spans:
            missing.setdefault(span.parent_id, []).append(span)
    return [
        Span(
            trace_id=children[0].trace_id,
            span_id=parent,
            parent_id="",
            name="",
            start=min(child.start for child in children),
            end=max(child.end for child in children),
            attributes={},
            resource=children[0].resource,
        )
        for parent, children in missing.items()
    ]


def _has_ids(span: Span) -> bool:
    return bool(_TRACE_ID.fullmatch(span.trace_id) and _SPAN_ID.fullmatch(span.span_id))


# ── JSON ───────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True, eq=False)
class _Source:
    """A resource and a scope: as they came, and as they are read."""

    resource: Json
    scope: Json
    attributes: dict[str, Json]
    name: str


def _entries(document: Json, kind: str) -> Iterator[tuple[_Source, Json]]:
    """The spans or log records (`kind` Spans or Logs) of exports, by the names of JSON or of protobuf."""
    entry_key = "spans" if kind == "Spans" else "logRecords"
    for outer in items(document) or [document]:
        for block in _list(mapping(outer), f"resource{kind}", "batches" if kind == "Spans" else ""):
            resource = mapping(block.get("resource"))
            attributes = attributes_of(resource.get("attributes"))
            for inner in _list(block, f"scope{kind}", f"instrumentationLibrary{kind}"):
                scope = mapping(inner.get("scope") or inner.get("instrumentationLibrary"))
                source = _Source(resource, scope, attributes, scalar_text(scope.get("name")))
                for raw in _list(inner, entry_key):
                    yield source, raw


def _list(raw: Any, *names: str) -> list[Any]:
    """The entries in the first list that is there under one of these names; what is no object is an empty
    one."""
    for name in names:
        snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
        for found in (raw.get(name), raw.get(snake)):
            if found:
                return [one if isinstance(one, dict) else {} for one in items(found)]
    return []


def _spans_as_json(blocks: Blocks) -> bytes:
    return _encoded("Spans", "spans", blocks)


def _logs_as_json(blocks: Blocks) -> bytes:
    return _encoded("Logs", "logRecords", blocks)


def _encoded(kind: str, entry_key: str, blocks: Blocks) -> bytes:
    """msgspec refuses lone surrogates, which the standard library writes as escapes."""
    told = {
        f"resource{kind}": [
            {"resource": source.resource, f"scope{kind}": [{"scope": source.scope, entry_key: raws}]}
            for source, raws in blocks
        ]
    }
    try:
        return msgspec.json.encode(told)
    except UnicodeEncodeError:
        return json.dumps(told).encode()


def _said(log: LogRecord) -> str:
    return json.dumps([log.name, log.at, log.span_id, log.body, dict(log.attributes)], default=str)

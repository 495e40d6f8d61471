"""Model calls of which only log records tell: exports of logs alone name the spans they belong to."""

from collections.abc import Iterable
from dataclasses import replace

from runs.traces.dialects.events import DETAILS_EVENT, MESSAGE_EVENT
from runs.traces.model import LogRecord, Span


def spans_from_logs(logs: Iterable[LogRecord]) -> tuple[list[Span], list[LogRecord]]:
    """A span for each model call that the records tell of, and the records with the ids of those spans.

    Records without a span's id are told apart by their order: what follows a choice begins the next call.
    """
    calls: dict[tuple[str, str], list[LogRecord]] = {}
    numbers: dict[str, int] = {}
    chosen: set[str] = set()
    for record in sorted((log for log in logs if is_told(log)), key=lambda log: log.at):
        trace_id, span_id = record.trace_id, record.span_id
        if not span_id:
            if trace_id in chosen and record.name != "gen_ai.choice":
                chosen.remove(trace_id)
                numbers[trace_id] = numbers.get(trace_id, 1) + 1
            if record.name in ("gen_ai.choice", DETAILS_EVENT):
                chosen.add(trace_id)
            span_id = f"{numbers.get(trace_id, 1):016x}"
        calls.setdefault((trace_id, span_id), []).append(replace(record, span_id=span_id))
    return [_span(records) for records in calls.values()], [r for records in calls.values() for r in records]


def is_told(record: LogRecord) -> bool:
    """Whether the record tells what was said."""
    return record.name == DETAILS_EVENT or record.name in MESSAGE_EVENT


def _span(records: list[LogRecord]) -> Span:
    first = records[0]
    return Span(
        trace_id=first.trace_id,
        span_id=first.span_id,
        parent_id="",
        name="chat",
        start=first.at,
        end=records[-1].at,
        attributes={"gen_ai.operation.name": "chat", **first.attributes},
        resource=first.resource,
    )

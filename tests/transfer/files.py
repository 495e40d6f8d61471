"""Exports to take apart."""

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from django.utils import timezone

from runs.models import Owner, User
from runs.query import Query
from runs.transfer.everything import everything
from runs.transfer.reading import Lines
from runs.transfer.selection import Selection
from runs.transfer.taking import Report, take

AT = "2026-11-01T12:00:00Z"
RUN = "01a1fe67-788e-79fe-a92e-c53c6c600181"
OTHER = "01a1fe67-788e-79fe-a92e-c53c6c600182"


def exported(person: User, query: Query = Query()) -> bytes:  # noqa: B008  frozen
    """Everything, read on the test's own connection."""
    return b"".join(everything(Selection(person, query), str(query), timezone.now()))


def taken(data: bytes, owner: Owner, defines: bool = True) -> Report:
    return list(take(Lines(io.BytesIO(data)), owner, defines))[-1]


def records(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.splitlines()]


def of(data: bytes, record: str) -> list[dict[str, Any]]:
    return [one for one in records(data) if one["record"] == record]


def changed(data: bytes, change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> bytes:
    """The file with each record as `change` gives it; None leaves it out. The last line stays true."""
    kept = [one for one in map(change, records(data)) if one is not None]
    kept[-1]["lines"] = len(kept)
    return written(kept)


def written(lines: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def a_file(*parts: dict[str, Any], run: dict[str, Any] | None = None) -> bytes:
    """An export of one ended task with these parts."""
    counts = {kind: sum(part["record"] == kind for part in parts) for kind in ("event", "artifact")}
    head = {
        "record": "run",
        "id": RUN,
        "kind": "task",
        "status": "succeeded",
        "title": "A task",
        "created_at": AT,
        "finished_at": AT,
        "updated_at": AT,
        "size": 0,
        "event_count": counts["event"],
        "artifact_count": counts["artifact"],
        **(run or {}),
    }
    first = {"record": "export", "format": "runfolio.runs", "version": 1, "parts": "everything"}
    lines = [first, head, *parts, {"record": "run_end", "run": RUN}]
    return written([*lines, {"record": "end", "complete": True, "runs": 1, "lines": len(lines) + 1}])


def an_event(seq: int = 1, payload: Any = None, **fields: Any) -> dict[str, Any]:
    said = {"parts": [{"kind": "text", "text": "hello"}]} if payload is None else payload
    event = {"record": "event", "seq": seq, "kind": "message", "role": "user", "payload": said}
    return {**event, "created_at": AT, **fields}


def a_moment() -> datetime:
    return datetime(2026, 11, 1, 12, tzinfo=UTC)

"""What several tests of pages need."""

import struct
import zlib
from typing import Any

from runs.models import Event, NewEvent, Owner, Run, append_events
from runs.models.run import index_run


def make_task(owner: Owner, *events: NewEvent, **fields: Any) -> Run:
    """A run that an agent reports, with a history."""
    values = {"kind": "task", "status": "running", "title": "A task", "agent": "helm-agent", **fields}
    run = Run.objects.create(owner=owner, **values)
    index_run(run)
    append_events(run, list(events), past=True)
    run.refresh_from_db()
    return run


def said(text: str, role: str = "agent", **payload: Any) -> NewEvent:
    parts = [{"kind": "text", "text": text}]
    return NewEvent(Event.Kind.MESSAGE, {"parts": parts, **payload}, role=role)


def called(name: str, arguments: Any, call_id: str = "1") -> NewEvent:
    payload = {"name": name, "arguments": arguments, "call_id": call_id}
    return NewEvent(Event.Kind.TOOL_CALL, payload, role="agent")


def answered(name: str, result: Any, call_id: str = "1", is_error: bool = False) -> NewEvent:
    payload = {"name": name, "result": result, "call_id": call_id, "is_error": is_error}
    return NewEvent(Event.Kind.TOOL_RESULT, payload, role="tool")


def png() -> bytes:
    """A white pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\x00\xff\xff\xff")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")

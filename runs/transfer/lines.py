"""The lines of an export: JSON objects, each of which names its `record` (docs/export.md)."""

from datetime import datetime
from typing import Any

import msgspec

FORMAT = "runfolio.runs"
VERSION = 1

_encode = msgspec.json.Encoder().encode


def line(record: str, **values: Any) -> bytes:
    """Times are written in UTC, decimals as texts, bytes as base64; `raw` goes in as it is."""
    return _encode({"record": record, **values}) + b"\n"


def raw(text: str | None) -> msgspec.Raw | None:
    """JSON that PostgreSQL wrote: not read here, so that no digit of it can change."""
    return None if text is None else msgspec.Raw(text.encode())


def first_line(parts: str, query: str, now: datetime, **more: Any) -> bytes:
    """`parts` is everything or columns; `query` means the same at any time (Query.fixed)."""
    return line("export", format=FORMAT, version=VERSION, parts=parts, query=query, exported_at=now, **more)


def last_line(runs: int, lines: int) -> bytes:
    """`lines` counts the first and this one."""
    return line("end", complete=True, runs=runs, lines=lines)


def broken_line(reason: str) -> bytes:
    return line("error", complete=False, message=reason)

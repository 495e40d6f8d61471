"""The list as a file: CSV or JSONL, with the columns of the screen."""

import io
from collections.abc import Generator, Iterator, Sequence
from datetime import datetime

from defusedcsv import csv  # type: ignore[import-untyped]

from runs.transfer import columns
from runs.transfer.lines import first_line, last_line, line
from runs.transfer.selection import Selection

_BOM = "\N{ZERO WIDTH NO-BREAK SPACE}"  # without it, spreadsheets take UTF-8 for something else


def as_csv(selection: Selection, names: Sequence[str]) -> Generator[bytes]:
    """A header, a row for each run, and last a row that says how many there were."""
    yield _csv([columns.header(names)], _BOM)
    count = 0
    for rows in _batches(selection, names):
        count += len(rows)
        yield _csv(rows)
    yield _csv([[f"# complete: {count:,} run{'' if count == 1 else 's'}"]])


def as_jsonl(selection: Selection, names: Sequence[str], query: str, now: datetime) -> Generator[bytes]:
    """The same as objects, between a first line that says what this is and a last one that counts."""
    header = columns.header(names)
    yield first_line("columns", query, now, columns=header)
    count = 0
    for rows in _batches(selection, names):
        count += len(rows)
        yield b"".join(line("row", **dict(zip(header, row, strict=True))) for row in rows)
    yield last_line(count, count + 2)


def broken_csv(reason: str) -> bytes:
    """The last row of a file that has not all that it should have."""
    return _csv([[f"# broken off, runs are missing: {reason}"]])


def _batches(selection: Selection, names: Sequence[str]) -> Iterator[list[list[columns.Value]]]:
    for runs in selection.batches():
        yield [columns.values(names, row) for row in columns.rows_of(runs, selection.person)]


def _csv(rows: Sequence[Sequence[columns.Value]], before: str = "") -> bytes:
    file = io.StringIO()
    file.write(before)
    csv.writer(file).writerows([_held(cell) for cell in row] for row in rows)
    return file.getvalue().encode("utf-8", "replace")


def _held(cell: columns.Value) -> columns.Value:
    """What defusedcsv leaves: some spreadsheets look for a formula behind a tab or a line break."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("\t", "\r", "\n")) else cell

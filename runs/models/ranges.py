"""Lists by indexes alone: the ranges of an index that hold what a plan asks, merged in order of time.

SQL by hand: Django would take longer to write it than PostgreSQL to answer it.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from django.db import connection
from django.db.models.base import ModelState

from runs.models.finding import ALL_KINDS, ALL_STATUSES, Plan
from runs.models.paging import Cursor
from runs.models.run import PAYLOADS, Run
from runs.models.status import OPEN

FEW_RANGES = 4  # that a statement names one by one
MOST_RANGES = 500  # that one statement merges

type Range = dict[str, Any]  # column: value


def ranges_of(plan: Plan) -> list[Range]:
    """The ranges of one index that together hold the plan's runs, each in order of time.

    Which index is that of the most telling filter (Run.Meta.indexes); "open" is that of open runs.
    """
    if plan.sessions is not None:
        return [{"session_id": session} for session in sorted(plan.sessions)]
    owners: list[Range] = [{"owner_id": owner} for owner in sorted(plan.owners)]
    if plan.ratings is not None:
        return _times(owners, "rating", plan.ratings)
    if plan.agents is not None:
        owners = _times(owners, "agent", plan.agents)
        return _times(owners, "status", plan.statuses) if plan.statuses != ALL_STATUSES else owners
    kinds = owners if plan.kinds == ALL_KINDS else _times(owners, "kind", plan.kinds)
    if plan.statuses == ALL_STATUSES:
        return kinds
    if plan.statuses >= OPEN:
        return [{**one, "open": True} for one in owners] + _times(kinds, "status", plan.statuses - OPEN)
    return _times(kinds, "status", plan.statuses)


def _times(ranges: list[Range], column: str, values: Iterable[Any]) -> list[Range]:
    return [{**one, column: value} for one in ranges for value in sorted(values)]


def listed(plan: Plan, after: Cursor | None, most: int) -> list[Run]:
    """The plan's newest runs by one statement, in which PostgreSQL merges the ranges and stops in time.

    Written by hand: Django would take longer to write it than PostgreSQL to answer it.
    """
    return [run_of(row) for row in rows_in(LIST_COLUMNS, plan, after, most, ranges_of(plan))]


def run_of(row: Sequence[Any]) -> Run:
    """The run of a row, without what lists do not read; Django's own way takes longer than the query."""
    run = Run.__new__(Run)
    run.__dict__.update(zip(_LIST_NAMES, row, strict=True), _state=ModelState())
    run._state.db, run._state.adding = connection.alias, False
    return run


def rows_in(
    columns: str, plan: Plan, after: Cursor | None, most: int, ranges: Sequence[Range]
) -> list[tuple[Any, ...]]:
    write = _written_out if len(ranges) <= FEW_RANGES else _each_in_turn
    statement, values = write(columns, plan, after, most, ranges)
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall()


def _written_out(
    columns: str, plan: Plan, after: Cursor | None, most: int, ranges: Sequence[Range]
) -> tuple[str, list[Any]]:
    """A part for each range, in order and with the limit: PostgreSQL merges them as it reads, and stops."""
    parts, values = [], []
    for one in ranges:
        equal = {f"{column} = %s": value for column, value in one.items() if column != "open"}
        further, more = beyond(plan, after, one)
        where = " AND ".join([*equal, *further])
        parts.append(f"SELECT {columns} FROM run WHERE {where} {NEWEST_FIRST} LIMIT {most:d}")
        values += [*equal.values(), *more]
    if len(parts) == 1:
        return parts[0], values
    merged = " UNION ALL ".join(f"({part})" for part in parts)
    return f"SELECT * FROM ({merged}) AS merged {NEWEST_FIRST} LIMIT {most:d}", values


def _each_in_turn(
    columns: str, plan: Plan, after: Cursor | None, most: int, ranges: Sequence[Range]
) -> tuple[str, list[Any]]:
    """One plan that is run for each of many ranges, on the index alone; then the rows that are shown.

    To plan a part for each of them takes longer than to read them.
    """
    parts, values = [], []
    for names, some in groupby(ranges, key=lambda one: sorted(one)):
        same = [name for name in names if name != "open"]
        members = list(some)
        lists = ", ".join(f"%s::{_TYPES[name]}[]" for name in same)
        equal = [f"run.{name} = range.{name}" for name in same]
        further, more = beyond(plan, after, dict.fromkeys(names))
        where = " AND ".join([*equal, *further, "owner_id = ANY(%s)"])
        parts.append(
            f"SELECT page.* FROM unnest({lists}) AS range ({', '.join(same)}) CROSS JOIN LATERAL ("
            f"SELECT created_at, id FROM run WHERE {where} {NEWEST_FIRST} LIMIT {most:d}) AS page"
        )
        values += [*([one[name] for one in members] for name in same), *more, sorted(plan.owners)]
    newest = f"{' UNION ALL '.join(parts)} {NEWEST_FIRST} LIMIT {most:d}"
    chosen = ", ".join(f"run.{column.strip()}" for column in columns.split(","))
    join = "JOIN run USING (id) ORDER BY run.created_at DESC, run.id DESC"
    return f"SELECT {chosen} FROM ({newest}) AS newest {join}", values


def beyond(plan: Plan, after: Cursor | None, one: Range) -> tuple[list[str], list[Any]]:
    """SQL for what the plan asks of the runs of a range beyond its own columns."""
    said: dict[str, Any] = {}
    for column, wanted in _sets(plan).items():
        if column not in one and not (column == "status" and "open" in one):
            said[f"{column} = ANY(%s)"] = sorted(wanted)
    until = plan.until if after is None or plan.until is None or plan.until < after.created_at else None
    bounds = {"created_at >= %s": plan.since, "created_at < %s": until}
    said |= {condition: at for condition, at in bounds.items() if at is not None}
    conditions, values = [*said, "deleted_at IS NULL"], list(said.values())
    if "open" in one:
        conditions.append(_IS_OPEN)
    if after is not None:
        conditions.append("(created_at, id) < (%s, %s)")
        values += [after.created_at, after.id]
    return conditions, values


def _sets(plan: Plan) -> dict[str, frozenset[Any]]:
    """The columns of which the plan names values."""
    sets: dict[str, frozenset[Any] | None] = {
        "owner_id": plan.owners,
        "session_id": plan.sessions,
        "rating": plan.ratings,
        "agent": plan.agents,
        "kind": None if plan.kinds == ALL_KINDS else plan.kinds,
        "status": None if plan.statuses == ALL_STATUSES else plan.statuses,
    }
    return {column: values for column, values in sets.items() if values is not None}


_TYPES = {"owner_id": "bigint", "session_id": "uuid", "rating": "smallint"} | dict.fromkeys(
    ("agent", "kind", "status"), "text"
)
_IS_OPEN = f"status IN ({', '.join(repr(str(status)) for status in sorted(OPEN))})"
NEWEST_FIRST = "ORDER BY created_at DESC, id DESC"
# Their columns are called the same.
_LIST_NAMES = [field.attname for field in Run._meta.concrete_fields if field.name not in PAYLOADS]
LIST_COLUMNS = ", ".join(_LIST_NAMES)

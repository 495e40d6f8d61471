"""Whether the columns that lists show say what the rows beneath them say (issue 3, point 6).

They are kept true in the transaction of each change, so that a difference is a bug, or a hand in the
database. Each batch is compared in one statement, thus in one snapshot: writers are neither held up nor
mistaken for damage.
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from runs.models import rollup
from runs.models.choice import Choice
from runs.models.event import Event
from runs.models.owner import Owner
from runs.models.result import Result
from runs.models.run import Run
from runs.models.session import Session

AT_ONCE = 500  # rows; their events are read in the same statement


@dataclass(frozen=True, slots=True)
class Difference:
    """A column of a row that keeps something else than what is counted.

    `table` is run, session, rollup or choice. Of a rollup, which is sums and not a row of its own,
    `counted` is what would have to be added; of a choice it is the value that is missing.
    """

    table: str
    row: object
    column: str
    kept: Any
    counted: Any


def differences(owner: Owner | None = None) -> Iterator[Difference]:
    """All that is not true, of one owner or of all."""
    for model, wrong in _CHECKED:
        for ids in _batches(model, owner):
            yield from wrong(ids)
    yield from map(_of_rollup, rollup.difference(_pk(owner)))
    yield from _missing_choices(owner)


def repair(owner: Owner | None = None) -> Iterator[Difference]:
    """Makes all true while others write, and gives what was not; choices that no row has go.

    Runs come first: what they say is what rollups are counted from.
    """
    for model, wrong in _CHECKED:
        for ids in _batches(model, owner):
            for row in {difference.row for difference in wrong(ids)}:
                yield from _repair(model, wrong, row)
    yield from map(_of_rollup, rollup.mend(_pk(owner)))
    yield from _repair_choices(owner)


def recount(run: Run) -> None:
    """Makes true what lists show of this run, whose rows the caller has just written."""
    _repair(Run, _wrong_runs, run.pk)


def _repair(model: type[Run] | type[Session], wrong: "Wrong", pk: Any) -> list[Difference]:
    """Counts again under the row's lock, which every writer takes; one row, so that nobody can deadlock."""
    with transaction.atomic():
        held = model.objects.select_for_update(of=("self",), no_key=True).filter(pk=pk)
        found = wrong(list(held.values_list("pk", flat=True)))
        if found:
            model.objects.filter(pk=pk).update(**{one.column: one.counted for one in found})
    return found


def _batches(model: type[Run] | type[Session], owner: Owner | None) -> Iterator[list[UUID]]:
    """The ids of all rows in their order, some at a time; what is made meanwhile may be left out."""
    rows = model.objects.order_by("pk")
    if owner is not None:
        rows = rows.filter(owner=owner)
    following = rows
    while ids := list(following.values_list("pk", flat=True)[:AT_ONCE]):
        yield ids
        following = rows.filter(pk__gt=ids[-1])


# ── Runs ───────────────────────────────────────────────────────────────────
_OF_RUNS = {
    "event_count": "events.number",
    "artifact_count": "artifacts.number",
    **{f"{status}_count": f"results.{status}" for status in Result.Status.values},
    "score": "results.score",
    "rating_average": "ratings.average",
    "rating_count": "ratings.number",
    "rating": "floor(ratings.average + 0.5)::smallint",
    "input_tokens": "events.input_tokens::bigint",
    "output_tokens": "events.output_tokens::bigint",
    "cost": "events.cost",
    "size": "events.size + artifacts.size + spec_size",
}
# What came late tells of no work of the run (CONTRACTS.md 4.2).
_USED = ", ".join(
    f"sum({name}) FILTER (WHERE kind <> '{Event.Kind.LATE_WRITE}') AS {name}"
    for name in ("input_tokens", "output_tokens", "cost")
)
_STATUSES = ", ".join(
    f"count(*) FILTER (WHERE status = '{status}') AS {status}" for status in Result.Status.values
)
_RUNS = f"""
    SELECT * FROM (
        SELECT run.id, spec_size, {", ".join(f"run.{name}" for name in _OF_RUNS)},
            {", ".join(f"{counted} AS counted_{name}" for name, counted in _OF_RUNS.items())}
        FROM run
        CROSS JOIN LATERAL (
            SELECT coalesce(octet_length(coalesce(run.spec_exact, run.spec::text)), 0) AS spec_size
        ) AS specs
        CROSS JOIN LATERAL (
            SELECT count(*) AS number, coalesce(sum(size), 0) AS size, {_USED}
            FROM event WHERE run_id = run.id
        ) AS events
        CROSS JOIN LATERAL (
            SELECT count(*) AS number, coalesce(sum(size), 0)::bigint AS size
            FROM artifact WHERE run_id = run.id
        ) AS artifacts
        CROSS JOIN LATERAL (
            SELECT avg(score) AS score, {_STATUSES} FROM result WHERE run_id = run.id
        ) AS results
        CROSS JOIN LATERAL (
            SELECT count(rating) AS number, avg(rating)::float8 AS average
            FROM feedback WHERE run_id = run.id AND criterion = 'overall'
        ) AS ratings
        WHERE run.id = ANY(%(ids)s)
    ) AS compared
    WHERE ({", ".join(_OF_RUNS)}) IS DISTINCT FROM ({", ".join(f"counted_{name}" for name in _OF_RUNS)})
    ORDER BY id
"""


def _wrong_runs(ids: Sequence[UUID]) -> list[Difference]:
    return [one for row in _rows(_RUNS, {"ids": list(ids)}) for one in _of_run(row)]


def _of_run(row: dict[str, Any]) -> Iterator[Difference]:
    for name in _OF_RUNS:
        kept, counted = row[name], row[f"counted_{name}"]
        if name == "size" and kept != counted:
            counted += _spec_size(row["id"]) - row["spec_size"]
        if not _same(kept, counted):
            yield Difference("run", row["id"], name, kept, counted)


def _spec_size(pk: UUID) -> int:
    """As the run counted it: PostgreSQL writes other characters than ASCII, and some numbers, shorter."""
    run = Run.objects.only("spec", "spec_exact").filter(pk=pk).first()
    return 0 if run is None or run.shown_spec is None else len(json.dumps(run.shown_spec))


def _same(kept: Any, counted: Any) -> bool:
    """Averages depend on the order of their rows, by the last bit."""
    if isinstance(kept, float) and isinstance(counted, float):
        return math.isclose(kept, counted, rel_tol=1e-9) or (math.isnan(kept) and math.isnan(counted))
    return bool(kept == counted)


# ── Sessions ───────────────────────────────────────────────────────────────
# A session may have been active later than its rows say: those that said so were deleted, or moved to
# another one. So its time is wrong only if it is too early.
_SESSIONS = """
    SELECT session.id, run_count, number, last_activity_at, latest
    FROM session CROSS JOIN LATERAL (
        SELECT count(run.id) AS number, date_trunc(
            'second', greatest(session.created_at, max(run.created_at), max(events.latest))
        ) AS latest
        FROM run CROSS JOIN LATERAL (
            SELECT max(least(coalesce(occurred_at, created_at), created_at)) AS latest
            FROM event WHERE run_id = run.id
        ) AS events
        WHERE session_id = session.id AND deleted_at IS NULL
    ) AS runs
    WHERE session.id = ANY(%(ids)s) AND (run_count <> number OR last_activity_at < latest)
    ORDER BY id
"""


def _wrong_sessions(ids: Sequence[UUID]) -> list[Difference]:
    return [one for row in _rows(_SESSIONS, {"ids": list(ids)}) for one in _of_session(row)]


def _of_session(row: dict[str, Any]) -> Iterator[Difference]:
    if row["run_count"] != row["number"]:
        yield Difference("session", row["id"], "run_count", row["run_count"], row["number"])
    if row["last_activity_at"] < row["latest"]:
        yield Difference("session", row["id"], "last_activity_at", row["last_activity_at"], row["latest"])


type Wrong = Callable[[Sequence[UUID]], list[Difference]]
_CHECKED: tuple[tuple[type[Run] | type[Session], Wrong], ...] = (
    (Run, _wrong_runs),
    (Session, _wrong_sessions),
)


# ── Rollups and choices ────────────────────────────────────────────────────
def _of_rollup(missing: dict[str, Any]) -> Difference:
    """All that one day's sums lack, in one line."""
    key = [str(missing.pop(name)) for name in rollup.ROLLUP_KEY]
    lacking = ", ".join(f"{name} {number:+}" for name, number in missing.items() if number)
    return Difference("rollup", " ".join(filter(None, key)), "sums", None, lacking)


_OF_OWNER = "(%(owner)s::bigint IS NULL OR owner_id = %(owner)s)"
# The values that rows have, as triggers.note_choices and note_metadata_keys see them. What is deleted but
# not purged counts: it may come back.
_SAID = f"""
    SELECT * FROM (
        SELECT owner_id, 'agent' AS field, left(agent, 300) AS value FROM run WHERE agent <> ''
        UNION SELECT owner_id, 'model', left(model, 300) FROM run WHERE model <> ''
        UNION SELECT owner_id, 'source', left(source, 300) FROM session WHERE source <> ''
        UNION SELECT owner_id, 'evaluator', left(evaluator_name, 300)
            FROM result JOIN run ON run.id = result.run_id
        UNION SELECT owner_id, 'metadata', left(key, 300) FROM run CROSS JOIN LATERAL (
            SELECT key FROM jsonb_object_keys(
                CASE WHEN jsonb_typeof(metadata) = 'object' THEN metadata ELSE '{{}}' END
            ) AS key LIMIT 100
        ) AS keys
    ) AS said WHERE {_OF_OWNER}
"""
_MISSING = f"{_SAID} EXCEPT SELECT owner_id, field, value FROM choice"
_STALE = f"SELECT owner_id, field, value FROM choice WHERE {_OF_OWNER} EXCEPT {_SAID}"


def _missing_choices(owner: Owner | None) -> list[Difference]:
    return [_of_choice(row) for row in _rows(_MISSING, {"owner": _pk(owner)})]


def _repair_choices(owner: Owner | None) -> list[Difference]:
    """Stale ones go, then missing ones come.

    A run that is being made just then may have met a choice that goes; the next repair puts it back.
    """
    with transaction.atomic():
        _rows(
            f"DELETE FROM choice WHERE (owner_id, field, value) IN ({_STALE}) RETURNING id",
            {"owner": _pk(owner)},
        )
    found = _rows(_MISSING, {"owner": _pk(owner)})
    Choice.objects.bulk_create((Choice(**row) for row in found), ignore_conflicts=True)
    return [_of_choice(row) for row in found]


def _of_choice(row: dict[str, Any]) -> Difference:
    return Difference("choice", row["owner_id"], row["field"], None, row["value"])


def _pk(owner: Owner | None) -> int | None:
    return None if owner is None else owner.pk


def _rows(statement: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        names = [column.name for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

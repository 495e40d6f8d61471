"""Rollups: what trends read instead of the big tables (DESIGN.md 3.4; issue 3, point 6).

Triggers append what each change adds or takes away (models.triggers), so that no two writers meet at a
row; `fold` adds that up now and then. A reader takes both, so that the sums are exact at all times.
"""

from collections.abc import Iterable
from datetime import date
from typing import Any

from django.db import connection, models, transaction

from runs.models.owner import Owner
from runs.models.triggers import ROLLED_UP, ROLLUP_KEY, added_up, share_of_results, share_of_run

FOLDED_AT_ONCE = 20_000
_LOCK = 0x726F6C6C7570  # "rollup": one folds, or mends, at a time


class Sums(models.Model):
    """Of the runs of one kind that were made on one day (UTC), by owner and agent; or of one evaluator's
    results there.

    Runs count when they are final; what is deleted does not count. `evaluator` is empty in the row of the
    runs themselves. Times are in milliseconds, money in US dollars.
    """

    day = models.DateField()
    owner = models.ForeignKey(Owner, on_delete=models.CASCADE, related_name="+", db_index=False)
    kind = models.CharField(max_length=20)
    agent = models.TextField()
    evaluator = models.TextField()
    succeeded_runs = models.BigIntegerField(default=0)
    failed_runs = models.BigIntegerField(default=0)
    cancelled_runs = models.BigIntegerField(default=0)
    passed = models.BigIntegerField(default=0)
    failed = models.BigIntegerField(default=0)
    errored = models.BigIntegerField(default=0)
    skipped = models.BigIntegerField(default=0)
    score_sum = models.DecimalField(max_digits=40, decimal_places=12, default=0)
    score_count = models.BigIntegerField(default=0)
    duration = models.BigIntegerField(default=0)
    duration_count = models.BigIntegerField(default=0)
    input_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    cost = models.DecimalField(max_digits=30, decimal_places=6, default=0)
    rating_sum = models.BigIntegerField(default=0)
    rating_count = models.BigIntegerField(default=0)

    class Meta:
        abstract = True


class Rollup(Sums):
    """What is folded."""

    class Meta:
        db_table = "rollup"
        constraints = [
            models.UniqueConstraint(fields=["owner", "day", "kind", "agent", "evaluator"], name="rollup_once")
        ]

    def __str__(self) -> str:
        return f"{self.day} {self.agent} {self.evaluator}"


class RollupDelta(Sums):
    """What was added or taken away since."""

    # Without a constraint, whose check would have all workers lock the same row of their runs' owner.
    owner = models.ForeignKey(
        Owner, on_delete=models.CASCADE, related_name="+", db_index=False, db_constraint=False
    )

    class Meta:
        db_table = "rollup_delta"

    def __str__(self) -> str:
        return f"{self.day} {self.agent} {self.evaluator}"


_KEYS, _SUMS = ", ".join(ROLLUP_KEY), ", ".join(ROLLED_UP)
_TOTALS = ", ".join(f"sum({name}) AS {name}" for name in ROLLED_UP)
_ANY = " OR ".join(f"sum({name}) <> 0" for name in ROLLED_UP)


def rolled_up(
    owners: Iterable[int], since: date | None = None, until: date | None = None
) -> list[dict[str, Any]]:
    """The sums of these owners' days from `since` to `until`, both included; oldest first."""
    bounds = {"owners": list(owners), "since": since or date.min, "until": until or date.max}
    return _rows(_READ, bounds)


def fold() -> int:
    """Adds the oldest deltas up, in one short transaction; gives how many, 0 where another folds."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_LOCK])
        if not cursor.fetchone()[0]:
            return 0
        cursor.execute(_FOLD, {"most": FOLDED_AT_ONCE})
        return int(cursor.fetchone()[0])


def mend(owner: int | None = None) -> list[dict[str, Any]]:
    """Adds what a recount says is missing, and gives it; others write meanwhile.

    In one statement, thus one snapshot, and one process at a time: of two, each would add the same.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        return _rows(_MEND, {"owner": owner})


def difference(owner: int | None = None) -> list[dict[str, Any]]:
    """The days whose sums are not what a recount gives, as what would have to be added. Empty: all true."""
    return _rows(_DIFFERENCE, {"owner": owner})


def _rows(statement: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        names = [column.name for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


_BOTH = f"SELECT {_KEYS}, {_SUMS} FROM rollup UNION ALL SELECT {_KEYS}, {_SUMS} FROM rollup_delta"
_READ = f"""
    SELECT {_KEYS}, {_TOTALS} FROM ({_BOTH}) AS both_of_them
    WHERE owner_id = ANY(%(owners)s) AND day BETWEEN %(since)s AND %(until)s
    GROUP BY {_KEYS} HAVING {_ANY} ORDER BY day, owner_id, kind, agent, evaluator
"""
_FOLD = f"""
    WITH taken AS (
        DELETE FROM rollup_delta
        WHERE id IN (SELECT id FROM rollup_delta ORDER BY id LIMIT %(most)s) RETURNING {_KEYS}, {_SUMS}
    ), folded AS (
        INSERT INTO rollup ({_KEYS}, {_SUMS}) SELECT {_KEYS}, {_TOTALS} FROM taken GROUP BY {_KEYS}
        ON CONFLICT ({_KEYS}) DO UPDATE
        SET {", ".join(f"{name} = rollup.{name} + excluded.{name}" for name in ROLLED_UP)}
    )
    SELECT count(*) FROM taken
"""
_RECOUNT = added_up(
    share_of_run("run", "FROM run"),
    share_of_results("run", "result", "FROM result JOIN run ON run.id = result.run_id WHERE true"),
)
_NEGATED = ", ".join(f"-{name}" for name in ROLLED_UP)
_DIFFERENCE = f"""
    SELECT {_KEYS}, {_TOTALS} FROM (
        {_RECOUNT} UNION ALL SELECT {_KEYS}, {_NEGATED} FROM ({_BOTH}) AS kept
    ) AS compared ({_KEYS}, {_SUMS})
    WHERE %(owner)s::bigint IS NULL OR owner_id = %(owner)s GROUP BY {_KEYS} HAVING {_ANY}
"""
_MEND = f"INSERT INTO rollup_delta ({_KEYS}, {_SUMS}) {_DIFFERENCE} RETURNING {_KEYS}, {_SUMS}"

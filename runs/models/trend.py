"""Trends: the rollups over time, added up by day, week or month (issue 5, point 8; never the big tables).

What is folded and what is not yet are read together, as in models.rollup, so that the sums are exact.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal, NamedTuple

from django.db import connection

type Step = Literal["day", "week", "month"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which sums: of these owners' days from `since` to `until`, both included, in UTC.

    Empty `kind`, `agents` and `evaluator` are all of them; weeks begin on Monday.
    """

    owners: Sequence[int]
    since: date
    until: date
    step: Step = "day"
    kind: str = ""
    agents: Sequence[str] = ()
    evaluator: str = ""


class OfRuns(NamedTuple):
    """Sums of final runs by how they ended; `took` in milliseconds, of `timed` runs, `cost` in US dollars."""

    succeeded: float = 0
    failed: float = 0
    cancelled: float = 0
    took: float = 0
    timed: float = 0
    tokens: float = 0
    cost: float = 0
    ratings: float = 0
    rated: float = 0

    @property
    def ended(self) -> float:
        return self.succeeded + self.failed + self.cancelled

    @classmethod
    def added(cls, sums: Iterable["OfRuns"]) -> "OfRuns":
        return cls(*(sum(one) for one in zip(*sums, strict=True)))


class OfResults(NamedTuple):
    """Sums of results by verdict, without skipped ones; `scores` are of `scored` results."""

    passed: float = 0
    judged: float = 0
    scores: float = 0
    scored: float = 0

    @classmethod
    def added(cls, sums: Iterable["OfResults"]) -> "OfResults":
        return cls(*(sum(one) for one in zip(*sums, strict=True)))


type ByPlace[Sums] = dict[tuple[date, str], Sums]  # by the period's first day, and agent or evaluator


def runs_over_time(wanted: Wanted) -> ByPlace[OfRuns]:
    """By period and agent."""
    return {(at, agent): OfRuns(*sums) for at, agent, *sums in _fetched(_RUNS, wanted)}


def results_over_time(wanted: Wanted) -> tuple[ByPlace[OfResults], ByPlace[OfResults]]:
    """By period and agent, and by period and evaluator."""
    by_agent: ByPlace[OfResults] = {}
    by_evaluator: ByPlace[OfResults] = {}
    for at, agent, evaluator, *sums in _fetched(_RESULTS, wanted):
        if evaluator is None:
            by_agent[at, agent] = OfResults(*sums)
        else:
            by_evaluator[at, evaluator] = OfResults(*sums)
    return by_agent, by_evaluator


def totals(wanted: Wanted) -> tuple[OfRuns, OfResults]:
    """All of it in one."""
    ((*of_runs,),) = _fetched(_ALL_RUNS, wanted)
    ((*of_results,),) = _fetched(_ALL_RESULTS, wanted)
    return OfRuns(*of_runs), OfResults(*of_results)


def _fetched(statement: str, wanted: Wanted) -> list[tuple[Any, ...]]:
    values: dict[str, Any] = {
        "owners": list(wanted.owners),
        "since": wanted.since,
        "until": wanted.until,
        "step": wanted.step,
        "kinds": [wanted.kind] if wanted.kind else ["task", "evaluation"],
        "agents": list(wanted.agents),
        "evaluator": wanted.evaluator,
    }
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall()


# As floats: the sums of PostgreSQL's integers are decimals, which take longer to add and to read.
def _sum(expression: str) -> str:
    return f"coalesce(sum(({expression})::float8), 0)::float8"


_OF_RUNS = ", ".join(
    _sum(one)
    for one in (
        *("succeeded_runs", "failed_runs", "cancelled_runs", "duration", "duration_count"),
        *("input_tokens + output_tokens", "cost", "rating_sum", "rating_count"),
    )
)
_OF_RESULTS = ", ".join(
    _sum(one) for one in ("passed", "passed + failed + errored", "score_sum", "score_count")
)
_PERIOD = "CASE WHEN %(step)s = 'day' THEN day ELSE date_trunc(%(step)s, day)::date END"


def _kept(columns: str, evaluator: str) -> str:
    """The rows of both tables, bound to the owners in each."""
    where = f"""
        WHERE owner_id = ANY(%(owners)s) AND day BETWEEN %(since)s AND %(until)s AND kind = ANY(%(kinds)s)
        AND (%(agents)s::text[] = '{{}}' OR agent = ANY(%(agents)s)) AND {evaluator}
    """
    return (
        f"(SELECT {columns} FROM rollup {where} UNION ALL SELECT {columns} FROM rollup_delta {where}) AS kept"
    )


_RUN_ROWS = _kept(
    "day, agent, succeeded_runs, failed_runs, cancelled_runs, duration, duration_count, input_tokens,"
    " output_tokens, cost, rating_sum, rating_count",
    "evaluator = ''",
)
_RESULT_ROWS = _kept(
    "day, agent, evaluator, passed, failed, errored, score_sum, score_count",
    "evaluator <> '' AND (%(evaluator)s = '' OR evaluator = %(evaluator)s)",
)
_RUNS = f"SELECT {_PERIOD} AS period, agent, {_OF_RUNS} FROM {_RUN_ROWS} GROUP BY period, agent"
_RESULTS = f"""
    SELECT {_PERIOD} AS period, agent, evaluator, {_OF_RESULTS} FROM {_RESULT_ROWS}
    GROUP BY GROUPING SETS ((period, agent), (period, evaluator))
"""
_ALL_RUNS = f"SELECT {_OF_RUNS} FROM {_RUN_ROWS}"
_ALL_RESULTS = f"SELECT {_OF_RESULTS} FROM {_RESULT_ROWS}"

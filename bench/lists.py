"""The first page of the list and one deep in it, by filter, against raw SQL (issue 3, "Lists")."""

from datetime import UTC, datetime

from django.db import connection

from bench.data import load_runs
from bench.measure import Measured, interleaved, report
from runs.models import Owner, Session, Token
from runs.models.listing import _LIST_COLUMNS, find_runs
from runs.models.paging import Cursor
from runs.query import parse

FEW = 10_000
RAW = "raw SQL, no filter"
FILTERS = (
    *(
        "",
        "status:failed",
        "status:succeeded",
        "status:queued",
        "status:failed,cancelled",
        "-status:succeeded",
    ),
    *(
        "kind:evaluation",
        'agent:"agent 0"',
        'agent:"agent 29"',
        "rating:5",
        "is:open",
        "after:30d",
        "before:30d",
    ),
    *("status:failed kind:evaluation", 'status:failed agent:"agent 3"', 'kind:evaluation agent:"agent 3"'),
    *("status:failed after:30d", 'agent:"agent 3" after:30d', 'rating:1 agent:"agent 3"'),
)


def main(runs: int, rounds: int) -> None:
    """`runs` in all lists together; the largest owner has more than a quarter of them."""
    few, many = load_runs(FEW, "small"), load_runs(runs, "large")
    for owner in (many[0], many[-1]):
        print(f"-- {owner}, {owner.runs.count():,} of {runs:,} runs  limits: 3 x")
        report(_measured(owner, rounds), RAW)
    print(f"-- {few[0]}, {few[0].runs.count():,} of {FEW:,} runs")
    small, large = _measured(few[0], rounds), _measured(many[0], rounds)
    report(small, RAW)
    worst = max(large[name].milliseconds / small[name].milliseconds for name in small if name in large)
    print(f"{runs:,} over {FEW:,} runs, the worst of the filters: {worst:.2f} x  limit: 1.3 x")


def _measured(owner: Owner, rounds: int) -> dict[str, Measured]:
    token, _ = Token.objects.issue(owner, "bench")
    now = datetime.now(UTC)
    deep = _place(owner, owner.runs.count() // 2)
    steps = {RAW: lambda: _raw(owner, None), "raw SQL, deep": lambda: _raw(owner, deep)}
    key = Session.objects.filter(owner=owner).values_list("key", flat=True)[0]
    for text in (*FILTERS, f'session:"{key}"'):
        query = parse(text, now)
        steps[text or "no filter"] = lambda query=query: find_runs(query, token)
        steps[f"{text or 'no filter'}, deep"] = lambda query=query: find_runs(query, token, after=deep)
    return interleaved(steps, rounds, calls=3)


def _place(owner: Owner, offset: int) -> Cursor:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT created_at, id FROM run WHERE owner_id = %s AND deleted_at IS NULL"
            " ORDER BY created_at DESC, id DESC OFFSET %s LIMIT 1",
            [owner.pk, offset],
        )
        return Cursor(*cursor.fetchone())


def _raw(owner: Owner, after: Cursor | None) -> None:
    """The same columns of a keyset page, fetched and thrown away."""
    behind = "AND (created_at, id) < (%s, %s)" if after else ""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {_LIST_COLUMNS} FROM run WHERE owner_id = %s AND deleted_at IS NULL {behind}"
            " ORDER BY created_at DESC, id DESC LIMIT 51",
            [owner.pk, *([after.created_at, after.id] if after else [])],
        )
        cursor.fetchall()

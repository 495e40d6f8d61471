"""The first page of the list and one deep in it, by filter, against raw SQL (issue 3, "Lists")."""

from datetime import UTC, datetime

from django.db import connection

from bench.data import load_runs
from bench.measure import Measured, interleaved, report
from runs.models import Membership, Owner, Run, Session, User
from runs.models.listing import Found, find_runs
from runs.models.paging import Cursor
from runs.models.ranges import LIST_COLUMNS
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
    measured = []
    for owners, total in ((few[:1], FEW), (many[:1], runs), (many[-1:], runs), (many, runs)):
        print(f"-- somebody who sees {_count(owners):,} of {total:,} runs, of {len(owners)}  limits: 3 x")
        measured.append(_measured(owners, rounds))
        report(measured[-1], RAW)
    small, large = measured[:2]
    # A page that is full in one and not in the other shows more rows, not a slower list.
    ratios = {
        name: large[name].milliseconds / small[name].milliseconds
        for name in small
        if name in large and _rows(small[name]) == _rows(large[name])
    }
    worst = max(ratios, key=lambda name: ratios[name])
    print(f"{runs:,} over {FEW:,} runs, worst: {worst}, {ratios[worst]:.2f} x  limit: 1.3 x")


def _rows(one: Measured) -> int | None:
    return len(one.answer.runs) if isinstance(one.answer, Found) else None


def _measured(owners: list[Owner], rounds: int) -> dict[str, Measured]:
    reader = User.objects.create(username=f"reader of {owners[0]} and {len(owners) - 1} more")
    for owner in owners:
        Membership.objects.create(user=reader, owner=owner, role=Membership.Role.VIEWER)
    now = datetime.now(UTC)
    deep = _place(owners, _count(owners) // 2)
    steps = {RAW: lambda: raw(owners, None), "raw SQL, deep": lambda: raw(owners, deep)}
    key = Session.objects.filter(owner=owners[0]).values_list("key", flat=True)[0]
    for text in (*FILTERS, f'session:"{key}"'):
        query = parse(text, now)
        steps[text or "no filter"] = lambda query=query: find_runs(query, reader)
        steps[f"{text or 'no filter'}, deep"] = lambda query=query: find_runs(query, reader, after=deep)
    return interleaved(steps, rounds, calls=3)


def _count(owners: list[Owner]) -> int:
    return Run.objects.filter(owner__in=owners).count()


def _place(owners: list[Owner], offset: int) -> Cursor:
    places = Run.objects.filter(owner__in=owners).newest_first().values_list("created_at", "id")
    return Cursor(*places[offset])


def raw(owners: list[Owner], after: Cursor | None) -> None:
    """The same columns of a keyset page, fetched and thrown away; of all runs, where it is for 20 owners."""
    conditions = ["deleted_at IS NULL", *(["owner_id = %s"] if len(owners) == 1 else [])]
    values = [owner.pk for owner in owners if len(owners) == 1]
    if after:
        conditions.append("(created_at, id) < (%s, %s)")
        values += [after.created_at, after.id]
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {LIST_COLUMNS} FROM run WHERE {' AND '.join(conditions)}"
            " ORDER BY created_at DESC, id DESC LIMIT 51",
            values,
        )
        cursor.fetchall()

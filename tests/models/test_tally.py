"""How many runs a query finds: exact, bounded, and saying how far it reaches."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from runs.models import Session, tally
from runs.models.paging import Cursor
from runs.models.tally import Tally, newer_than
from runs.query import parse
from tests.pages.helpers import make_task, said

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture
def month(owner):
    """Two runs a day for thirty days, one of which failed, and two that are open."""
    for number in range(30):
        at = NOW - timedelta(days=number, hours=1)
        for status, agent in (("succeeded", "helm"), ("failed", "k8s")):
            make_task(owner, status=status, agent=agent, created_at=at, finished_at=at)
    make_task(owner, agent="helm", created_at=NOW - timedelta(days=2))
    make_task(owner, agent="k8s", status="paused", created_at=NOW - timedelta(days=20))


def counted(text: str, owner) -> Tally:
    return tally.tally(parse(text, NOW), owner, NOW)


FILTERS = [
    ("", {"succeeded": 30, "failed": 30, "running": 1, "paused": 1}),
    ("status:failed", {"failed": 30}),
    ("agent:helm", {"succeeded": 30, "running": 1}),
    ("is:open", {"running": 1, "paused": 1}),
    ("after:2026-11-10", {"succeeded": 11, "failed": 11, "running": 1}),
    ("after:10d", {"succeeded": 10, "failed": 10, "running": 1}),
    ("after:2026-11-01T10:30Z before:2026-11-11", {"succeeded": 10, "failed": 10}),
    ("before:2026-11-10T11:30Z", {"succeeded": 20, "failed": 20, "paused": 1}),
    ("kind:evaluation", {}),
]


@pytest.mark.parametrize(("query", "found"), FILTERS)
def test_few_runs_are_counted_one_by_one(owner, month, query, found):
    assert (counted(query, owner).by_status, counted(query, owner).by_day) == (found, False)


@pytest.mark.parametrize(("query", "found"), FILTERS[:-1])
def test_many_runs_are_added_up_from_the_rollup(owner, month, monkeypatch, query, found):
    monkeypatch.setattr(tally, "MOST", 1)
    monkeypatch.setattr(tally, "_read", _whole(tally._read, monkeypatch))
    assert counted(query, owner).by_status == found


def _whole(read, monkeypatch):
    """As if what lies beside the rollup were few."""

    def reading(plan):
        with monkeypatch.context() as patched:
            patched.setattr(tally, "MOST", 10_000)
            return read(plan)

    return reading


def test_the_rollup_is_what_is_read_of_many(owner, month, monkeypatch, django_assert_num_queries):
    monkeypatch.setattr(tally, "MOST", 10)
    found = counted("", owner)
    assert found.by_day
    assert {at.time().isoformat() for at, _ in found.counts} == {"00:00:00"}


def test_beyond_the_bound_it_says_how_far_it_reaches(owner, month, monkeypatch):
    monkeypatch.setattr(tally, "MOST", 10)
    session = Session.objects.open(owner, "a2a", "s")
    for number in range(12):
        make_task(owner, session=session, created_at=NOW - timedelta(minutes=number))
    found = counted("session:s", owner)
    assert (found.total, found.reaches) == (10, NOW - timedelta(minutes=9))


def test_what_must_be_searched_is_counted_up_to_a_bound(owner, monkeypatch):
    for number in range(6):
        make_task(owner, said("the disk is full"), created_at=NOW - timedelta(minutes=number))
    assert counted("disk", owner).by_status == {"running": 6}
    monkeypatch.setattr(tally, "SEARCHED", 4)
    found = counted("disk", owner)
    assert (found.total, found.reaches) == (4, NOW - timedelta(minutes=3))


def test_a_search_that_takes_too_long_says_how_far_it_came(owner, monkeypatch):
    monkeypatch.setattr("runs.models.listing.STEPS", (2,))
    monkeypatch.setattr(tally, "PATIENCE", 0)
    for number in range(5):
        make_task(owner, created_at=NOW - timedelta(minutes=number))
    found = counted("events:<3", owner)
    assert (found.total, found.reaches) == (2, NOW - timedelta(minutes=1))


def test_a_statement_that_takes_too_long_is_given_up(owner, monkeypatch):
    make_task(owner)
    monkeypatch.setattr(tally, "PATIENCE", 0.001)
    monkeypatch.setattr(tally, "rows_in", _slowly)
    found = tally.tally(parse("", timezone.now()), owner, timezone.now())
    assert (found.total, found.is_whole) == (0, False)


def _slowly(*_):
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(5)")
    return []


def test_newer_runs_are_counted_to_a_bound(owner):
    first = make_task(owner, created_at=NOW)
    for number in range(5):
        make_task(owner, created_at=NOW + timedelta(seconds=number))
    place = Cursor(first.created_at, first.pk)
    after = [newer_than(parse(text, NOW), owner, place, 3) for text in ("", "status:failed", "disk")]
    assert after == [4, 0, None]

"""Blocks of the search index cut an owner's runs by time, however many make runs at once (models.search)."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection, connections, transaction

from runs.models import Run, SearchBlock, Status
from runs.models.triggers import RUNS_PER_BLOCK

_FUNCTION = "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname LIKE 'pgtrigger_assign_block_%'"
_OUTSIDE = """
    SELECT count(*) FROM run JOIN (
        SELECT id, from_at, lead(from_at) OVER (PARTITION BY owner_id ORDER BY from_at) AS until FROM search_block
    ) AS block ON block.id = search_block
    WHERE run.created_at < from_at OR run.created_at >= until
"""


@pytest.fixture
def small_blocks(committed_db):
    """Blocks of three runs on average, so that many are opened."""
    with connections["owner"].cursor() as cursor:
        cursor.execute(_FUNCTION)
        (definition,) = cursor.fetchone()
        assert f"random() * {RUNS_PER_BLOCK} < 1" in definition
        small = definition.replace(f"random() * {RUNS_PER_BLOCK} < 1", "random() * 3 < 1")
        cursor.execute(small.replace("%", "%%"))


def outside() -> int:
    """How many runs are in a block that is not of their time."""
    with connection.cursor() as cursor:
        cursor.execute(_OUTSIDE)
        return cursor.fetchone()[0]


def test_blocks_never_overlap_when_many_make_runs_at_once(small_blocks, owner):
    def make(number: int) -> None:
        for turn in range(15):
            with transaction.atomic():
                Run.objects.open_task(owner)
                if turn % 5 == number % 5:  # some transactions take longer than the next one to begin
                    connection.cursor().execute("SELECT pg_sleep(0.02)")
                    Run.objects.open_task(owner)
        connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(make, range(8)))

    assert Run.objects.count() == 144
    assert SearchBlock.objects.count() > 10
    assert outside() == 0


def test_a_run_of_long_ago_comes_into_the_block_of_its_time(small_blocks, owner):
    for _ in range(30):
        Run.objects.open_task(owner)
    middle = Run.objects.order_by("created_at")[15]
    for shift in (-timedelta(days=400), timedelta(0)):
        at = middle.created_at + shift
        Run.objects.record_past(owner, Status.FAILED, at, kind=Run.Kind.TASK, finished_at=at)

    assert outside() == 0


def test_a_run_that_changes_owner_or_time_changes_its_block(small_blocks, owner, stranger):
    run = Run.objects.open_task(owner)
    other = stranger.memberships.get().owner
    Run.objects.open_task(other)

    Run.objects.filter(pk=run.pk).update(owner=other)

    run.refresh_from_db()
    assert SearchBlock.objects.get(pk=run.search_block).owner_id == other.pk
    assert outside() == 0

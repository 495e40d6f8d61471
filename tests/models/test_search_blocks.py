"""Blocks of the search index cut an owner's runs by time, however many make runs at once (models.search)."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection, connections, transaction

from runs.models import Run, SearchBlock, Status
from runs.models.triggers import RUNS_PER_BLOCK

_FUNCTIONS = (
    "SELECT proname, pg_get_functiondef(oid) FROM pg_proc WHERE proname ~ 'assign_block|opened_in_time'"
)
# Blocks of three runs on average, opened a tenth of a second ahead.
_SMALLER = {
    f"* {RUNS_PER_BLOCK} < 1": "* 3 < 1",
    "'3 seconds'": "'0.1 seconds'",
    "'2 seconds'": "'0.05 seconds'",
}
_OUTSIDE = """
    SELECT count(*) FROM run JOIN (
        SELECT id, from_at, lead(from_at) OVER (PARTITION BY owner_id ORDER BY from_at) AS until
        FROM search_block
    ) AS block ON block.id = search_block
    WHERE run.created_at < from_at OR run.created_at >= until
"""


@pytest.fixture
def small_blocks(committed_db):
    """So that a short test opens many."""
    with connections["owner"].cursor() as cursor:
        cursor.execute(_FUNCTIONS)
        definitions = dict(cursor.fetchall())
        for large, small in _SMALLER.items():
            assert any(large in definition for definition in definitions.values())
            definitions = {name: text.replace(large, small) for name, text in definitions.items()}
        for definition in definitions.values():
            cursor.execute(definition.replace("%", "%%"))


def outside() -> int:
    """How many runs are in a block that is not of their time, or that is not there."""
    blocks = list(SearchBlock.objects.order_by("owner", "from_at").values_list("owner", "pk"))
    assert blocks == sorted(blocks)  # searches go by their numbers
    lost = Run.objects.exclude(search_block__in=SearchBlock.objects.values("pk")).count()
    with connection.cursor() as cursor:
        cursor.execute(_OUTSIDE)
        return cursor.fetchone()[0] + lost


def test_blocks_never_overlap_when_many_make_runs_at_once(small_blocks, owner):
    least, most = time.monotonic() + 2, time.monotonic() + 30  # a busy machine gets there later

    def make(number: int) -> None:
        while (now := time.monotonic()) < least or (now < most and SearchBlock.objects.count() <= 5):
            with transaction.atomic():
                Run.objects.open_task(owner)
                if number == 0:  # one whose transactions take longer than a block is opened ahead
                    time.sleep(0.15)
                    Run.objects.open_task(owner)
        connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(make, range(8)))

    assert SearchBlock.objects.count() > 5
    assert outside() == 0


def test_a_block_that_comes_too_late_is_taken_back(small_blocks, owner):
    with transaction.atomic():
        for _ in range(40):
            Run.objects.open_task(owner)
        assert SearchBlock.objects.count() == 2
        time.sleep(0.15)
        Run.objects.open_task(owner)

    assert SearchBlock.objects.count() == 1
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

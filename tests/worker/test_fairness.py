"""Whose turn it is: owners take turns, priorities hold within one, and the queue can be stopped."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections

from runs.models import Owner, Run, claim_next
from runs.models.workers import Worker, drain, pause_queue, resume_queue
from tests.conftest import eventually
from tests.worker.conftest import has_ended
from tests.worker.test_queue import copy_run

LEASE = timedelta(seconds=30)


@pytest.fixture
def other(request: pytest.FixtureRequest, owner: Owner) -> Owner:
    return Owner.objects.create(name="another team")


def claimed_owners(number: int, worker: str = "w") -> list[int]:
    """Whose the next runs are."""
    claimed = [claim_next(f"{worker}/{n}", LEASE) for n in range(number)]
    return [run.owner_id for run in claimed if run]


def test_five_runs_of_another_owner_do_not_wait_for_a_thousand(make_run, owner, other):
    copy_run(make_run(), 999)
    assert claimed_owners(3) == [owner.pk] * 3
    copy_run(make_run(owner=other), 4)

    next_ones = claimed_owners(12)

    assert next_ones.count(other.pk) == 5


def test_with_four_workers_as_well(committed_db, make_run, owner, other):
    copy_run(make_run(), 999)
    claimed_owners(3)
    copy_run(make_run(owner=other), 4)

    def take(number: int) -> list[int]:
        try:
            return claimed_owners(4, f"w{number}")
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        taken = [one for some in pool.map(take, range(4)) for one in some]

    assert len(taken) == 16
    assert taken.count(other.pk) == 5


def test_owners_take_turns(make_run, owner, other):
    for whose in (owner, other):
        copy_run(make_run(owner=whose), 4)

    taken = claimed_owners(10)

    assert taken in ([owner.pk, other.pk] * 5, [other.pk, owner.pk] * 5)


def test_an_owner_whose_runs_are_all_taken_does_not_hold_up_the_others(committed_db, make_run, other):
    """Its runs are locked by others that claim: the next owner's turn comes."""
    make_run(owner=other)
    copy_run(make_run(), 9)

    def take(number: int) -> list[int]:
        try:
            return claimed_owners(3, f"w{number}")
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        assert sum(map(len, pool.map(take, range(4)))) == 11


def test_a_higher_priority_goes_first_among_the_runs_of_its_owner(make_run, owner, other):
    low, middle, high = (make_run(priority=priority) for priority in (-1, 0, 7))
    make_run(owner=other, priority=-1000)

    claimed = [claim_next(f"w/{n}", LEASE) for n in range(4)]

    assert [run.pk for run in claimed if run.owner_id == owner.pk] == [high.pk, middle.pk, low.pk]
    assert other.pk in {run.owner_id for run in claimed[:2]}


def test_runs_of_one_priority_come_as_they_were_submitted(make_run):
    runs = [make_run(priority=3) for _ in range(3)]

    assert [claim_next("w", LEASE).pk for _ in range(3)] == [run.pk for run in runs]


# ── Stopping the queue, and workers ────────────────────────────────────────
def test_nobody_claims_while_the_queue_is_paused(make_run):
    run = make_run()
    pause_queue("ann", "maintenance")
    assert claim_next("w", LEASE) is None

    resume_queue()

    assert claim_next("w", LEASE).pk == run.pk


def finishes(make_run: Callable[..., Run]) -> Run:
    run = make_run()
    eventually(lambda: has_ended(run))
    return run


def test_a_draining_worker_takes_nothing_until_it_may_again(make_run, work):
    worker = work()
    finishes(make_run)
    assert drain(worker.name)
    eventually(lambda: worker._draining)
    waiting = make_run()

    others: Any = work()
    eventually(lambda: has_ended(waiting))

    assert waiting.attempts.get().worker_id.startswith(f"{others.name}/")
    assert drain(worker.name, False)
    eventually(lambda: not worker._draining)


def test_a_worker_that_is_not_there_cannot_be_drained(db):
    assert not drain("nobody")
    assert not Worker.objects.exists()

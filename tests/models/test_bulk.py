"""Bulk jobs: what they mean, what keeps runs from them, and how batches carry them out (issue 5, point 2)."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from runs.models import (
    BulkJob,
    Change,
    Membership,
    Owner,
    ReviewItem,
    ReviewQueue,
    Run,
    carrying,
    give_feedback,
    retry,
    selection,
)
from runs.models.bulk import start, stop, undo, undoing_of
from runs.models.selection import Meant, Stay, tally
from runs.query import QueryError, parse
from runs.worker.bulk import carry_on
from tests.pages.helpers import make_task

ACTION = BulkJob.Action


@pytest.fixture
def ended(make_run):
    def make(**fields: Any) -> Run:
        return make_run(**{"status": "succeeded", "finished_at": timezone.now(), **fields})

    return make


@pytest.fixture(params=[1, 100])
def batches(request, monkeypatch):
    """Jobs go in batches of one run, and in one batch."""
    monkeypatch.setattr(carrying, "AT_ONCE", dict.fromkeys(ACTION, request.param))


def meant(text: str = "", *ids: Any) -> Meant:
    now = timezone.now()
    return Meant(parse(text, now), now, ids)


def begin(person, action: str, text: str = "", **options: Any) -> BulkJob:
    now = timezone.now()
    owners = options.pop("owners", None) or [one.pk for one in selection.owners_for(person, action)]
    given = {"counted": 1, "reason": "why", "until": now, "owners": owners, **options}
    return start(person, action, parse(text, now), **given)


def work_off(job: BulkJob, most: int = 100) -> BulkJob:
    for _ in range(most):
        if not carry_on("tests/1"):
            break
    job.refresh_from_db()
    return job


# ── Carrying out ───────────────────────────────────────────────────────────
def test_cancelling_asks_those_that_run_and_ends_those_that_wait(alice, owner, make_run, batches):
    waiting, running, other = make_run(), make_task(owner, agent="helm"), make_task(owner, agent="k8s")
    Run.objects.filter(pk=waiting.pk).update(agent="helm")
    job = work_off(begin(alice, ACTION.CANCEL, "agent:helm"))
    assert (job.state, job.done_count, job.skipped) == ("done", 2, {})
    for run in (waiting, running, other):
        run.refresh_from_db()
    assert (waiting.status, running.status) == ("cancelled", "running")
    assert {(one.cancel_requested_by, one.cancel_reason) for one in (waiting, running)} == {("alice", "why")}
    assert other.cancel_requested_at is None


def test_each_run_is_retried_once_and_linked(alice, ended, batches):
    runs = [ended(title=f"run {number}") for number in range(3)]
    job = work_off(begin(alice, ACTION.RETRY))
    assert (job.state, job.done_count) == ("done", 3)
    assert sorted(Run.objects.filter(status="queued").values_list("retried", flat=True)) == sorted(
        run.pk for run in runs
    )


def test_deleting_leaves_a_change_with_actor_reason_and_job(alice, ended, batches):
    runs = [ended() for _ in range(3)]
    job = work_off(begin(alice, ACTION.DELETE))
    assert not Run.objects.filter(deleted_at=None).exists()
    changes = Change.objects.filter(field="deleted_at").values_list("actor", "reason", "request_id", "run")
    assert sorted(changes) == sorted((alice.actor, "why", job.mark, run.pk) for run in runs)


def test_deletion_leaves_what_is_open_or_has_feedback(alice, ended, make_run):
    rated = ended()
    give_feedback(rated, alice, None, "a comment alone counts as well")
    make_run()
    gone = ended()
    counted = tally(meant(), ACTION.DELETE, alice)
    assert (counted.can, counted.stay) == (1, {Stay.RATED: 1, Stay.OPEN: 1})
    job = work_off(begin(alice, ACTION.DELETE))
    assert Run.objects.exclude(deleted_at=None).get() == gone
    assert (job.done_count, job.skipped) == (1, {Stay.RATED: 1})


def test_only_evaluations_that_ended_and_are_not_being_retried_are_retried(alice, owner, ended, make_run):
    retry(ended(), "somebody")
    make_task(owner, status="succeeded", finished_at=timezone.now())
    ended(title="this one")
    counted = tally(meant(), ACTION.RETRY, alice)
    assert (counted.can, counted.stay) == (1, {Stay.RETRYING: 1, Stay.TASK: 1, Stay.OPEN: 1})
    work_off(begin(alice, ACTION.RETRY))
    assert Run.objects.filter(title="this one").count() == 2


def test_a_run_that_cannot_be_read_any_more_keeps_no_other_from_being_retried(alice, ended, settings):
    ended(secrets=b"sealed by a lost key")
    ended()
    job = work_off(begin(alice, ACTION.RETRY))
    assert (job.state, job.done_count, job.skipped) == ("done", 1, {Stay.SEALED: 1})


def test_runs_go_into_a_review_queue_once(alice, owner, ended, make_run, batches):
    queue = ReviewQueue.objects.create(owner=owner, name="to judge", created_by=alice.actor)
    runs = [ended() for _ in range(3)]
    make_run()
    for done in (3, 0):
        job = work_off(begin(alice, ACTION.REVIEW, queue=queue))
        assert (job.state, job.done_count) == ("done", done)
    assert job.skipped == {Stay.WAITING: 3}
    assert set(ReviewItem.objects.values_list("run", flat=True)) == {run.pk for run in runs}


def test_a_review_queue_takes_its_own_owners_runs_alone(alice, owner, ended):
    other = Owner.objects.create(name="other")
    Membership.objects.create(user=alice, owner=other, role="admin")
    queue = ReviewQueue.objects.create(owner=owner, name="to judge", created_by=alice.actor)
    ended(owner=other)
    mine = ended()
    counted = tally(meant(), ACTION.REVIEW, alice, queue)
    assert (counted.can, counted.stay) == (1, {Stay.ELSEWHERE: 1})
    work_off(begin(alice, ACTION.REVIEW, queue=queue, owners=[owner.pk]))
    assert ReviewItem.objects.get().run == mine


# ── Undoing ────────────────────────────────────────────────────────────────
def test_undo_brings_back_what_this_job_deleted_and_nothing_else(alice, ended, batches):
    before = ended(title="before")
    work_off(begin(alice, ACTION.DELETE, ids=[before.pk]))
    runs = [ended() for _ in range(3)]
    job = work_off(begin(alice, ACTION.DELETE))
    undoing = work_off(undo(job))
    assert (undoing.state, undoing.done_count) == ("done", 3)
    assert set(Run.objects.filter(deleted_at=None)) == set(runs)


def test_undoing_twice_is_once(alice, ended):
    ended()
    job = work_off(begin(alice, ACTION.DELETE))
    assert undo(job) == undo(job) == undoing_of(job)


def test_undoing_what_is_under_way_stops_it(alice, ended, monkeypatch):
    monkeypatch.setattr(carrying, "AT_ONCE", dict.fromkeys(ACTION, 1))
    for _ in range(3):
        ended()
    job = work_off(begin(alice, ACTION.DELETE), most=1)
    work_off(undo(job))
    job.refresh_from_db()
    assert job.state == "stopped"
    assert Run.objects.filter(deleted_at=None).count() == 3


def test_an_undoing_that_was_stopped_goes_on(alice, ended, monkeypatch):
    monkeypatch.setattr(carrying, "AT_ONCE", dict.fromkeys(ACTION, 1))
    for _ in range(3):
        ended()
    job = work_off(begin(alice, ACTION.DELETE))
    undoing = work_off(undo(job), most=1)
    stop(undoing)
    assert work_off(undo(job)).done_count == 3


def test_past_the_grace_time_nothing_comes_back(alice, ended, settings):
    ended()
    job = work_off(begin(alice, ACTION.DELETE))
    settings.DELETE_GRACE_DAYS = 0
    undoing = work_off(undo(job))
    assert (undoing.done_count, undoing.skipped) == (0, {Stay.GONE: 1})


def test_what_deleted_nothing_cannot_be_undone(alice):
    with pytest.raises(ValueError, match="deleted nothing"):
        undo(begin(alice, ACTION.DELETE))


# ── What is meant ──────────────────────────────────────────────────────────
def test_a_run_that_was_made_later_is_not_meant(alice, ended):
    ended()
    job = begin(alice, ACTION.DELETE)
    later = ended()
    assert work_off(job).done_count == 1
    assert Run.objects.get(deleted_at=None) == later


def test_the_filter_is_fixed_in_time(alice, ended):
    ended()
    job = begin(alice, ACTION.DELETE, "after:7d")
    assert "7d" not in job.query
    Run.objects.update(created_at=timezone.now() - timedelta(days=7, seconds=-5))
    assert work_off(job).done_count == 1


def test_runs_that_were_chosen_one_by_one(alice, ended, batches):
    first, second, _ = (ended() for _ in range(3))
    assert tally(meant("", first.pk, second.pk), ACTION.DELETE, alice).can == 2
    assert work_off(begin(alice, ACTION.DELETE, ids=[first.pk, second.pk])).done_count == 2
    assert Run.objects.filter(deleted_at=None).count() == 1


def test_another_owners_runs_are_neither_counted_nor_hit(alice, stranger, make_run, ended):
    theirs = make_run(owner=stranger.memberships.get().owner, status="failed", finished_at=timezone.now())
    assert tally(meant("", theirs.pk), ACTION.DELETE, alice).total == 0
    begun = begin(alice, ACTION.DELETE, ids=[theirs.pk], owners=[theirs.owner_id])
    job = work_off(begun)
    assert (job.state, job.error) == ("failed", "who started it may not do this any more")
    theirs.refresh_from_db()
    assert theirs.deleted_at is None


def test_runs_of_owners_for_whom_one_may_not_do_it_stay(alice, ended):
    other = Owner.objects.create(name="other")
    Membership.objects.create(user=alice, owner=other, role="viewer")
    ended(owner=other)
    ended()
    counted = tally(meant(), ACTION.DELETE, alice)
    assert (counted.can, counted.stay) == (1, {Stay.FOREIGN: 1})
    work_off(begin(alice, ACTION.DELETE))
    assert Run.objects.get(deleted_at=None).owner == other


def test_a_right_that_is_taken_away_meanwhile_stops_it(alice, ended, monkeypatch):
    monkeypatch.setattr(carrying, "AT_ONCE", dict.fromkeys(ACTION, 1))
    for _ in range(3):
        ended()
    job = work_off(begin(alice, ACTION.DELETE), most=1)
    Membership.objects.update(role="viewer")
    assert work_off(job).state == "failed"
    assert job.done_count == 1


def test_a_count_that_takes_too_long_says_at_least(alice, ended, make_run, monkeypatch):
    monkeypatch.setattr(selection, "_AT_ONCE", 2)
    monkeypatch.setattr(selection, "COUNTED", 4)
    for _ in range(9):
        ended()
    counted = tally(meant(), ACTION.DELETE, alice)
    assert (counted.can, counted.is_exact) == (4, False)


def test_of_many_runs_those_few_that_can_be_acted_on_are_all_counted(alice, ended, make_run, monkeypatch):
    make_run()
    monkeypatch.setattr(selection, "_AT_ONCE", 2)
    monkeypatch.setattr(selection, "COUNTED", 4)
    for _ in range(9):
        ended()
    counted = tally(meant(), ACTION.CANCEL, alice)
    assert (counted.can, counted.is_exact, counted.saw_all) == (1, True, False)


def test_words_that_cannot_be_looked_for_are_an_error(alice, ended):
    with pytest.raises(QueryError):
        tally(meant('"!!"'), ACTION.CANCEL, alice)


# ── Jobs ───────────────────────────────────────────────────────────────────
def test_the_same_id_is_the_same_job(alice):
    job = begin(alice, ACTION.CANCEL)
    assert begin(alice, ACTION.CANCEL, job_id=job.pk, reason="again").reason == "why"


def test_another_persons_job_is_not_given(alice, stranger):
    job = begin(alice, ACTION.CANCEL)
    with pytest.raises(BulkJob.DoesNotExist):
        begin(stranger, ACTION.CANCEL, job_id=job.pk)


def test_jobs_take_turns(alice, ended, monkeypatch):
    monkeypatch.setattr(carrying, "AT_ONCE", dict.fromkeys(ACTION, 1))
    runs = [ended() for _ in range(6)]
    long = begin(alice, ACTION.DELETE, ids=[run.pk for run in runs[:5]])
    short = begin(alice, ACTION.DELETE, ids=[runs[5].pk])
    work_off(long, most=2)
    short.refresh_from_db()
    assert (short.state, long.done_count) == ("done", 1)


def test_a_stopped_one_does_no_more(alice, ended, monkeypatch):
    monkeypatch.setattr(carrying, "AT_ONCE", dict.fromkeys(ACTION, 1))
    for _ in range(3):
        ended()
    job = work_off(begin(alice, ACTION.DELETE), most=1)
    assert stop(job)
    assert not stop(job)
    assert work_off(job).done_count == 1
    assert job.state == "stopped"


def test_what_fails_in_a_batch_is_taken_back_whole(alice, ended, monkeypatch):
    runs = [ended() for _ in range(3)]
    first, calls = carrying.retry, []

    def fails_late(run, *args):
        calls.append(run)
        if len(calls) == 2:
            raise RuntimeError("a bug")
        return first(run, *args)

    monkeypatch.setattr(carrying, "retry", fails_late)
    job = work_off(begin(alice, ACTION.RETRY))
    assert (job.state, job.done_count) == ("failed", 0)
    assert "an error in Runfolio itself" in job.error
    assert Run.objects.count() == len(runs)


def test_a_filter_that_cannot_be_read_fails_with_its_reason(alice, ended):
    ended()
    job = begin(alice, ACTION.DELETE)
    BulkJob.objects.update(query="scroe:1")
    assert work_off(job).state == "failed"
    assert "scroe" in job.error

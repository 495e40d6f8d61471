"""Deleting, restoring and purging runs and sessions (issue 3, point 2)."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection, connections
from django.db.models import F
from django.utils import timezone

from runs.models import (
    Artifact,
    Change,
    Deletion,
    Event,
    Extent,
    Feedback,
    FeedbackVersion,
    NewEvent,
    Owner,
    Result,
    Run,
    SearchBlock,
    SearchDoc,
    SearchTerm,
    Session,
    User,
    append_events,
    claim_next,
    delete_runs,
    delete_session,
    deletion,
    give_feedback,
    put_artifact,
    record_results,
    request_cancel,
    requeue,
    restore_runs,
    restore_session,
    retry,
    rollup,
)
from runs.models.deletion import forget_empty_blocks, grace, purge, purge_sessions
from tests.models.test_guards import refused

MakeRun = Callable[..., Run]
WHO = ("user:7", "sent by mistake")
SAID = NewEvent("message", {"parts": [{"kind": "text", "text": "hello"}]}, role="user")


@pytest.fixture
def session(owner: Owner) -> Session:
    return Session.objects.open(owner, "api", "conversation")


def ended(make_run: MakeRun, **fields: Any) -> Run:
    return make_run(status="succeeded", finished_at=timezone.now(), **fields)


def counted(session: Session) -> int:
    return Session.objects.get(pk=session.pk).run_count


def age(rows: Any, by: timedelta) -> None:
    """As if they had been deleted that long ago."""
    rows.update(deleted_at=F("deleted_at") - by)


# ── Put away, and back ─────────────────────────────────────────────────────
def test_a_deleted_run_is_not_there_for_its_people(make_run, alice):
    run = ended(make_run)

    assert delete_runs(Run.objects.all(), *WHO) == 1

    assert not Run.objects.visible_to(alice).exists()
    run.refresh_from_db()
    assert (run.deleted_at is not None, run.deleted_by) == (True, "user:7")


def test_each_deleted_run_has_a_change(make_run):
    runs = [ended(make_run) for _ in range(3)]

    delete_runs(Run.objects.all(), *WHO, "request-1")

    changes = Change.objects.filter(field="deleted_at").values_list("actor", "reason", "request_id", "run")
    assert sorted(changes) == sorted((*WHO, "request-1", run.pk) for run in runs)


def test_deleting_again_keeps_who_did_it_first(make_run):
    ended(make_run)
    delete_runs(Run.objects.all(), *WHO)
    before = Run.objects.values().get()

    assert delete_runs(Run.objects.all(), "user:8", "again") == 0
    assert Run.objects.values().get() == before


def test_deleting_needs_a_reason(make_run):
    ended(make_run)

    with pytest.raises(ValueError, match="reason"):
        delete_runs(Run.objects.all(), "user:7", " ")


def test_more_runs_than_one_batch_are_deleted(make_run, monkeypatch):
    monkeypatch.setattr(deletion, "RUNS_AT_ONCE", 2)
    for _ in range(5):
        ended(make_run)

    assert delete_runs(Run.objects.all(), *WHO) == 5
    assert not Run.objects.filter(deleted_at=None).exists()


def test_counts_and_trends_are_those_of_what_is_left(make_run, session):
    gone = ended(make_run, session=session)
    ended(make_run, session=session)

    delete_runs(Run.objects.filter(pk=gone.pk), *WHO)
    assert (counted(session), rollup.difference()) == (1, [])

    restore_runs(Run.objects.all(), *WHO)
    assert (counted(session), rollup.difference()) == (2, [])


def test_a_deleted_queued_run_is_never_executed(make_run):
    run = make_run()

    delete_runs(Run.objects.all(), *WHO)

    run.refresh_from_db()
    assert (run.status, run.cancel_requested_by) == ("cancelled", "user:7")
    assert claim_next("w", timedelta(seconds=30)) is None


def test_a_deleted_run_is_not_claimed_whatever_its_status(make_run):
    make_run(deleted_at=timezone.now())

    assert claim_next("w", timedelta(seconds=30)) is None


def test_the_worker_of_a_deleted_run_is_asked_to_stop(make_run, claim):
    make_run()
    run, held = claim()

    delete_runs(Run.objects.all(), *WHO)
    held.succeed({})

    run.refresh_from_db()
    assert (run.status, run.cancel_reason) == ("cancelled", WHO[1])


def test_a_run_is_restored_within_the_grace_time(make_run, alice):
    ended(make_run)
    delete_runs(Run.objects.all(), *WHO)
    age(Run.objects, grace() - timedelta(minutes=1))

    assert restore_runs(Run.objects.all(), "user:8", "it was needed") == 1

    run = Run.objects.visible_to(alice).get()
    assert (run.deleted_at, run.deleted_by) == (None, "")
    assert Change.objects.get(field="deleted_at", reason="it was needed").new is None


def test_a_run_is_not_restored_after_the_grace_time(make_run):
    ended(make_run)
    delete_runs(Run.objects.all(), *WHO)
    age(Run.objects, grace() + timedelta(minutes=1))

    assert restore_runs(Run.objects.all(), *WHO) == 0


def test_a_session_takes_its_runs_along_and_brings_them_back(make_run, session, alice):
    for _ in range(2):
        ended(make_run, session=session)

    assert delete_session(session, *WHO) == 2
    assert not Session.objects.visible_to(alice).exists()
    assert not Run.objects.visible_to(alice).exists()

    assert restore_session(session, *WHO)
    assert Session.objects.visible_to(alice).get().run_count == 2
    assert Run.objects.visible_to(alice).count() == 2


def test_a_run_that_was_deleted_before_its_session_stays_deleted(make_run, session, committed_db):
    before, along = ended(make_run, session=session), ended(make_run, session=session)
    delete_runs(Run.objects.filter(pk=before.pk), *WHO)
    delete_session(session, *WHO)

    restore_session(session, *WHO)

    assert Run.objects.get(deleted_at=None) == along


def test_a_restored_run_brings_its_session_back(make_run, session):
    ended(make_run, session=session)
    delete_session(session, *WHO)

    restore_runs(Run.objects.all(), *WHO)

    assert Session.objects.get().deleted_at is None


def test_the_change_of_a_session_says_who_deleted_it(session):
    delete_session(session, *WHO)

    change = Change.objects.get(object_type="session", field="deleted_at")
    assert (change.actor, change.reason) == WHO


# ── For good ───────────────────────────────────────────────────────────────
def with_everything(make_run: MakeRun, person: User, session: Session) -> Run:
    run = make_run(session=session)
    append_events(run, [SAID])
    put_artifact(run, "a", "report", [{"kind": "text", "text": "done"}])
    verdict = {"item_id": "i", "item_name": "i", "evaluator_name": "e", "evaluator_type": "builtin"}
    record_results(run, [Result(id=run.pk.hex * 2, run=run, status="passed", score=1, **verdict)])
    give_feedback(run, person, 4)
    Run.objects.filter(pk=run.pk).update(status="succeeded", finished_at=timezone.now())
    delete_runs(Run.objects.filter(pk=run.pk), *WHO)
    restore_runs(Run.objects.filter(pk=run.pk), *WHO)
    return run


def test_nothing_of_a_purged_run_is_left_in_any_table(committed_db, make_run, alice, session):
    with_everything(make_run, alice, session)
    belongs = (Event, Artifact, Result, Feedback, FeedbackVersion, Change, SearchDoc, Run)
    assert all(model._base_manager.exists() for model in belongs)

    purge(Run.objects.all(), *WHO)

    assert [model.__name__ for model in belongs if model._base_manager.exists()] == []


def test_another_run_loses_nothing_by_a_purge(committed_db, make_run, alice, session):
    gone, kept = (with_everything(make_run, alice, session) for _ in range(2))

    purge(Run.objects.filter(pk=gone.pk), *WHO)

    assert (kept.events.count(), kept.results.count(), kept.feedback.count()) == (1, 1, 1)
    assert (counted(session), rollup.difference()) == (1, [])


def test_a_purge_notes_how_much_went(make_run, alice, session):
    runs = [with_everything(make_run, alice, session) for _ in range(2)]
    size = sum(Run.objects.get(pk=run.pk).size for run in runs)

    assert purge(Run.objects.all(), *WHO) == Extent(runs=2, bytes=size)

    noted = Deletion.objects.get()
    assert (noted.runs, noted.bytes, noted.actor, noted.reason) == (2, size, *WHO)


def test_a_batch_ends_where_its_runs_have_many_events(make_run, monkeypatch):
    monkeypatch.setattr(deletion, "EVENTS_AT_ONCE", 3)
    for _ in range(3):
        append_events(ended(make_run), [SAID, SAID])

    purge(Run.objects.all(), *WHO)

    assert [noted.runs for noted in Deletion.objects.all()] == [1, 1, 1]


def test_a_purge_stops_between_two_batches_when_it_is_told_to(make_run, monkeypatch):
    monkeypatch.setattr(deletion, "RUNS_AT_ONCE", 1)
    for _ in range(3):
        ended(make_run)
    going = iter([True, True, False])

    assert purge(Run.objects.all(), *WHO, keep_going=lambda: next(going)).runs == 2


def test_a_run_that_judged_or_retried_a_purged_one_tells_that_it_is_gone(committed_db, make_run):
    gone = ended(make_run)
    judge = make_run(judged_id=gone.pk, retried_id=gone.pk)

    purge(Run.objects.filter(pk=gone.pk), *WHO)

    judge.refresh_from_db()
    assert (judge.judged_id, judge.retried_id) == (None, None)
    change = Change.objects.get(run=judge, field="judged_id")
    assert (change.old, change.new, change.actor, change.reason) == (str(gone.pk), None, *WHO)


def test_a_run_that_somebody_is_writing_is_left_to_the_next_time(committed_db, make_run):
    busy, free = ended(make_run), ended(make_run)
    locked, done = threading.Event(), threading.Event()

    def write() -> None:
        with connection.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("SELECT FROM run WHERE id = %s FOR UPDATE", [busy.pk])
            locked.set()
            done.wait(10)
        connections.close_all()

    with ThreadPoolExecutor() as pool:
        pool.submit(write)
        locked.wait(10)
        assert purge(Run.objects.all(), *WHO).runs == 1
        done.set()

    assert Run.objects.get() == busy
    assert not Run.objects.filter(pk=free.pk).exists()


def test_two_purges_at_once_delete_each_run_once(committed_db, make_run, session, monkeypatch):
    monkeypatch.setattr(deletion, "RUNS_AT_ONCE", 3)
    for _ in range(12):
        ended(make_run, session=session)
    start = threading.Barrier(2)

    def go(_: int) -> Extent:
        start.wait()
        try:
            return purge(Run.objects.all(), *WHO)
        finally:
            connections.close_all()

    with ThreadPoolExecutor() as pool:
        gone = sum(pool.map(go, range(2)), Extent())

    assert gone.runs == 12
    assert sum(noted.runs for noted in Deletion.objects.all()) == 12
    assert (counted(session), rollup.difference()) == (0, [])


def test_writers_go_on_while_others_runs_are_purged(committed_db, make_run, session, owner, monkeypatch):
    monkeypatch.setattr(deletion, "RUNS_AT_ONCE", 10)
    for _ in range(60):
        ended(make_run, session=session)
    doomed = Run.objects.filter(status="succeeded")
    stopping = threading.Event()

    def write(_: int) -> tuple[int, float]:
        run, number, longest = Run.objects.open_task(owner, session), 0, 0.0
        while not stopping.is_set():
            began = time.monotonic()
            append_events(run, [SAID])
            number, longest = number + 1, max(longest, time.monotonic() - began)
        connections.close_all()
        return number, longest

    with ThreadPoolExecutor() as pool:
        writers = [pool.submit(write, number) for number in range(3)]
        try:
            assert purge(doomed, *WHO).runs == 60
        finally:
            stopping.set()
        written = [writer.result() for writer in writers]

    assert sum(number for number, _ in written) == Event.objects.count()
    assert max(longest for _, longest in written) < 2  # the batches are short; see docs/operate.md
    assert (counted(session), rollup.difference()) == (3, [])


def test_a_session_with_a_run_that_is_only_put_away_stays(make_run, session):
    ended(make_run, session=session)
    delete_session(session, *WHO)

    assert purge_sessions(Session.objects.all(), *WHO) == Extent()
    assert Session.objects.exists()


def test_a_purged_session_is_noted_and_its_changes_go(committed_db, session):
    delete_session(session, *WHO)

    assert purge_sessions(Session.objects.all(), *WHO) == Extent(sessions=1)

    assert Deletion.objects.get().sessions == 1
    assert not Change.objects.exists()


@pytest.mark.parametrize("table", ["run", "session", "artifact", "result", "feedback", "deletion"])
def test_what_is_recorded_is_not_deleted_by_raw_sql(db, table):
    assert refused(f"DELETE FROM {table}") == "InsufficientPrivilege"


# ── The search index ───────────────────────────────────────────────────────
@pytest.fixture
def blocks(owner: Owner, make_run: MakeRun) -> list[SearchBlock]:
    """Four blocks, a day apart, with a run in each that says its number."""
    start = timezone.now() - timedelta(days=10)
    times = [start + timedelta(days=day) for day in range(4)]
    made = [SearchBlock.objects.create(owner=owner, from_at=at) for at in [_BEGINNING, *times[1:]]]
    for number, at in enumerate(times):
        run = Run.objects.record_past(
            owner, "succeeded", at + timedelta(hours=1), kind="task", finished_at=timezone.now()
        )
        append_events(run, [NewEvent("message", {"text": f"number{number}"})], past=True)
    assert set(Run.objects.values_list("search_block", flat=True)) == {block.pk for block in made}
    return made


_BEGINNING = datetime.fromisoformat("0001-01-01T00:00:00+00:00")


def test_a_block_without_runs_goes_with_its_terms(blocks, owner):
    purge(Run.objects.filter(search_block=blocks[1].pk), *WHO)

    assert not SearchBlock.objects.filter(pk=blocks[1].pk).exists()
    kept = {blocks[0].pk, blocks[2].pk, blocks[3].pk}
    assert set(SearchTerm.objects.values_list("block", flat=True)) == kept


def test_the_oldest_and_the_newest_block_stay(blocks, owner):
    purge(Run.objects.all(), *WHO)

    assert list(SearchBlock.objects.order_by("pk")) == [blocks[0], blocks[3]]


def test_a_block_whose_runs_are_only_put_away_stays(blocks, owner):
    delete_runs(Run.objects.all(), *WHO)

    assert forget_empty_blocks(owner.pk) == 0


# ── Another try ────────────────────────────────────────────────────────────
def test_a_requeued_evaluation_is_fenced_off_from_its_worker(make_run, claim):
    make_run()
    run, held = claim()

    assert requeue(run, "user:7", "its machine is gone")

    run.refresh_from_db()
    assert (run.status, run.worker_id, run.claimed_at, run.lease_expires_at) == ("queued", None, None, None)
    assert not held.extend(timedelta(seconds=30))
    change = Change.objects.get(field="status")
    assert (change.old, change.new, change.reason) == ("running", "queued", "its machine is gone")


def test_what_does_not_run_is_not_requeued(make_run, owner):
    assert not requeue(make_run(), *WHO)
    assert not requeue(ended(make_run), *WHO)


def test_a_task_is_not_requeued(owner):
    task = Run.objects.open_task(owner)
    Run.objects.filter(pk=task.pk).update(status="running")

    assert not requeue(task, *WHO)


def test_an_evaluation_that_is_to_be_cancelled_is_not_requeued(make_run, claim):
    make_run()
    run, _ = claim()
    request_cancel(run, "user:7")

    assert not requeue(run, *WHO)


def test_a_retry_is_a_new_run_of_the_same_spec_linked_to_the_old_one(make_run, session):
    old = make_run(status="failed", finished_at=timezone.now(), session=session)

    new = retry(old, "user:7", "the cluster was away")

    assert (new.status, new.retried, new.session, new.full_spec) == ("queued", old, session, old.full_spec)
    assert "the cluster was away" in new.events.get().payload["reason"]
    old.refresh_from_db()
    assert old.status == "failed"


def test_an_open_evaluation_or_a_task_is_not_retried(make_run, owner):
    for run in (make_run(), Run.objects.open_task(owner)):
        with pytest.raises(ValueError, match="ended"):
            retry(run, "user:7")

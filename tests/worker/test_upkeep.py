"""What a worker does now and then, beside the queue."""

import threading
import time
from datetime import timedelta

import pytest
from django.db import DatabaseError, connections
from django.utils import timezone

from runs.models import (
    Deletion,
    RetentionPolicy,
    Rollup,
    RollupDelta,
    Run,
    Session,
    Worker,
    delete_session,
    rollup,
)
from runs.models.deletion import grace
from runs.worker import upkeep
from tests.conftest import eventually


@pytest.fixture
def ended(make_run):
    return make_run(status="succeeded", finished_at=timezone.now())


def test_it_folds_rollups(ended):
    upkeep.fold_rollups()

    assert Rollup.objects.exists()
    assert not RollupDelta.objects.exists()


def test_it_folds_until_nothing_is_left(make_run, monkeypatch):
    monkeypatch.setattr(rollup, "FOLDED_AT_ONCE", 2)
    for _ in range(5):
        make_run(status="succeeded", finished_at=timezone.now())

    upkeep.fold_rollups()

    assert not RollupDelta.objects.exists()


def test_it_purges_what_is_past_its_grace_time(make_run, owner):
    session = Session.objects.open(owner, "api", "conversation")
    make_run(session=session)
    delete_session(session, "user:7", "why")
    for rows in (Run.objects, Session.objects):
        rows.update(deleted_at=timezone.now() - grace() - timedelta(minutes=1))

    upkeep.purge_due()

    assert not Run.objects.exists()
    assert not Session.objects.exists()


def test_it_purges_what_has_expired(ended):
    Run.objects.update(expires_at=timezone.now() - timedelta(minutes=1))

    upkeep.purge_due()

    assert not Run.objects.exists()


def test_it_keeps_what_is_not_due(ended):
    upkeep.purge_due()
    upkeep.apply_policies()

    assert Run.objects.exists()


def test_it_applies_enabled_policies(ended, owner):
    RetentionPolicy.objects.create(owner=owner, max_runs=0)

    upkeep.apply_policies()

    assert Deletion.objects.get().actor == "retention"


def test_a_step_that_fails_does_not_keep_the_next_from_its_turn(monkeypatch, settings, caplog):
    def fail(keep_going: upkeep.KeepGoing) -> None:
        raise DatabaseError("the disk is full")

    stopping, reached = threading.Event(), threading.Event()
    monkeypatch.setattr(upkeep, "fold_rollups", fail)
    monkeypatch.setattr(upkeep, "purge_due", lambda keep_going: reached.set())
    for step in ("forget_workers", "forget_kept_answers", "close_traces"):
        monkeypatch.setattr(upkeep, step, lambda keep_going: None)
    monkeypatch.setattr(upkeep, "apply_policies", lambda keep_going: stopping.set())
    monkeypatch.setattr(connections, "close_all", lambda: None)

    upkeep.keep_up(stopping)

    assert reached.is_set()
    assert "the disk is full" in caplog.text


def test_policies_are_applied_less_often_than_the_rest(monkeypatch, settings):
    settings.UPKEEP_INTERVAL = 0.001
    folded, applied, stopping = [], [], threading.Event()

    def fold(keep_going: upkeep.KeepGoing) -> None:
        folded.append(1)
        if len(folded) == 3:
            stopping.set()

    monkeypatch.setattr(upkeep, "fold_rollups", fold)
    monkeypatch.setattr(upkeep, "purge_due", lambda keep_going: None)
    for step in ("forget_workers", "forget_kept_answers", "close_traces"):
        monkeypatch.setattr(upkeep, step, lambda keep_going: None)
    monkeypatch.setattr(upkeep, "apply_policies", lambda keep_going: applied.append(1))
    monkeypatch.setattr(connections, "close_all", lambda: None)

    upkeep.keep_up(stopping)

    assert (len(folded), len(applied)) == (3, 1)


def test_it_forgets_workers_that_have_been_silent_for_long(db):
    for name in ("silent", "alive"):
        Worker.objects.create(name=name, pid=1, places=1, heartbeat=5)
    long_ago = timezone.now() - upkeep.FORGOTTEN_AFTER - timedelta(minutes=1)
    Worker.objects.filter(name="silent").update(seen_at=long_ago)

    upkeep.forget_workers()

    assert [worker.name for worker in Worker.objects.all()] == ["alive"]


def test_a_worker_does_it_and_stops_promptly(make_run, work, settings):
    settings.UPKEEP_INTERVAL = 30
    run = make_run(status="succeeded", finished_at=timezone.now())
    Run.objects.update(expires_at=timezone.now() - timedelta(minutes=1))
    worker = work()
    eventually(lambda: not Run.objects.filter(pk=run.pk).exists())

    began = time.monotonic()
    worker.stop()
    eventually(lambda: not Worker.objects.exists(), 5)  # the last that it does is to sign off

    assert time.monotonic() - began < 5

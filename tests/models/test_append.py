"""Appending to a run's history (DESIGN.md 3.3 and 3.7; issue 3, points 2 and 3)."""

import itertools
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

import psycopg
import pytest
from django.db import connection, connections, transaction

from runs.models import Event, NewEvent, Run, Session, Usage, append_events, finish
from tests.conftest import ROOT
from tests.models.writers import CONNECTIONS, ids

BROKEN = {"text": "a\x00b\ud800c", "k\x00": 1}
PROCESSES = 4


@pytest.fixture
def task(owner) -> Run:
    return Run.objects.open_task(owner, Session.objects.open(owner, "tests", "a session"))


@pytest.fixture
def ended(task) -> Run:
    finish(task, "succeeded")
    return task


def said(text: str) -> NewEvent:
    return NewEvent("message", {"parts": [{"kind": "text", "text": text}]}, role="user")


def test_events_come_back_as_they_were_given(task):
    given = NewEvent(
        "tool_call",
        {"name": "helm"},
        role="agent",
        event_id="e1",
        occurred_at=datetime(2026, 1, 2, tzinfo=UTC),
        usage=Usage(3, 4, Decimal("0.5")),
    )

    (written,) = append_events(task, [given])

    event = Event.objects.get()
    assert (event.pk, event.seq) == (written.pk, written.seq) == (event.pk, 1)
    assert (event.kind, event.payload, event.role) == ("tool_call", {"name": "helm"}, "agent")
    assert (event.event_id, event.occurred_at) == ("e1", given.occurred_at)
    assert Usage(event.input_tokens, event.output_tokens, event.cost) == given.usage


def test_the_run_knows_how_many_and_how_large(task):
    append_events(task, [NewEvent("message", {"a": 1}), NewEvent("message", "ä")])

    task.refresh_from_db()
    assert (task.event_count, task.size) == (2, len('{"a": 1}') + len('"ä"'.encode()))


def test_what_the_steps_used_adds_up(task):
    append_events(
        task, [NewEvent("message", {}, usage=Usage(1, None, Decimal("0.1"))), NewEvent("message", {})]
    )
    append_events(task, [NewEvent("message", {}, usage=Usage(2, 5, Decimal("0.2")))])

    task.refresh_from_db()
    assert (task.input_tokens, task.output_tokens, task.cost) == (3, 5, Decimal("0.3"))


def test_a_run_that_used_nothing_known_says_so(task):
    append_events(task, [NewEvent("message", {})])

    task.refresh_from_db()
    assert (task.input_tokens, task.output_tokens, task.cost) == (None, None, None)


def test_the_first_that_the_user_says_is_the_title(task):
    append_events(task, [NewEvent("message", {"parts": [{"text": "Hello"}]}, role="agent")])
    append_events(task, [said("Where   is\nmy parcel?"), said("Hello?")])
    append_events(task, [said("Never mind")])

    task.refresh_from_db()
    assert task.title == "Where is my parcel?"


def test_a_title_that_is_there_stays(make_run):
    run = make_run(title="Nightly")
    append_events(run, [said("Where is it?")])

    run.refresh_from_db()
    assert run.title == "Nightly"


def test_the_session_was_active_then(task):
    Session.objects.update(last_activity_at=datetime(2020, 1, 1, tzinfo=UTC))
    append_events(task, [NewEvent("message", {})])

    event = Event.objects.get()
    assert Session.objects.get().last_activity_at == event.created_at.replace(microsecond=0)


def test_the_session_was_active_then_also_late_in_a_transaction(task):
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(1)")
    append_events(task, [NewEvent("message", {})])

    event = Event.objects.get()
    assert Session.objects.get().last_activity_at == event.created_at.replace(microsecond=0)


def test_the_session_was_active_when_its_client_says(task):
    Session.objects.update(last_activity_at=datetime(2020, 1, 1, tzinfo=UTC))
    happened = datetime(2021, 1, 1, tzinfo=UTC)
    append_events(task, [NewEvent("message", {}, occurred_at=happened)])

    assert Session.objects.get().last_activity_at == happened


def test_a_clock_that_is_ahead_does_not_put_the_session_into_the_future(task):
    append_events(task, [NewEvent("message", {}, occurred_at=datetime.now(UTC) + timedelta(days=9))])

    assert Session.objects.get().last_activity_at < datetime.now(UTC) + timedelta(minutes=1)


# ── Once ───────────────────────────────────────────────────────────────────
def test_an_event_id_is_kept_once(task):
    first = append_events(task, [NewEvent("message", {"n": 1}, event_id="e1")])
    again = append_events(task, [NewEvent("message", {"n": 2}, event_id="e1"), NewEvent("message", {"n": 3})])

    assert (len(first), len(again)) == (1, 1)
    assert list(task.events.values_list("seq", "payload__n")) == [(1, 1), (2, 3)]


def test_an_event_id_is_kept_once_within_a_batch(task):
    append_events(task, [NewEvent("message", {"n": n}, event_id="e1") for n in range(3)])

    assert [event.payload for event in task.events.all()] == [{"n": 0}]


def test_two_runs_may_use_one_event_id(task, owner):
    other = Run.objects.open_task(owner)
    for run in (task, other):
        append_events(run, [NewEvent("message", {}, event_id="e1")])

    assert [run.events.count() for run in (task, other)] == [1, 1]


def test_twenty_callers_at_once_keep_an_event_id_once(committed_db, task):
    barrier = threading.Barrier(20)

    def send(number: int) -> int:
        try:
            barrier.wait()
            return len(append_events(task, [NewEvent("message", {"n": number}, event_id="e1")]))
        finally:
            connections.close_all()

    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(send, range(20))) == 1

    task.refresh_from_db()
    assert (task.event_count, task.events.count()) == (1, 1)


# ── Exactly ────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("payload", [BROKEN, "\x00", [1e300, -0.0], None, {"n": 2**70}])
def test_no_payload_is_changed(task, payload):
    append_events(task, [NewEvent("message", payload)])

    assert repr(Event.objects.get().full_payload) == repr(payload)


@pytest.mark.parametrize("payload", [BROKEN, "\ud800", 1e300, {"a": 1}])
def test_no_late_payload_is_changed(ended, payload):
    append_events(ended, [NewEvent('odd "kind" \\', payload)])

    late = Event.objects.get(kind="late_write")
    assert repr(late.full_payload) == repr({"kind": 'odd "kind" \\', "payload": payload})


# ── Late ───────────────────────────────────────────────────────────────────
def test_what_comes_after_the_end_changes_nothing_but_the_count(ended):
    before = Run.objects.filter(pk=ended.pk).values().get()

    (late,) = append_events(
        ended, [NewEvent("message", {"n": 1}, role="user", usage=Usage(1, 2, Decimal(3)))]
    )

    after = Run.objects.filter(pk=ended.pk).values().get()
    changed = {name for name, value in after.items() if value != before[name]}
    assert changed <= {"event_count", "size", "updated_at"}
    assert (late.kind, late.payload) == ("late_write", {"kind": "message", "payload": {"n": 1}})
    assert Event.objects.get(pk=late.pk).payload == late.payload


def test_a_late_event_id_is_kept_once_too(ended):
    for _ in range(2):
        append_events(ended, [NewEvent("message", {}, event_id="e1")])

    assert ended.events.filter(kind="late_write").count() == 1


def test_the_past_is_told_after_its_end(ended):
    append_events(ended, [NewEvent("message", {}, usage=Usage(7))], past=True)

    ended.refresh_from_db()
    assert (ended.events.last().kind, ended.input_tokens) == ("message", 7)


def test_a_run_that_is_not_there_takes_nothing(db):
    with pytest.raises(Run.DoesNotExist):
        append_events(Run(pk=uuid4()), [NewEvent("message", {})])

    assert not Event.objects.exists()


def test_what_is_rolled_back_leaves_no_gap(task):
    with pytest.raises(RuntimeError), transaction.atomic():
        append_events(task, [NewEvent("message", {})])
        raise RuntimeError
    append_events(task, [NewEvent("message", {})])

    assert list(task.events.values_list("seq", flat=True)) == [1]


# ── Many at once ───────────────────────────────────────────────────────────
def test_fifty_writers_of_several_processes_leave_no_gap(committed_db, task):
    """4 x 13 connections; a deadlock, a number given twice or a lost append would show."""
    settings = {**os.environ, **committed_db, "DJANGO_SETTINGS_MODULE": "project.settings"}
    command = [sys.executable, "-m", "tests.models.writers", str(task.pk)]
    processes = [
        subprocess.Popen([*command, str(number)], cwd=ROOT, env=settings) for number in range(PROCESSES)
    ]
    assert [process.wait(timeout=60) for process in processes] == [0] * PROCESSES

    writers = itertools.product(range(PROCESSES), range(CONNECTIONS))
    sent = [event_id for writer in writers for event_id in ids(*writer)]
    rows = list(task.events.order_by("seq").values_list("seq", "event_id"))
    task.refresh_from_db()
    assert task.event_count == len(sent)
    assert [seq for seq, _ in rows] == list(range(1, len(sent) + 1))
    assert sorted(event_id for _, event_id in rows) == sorted(sent)


def test_two_events_of_one_number_are_refused(committed_db, task):
    append_events(task, [NewEvent("message", {})])

    with psycopg.connect(committed_db["DATABASE_URL"]) as app, pytest.raises(psycopg.errors.UniqueViolation):
        app.execute(_SAME_NUMBER, [str(task.pk)])


_SAME_NUMBER = """
    INSERT INTO event (run_id, seq, kind, role, payload, size) VALUES (%s, 1, 'message', '', '{}', 2)
"""


def test_one_number_further_is_not_refused(committed_db, task):
    """The control of the test above."""
    append_events(task, [NewEvent("message", {})])

    with psycopg.connect(committed_db["DATABASE_URL"]) as app:
        assert app.execute(_SAME_NUMBER.replace("1", "2", 1), [str(task.pk)]).rowcount == 1


def test_an_empty_event_id_is_none(make_run):
    run = make_run()

    append_events(run, [NewEvent("message", {}, event_id=""), NewEvent("message", {}, event_id="")])

    assert list(run.events.values_list("event_id", flat=True)) == [None, None]


def test_an_event_id_that_postgresql_cannot_hold_is_kept_with_a_mark(make_run):
    run = make_run()

    for _ in range(2):
        append_events(run, [NewEvent("message", {}, event_id="a\x00b")])

    assert list(run.events.values_list("event_id", flat=True)) == ["a\N{REPLACEMENT CHARACTER}b"]


def test_an_event_id_that_no_index_takes_is_refused(make_run):
    run = make_run()

    with pytest.raises(ValueError, match="more than 2,000 bytes"):
        append_events(run, [NewEvent("message", {}, event_id="x" * 2001)])

"""Imports as processes: killed at any moment, interrupted, and following what comes later."""

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, OperationalError, connections

from runs.importers.bindu import take
from runs.importers.database import Source
from runs.importers.report import Report
from runs.models import Owner, Run
from runs.models.counters import differences
from runs.models.imports import Busy
from runs.models.past_tasks import Room
from runs.models.task import Task, histories, submit_task
from tests.conftest import ROOT, eventually
from tests.importers.sources import BINDU, Database, a_database
from tests.importers.test_bindu import DID, add_context, add_task, at, change, said
from tests.importers.test_bindu import run_it as run_import

TASKS, MESSAGES = 900, 5


@pytest.fixture
def source() -> Iterator[Database]:
    with a_database() as database:
        database.execute(BINDU.format(schema=DID))
        yield database


@pytest.fixture
def start(committed_db: dict[str, str], source: Database) -> Iterator[Any]:
    """Starts imports of the source; they are killed at the end."""
    processes: list[subprocess.Popen[str]] = []

    def begin(*options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "manage.py", "import", "--skip-checks", "bindu", source.url, *options]
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **committed_db},
            stdout=subprocess.PIPE,
            text=True,
            # As a terminal gives it: tests that run in the background have Ctrl-C ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        processes.append(process)
        return process

    yield begin
    for process in processes:
        process.kill()
        process.wait()


def fill(source: Database) -> None:
    context = add_context(source)
    source.execute(
        f"""
        INSERT INTO {DID}.tasks
            (id, context_id, kind, state, state_timestamp, created_at, updated_at, history)
        SELECT md5(n::text)::uuid, '{context}', 'task', 'completed', at, at, at, (
            SELECT jsonb_agg(jsonb_build_object('role', 'user', 'number', n * 100 + m) ORDER BY m)
            FROM generate_series(1, {MESSAGES}) AS m
        ) FROM (
            SELECT n, '2026-01-01'::timestamptz + n * interval '1 minute' AS at
            FROM generate_series(1, {TASKS}) AS n
        ) AS tasks
        """
    )


def kill_beyond(number: int, process: subprocess.Popen[str]) -> None:
    """Ends an import as soon as it has taken more than so many tasks; one that was faster has ended."""
    eventually(lambda: Task.objects.count() > number or process.poll() is not None, 60)
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_killed_twice_it_ends_complete_with_nothing_twice(owner: Owner, source: Database, start: Any) -> None:
    fill(source)
    for part in (0, TASKS // 3):
        kill_beyond(part, start())
    process = start()
    assert process.wait(120) == 0, process.stdout.read()
    runs = dict(Task.objects.values_list("run", "task_id"))
    assert len(set(runs.values())) == len(runs) == TASKS
    assert {len(messages) for messages in histories(list(runs)).values()} == {MESSAGES}
    assert list(differences()) == []


class Addressed(Source):
    """One that was reached by another name."""

    place = ""


def imported_at_once(source: Database, owner: Owner, places: Sequence[str]) -> list[str]:
    """What becomes of imports that begin together, each by another address, or by the same."""
    together = threading.Barrier(len(places))

    def one(place: str) -> str:
        try:
            with source.opened() as opened:
                addressed = Addressed(opened._connection)
                addressed.place = place
                reports = take(addressed, owner)
                next(reports)
                together.wait()
                deque(reports, maxlen=0)
            return "done"
        except Busy:
            return "busy"
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(places)) as threads:
        return sorted(threads.map(one, places))


def test_of_two_at_a_time_one_ends(owner: Owner, source: Database, committed_db: Any) -> None:
    for _ in range(20):
        add_task(source)
    assert imported_at_once(source, owner, ["here", "here"]) == ["busy", "done"]
    assert Task.objects.count() == 20


def test_two_at_a_time_by_different_addresses_take_nothing_twice(
    owner: Owner, source: Database, committed_db: Any
) -> None:
    for _ in range(100):
        add_task(source, state="working")
    with source.opened() as opened:
        deque(take(opened, owner), maxlen=0)
    more = """history || '[{"role": "agent", "parts": []}]'"""
    source.execute(f"UPDATE {DID}.tasks SET updated_at = %s, history = {more}", [at(50)])
    assert imported_at_once(source, owner, ["a name", "another"]) == ["done", "done"]
    assert set(Run.objects.values_list("event_count", flat=True)) == {3}


def test_an_import_that_ctrl_c_ends_has_not_succeeded(owner: Owner, source: Database, start: Any) -> None:
    fill(source)
    process = start()
    eventually(lambda: Task.objects.exists(), 60)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert "the same command goes on" in process.stdout.read()


@pytest.mark.parametrize("error", [IntegrityError("there already"), OperationalError("gone\nfor good")])
def test_it_follows_on_when_what_it_takes_cannot_be_written(
    owner: Owner, source: Database, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    passes: list[Exception | type[BaseException] | None] = [None, error, KeyboardInterrupt]

    def taking(*_: Any) -> Iterator[Report]:
        yield Report("tasks")
        if (wrong := passes.pop(0)) is not None:
            raise wrong

    monkeypatch.setattr("runs.importers.bindu.take", taking)
    monkeypatch.setattr("time.sleep", lambda _: None)
    out = io.StringIO()
    call_command("import", "bindu", source.url, "--follow", stdout=out)
    assert out.getvalue().count("trying again") == 1


def test_an_agent_that_writes_the_same_is_told(
    owner: Owner, source: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It submits a task that the import has seen to be new."""
    task_id, context_id = add_task(source), uuid4()
    known = Room.known

    def overtaken(room: Room, ids: Sequence[UUID]) -> Any:
        here = known(room, ids)
        submit_task(owner, said("mine"), task_id, context_id, namespace=DID)
        return here

    monkeypatch.setattr("runs.models.past_tasks.Room.known", overtaken)
    with pytest.raises(CommandError, match="an agent has written the same here"):
        call_command("import", "bindu", source.url, stdout=io.StringIO())


def test_an_agent_that_goes_on_with_a_task_waits_for_the_import_and_not_in_a_circle(
    owner: Owner, source: Database, committed_db: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It writes to a task that changed there too, while a new one of the same context is taken in."""
    context = add_context(source)
    task_id = add_task(source, context_id=context, state="working")
    run_import(source)
    change(source, task_id, 20, history=[said("one"), said("two"), said("three")])
    add_task(source, context_id=context, updated_at=at(20))
    add = Room.add

    def go_on() -> None:
        try:
            submit_task(owner, said("four"), task_id, context, namespace=DID)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as thread:

        def overtaken(room: Room, tasks: Any) -> Any:
            written = add(room, tasks)
            going_on.append(thread.submit(go_on))
            time.sleep(0.5)
            return written

        going_on: list[Future[None]] = []
        monkeypatch.setattr("runs.models.past_tasks.Room.add", overtaken)
        run_import(source)
        going_on[0].result(timeout=20)
    assert len(histories([task_id])[task_id]) == 4
    assert list(differences()) == []


def test_it_follows_what_is_new_and_what_changes(owner: Owner, source: Database, start: Any) -> None:
    first = add_task(source, state="working")
    process = start("--follow")
    eventually(lambda: Task.objects.filter(task_id=first).exists(), 60)
    second = add_task(source, updated_at=at(30))
    change(source, first, 40, state="completed", state_timestamp=at(40))
    states = {first: "completed", second: "completed"}
    eventually(lambda: dict(Task.objects.values_list("task_id", "state")) == states, 60)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert "the same command goes on" in process.stdout.read()

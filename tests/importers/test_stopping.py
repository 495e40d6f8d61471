"""Imports as processes: killed at any moment, interrupted, and following what comes later."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from runs.models import Owner
from runs.models.counters import differences
from runs.models.task import Task, histories
from tests.conftest import ROOT, eventually
from tests.importers.sources import BINDU, Database, a_database
from tests.importers.test_bindu import DID, add_context, add_task, at, change

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

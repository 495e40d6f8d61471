"""The database is away, or its clock is another one (RELIABILITY.md R5a, R9, R12)."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import DataError, OperationalError, connection

from runs.models import Result, Run
from runs.worker import execute
from runs.worker.outage import is_passing
from tests.conftest import ROOT, eventually
from tests.worker.conftest import ended_as, has_ended
from tests.worker.specs import BUILTIN, copies, spec_of
from tests.worker.test_crash import assert_whole, is_under_way

AWAY = 3.0  # seconds

# A worker whose clock is an hour off, in every way that Python tells the time of day.
SHIFTED = """
import datetime, sys, time
shift = float(sys.argv.pop())
real, Real = time.time, datetime.datetime

class Shifted(Real):
    @classmethod
    def now(cls, tz=None):
        return Real.now(tz) + datetime.timedelta(seconds=shift)

    @classmethod
    def utcnow(cls):
        return Real.utcnow() + datetime.timedelta(seconds=shift)

time.time = lambda: real() + shift
datetime.datetime = Shifted
import manage
manage.main()
"""


# ── Connections that are lost ──────────────────────────────────────────────
def end_the_others() -> None:
    """Ends every connection to this test's database but our own."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()"
        )


def test_a_worker_whose_connections_are_lost_for_seconds_ends_its_run_once(make_run, start_worker):
    run = make_run(spec=spec_of(copies(200)))
    start_worker(WORKER_LEASE="1.5", RUN_MAX_ATTEMPTS="100")
    eventually(lambda: is_under_way(run))

    until = time.monotonic() + AWAY
    while time.monotonic() < until:
        end_the_others()
        time.sleep(0.05)
    eventually(lambda: has_ended(run), 60)

    assert_whole(run)
    assert set(ended_as(run)[:-1]) <= {"lost", "released"}  # a lost lease is no cancel
    assert run.cancel_requested_at is None


def test_a_connection_that_is_lost_between_heartbeats_costs_nothing(make_run, work, programs):
    slow = programs.add("slow", "import time; time.sleep(1.5); print('{\"score\": 1.0}')")
    run = make_run(spec=spec_of(None, slow))
    worker = work()
    eventually(lambda: Run.objects.get(pk=run.pk).status == "running")

    end_the_others()
    eventually(lambda: has_ended(run))

    assert (run.status, ended_as(run), worker.fenced) == ("succeeded", ["succeeded"], 0)


def test_what_postgresql_refuses_is_not_repeated_for_ever(make_run, work, monkeypatch):
    """Nor is the attempt given back: it would be refused again."""
    monkeypatch.setattr("runs.models.queue.pause_after", lambda crashes: 0.05)
    too_much = {"latency_ms": 2**40}
    judged = execute.result_of
    monkeypatch.setattr(execute, "result_of", lambda *given: changed(judged(*given), **too_much))
    run = make_run(spec=spec_of(None, BUILTIN))
    work(RUN_MAX_ATTEMPTS=3)

    eventually(lambda: has_ended(run))

    assert (run.status, ended_as(run)) == ("failed", ["crashed"] * 3)
    assert "integer out of range" in run.error


def changed(result: Result, **fields: Any) -> Result:
    vars(result).update(fields)
    return result


@pytest.mark.parametrize(
    ("state", "passes"),
    [(None, True), ("57P01", True), ("40P01", True), ("25P03", True), ("53100", True), ("54000", False)],
)
def test_a_failure_of_the_database_is_told_from_its_refusal(state, passes):
    error = OperationalError("x")
    error.__cause__ = psycopg.OperationalError("x")
    error.__cause__.sqlstate = state

    assert is_passing(error) == passes
    assert not is_passing(DataError("x"))


def test_a_worker_waits_for_a_database_that_is_away_at_its_start(make_run, committed_db):
    run = make_run()
    nowhere = {**committed_db, "DATABASE_URL": "postgresql://runfolio_app@/x?host=/runfolio-is-away"}
    process = subprocess.Popen(
        [sys.executable, "manage.py", "worker"],
        cwd=ROOT,
        env={**os.environ, **nowhere},
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stderr is not None
        said = next(line for line in process.stderr if "claiming: " in line)
        process.terminate()
        process.stderr.read()
    assert "runfolio-is-away" in said
    assert process.returncode == 0
    run.refresh_from_db()
    assert run.status == "queued"


def test_a_connection_that_falls_silent_is_given_up_within_15_seconds(settings):
    """Of TCP only; the embedded PostgreSQL has none."""
    for database in settings.DATABASES.values():
        options = database["OPTIONS"]
        assert options["tcp_user_timeout"] <= 15_000  # milliseconds
        probes = options["keepalives_idle"] + options["keepalives_interval"] * options["keepalives_count"]
        assert probes <= 15
        assert options["connect_timeout"] <= 15
    assert settings.DATABASE_DIRECT["OPTIONS"]["tcp_user_timeout"] <= 15_000


# ── Clocks ─────────────────────────────────────────────────────────────────
@pytest.fixture
def start_shifted(committed_db: dict[str, str]) -> Iterator[Callable[[timedelta], None]]:
    """Starts workers whose clock is off by so much."""
    processes = []

    def start(shift: timedelta) -> None:
        quick = {"WORKER_POLL": "0.05", "WORKER_HEARTBEAT": "0.2", "WORKER_LEASE": "2"}
        command = [sys.executable, "-c", SHIFTED, "worker", str(shift.total_seconds())]
        processes.append(subprocess.Popen(command, cwd=ROOT, env={**os.environ, **committed_db, **quick}))

    yield start
    for process in processes:
        process.kill()
        process.wait()


def test_workers_whose_clocks_are_hours_apart_execute_each_run_once(make_run, start_shifted):
    later = make_run(run_after=database_now() + timedelta(minutes=30))
    start_shifted(timedelta(hours=1))
    start_shifted(timedelta(hours=-1))
    runs = [make_run() for _ in range(30)] + [make_run(spec=spec_of(copies(80)))]

    eventually(lambda: all(map(has_ended, runs)), 60)

    later.refresh_from_db()
    assert (later.status, later.attempt) == ("queued", 0)  # not early
    for run in runs:
        assert ended_as(run) == ["succeeded"]  # no lease seemed to have run out
        assert run.created_at <= run.started_at <= run.finished_at <= database_now()


def database_now() -> Any:
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        return cursor.fetchone()[0]

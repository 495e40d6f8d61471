"""Processes that take jobs: a module of its own, since it is imported before Django is set up."""

import asyncio
import os
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from typing import Any

import psycopg

RAW = """
    CREATE TABLE bench_job (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, status text NOT NULL DEFAULT 'queued',
        payload jsonb NOT NULL, created_at timestamptz NOT NULL DEFAULT statement_timestamp(),
        started_at timestamptz, finished_at timestamptz
    );
    CREATE INDEX ON bench_job (created_at, id) WHERE status = 'queued';
"""
RAW_CLAIM = """
    UPDATE bench_job SET status = 'running', started_at = statement_timestamp() WHERE id = (
        SELECT id FROM bench_job WHERE status = 'queued' ORDER BY created_at, id LIMIT 1
        FOR UPDATE SKIP LOCKED
    ) RETURNING id, payload
"""
RAW_FINISH = "UPDATE bench_job SET status = 'done', finished_at = statement_timestamp() WHERE id = %s"


def drain(kind: str, environment: dict[str, str], number: int, barrier: Barrier, answers: Any) -> None:
    """Takes and finishes `number` jobs, beginning together with the others; gives the seconds."""
    os.environ.update(environment)
    work = {"raw": _raw, "procrastinate": _procrastinate, "runfolio": _runfolio, "bare": _bare}[kind]
    work(number, lambda: barrier.wait(60), lambda seconds: answers.put(seconds))


type Begin = Callable[[], object]
type Tell = Callable[[float], object]


def _raw(number: int, begin: Begin, tell: Tell) -> None:
    with psycopg.connect(os.environ["BENCH_SUPERUSER"], autocommit=True) as connection:
        begin()
        began = time.perf_counter()
        for _ in range(number):
            row = connection.execute(RAW_CLAIM).fetchone()
            assert row is not None
            connection.execute(RAW_FINISH, [row[0]])
        tell(time.perf_counter() - began)


def _procrastinate(number: int, begin: Begin, tell: Tell) -> None:
    asyncio.run(_procrastinate_async(number, begin, tell))


async def _procrastinate_async(number: int, begin: Begin, tell: Tell) -> None:
    from procrastinate import App, PsycopgConnector
    from procrastinate.jobs import Status

    app = App(connector=PsycopgConnector(conninfo=os.environ["BENCH_SUPERUSER"], min_size=1, max_size=2))
    async with app.open_async():
        jobs = app.job_manager
        worker = await jobs.register_worker()
        begin()
        began = time.perf_counter()
        for _ in range(number):
            job = await jobs.fetch_job(queues=None, worker_id=worker)
            assert job is not None
            await jobs.finish_job(job=job, status=Status.SUCCEEDED, delete_job=False)
        tell(time.perf_counter() - began)


def _runfolio(number: int, begin: Begin, tell: Tell) -> None:
    _ours(number, begin, tell, with_history=True)


def _bare(number: int, begin: Begin, tell: Tell) -> None:
    _ours(number, begin, tell, with_history=False)


def _ours(number: int, begin: Begin, tell: Tell, *, with_history: bool) -> None:
    import django

    django.setup()
    from datetime import timedelta

    from django.db import connection

    from runs.models import Claim, NewEvent, claim_next

    said = [NewEvent("message", {"parts": [{"kind": "text", "text": "The answer is 42."}]}, "agent")]
    name, lease = f"bench/{os.getpid():x}/1", timedelta(seconds=30)
    connection.ensure_connection()
    begin()
    began = time.perf_counter()
    for _ in range(number):
        run = claim_next(name, lease)
        assert run is not None
        claim = Claim(run.pk, name, run.attempt)
        claim.succeed({"trace_count": 1}, events=said if with_history else ())
    tell(time.perf_counter() - began)


def listen(environment: dict[str, str]) -> None:
    """The raw worker: woken by a notification, takes a job."""
    with psycopg.connect(environment["BENCH_SUPERUSER"], autocommit=True) as connection:
        connection.execute("LISTEN bench")
        while True:
            for _ in connection.notifies(stop_after=1):
                pass
            row = connection.execute(RAW_CLAIM).fetchone()
            if row is not None:
                connection.execute(RAW_FINISH, [row[0]])

"""The queue beside raw psycopg and procrastinate on the same server (issue 4, "Speed")."""

import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg

from bench.queue_workers import RAW, drain, listen
from bench.server import ROOT
from runs.models import Owner, Run
from runs.models.workers import pause_queue, resume_queue

ROUNDS = 5
JOBS = 300  # of one worker in one round
FINISHED, QUEUED = 100_000, 10_000
SUBMITTED = 40  # one after the other, to be started
WINDOW = 3.0  # seconds of submitting
SPEC = {
    "approach": "trace_replay",
    "target": {
        "kind": "inline",
        "inline": {"data": []},
        "baseUrl": None,
        "traceId": None,
        "traceFormat": None,
        "traceCount": None,
        "traceFiles": None,
    },
    "evalConfig": {},
    "evalSet": None,
    "sinks": [],
    "context": {},
    "credentialRefs": None,
}
_spawn = multiprocessing.get_context("spawn")


def main(runs: int, rounds: int) -> None:
    with psycopg.connect(os.environ["BENCH_SUPERUSER"], autocommit=True) as superuser:
        superuser.execute(RAW)
        subprocess.run([sys.executable, "-c", _SCHEMA], check=True, stderr=subprocess.DEVNULL)
        owner = Owner.objects.create(name="bench")
        for workers in (1, 4):
            _claims(superuser, owner, workers)
        _full_and_empty(superuser, owner)
        _submit_to_start(superuser, owner)
        _submissions(owner)


# ── Claim and finish ───────────────────────────────────────────────────────
_SCHEMA = """
import os
from procrastinate import App, SyncPsycopgConnector
app = App(connector=SyncPsycopgConnector(conninfo=os.environ["BENCH_SUPERUSER"]))
with app.open():
    app.schema_manager.apply_schema()
"""


def _claims(superuser: psycopg.Connection, owner: Owner, workers: int) -> None:
    number = JOBS // workers * 2 if workers > 1 else JOBS
    kinds = ("raw", "procrastinate", "runfolio", "bare")
    rates: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(ROUNDS):
        for kind in kinds:
            _fill(superuser, owner, kind, number * workers)
            rates[kind].append(_drained(kind, number, workers))
    print(f"\nclaim and finish, {workers} worker{'s' if workers > 1 else ''}, jobs a second", flush=True)
    raw, other = (statistics.median(rates[kind]) for kind in ("raw", "procrastinate"))
    for kind, label in zip(
        kinds, ("raw loop", "procrastinate", "Runfolio with an event", "Runfolio"), strict=True
    ):
        rate = statistics.median(rates[kind])
        limit = "  limits: 0.5 x, 1.5 x" if kind in ("runfolio", "bare") else ""
        print(f"{label:30} {rate:8.0f}  {rate / raw:5.2f} x raw  {rate / other:5.2f} x procrastinate{limit}")


def _fill(superuser: psycopg.Connection, owner: Owner, kind: str, number: int) -> None:
    """Each with one webhook, so that what it ends with is written to the outbox."""
    if kind == "raw":
        superuser.execute(
            "INSERT INTO bench_job (payload) SELECT %s::jsonb FROM generate_series(1, %s)",
            [json.dumps(SPEC), number],
        )
    elif kind == "procrastinate":
        superuser.execute(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, args) SELECT 'q', 'bench', %s::jsonb"
            " FROM generate_series(1, %s)",
            [json.dumps(SPEC), number],
        )
    else:
        made = [Run(owner=owner, kind="evaluation", status="queued", spec=SPEC) for _ in range(number)]
        Run.objects.bulk_create(made)
        with superuser.cursor() as cursor:
            cursor.executemany(_WEBHOOK, [[run.pk] for run in made])


_WEBHOOK = """
    INSERT INTO webhook (id, run_id, position, external_id, kind, shown, host, sealed, partial)
    VALUES (gen_random_uuid(), %s, 0, '', 'http_webhook', 'http://bench', 'bench', '', true)
"""


def _drained(kind: str, number: int, workers: int, **environment: str) -> float:
    """Jobs a second of all workers together; their start is not measured."""
    barrier, answers = _spawn.Barrier(workers), _spawn.Queue()
    processes = [
        _spawn.Process(target=drain, args=(kind, environment, number, barrier, answers))
        for _ in range(workers)
    ]
    for process in processes:
        process.start()
    seconds = [answers.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    return workers * number / max(seconds)


# ── A full table ───────────────────────────────────────────────────────────
def _full_and_empty(superuser: psycopg.Connection, owner: Owner) -> None:
    """Two databases of one server, in turn."""
    superuser.execute("DELETE FROM delivery; DELETE FROM webhook; DELETE FROM attempt")
    superuser.execute(
        "SET session_replication_role = replica; TRUNCATE event, search_doc, search_term, run CASCADE"
    )
    superuser.execute("RESET session_replication_role")
    urls = dict.fromkeys(("empty", "full"), os.environ["DATABASE_URL"])
    urls["full"] = urls["full"].replace("/runfolio?", "/runfolio_full?")
    from django.db import connections

    connections.close_all()
    with suppress(psycopg.Error):
        superuser.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'runfolio' AND pid <> pg_backend_pid()"
        )
    template = psycopg.connect(
        os.environ["BENCH_SUPERUSER"].replace("/runfolio?", "/postgres?"), autocommit=True
    )
    superuser.close()
    template.execute("CREATE DATABASE runfolio_full TEMPLATE runfolio")
    template.close()
    full = psycopg.connect(
        os.environ["BENCH_SUPERUSER"].replace("/runfolio?", "/runfolio_full?"), autocommit=True
    )
    full.execute("SET session_replication_role = replica")
    full.execute(
        _MANY, {"owner": owner.pk, "spec": json.dumps(SPEC), "all": FINISHED + QUEUED, "done": FINISHED}
    )
    full.execute("VACUUM ANALYZE")
    rates: dict[str, list[float]] = {"empty": [], "full": []}
    for _ in range(ROUNDS):
        Run.objects.bulk_create(
            Run(owner=owner, kind="evaluation", status="queued", spec=SPEC) for _ in range(JOBS)
        )
        for name, url in urls.items():
            rates[name].append(_drained("bare", JOBS, 1, DATABASE_URL=url))
    full.close()
    empty, crowded = (statistics.median(rates[name]) for name in ("empty", "full"))
    print(
        f"\nwith {FINISHED:,} finished and {QUEUED:,} queued: {crowded:.0f} a second, {crowded / empty:.2f} x of an empty table  limit: 0.75 x",
        flush=True,
    )


_MANY = """
    INSERT INTO run (id, owner_id, kind, agent, model, title, status, raw_status, spec, metadata, attempt,
        cancel_requested_by, cancel_reason, deleted_by, priority, crashes, size, search_block,
        event_count, artifact_count, passed_count, failed_count, errored_count, skipped_count, rating_count,
        created_at, started_at, finished_at)
    SELECT gen_random_uuid(), %(owner)s, 'evaluation', '', '', '',
        CASE WHEN n <= %(done)s THEN 'succeeded' ELSE 'queued' END,
        '', %(spec)s::jsonb, '{}', 0, '', '', '', 0, 0, 100, 1, 0, 0, 0, 0, 0, 0, 0,
        now() - interval '1 day' + n * interval '0.1 second',
        CASE WHEN n <= %(done)s THEN now() END, CASE WHEN n <= %(done)s THEN now() END
    FROM generate_series(1, %(all)s) AS n
"""


# ── From submitting to starting ────────────────────────────────────────────
def _submit_to_start(superuser: psycopg.Connection, owner: Owner) -> None:
    with _worker(WORKER_POLL="5"), psycopg.connect(os.environ["BENCH_SUPERUSER"], autocommit=True) as raw:
        _wait_for_worker()
        listener = _spawn.Process(target=listen, args=(dict(os.environ),), daemon=True)
        listener.start()
        time.sleep(2)
        taken: dict[str, list[float]] = {"raw": [], "runfolio": []}
        for _ in range(5):
            for _ in range(SUBMITTED):
                taken["raw"].append(_raw_start(raw))
                taken["runfolio"].append(_our_start(owner))
        listener.kill()
    ours, theirs = (statistics.median(taken[name]) * 1000 for name in ("runfolio", "raw"))
    print(
        f"\nsubmit to started: {ours:.2f} ms, raw LISTEN/NOTIFY {theirs:.2f} ms, {ours / theirs:.2f} x  limit: 3 x",
        flush=True,
    )


def _raw_start(connection: psycopg.Connection) -> float:
    began = time.time()
    with connection.transaction():
        row = connection.execute(
            "INSERT INTO bench_job (payload) VALUES (%s) RETURNING id", [json.dumps(SPEC)]
        ).fetchone()
        connection.execute("NOTIFY bench")
    assert row is not None
    return (
        _until(
            lambda: connection.execute("SELECT started_at FROM bench_job WHERE id = %s", [row[0]]).fetchone()
        )
        - began
    )


def _our_start(owner: Owner) -> float:
    began = time.time()
    run = Run.objects.submit(owner, SPEC)
    rows = Run.objects.filter(pk=run.pk).values_list("claimed_at", "started_at")
    started = _until(lambda: (rows.get()[1],))
    return started - began


def _until(look: Callable[[], Any]) -> float:
    """When PostgreSQL says that it was started, by the clock of this machine, which is also ours."""
    for _ in range(2000):
        time.sleep(0.005)
        found = look()[0]
        if found is not None:
            return float(found.timestamp())
    raise TimeoutError


@contextmanager
def _worker(**settings: str) -> Iterator[None]:
    given = {"DATABASE_POOL_SIZE": "16", "LOG_LEVEL": "ERROR", **settings}  # as it is by default
    process = subprocess.Popen([sys.executable, "manage.py", "worker"], cwd=ROOT, env={**os.environ, **given})
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def _wait_for_worker() -> None:
    from runs.models import Worker

    until = time.monotonic() + 30
    while not Worker.objects.exists() and time.monotonic() < until:
        time.sleep(0.1)
    time.sleep(1)


# ── Submitting while evaluations run ───────────────────────────────────────
def _submissions(owner: Owner) -> None:
    sample = json.loads((ROOT / "samples" / "run.json").read_text())["spec"]
    spec = {**SPEC, **sample, "target": {**SPEC["target"], "traceFormat": None, **sample["target"]}}
    rates: dict[str, list[float]] = {"idle": [], "busy": []}
    with _worker():
        _wait_for_worker()
        for _ in range(ROUNDS):
            pause_queue("bench", "measuring")
            time.sleep(1)
            rates["idle"].append(_submitted(owner, spec))
            resume_queue()
            time.sleep(1)
            rates["busy"].append(_submitted(owner, spec))
        Run.objects.filter(status="queued").update(status="cancelled", finished_at="2000-01-01T00:00Z")
    idle, busy = (statistics.median(rates[name]) for name in ("idle", "busy"))
    print(
        f"\nsubmissions a second: {idle:.0f} idle, {busy:.0f} while evaluations run, {busy / idle:.2f} x  limit: 0.8 x",
        flush=True,
    )


def _submitted(owner: Owner, spec: dict[str, Any]) -> float:
    began, number = time.perf_counter(), 0
    while time.perf_counter() - began < WINDOW:
        Run.objects.submit(owner, spec)
        number += 1
    return number / (time.perf_counter() - began)

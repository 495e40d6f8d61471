"""Purging 100,000 runs while four processes append (issue 3, "Deleting")."""

import multiprocessing
import statistics
import time
from itertools import chain

from django.db import connections

from bench.data import load_runs, vacuum
from bench.writer import write
from runs.models import Run
from runs.models.deletion import purge

PURGED = 100_000
WRITERS = 4
QUIET = 5  # seconds of writing before the purge begins: the baseline


def main(runs: int, rounds: int) -> None:
    """Of one owner, whose other runs are written to meanwhile. `runs` and `rounds` play no part."""
    owner = load_runs(4 * PURGED, "owner")[0]  # who has more than a quarter of them
    until = Run.objects.filter(owner=owner).order_by("created_at")[PURGED].created_at
    doomed = Run.objects.filter(owner=owner, created_at__lt=until)
    with connections["owner"].cursor() as cursor:
        cursor.execute(_EVENTS, {"ids": list(doomed.values_list("pk", flat=True))})
    vacuum("event")
    context = multiprocessing.get_context("spawn")
    purging, stop, answers = context.Event(), context.Event(), context.Queue()
    writers = [context.Process(target=write, args=(owner.pk, purging, stop, answers)) for _ in range(WRITERS)]
    for writer in writers:
        writer.start()
    time.sleep(QUIET)
    purging.set()
    began = time.perf_counter()
    gone = purge(doomed, by="bench", reason="bench")
    took = time.perf_counter() - began
    stop.set()
    before, during, failed = zip(*(answers.get() for _ in writers), strict=True)
    for writer in writers:
        writer.join()
    print(f"{gone.runs:,} runs and their events in {took:.0f} s")
    _report("writers alone", list(chain(*before)))
    _report("writers during the purge", list(chain(*during)))
    print(f"writes that failed: {sum(failed)}  limits: none, and no wait of more than 500 ms")


def _report(name: str, seconds: list[float]) -> None:
    ordered = sorted(seconds)
    p99 = ordered[int(len(ordered) * 0.99)]
    print(
        f"{name:30} {len(ordered):,} appends, median {statistics.median(ordered) * 1000:.1f} ms, "
        f"99 % within {p99 * 1000:.0f} ms, the longest {ordered[-1] * 1000:.0f} ms"
    )


_EVENTS = """
    INSERT INTO event (run_id, seq, kind, role, payload, size)
    SELECT id, seq, 'message', 'agent', jsonb_build_object('text', repeat('words of an event ', 20)), 400
    FROM unnest(%(ids)s::uuid[]) AS id, generate_series(1, 5) AS seq;
    INSERT INTO search_doc (run_id, seq, words, whole)
    SELECT id, seq, (quote_literal(search_block || ':words') || ':1 ' || quote_literal(search_block || ':event'))::tsvector, true
    FROM run, generate_series(1, 5) AS seq WHERE id = ANY(%(ids)s)
"""

"""Real workers, really killed, paused and told to stop (issue 2; RELIABILITY.md R1, R2, R5)."""

import os
import signal
from typing import Any

import pytest

from runs.models import Result, Run, request_cancel
from tests.conftest import eventually

MANY = 400  # traces: enough to be in the middle of a run for a while


@pytest.fixture
def long_run(make_run, sample) -> Run:
    """A run that takes a worker a second or two."""
    document = sample["spec"]["target"]["inline"]
    return make_run(spec=spec_of(sample, repeated(document, MANY)))


def spec_of(sample: dict[str, Any], document: Any) -> dict[str, Any]:
    target = {
        "kind": "inline",
        "inline": document,
        "baseUrl": None,
        "traceId": None,
        "traceFormat": None,
        "traceCount": None,
        "traceFiles": None,
    }
    rest = {"sinks": [], "context": {}, "credentialRefs": None}
    return {**sample["spec"], **rest, "target": target}


def repeated(document: dict[str, Any], times: int) -> dict[str, Any]:
    """The first trace of an OTLP document, many times over, each under ids of its own."""
    resource = document["resourceSpans"][0]
    copies = []
    for number in range(times):
        scope_spans = [
            {**scope, "spans": [_renumbered(span, number) for span in scope["spans"]]}
            for scope in resource["scopeSpans"]
        ]
        copies.append({**resource, "scopeSpans": scope_spans})
    return {"resourceSpans": copies}


def _renumbered(span: dict[str, Any], number: int) -> dict[str, Any]:
    """Conversation ids go, so that each copy is an item of its own."""
    attributes = [one for one in span.get("attributes", []) if "conversation" not in one["key"]]
    trace_id = f"{number:08x}{span['traceId'][8:]}"
    return {**span, "traceId": trace_id, "attributes": attributes}


def is_under_way(run: Run) -> bool:
    run.refresh_from_db()
    return run.status == "running" and run.results.exists()


def has_ended(run: Run) -> bool:
    run.refresh_from_db()
    return run.is_final


def assert_whole(run: Run) -> None:
    results = Result.objects.filter(run=run)
    assert run.status == "succeeded", run.error
    assert results.count() == run.passed_count + run.failed_count + run.errored_count + run.skipped_count
    assert results.count() == sum(run.summary["result_counts"].values())
    assert results.values("item_id", "evaluator_name").distinct().count() == results.count()


def test_a_worker_evaluates_the_sample(make_run, start_worker):
    run = make_run()
    start_worker()

    eventually(lambda: has_ended(run))

    assert_whole(run)
    assert (run.attempt, run.worker_id) == (1, None)
    assert run.event_count > 3


def test_a_killed_workers_run_is_finished_by_another(long_run, start_worker):
    first = start_worker(WORKER_LEASE="1")
    eventually(lambda: is_under_way(long_run))
    first.kill()
    first.wait()

    start_worker(WORKER_LEASE="1")
    eventually(lambda: has_ended(long_run), seconds=60)

    assert_whole(long_run)
    assert long_run.attempt == 2


def test_a_paused_worker_changes_nothing_when_it_wakes(long_run, start_worker):
    first = start_worker(WORKER_LEASE="1")
    eventually(lambda: is_under_way(long_run))
    os.kill(first.pid, signal.SIGSTOP)

    start_worker(WORKER_LEASE="1")
    eventually(lambda: has_ended(long_run), seconds=60)
    before = snapshot(long_run)
    os.kill(first.pid, signal.SIGCONT)
    # It has noticed once it takes up other work; then it has written all that it would.
    eventually(lambda: first_has_gone_on(first))

    assert snapshot(long_run) == before
    assert_whole(long_run)


def first_has_gone_on(process: Any) -> bool:
    """Told to stop, a worker writes what it still can and leaves."""
    process.terminate()
    return process.poll() is not None


def snapshot(run: Run) -> Any:
    rows = Run.objects.filter(pk=run.pk).values().get()
    return rows, list(Result.objects.filter(run=run).order_by("id").values()), run.events.count()


def test_a_stopping_worker_gives_its_run_back(long_run, start_worker):
    first = start_worker()
    eventually(lambda: is_under_way(long_run))

    first.terminate()
    first.wait(timeout=10)

    long_run.refresh_from_db()
    assert (long_run.status, long_run.attempt, long_run.worker_id) == ("queued", 0, None)
    start_worker()
    eventually(lambda: has_ended(long_run), seconds=60)
    assert long_run.attempt == 1
    assert_whole(long_run)


def test_a_running_run_ends_cancelled_soon_and_stays_so(long_run, start_worker):
    start_worker()
    eventually(lambda: is_under_way(long_run))

    request_cancel(long_run, by="alice", reason="enough")
    eventually(lambda: has_ended(long_run), seconds=4)
    kept = long_run.results.count()

    assert (long_run.status, long_run.error) == ("cancelled", "cancelled by request")
    assert long_run.cancel_acknowledged_at >= long_run.cancel_requested_at
    assert kept == long_run.results.count()


def test_a_run_past_its_deadline_fails_and_keeps_its_results(long_run, start_worker):
    start_worker(RUN_DEADLINE="0.5")

    eventually(lambda: has_ended(long_run))

    assert (long_run.status, long_run.error, long_run.attempt) == ("failed", "deadline_exceeded", 1)
    assert long_run.summary is None

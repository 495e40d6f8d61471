"""/api/sinks/agentevals: what an agentevals server tells of its runs makes them appear here."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connections
from django.test import Client

from runs.evaluators import result_id
from runs.models import Change, Event, Result, Run, Token, claim_next, delete_runs, requeue
from runs.models.queue import sweep
from runs.models.reported import derived_id

RUN = "c14c21da-43e7-4923-898f-6c61b2a37072"
ITEM = "3e289017fe03ffd7c4145316d2eb3d0d"
SUMMARY = {
    "trace_count": 1,
    "result_counts": {"passed": 1, "failed": 0, "errored": 0, "skipped": 0},
    "agents": ["helm_agent"],
    "errors": [],
    "performance_metrics": {"models": ["gpt-4.1-mini"]},
}


def a_result(evaluator: str = "tool_trajectory_avg_score", **told: Any) -> dict[str, Any]:
    return {
        "resultId": "f" * 64,
        "runId": RUN,
        "evalSetItemId": ITEM,
        "evalSetItemName": ITEM,
        "evaluatorName": evaluator,
        "evaluatorType": "builtin",
        "status": "passed",
        "score": 1.0,
        "perInvocationScores": [1.0],
        "traceId": ITEM,
        "spanId": "fd2888bee9aed2db",
        "details": {"comparisons": []},
        "errorText": None,
        "tokensUsed": None,
        "latencyMs": 10,
        "createdAt": "2026-11-20T22:54:34.483993Z",
        **told,
    }


def partial(*results: dict[str, Any], attempt: int = 1, run_id: str = RUN) -> dict[str, Any]:
    return {"phase": "partial", "run_id": run_id, "attempt": attempt, "results": [*results]}


def final(attempt: int = 1, **told: Any) -> dict[str, Any]:
    return {"phase": "final", "run_id": RUN, "attempt": attempt, "summary": SUMMARY, **told}


def error(text: str, attempt: int = 1) -> dict[str, Any]:
    return {"phase": "error", "run_id": RUN, "attempt": attempt, "error": text}


def send(secret: str, body: Any) -> tuple[int, Any]:
    response = Client(raise_request_exception=False).post(
        "/api/sinks/agentevals",
        body if isinstance(body, bytes) else json.dumps(body),
        content_type="application/json",
        headers={"Authorization": f"Bearer {secret}"},
    )
    return response.status_code, response.json()


def test_a_run_and_its_results_appear_with_the_first_partial(token, owner):
    status, answer = send(token, partial(a_result()))

    run = Run.objects.visible_to(owner).get(pk=RUN)
    assert (status, answer["data"]["runId"], answer["data"]["status"]) == (200, RUN, "running")
    assert (run.status, run.kind, run.passed_count, run.attempt) == ("running", "evaluation", 1, 1)
    assert run.started_at is not None
    kept = run.results.get()
    assert kept.pk == result_id(run.pk, ITEM, "tool_trajectory_avg_score")
    assert (kept.score, kept.trace_id, kept.latency_ms) == (1.0, ITEM, 10)


def test_its_end_has_the_summary_and_whose_it_was(token):
    send(token, partial(a_result()))
    send(token, final())

    run = Run.objects.get(pk=RUN)
    assert (run.status, run.summary, run.agent, run.model) == (
        *("succeeded", SUMMARY),
        *("helm_agent", "gpt-4.1-mini"),
    )
    assert run.finished_at is not None
    assert not Change.objects.filter(run_id=RUN).exists()


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("cancelled by request", "cancelled"),
        ("worker cancelled", "cancelled"),
        ("deadline_exceeded", "failed"),
    ],
)
def test_its_error_says_how_it_ended(token, text, status):
    send(token, partial(a_result()))
    send(token, error(text))

    run = Run.objects.get(pk=RUN)
    assert (run.status, run.error, run.results.count()) == (status, text, 1)


def test_each_partial_repeats_what_was_told_and_nothing_doubles(token):
    first, second = a_result(), a_result("response_match_score", score=0.5, status="failed")
    for body in (partial(first), partial(first, second), partial(first, second)):
        send(token, body)

    run = Run.objects.get(pk=RUN)
    assert (run.passed_count, run.failed_count, run.results.count()) == (1, 1, 2)


def test_of_a_result_that_is_told_twice_at_once_the_last_counts(token):
    assert send(token, partial(a_result(score=0.2, status="failed"), a_result(score=0.9)))[0] == 200

    run = Run.objects.get(pk=RUN)
    assert (run.passed_count, run.failed_count, run.results.get().score) == (1, 0, 0.9)


def test_a_newer_verdict_takes_the_place_of_the_older(token):
    send(token, partial(a_result(score=0.2, status="failed")))
    send(token, partial(a_result(score=0.9), attempt=2))
    send(token, partial(a_result(score=0.1, status="failed"), attempt=1))

    run = Run.objects.get(pk=RUN)
    assert (run.attempt, run.results.get().score, run.passed_count, run.failed_count) == (2, 0.9, 1, 0)


def test_the_end_may_come_first_and_every_phase_again(token):
    for body in (final(), partial(a_result()), final(), partial(a_result(score=0.0, status="failed"))):
        assert send(token, body)[0] == 200

    run = Run.objects.get(pk=RUN)
    assert (run.status, run.passed_count, run.failed_count) == ("succeeded", 1, 0)
    assert not Change.objects.filter(run_id=RUN).exists()


def test_another_end_is_late_and_changes_nothing(token):
    send(token, final())
    for _ in range(2):
        assert send(token, error("deadline_exceeded"))[1]["data"]["status"] == "succeeded"

    late = Event.objects.get(run_id=RUN)
    assert late.kind == Event.Kind.LATE_WRITE
    assert late.payload["payload"]["to"] == "failed"


def test_no_worker_of_ours_takes_it_and_no_sweep_ends_it(token, owner):
    send(token, partial(a_result()))
    run = Run.objects.get(pk=RUN)

    assert claim_next("tests/1/1", timedelta(seconds=30)) is None
    assert sweep(3) == 0
    assert requeue(run, "alice", "why") is False
    run.refresh_from_db()
    assert run.status == "running"


def test_the_answer_says_that_a_cancel_was_asked_for(token, api):
    send(token, partial(a_result()))
    api.post(f"/{RUN}/cancel")

    assert send(token, partial(a_result()))[1]["data"]["cancelRequested"] is True


def test_an_id_of_another_owner_is_not_touched(token, owner, strangers_api, sample):
    strangers_api.post(body={"runId": RUN, **sample})

    status, answer = send(token, partial(a_result()))

    derived = derived_id(owner, UUID(RUN))
    assert (status, answer["data"]["runId"]) == (200, str(derived))
    assert Result.objects.get().run_id == derived
    assert Run.objects.get(pk=RUN).status == "queued"
    assert send(token, final())[1]["data"]["runId"] == str(derived)


def test_a_run_that_our_worker_does_is_not_touched(token, owner, api, sample):
    api.post(body={"runId": RUN, **sample})

    send(token, final())

    assert Run.objects.get(pk=RUN).status == "queued"
    assert Run.objects.filter(owner=owner, status="succeeded").count() == 1


def test_a_result_cannot_take_the_place_of_another_runs(token):
    other = str(uuid4())
    send(token, partial(a_result(), run_id=other))
    theirs = Result.objects.get()

    send(token, partial(a_result(resultId=theirs.pk, score=0.0, status="failed")))

    theirs.refresh_from_db()
    assert (theirs.score, Result.objects.count()) == (1.0, 2)


def test_a_deleted_run_stays_deleted(token, alice):
    send(token, partial(a_result()))
    send(token, final())
    delete_runs(Run.objects.filter(pk=RUN), alice.actor, "why")

    status, answer = send(token, partial(a_result()))

    assert (status, answer["error"]["code"]) == (404, "not_found")
    assert Run.objects.filter(deleted_at=None).count() == 0


def test_a_token_that_only_reads_may_not_report(owner):
    secret = Token.objects.issue(owner, "reader", ["read"])[1]

    assert send(secret, final())[0] == 403
    assert not Run.objects.exists()


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b"{", 400, None),
        (b"null", 422, "phase"),
        ({"phase": "begin", "run_id": RUN}, 422, "phase"),
        ({"phase": "final", "run_id": "x", "summary": {}}, 422, "run_id"),
        ({"phase": "final", "run_id": RUN}, 422, "summary"),
        ({"phase": "error", "run_id": RUN, "error": 7}, 422, "error"),
        ({"phase": "partial", "run_id": RUN, "attempt": 2**64, "results": []}, 422, "attempt"),
        (partial(a_result(status="perhaps")), 422, "results.0.status"),
        (partial(a_result(latencyMs=-1)), 422, "results.0.latencyMs"),
        (partial(a_result(score="inf")), 422, "results.0.score"),
        (partial(a_result(perInvocationScores=["nan"])), 422, "results.0.perInvocationScores.0"),
        (partial(a_result("x" * 301)), 422, "results.0.evaluatorName"),
        (b'{"phase": "final", "run_id": "%s", "summary": {"a": 1e400}}' % RUN.encode(), 400, None),
    ],
)
def test_what_is_wrong_is_named(token, body, status, field):
    got, answer = send(token, body)

    assert (got, answer["error"]["field"]) == (status, field), answer
    assert not Run.objects.exists()


def test_what_a_jsonb_cannot_hold_comes_back_as_it_came(token):
    details = {"said": "a\0b \ud800", "n": 2**64}
    assert send(token, partial(a_result(details=details, errorText="NUL \0")))[0] == 200

    kept = Result.objects.get()
    assert kept.full_details == details
    assert kept.error == "NUL \N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(
    "summary", [{"agents": 7, "performance_metrics": []}, {"agents": ["a\0"]}, {"n": 2**64}]
)
def test_a_summary_may_be_anything(token, signed_in, summary):
    assert send(token, final(summary=summary))[0] == 200

    assert signed_in.get(f"/runs/{RUN}?tab=results").status_code == 200


def test_phases_that_come_at_once_make_one_run(committed_db, token):
    def report(number: int) -> int:
        try:
            return send(token, partial(a_result(f"evaluator_{number}")))[0]
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(report, range(8)))

    assert answers == [200] * 8
    assert Run.objects.get().passed_count == 8

"""One run, executed in this process."""

import json
from typing import Any

import pytest

from runs.models import Event, LeaseLost, Run, Session
from runs.worker.execute import execute
from tests.conftest import SAMPLES, eventually
from tests.traces.spans import agent, export, span
from tests.worker.specs import BUILTIN, STUBBORN, copies, spec_of
from tests.worker.test_queue import expire


@pytest.fixture
def evaluated(api, claim, launcher):
    """Submits a spec, executes it, and gives the run."""

    def evaluate(spec: dict[str, Any]) -> Run:
        status, answer = api.post(body={"spec": spec})
        assert status == 202, answer
        execute(*claim(), launcher.start())
        return Run.objects.get(pk=answer["data"]["runId"])

    return evaluate


def inline(document: Any, **target: Any) -> dict[str, Any]:
    return {"target": {"kind": "inline", "inline": document, **target}}


def test_the_sample_succeeds(evaluated, sample):
    run = evaluated(sample["spec"])

    assert (run.status, run.error, run.summary["errors"]) == ("succeeded", None, [])
    assert run.passed_count == run.results.count() > 0
    assert run.agent
    assert run.model
    assert run.input_tokens > 0


def test_the_trace_becomes_the_history_of_the_run(evaluated, sample):
    run = evaluated(sample["spec"])

    kinds = list(run.events.values_list("kind", "role"))
    assert ("message", "user") in kinds
    assert ("message", "agent") in kinds
    assert kinds.count(("tool_call", "agent")) == kinds.count(("tool_result", "tool")) > 0
    assert list(run.events.values_list("seq", flat=True)) == list(range(1, run.event_count + 1))


def test_without_an_eval_set_results_are_skipped_and_the_question_is_the_title(evaluated, sample):
    run = evaluated({**sample["spec"], "evalSet": None})

    question = Event.objects.filter(run=run, role="user").first().payload["parts"][0]["text"]
    assert {result.status for result in run.results.all()} == {"skipped"}
    assert {result.details["reason"] for result in run.results.all()} == {"no eval set provided"}
    assert run.title == " ".join(question.split())[:200]


def test_a_document_without_traces_succeeds_and_says_so(evaluated):
    run = evaluated(inline({"data": []}))

    assert (run.status, run.summary["errors"], run.summary["trace_count"]) == (
        *("succeeded", ["No traces provided."], 0),
    )
    assert run.summary["performance_metrics"] is None


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        ({"target": {"kind": "inline"}}, "target.inline is missing"),
        ({"target": {"kind": "uploaded"}}, "uploaded target are not kept"),
        (inline({"nonsense": True}), "not an OTLP JSON document"),
        (inline({"data": []}, traceFormat="otlp-json"), "not an OTLP JSON document"),
        ({**inline({"data": []}), "evalSet": {"eval_cases": 1}}, "eval"),
        (
            {**inline({"data": []}), "credentialRefs": {"k": {"kind": "env", "name": "HOME"}}},
            "SPEC_ENV_ALLOW",
        ),
        ({"target": {"kind": "http", "traceId": "a" * 32}}, "target.baseUrl is missing"),
        ({"target": {"kind": "http", "traceId": "a" * 32, "baseUrl": "http://127.0.0.1"}}, "OUTGOING_ALLOW"),
    ],
)
def test_what_cannot_be_read_fails_the_run_with_the_reason(evaluated, spec, error):
    run = evaluated(spec)

    assert (run.status, run.summary, run.attempt) == ("failed", None, 1)
    assert error in run.error


def test_an_evaluator_that_is_not_there_is_an_errored_result_that_says_so(evaluated, sample):
    evaluators = [
        {"type": "builtin", "name": "no_such_metric"},
        {"type": "code", "name": "mine", "path": "mine.py"},
    ]
    run = evaluated({**sample["spec"], "evalConfig": {"evaluators": evaluators}})

    results = {result.evaluator_name: result for result in run.results.all()}
    assert run.status == "succeeded"
    assert {result.status for result in results.values()} == {"errored"}
    assert results["no_such_metric"].error == "no_such_metric not found in registry."
    assert results["mine"].evaluator_type == "code"
    assert results["mine"].error


def test_a_conversation_becomes_the_session_of_its_run(evaluated, sample):
    run = evaluated(sample["spec"])

    assert run.session == Session.objects.get(source="otlp")


def test_hostile_text_in_a_trace_is_kept_exactly(evaluated, sample):
    said = "before\x00after \ud800 😀 <script>alert(1)</script>"
    document = json.loads(json.dumps(sample["spec"]["target"]["inline"]))
    replace_user_text(document, said)

    run = evaluated({**sample["spec"], "target": {"kind": "inline", "inline": document}})

    texts = [part["text"] for event in run.events.all() for part in event.full_payload.get("parts", [])]
    assert run.status == "succeeded"
    assert said in texts


def test_more_tokens_than_can_be_true_are_not_counted(evaluated):
    counts = {"gen_ai.usage.input_tokens": 2**63 - 1, "gen_ai.usage.output_tokens": 5}
    calls = [
        span(number, 1, attributes={"gen_ai.operation.name": "chat", **counts}, name="chat")
        for number in (2, 3)
    ]

    run = evaluated(spec_of(export(agent(), *calls)))

    assert (run.status, run.error) == ("succeeded", None)
    assert (run.input_tokens, run.output_tokens) == (None, 10)


def replace_user_text(node: Any, said: str) -> None:
    """Puts `said` in place of every text that the user's question is."""
    question = "gen_ai.input.messages"
    if isinstance(node, dict):
        if node.get("key") == question:
            messages = json.loads(node["value"]["stringValue"])
            for message in messages:
                if message["role"] == "user":
                    message["parts"] = [{"type": "text", "content": said}]
            node["value"]["stringValue"] = json.dumps(messages)
        for value in node.values():
            replace_user_text(value, said)
    elif isinstance(node, list):
        for value in node:
            replace_user_text(value, said)


def test_a_worker_that_lost_its_lease_stops_and_so_does_its_process(make_run, claim, launcher, programs):
    run = make_run(spec=spec_of(copies(5), BUILTIN, programs.add("slow", STUBBORN)))
    first, stale = claim("first")
    expire(run)
    claim("second")
    job = launcher.start()

    with pytest.raises(LeaseLost):
        execute(first, stale, job)

    assert job.closed
    assert not run.results.exists()
    assert not run.events.exists()


def test_what_is_found_out_is_written_while_the_evaluation_goes_on(make_run, work, programs):
    run = make_run(spec=spec_of(None, BUILTIN, programs.add("slow", STUBBORN)))
    work()

    eventually(lambda: programs.started("slow"))
    eventually(lambda: run.results.exists(), 2)

    run.refresh_from_db()
    assert (run.status, run.passed_count) == ("running", 1)
    assert run.events.exists()


@pytest.mark.samples
@pytest.mark.parametrize(
    ("trace", "eval_set", "scores", "status"),
    [
        ("helm", "eval_set_helm", [1.0, 0.8118811881188119], "passed"),
        ("helm_2", "eval_set_helm", [0.0, 0.20253164556962025], "failed"),
        ("k8s", "evalset_k8s_2026-02-20", [1.0, 1.0], "passed"),
        ("k8s", "eval_set_helm", [0.0, 0.14285714285714285], "failed"),
    ],
)
def test_real_traces_score_as_in_agentevals(evaluated, trace, eval_set, scores, status):
    evaluators = [
        {"type": "builtin", "name": "tool_trajectory_avg_score"},
        {"type": "builtin", "name": "response_match_score", "threshold": 0.7},
    ]
    run = evaluated(
        {
            **inline(json.loads((SAMPLES / f"{trace}.json").read_text())),
            "evalSet": json.loads((SAMPLES / f"{eval_set}.json").read_text()),
            "evalConfig": {"evaluators": evaluators},
        }
    )

    assert [(result.score, result.status) for result in run.results.all()] == [(s, status) for s in scores]


def test_secrets_that_cannot_be_opened_fail_the_run_and_say_what_to_do(
    api, claim, launcher, sample, settings
):
    spec = {**sample["spec"], "context": {"headers": {"Authorization": "Bearer x"}}}
    _, answer = api.post(body={"spec": spec})
    settings.SECRET_KEY = "another one"

    execute(*claim(), launcher.start())

    run = Run.objects.get(pk=answer["data"]["runId"])
    assert run.status == "failed"
    assert "SECRET_KEY_FALLBACKS" in run.error

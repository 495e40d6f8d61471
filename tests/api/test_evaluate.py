"""/api/evaluate and its streams: an evaluation that the caller waits for (CONTRACTS.md 1.9)."""

import json
from typing import Any

import pytest
from django.db import connection

from runs import streams
from runs.api import evaluate, following
from runs.models import Run, Token
from tests.api.agentevals import CONFIG, EVAL_SET, TRACE, AgentEvals, file
from tests.traces.spans import TRACE_ID as OTLP_TRACE
from tests.traces.spans import agent, assistant, chat, export, user

OTLP = export(
    agent(1),
    chat(2, 1, asked=[user("list the releases")], said=[assistant("There are two.")]),
    resource={"service.name": "shop"},
)
RESULT_KEYS = {"traceResults", "errors", "performanceMetrics", "runId"}
TRACE_KEYS = {
    *("traceId", "numInvocations", "metricResults", "conversionWarnings", "performanceMetrics"),
    *("serviceName", "agentName", "traceIds", "conversationId", "groupKey", "evalCaseId", "evalCaseMatch"),
    "turnRefs",
}
METRIC_KEYS = {
    *("metricName", "score", "evalStatus", "perInvocationScores", "perInvocationStatuses", "error"),
    *("errorType", "details", "durationMs"),
}


def form(**fields: Any) -> dict[str, Any]:
    return {
        "trace_files": [file("trace.json", TRACE)],
        "config": json.dumps(CONFIG),
        "eval_set_file": file("set.json", EVAL_SET),
        **fields,
    }


# ── Whole answers ──────────────────────────────────────────────────────────
def test_it_evaluates_files_and_records_the_run(agentevals, worker):
    status, answer = agentevals.form("/api/evaluate", **form())

    result = answer["data"]
    assert (status, answer["error"], set(result)) == (200, None, RESULT_KEYS)
    (group,) = result["traceResults"]
    assert set(group) == TRACE_KEYS
    assert [set(metric) for metric in group["metricResults"]] == [METRIC_KEYS] * 2
    assert [metric["metricName"] for metric in group["metricResults"]] == [
        entry["name"] for entry in CONFIG["evaluators"]
    ]
    run = Run.objects.get(pk=result["runId"])
    assert (run.status, run.attempt, run.worker_id) == ("succeeded", 1, None)
    assert run.results.count() == 2
    target = run.shown_spec["target"]
    assert (target["kind"], target["traceCount"], target["traceFiles"]) == ("uploaded", 1, ["trace.json"])
    assert run.shown_spec["evalConfig"]["max_concurrent_traces"] == 10


def test_the_answer_has_the_results_of_the_run(agentevals, worker):
    group = agentevals.form("/api/evaluate", **form())[1]["data"]["traceResults"][0]

    kept = {result.evaluator_name: result for result in Run.objects.get().results.all()}
    for metric in group["metricResults"]:
        assert metric["score"] == kept[metric["metricName"]].score
        assert metric["evalStatus"].lower() == kept[metric["metricName"]].status
    assert group["evalCaseMatch"] == "user_text"
    assert group["numInvocations"] == len(group["turnRefs"]) > 0


def test_keys_are_camel_case_but_for_what_tools_were_given(agentevals, worker):
    group = agentevals.form("/api/evaluate", **form())[1]["data"]["traceResults"][0]

    comparison = group["metricResults"][0]["details"]["comparisons"][0]
    assert "invocationId" in comparison
    assert set(group["performanceMetrics"]["latency"]) == {"overall", "llmCalls", "toolExecutions"}
    calls = [call for one in group["metricResults"][0]["details"]["comparisons"] for call in one["actual"]]
    assert all(set(call) == {"name", "args"} for call in calls)


def test_without_an_eval_set_there_is_a_reason(agentevals, worker):
    fields = form()
    del fields["eval_set_file"]

    group = agentevals.form("/api/evaluate", **fields)[1]["data"]["traceResults"][0]

    assert {metric["evalStatus"] for metric in group["metricResults"]} == {"NOT_EVALUATED"}
    assert group["metricResults"][0]["details"] == {"reason": "no eval set provided"}
    assert (group["evalCaseId"], group["evalCaseMatch"]) == (None, None)


def test_it_evaluates_otlp_json(agentevals, worker):
    body = {"traces": OTLP, "config": {"evaluators": [{"type": "builtin", "name": "tool_error_rate"}]}}

    status, answer = agentevals.json("/api/evaluate/json", body)

    assert status == 200, answer
    (group,) = answer["data"]["traceResults"]
    assert (status, group["serviceName"], group["agentName"]) == (200, "shop", "helper")
    assert Run.objects.get().shown_spec["target"]["traceFiles"] == []


def test_several_files_are_one_run(agentevals, worker):
    other = json.loads(json.dumps(OTLP).replace(OTLP_TRACE, "f" * 32))
    files = [file("one.json", OTLP), file("two.json", other)]

    result = agentevals.form("/api/evaluate", **form(trace_files=files))[1]["data"]

    assert len(result["traceResults"]) == 2
    assert Run.objects.get().shown_spec["target"]["traceFiles"] == ["one.json", "two.json"]


def test_a_file_that_cannot_be_read_is_an_error_beside_what_could_be(agentevals, worker):
    files = [file("good.json", TRACE), file("bad.json", b"nope")]

    result = agentevals.form("/api/evaluate", **form(trace_files=files))[1]["data"]

    run = Run.objects.get()
    assert len(result["traceResults"]) == 1
    assert result["errors"][0].startswith("Failed to load trace file 'bad.json'")
    assert (run.status, run.error, run.summary["errors"]) == (
        *("failed", result["errors"][0]),
        result["errors"],
    )
    assert run.results.count() == 2


def test_where_nothing_can_be_read_the_run_has_failed_at_once(agentevals):
    status, answer = agentevals.form("/api/evaluate", **form(trace_files=[file("a.json", b"nope")]))

    assert (status, answer["data"]["traceResults"]) == (200, [])
    assert answer["data"]["errors"][-1] == "No traces loaded."
    run = Run.objects.get(pk=answer["data"]["runId"])
    assert (run.status, run.summary["trace_count"]) == ("failed", 0)


def test_a_file_may_be_called_anything(agentevals):
    odd = file("a.json", b"nope")
    odd.name = "a \x01 \N{RIGHT-TO-LEFT OVERRIDE}" + "ö" * 300 + ".json"

    status, answer = agentevals.form("/api/evaluate", **form(trace_files=[odd]))

    assert (status, answer["data"]["traceResults"]) == (200, [])


def test_an_eval_set_that_is_none_is_an_error_and_the_rest_goes_on(agentevals, worker):
    result = agentevals.form("/api/evaluate", **form(eval_set_file=file("set.json", {})))[1]["data"]

    assert result["errors"][0].startswith("Failed to load eval set 'set.json'")
    assert result["traceResults"][0]["metricResults"][0]["details"] == {"reason": "no eval set provided"}


def test_one_who_waits_goes_before_what_is_queued(agentevals, worker, make_run):
    make_run()

    agentevals.form("/api/evaluate", **form())

    assert list(Run.objects.order_by("priority").values_list("status", flat=True)) == ["queued", "succeeded"]


# ── Refusals ───────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"config": "{"}, "Invalid config JSON"),
        ({"config": "[1]"}, "Invalid config: it must be a JSON object"),
        ({"config": '{"foo": 1}'}, "foo"),
        ({"config": '{"evaluators": []}'}, "name at least one evaluator"),
        ({"trace_files": [file("a.txt", b"{}")]}, "Invalid file extension for a.txt"),
        ({"trace_files": [file("a.json", b" " * (10 * 2**20 + 1))]}, "File a.json exceeds 10MB limit"),
        ({"eval_set_file": file("a.txt", b"{}")}, "Invalid file extension for eval set"),
        ({"credential_refs": "[]"}, "Invalid credentialRefs"),
        ({"credential_refs": '{"k": {"kind": "env", "name": "SECRET"}}'}, "SPEC_ENV_ALLOW"),
        ({"credential_refs": '{"k": {"kind": "vault"}}'}, "Could not resolve credentialRefs"),
    ],
)
def test_a_form_that_cannot_be_evaluated_is_400(agentevals, fields, says):
    for one in fields.get("trace_files", []):
        one.seek(0)

    status, answer = agentevals.form("/api/evaluate", **form(**fields))

    assert status == 400
    assert says in answer["detail"]
    assert not Run.objects.exists()


@pytest.mark.parametrize("name", ["trace_files", "config"])
def test_a_field_that_is_missing_is_422(agentevals, name):
    fields = form()
    del fields[name]

    status, answer = agentevals.form("/api/evaluate", **fields)

    assert (status, answer["detail"][0]["loc"], answer["detail"][0]["type"]) == (
        422,
        ["body", name],
        "missing",
    )


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"{", 422, "json_invalid"),
        ({}, 422, "traces"),
        ({"traces": OTLP, "config": {"foo": 1}}, 422, "foo"),
        ({"traces": {"resourceSpans": []}}, 400, "No traces found"),
        ({"traces": {"data": []}}, 400, "no OTLP JSON"),
        ({"traces": OTLP, "evalSet": {"eval_cases": []}}, 400, "Invalid eval set"),
        ({"traces": OTLP, "credentialRefs": {"k": {"kind": "env", "name": "X"}}}, 400, "SPEC_ENV_ALLOW"),
    ],
)
def test_json_that_cannot_be_evaluated_is_refused(agentevals, body, status, says):
    got, answer = agentevals.json("/api/evaluate/json", body)

    assert got == status
    assert says in json.dumps(answer["detail"])


def test_a_json_body_over_the_limit_is_413(agentevals, monkeypatch):
    monkeypatch.setattr(evaluate, "MAX_JSON", 100)

    status, answer = agentevals.json("/api/evaluate/json", {"traces": OTLP})

    assert (status, set(answer)) == (413, {"detail"})


def test_a_token_that_only_reads_may_not_evaluate(owner):
    reader = AgentEvals(Token.objects.issue(owner, "reader", ["read"])[1])

    assert reader.form("/api/evaluate", **form())[0] == 403


def test_what_jsonb_cannot_hold_is_evaluated_all_the_same(agentevals, worker):
    odd = export(agent(1), chat(2, 1, asked=[user("a\0b")], said=[assistant("c \ud800")]))

    status, answer = agentevals.json("/api/evaluate/json", {"traces": odd})

    assert (status, len(answer["data"]["traceResults"])) == (200, 1)


# ── Waiting ────────────────────────────────────────────────────────────────
def test_without_a_worker_it_says_so_and_the_run_stays_queued(agentevals, settings):
    settings.EVALUATE_TIMEOUT = 0.1

    status, answer = agentevals.form("/api/evaluate", **form())

    run = Run.objects.get()
    assert (status, run.status) == (503, "queued")
    assert f"No worker has begun run {run.pk}" in answer["detail"]


def test_no_connection_is_held_while_it_waits(committed_db, token, monkeypatch, settings):
    settings.EVALUATE_TIMEOUT = 0.3
    held = []
    monkeypatch.setattr(following, "pause_for", lambda seconds: held.append(connection.connection))

    AgentEvals(token).form("/api/evaluate", **form())

    assert held
    assert set(held) == {None}


def test_those_who_wait_take_a_place_among_the_streams(agentevals, settings):
    settings.MAX_STREAMS = 1
    with streams.place():
        status, answer = agentevals.form("/api/evaluate", **form())

    assert (status, "MAX_STREAMS" in answer["detail"]) == (503, True)
    assert not Run.objects.exists()


def test_a_run_that_is_cancelled_meanwhile_says_so(agentevals, monkeypatch):
    def cancel(seconds: float) -> None:
        Run.objects.filter(status="queued").update(status="cancelled", finished_at="2026-01-01T00:00:00Z")

    monkeypatch.setattr(following, "pause_for", cancel)

    result = agentevals.form("/api/evaluate", **form())[1]["data"]

    assert (result["traceResults"], result["errors"]) == ([], ["the run was cancelled"])


# ── Streams ────────────────────────────────────────────────────────────────
def test_a_stream_tells_what_is_known_then_each_result_then_the_whole(agentevals, worker):
    status, events = agentevals.form("/api/evaluate/stream", **form())

    assert status == 200
    assert events[0]["event"] == "performance_metrics"
    assert events[0]["traceMetadata"]["userInputPreview"]
    assert set(events[0]["performanceMetrics"]["counts"]) == {"llmCalls", "toolCalls", "invocations"}
    told = [event["traceProgress"]["partialResult"] for event in events if "traceProgress" in event]
    assert told[-1] == events[-1]["result"]["traceResults"][0]
    assert next(event["message"] for event in events if "message" in event) == "Evaluating 1 trace..."
    assert events[-1]["done"] is True
    assert events[-1]["result"]["runId"] == str(Run.objects.get().pk)


def test_a_stream_of_json_ends_as_the_whole_answer_does(agentevals, worker):
    body = {"traces": OTLP, "config": CONFIG, "evalSet": json.loads(EVAL_SET)}

    streamed = agentevals.json("/api/evaluate/json/stream", body)[1][-1]["result"]
    whole = agentevals.json("/api/evaluate/json", body)[1]["data"]

    assert _without_times(streamed) == _without_times(whole)


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("/api/evaluate/stream", form(config="{")),
        ("/api/evaluate/stream", form(trace_files=[file("a.txt", b"{}")])),
        ("/api/evaluate/json/stream", {"traces": {"resourceSpans": []}}),
    ],
)
def test_a_stream_that_cannot_begin_is_one_error(agentevals, path, sent):
    ask = agentevals.json if "json" in path else agentevals.form

    status, events = ask(path, sent) if ask == agentevals.json else ask(path, **sent)

    assert (status, len(events), set(events[0])) == (200, 1, {"error"})


def test_a_stream_without_a_worker_ends_with_an_error(agentevals, settings):
    settings.EVALUATE_TIMEOUT = 0.1

    events = agentevals.form("/api/evaluate/stream", **form())[1]

    assert "It stays queued" in events[-1]["error"]
    assert Run.objects.get().status == "queued"


def test_a_client_that_goes_away_leaves_the_run_as_it_is(committed_db, agentevals):
    response = agentevals.client.post("/api/evaluate/stream", form(), headers=agentevals.headers)
    next(iter(response.streaming_content))
    response.close()

    assert Run.objects.get().status == "queued"
    with streams.place():
        pass


def test_one_stream_too_many_is_503_and_begins_nothing(agentevals, settings):
    settings.MAX_STREAMS = 0

    status, answer = agentevals.form("/api/evaluate/stream", **form())

    assert (status, "MAX_STREAMS" in answer["detail"]) == (503, True)
    assert not Run.objects.exists()


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(one) for key, one in value.items() if key not in ("durationMs", "runId")}
    return [_without_times(one) for one in value] if isinstance(value, list) else value

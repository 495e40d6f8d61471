"""What is in trace files, which metrics there are, whether an eval set is one (CONTRACTS.md 1.4, 1.9)."""

import json

import pytest

from runs.models import Run, Worker
from tests.api.agentevals import EVAL_SET, TRACE, file
from tests.conftest import SAMPLES
from tests.traces.spans import agent, answer_of, assistant, call, chat, export, tool, user

TALK = export(
    agent(1, attributes={"gen_ai.agent.id": "a-1"}),
    chat(2, 1, asked=[user("where is it?")], said=[call("look_up", {"the_key": 1}, "c1")]),
    tool(3, 1, attributes={"gen_ai.tool.call.id": "c1"}),
    chat(4, 1, asked=[answer_of({"found_at": "home"}, "c1")], said=[assistant("At home.")]),
    resource={"service.name": "shop"},
)


def test_a_trace_is_turns_as_adk_writes_them(agentevals):
    status, answer = agentevals.form("/api/convert", trace_files=[file("trace_lost.json", TALK)])

    (entry,) = answer["data"]["traces"]
    (turn,) = entry["invocations"]
    assert (status, set(entry)) == (200, {"traceId", "traceIds", "invocations", "warnings", "metadata"})
    assert turn["userContent"] == {"parts": [{"text": "where is it?"}], "role": "user"}
    assert turn["finalResponse"] == {"parts": [{"text": "At home."}], "role": "model"}
    assert turn["intermediateData"]["toolUses"] == [{"id": "c1", "args": {"the_key": 1}, "name": "look_up"}]
    assert turn["intermediateData"]["toolResponses"][0]["response"] == {"found_at": "home"}
    assert turn["creationTimestamp"] == 1.0


def test_it_says_whose_a_trace_is_and_what_it_was_about(agentevals):
    answer = agentevals.form("/api/convert", trace_files=[file("trace_lost.json", TALK)])[1]

    about = answer["data"]["traces"][0]["metadata"]
    assert (about["agentName"], about["model"], about["sessionName"]) == ("helper", "model-1", "lost")
    assert (about["userInputPreview"], about["finalOutputPreview"]) == ("where is it?", "At home.")
    assert about["startTime"] == 1_000_000


@pytest.mark.parametrize(("group_by", "entries"), [("trace", 2), ("conversation", 1)])
def test_it_groups_as_an_evaluation_would(agentevals, group_by, entries):
    first = chat(1, asked=[user("a")], said=[assistant("b")])
    resource = {"agentevals.session_name": "nightly"}
    files = [
        file("1.json", export(first, resource=resource)),
        file("2.json", export({**first, "traceId": "e" * 32}, resource=resource)),
    ]

    answer = agentevals.form("/api/convert", trace_files=files, group_by=group_by)[1]

    assert len(answer["data"]["traces"]) == entries


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"trace_files": [file("a.txt", b"{}")]}, "Invalid file extension"),
        ({"trace_files": [file("a.json", b"nope")]}, "No traces found in uploaded files. Errors: Failed to"),
        ({"trace_files": [file("b.json", TALK)], "group_by": "x"}, "group_by must be one of"),
        ({"trace_files": [file("c.json", TALK)], "trace_format": "x"}, "unknown trace format"),
    ],
)
def test_files_that_cannot_be_converted_are_400(agentevals, fields, says):
    status, answer = agentevals.form("/api/convert", **fields)

    assert (status, says in answer["detail"]) == (400, True), answer


def test_without_files_it_is_422(agentevals):
    status, answer = agentevals.form("/api/convert")

    assert (status, answer["detail"][0]["loc"]) == (422, ["body", "trace_files"])


def test_nothing_is_recorded_of_a_conversion(agentevals):
    agentevals.form("/api/convert", trace_files=[file("trace.json", TRACE)])

    assert not Run.objects.exists()


# ── Eval sets, metrics and what is there ───────────────────────────────────
def test_an_eval_set_is_valid(agentevals):
    status, answer = agentevals.form("/api/validate/eval-set", eval_set_file=file("set.json", EVAL_SET))

    told = json.loads(EVAL_SET)
    assert (status, answer["data"]) == (
        200,
        {
            "valid": True,
            "evalSetId": told["eval_set_id"],
            "numCases": len(told["eval_cases"]),
            "errors": [],
        },
    )


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b"\xff", b'{"eval_set_id": 1, "eval_cases": []}'])
def test_what_is_none_says_why(agentevals, content):
    status, answer = agentevals.form("/api/validate/eval-set", eval_set_file=file("set.json", content))

    assert (status, answer["data"]["valid"], len(answer["data"]["errors"])) == (200, False, 1)


def test_the_metrics_are_ours_and_those_of_the_engine(agentevals):
    metrics = {one["name"]: one for one in agentevals.get("/api/metrics")[1]["data"]}

    assert metrics["tool_trajectory_avg_score"] == {
        "name": "tool_trajectory_avg_score",
        "category": "trajectory",
        "requiresEvalSet": True,
        "requiresLLM": False,
        "requiresGCP": False,
        "requiresRubrics": False,
        "description": metrics["tool_trajectory_avg_score"]["description"],
        "working": True,
    }
    assert (metrics["safety_v1"]["requiresGCP"], metrics["safety_v1"]["working"]) == (True, False)


def test_a_metric_of_the_engine_works_where_a_worker_has_it(agentevals):
    Worker.objects.create(name="there/1", pid=1, places=1, heartbeat=60, can=["agentevals 0.11.0"])

    metrics = {one["name"]: one["working"] for one in agentevals.get("/api/metrics")[1]["data"]}

    assert metrics["safety_v1"] is True


def test_health_and_config_are_as_agentevals_has_them(agentevals, settings):
    settings.SPEC_ENV_ALLOW = ["OPENAI_API_KEY"]

    assert agentevals.get("/api/health")[1] == {"data": {"status": "ok", "version": "0.11.0"}, "error": None}
    assert agentevals.get("/api/config")[1]["data"] == {
        "apiKeys": {"google": False, "anthropic": False, "openai": True},
        "otlp": None,
    }


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("get", "/api/evaluate", 405),
        ("get", "/api/debug/bundle", 404),
        ("post", "/api/metrics", 405),
    ],
)
def test_errors_that_no_view_made_have_the_shape_too(agentevals, method, path, status):
    response = getattr(agentevals.client, method)(path, headers=agentevals.headers)

    assert (response.status_code, set(response.json())) == (status, {"detail"})


def test_a_form_that_is_none_is_400(agentevals):
    response = agentevals.client.post(
        "/api/convert", b"nonsense", content_type="multipart/form-data", headers=agentevals.headers
    )

    assert (response.status_code, set(response.json())) == (400, {"detail"})


@pytest.mark.samples
def test_the_sample_is_converted_as_agentevals_does(agentevals):
    """Its invocation was taken from agentevals 0.11.0."""
    sample = file("helm.json", (SAMPLES / "helm.json").read_bytes())

    (entry,) = agentevals.form("/api/convert", trace_files=[sample])[1]["data"]["traces"]

    (turn,) = entry["invocations"]
    assert (turn["invocationId"], turn["creationTimestamp"]) == ("fd2888bee9aed2db", 1771237534.5745122)
    assert turn["intermediateData"]["toolUses"] == [
        {"id": "call_P09kjRKHTTJA02oB9HIe4u5t", "args": {}, "name": "helm_list_releases"}
    ]
    assert entry["metadata"]["startTime"] == 1771237534574512

"""/api/streaming and /stream/ui-updates: live sessions as agentevals has them (CONTRACTS.md 1.10)."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from runs.api import live
from runs.ingest import spans_in, take_in
from runs.models import Run, Token
from runs.models.span import Trace
from tests.api.agentevals import AgentEvals, events_in
from tests.traces.spans import agent, answer_of, assistant, call, chat, export, tool, user


def talk(
    name: str = "nightly", answer: str = "At home.", trace: str = "a" * 32, **resource: Any
) -> dict[str, Any]:
    spans = [
        agent(1),
        chat(2, 1, asked=[user("where is it?")], said=[call("look_up", {"key": 1}, "c1")]),
        tool(3, 1, attributes={"gen_ai.tool.call.id": "c1"}),
        chat(4, 1, asked=[answer_of({"at": "home"}, "c1")], said=[assistant(answer)]),
    ]
    return export(
        *({**span, "traceId": trace} for span in spans),
        resource={"service.name": "shop", "agentevals.session_name": name, **resource},
    )


@pytest.fixture
def session(owner):
    """Takes in a conversation and gives the key of its session, which is complete unless it is to be live."""

    def make(name: str = "nightly", *, is_live: bool = False, **told: Any) -> str:
        take_in(owner, spans_in(talk(name, **told)))
        if not is_live:
            Trace.objects.update(last_span_at=timezone.now() - timedelta(minutes=5))
        return name

    return make


# ── Sessions ───────────────────────────────────────────────────────────────
def test_sessions_are_listed_as_agentevals_lists_them(agentevals, session):
    session("done")
    session("going", is_live=True, trace="b" * 32)

    listed = {one["sessionId"]: one for one in agentevals.get("/api/streaming/sessions")[1]["data"]}

    assert {name: one["isComplete"] for name, one in listed.items()} == {"done": True, "going": False}
    assert set(listed["done"]) == {
        *("sessionId", "traceId", "evalSetId", "spanCount", "isComplete", "startedAt", "metadata"),
    }
    assert (listed["done"]["spanCount"], listed["done"]["traceId"]) == (4, "a" * 32)


def test_a_sessions_spans_come_without_an_envelope_and_name_it(agentevals, session):
    session("a/b c")

    status, document = agentevals.get("/api/streaming/sessions/a%2Fb%20c/otlp")

    (block,) = document["resourceSpans"]
    named = {one["key"]: one["value"] for one in block["resource"]["attributes"]}
    assert (status, named["agentevals.session_name"]) == (200, {"stringValue": "a/b c"})
    assert len(block["scopeSpans"][0]["spans"]) == 4


@pytest.mark.parametrize(
    ("sent", "kept"),
    [({"service.name": "shop"}, ["shop"]), ([1, None, {"key": ["a"]}], []), ("x", []), (5, [])],
)
def test_a_resource_of_any_shape_has_the_name_in_a_list(agentevals, owner, sent, kept):
    document = talk()
    document["resourceSpans"][0]["resource"]["attributes"] = sent
    take_in(owner, spans_in(document))

    status, document = agentevals.get(f"/api/streaming/sessions/otlp-{'a' * 12}/otlp")

    named = [one["value"]["stringValue"] for one in document["resourceSpans"][0]["resource"]["attributes"]]
    assert (status, named) == (200, [*kept, f"otlp-{'a' * 12}"])


def test_a_trace_is_the_same_as_a_text(agentevals, session):
    key = session()

    answer = agentevals.json("/api/streaming/get-trace", {"session_id": key})[1]["data"]

    assert json.loads(answer["traceContent"]) == agentevals.get(f"/api/streaming/sessions/{key}/otlp")[1]
    assert (answer["sessionId"], answer["numSpans"]) == (key, 4)


def test_an_eval_set_expects_what_was_said_and_done(agentevals, session):
    body = {"session_id": session(), "eval_set_id": "golden"}

    answer = agentevals.json("/api/streaming/create-eval-set", body)[1]["data"]

    (case,) = answer["evalSet"]["eval_cases"]
    (turn,) = case["conversation"]
    assert (answer["evalSet"]["eval_set_id"], answer["numInvocations"], case["eval_id"]) == (
        *("golden", 1),
        "case_1",
    )
    assert turn["user_content"]["parts"] == [{"text": "where is it?"}]
    assert turn["intermediate_data"]["tool_uses"] == [{"id": "c1", "args": {"key": 1}, "name": "look_up"}]


def test_what_is_prepared_can_be_downloaded(agentevals, session):
    key, other = session("golden"), session("a/ö", trace="b" * 32)
    session("going", is_live=True, trace="c" * 32)
    body = {"golden_session_id": key, "session_ids": [key, other, "going", "nowhere"]}

    prepared = agentevals.json("/api/streaming/prepare-evaluation", body)[1]["data"]

    assert prepared["numTraces"] == len(prepared["traceUrls"]) == 2
    assert agentevals.get(prepared["evalSetUrl"])[1]["eval_set_id"] == "golden_golden"
    for url, name in zip(prepared["traceUrls"], (key, other), strict=True):
        attributes = agentevals.get(url)[1]["resourceSpans"][0]["resource"]["attributes"]
        assert {"key": "agentevals.session_name", "value": {"stringValue": name}} in attributes


# ── Comparing ──────────────────────────────────────────────────────────────
def test_every_complete_session_is_compared_with_the_golden_one(agentevals, session, worker):
    session("golden")
    session("other", trace="b" * 32, answer="Nobody knows.")
    session("going", trace="c" * 32, is_live=True)
    Trace.objects.exclude(trace_id="c" * 32).update(last_span_at=timezone.now() - timedelta(minutes=5))
    body = {
        "golden_session_id": "golden",
        "eval_set_id": "mine",
        "evaluators": [
            {"type": "builtin", "name": "tool_trajectory_avg_score"},
            {"type": "builtin", "name": "response_match_score"},
        ],
    }

    status, answer = agentevals.json("/api/streaming/evaluate-sessions", body)

    results = {one["sessionId"]: one for one in answer["data"]["results"]}
    scores = {
        name: {metric["metricName"]: metric["score"] for metric in one["metricResults"]}
        for name, one in results.items()
    }
    assert (status, answer["data"]["goldenSessionId"], answer["data"]["evalSetId"]) == (200, "golden", "mine")
    assert scores["golden"] == {"tool_trajectory_avg_score": 1.0, "response_match_score": 1.0}
    assert (scores["other"]["tool_trajectory_avg_score"], scores["other"]["response_match_score"]) == (
        1.0,
        0.0,
    )
    assert set(results) == {"golden", "other"}
    run = Run.objects.get(kind="evaluation")
    assert sorted(run.shown_spec["target"]["traceFiles"]) == ["golden", "other"]


def test_sessions_of_one_name_are_compared_apart(agentevals, session, worker, owner):
    """The second run of a named session is name-2, while its spans still say the name."""
    session("nightly")
    session("nightly", trace="b" * 32)
    keys = {one["sessionId"] for one in agentevals.get("/api/streaming/sessions")[1]["data"]}
    assert len(keys) == 2

    body = {"golden_session_id": "nightly", "eval_set_id": "mine"}
    results = agentevals.json("/api/streaming/evaluate-sessions", body)[1]["data"]["results"]

    assert {one["sessionId"] for one in results} == keys
    assert {one["numInvocations"] for one in results} == {1}


# ── Refusals ───────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("get-trace", {"session_id": "x"}, "Session not found"),
        ("get-trace", {"session_id": "a\0b"}, "Session not found"),
        ("create-eval-set", {"session_id": "x", "eval_set_id": "y"}, "Session not found"),
        ("evaluate-sessions", {"golden_session_id": "x", "eval_set_id": "y"}, "Golden session not found"),
        ("prepare-evaluation", {"golden_session_id": "x", "session_ids": []}, "Golden session not found"),
    ],
)
def test_a_session_that_is_not_there_is_404(agentevals, path, body, says):
    status, answer = agentevals.json(f"/api/streaming/{path}", body)

    assert (status, answer) == (404, {"detail": says})


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("get-trace", {"sessionId": "x"}, "session_id"),
        ("create-eval-set", {"session_id": "x"}, "eval_set_id"),
        ("evaluate-sessions", {"golden_session_id": "x", "eval_set_id": "y", "more": 1}, "more"),
        ("prepare-evaluation", {"golden_session_id": "x", "session_ids": "y"}, "session_ids"),
        ("get-trace", b"{", 0),
    ],
)
def test_bodies_are_in_snake_case_alone(agentevals, path, body, field):
    status, answer = agentevals.json(f"/api/streaming/{path}", body)

    assert status == 422
    assert field in [one["loc"][1] for one in answer["detail"]]


@pytest.mark.parametrize(
    "name", ["x", "agentevals_.json", "agentevals_%FF.json", "eval_set_bm93aGVyZQ.json", "eval_set_AA.json"]
)
def test_a_file_that_nobody_prepared_is_404(agentevals, name):
    assert agentevals.get(f"/api/streaming/download/{name}")[0] == 404


def test_sessions_of_others_are_not_there(session, stranger):
    session("theirs")
    secret = Token.objects.issue(stranger.memberships.get().owner, "tests")[1]
    other = AgentEvals(secret)

    assert other.get("/api/streaming/sessions")[1]["data"] == []
    assert other.json("/api/streaming/get-trace", {"session_id": "theirs"})[0] == 404


# ── Live ───────────────────────────────────────────────────────────────────
def listen(agentevals: AgentEvals, monkeypatch: pytest.MonkeyPatch, *steps: Any) -> list[dict[str, Any]]:
    """The events of a stream; before each further look, one of `steps` happens."""

    def looks() -> Any:
        yield
        for step in steps:
            step()
            yield

    monkeypatch.setattr(live, "looks", looks)
    response = agentevals.client.get("/stream/ui-updates", headers=agentevals.headers)
    assert response["Content-Type"] == "text/event-stream"
    return events_in(response.getvalue().decode())


def test_every_session_comes_then_that_this_was_all(agentevals, session, monkeypatch):
    session()

    first, synced = listen(agentevals, monkeypatch)

    summary, (turn,) = first["upsert"]["summary"], first["upsert"]["turns"]
    assert synced == {"synced": {}}
    assert (summary["id"], summary["state"], summary["agent"]) == (
        *("nightly", "SESSION_STATE_COMPLETE"),
        "helper",
    )
    assert summary["totals"]["toolCalls"] == 1
    assert (turn["userText"], turn["answerText"]) == ("where is it?", "At home.")
    assert turn["toolCalls"][0]["arguments"] == {"key": 1}


def test_what_changes_comes_again_and_nothing_else(agentevals, session, monkeypatch):
    session("first")

    events = listen(
        agentevals, monkeypatch, lambda: None, lambda: session("second", trace="b" * 32), lambda: None
    )

    assert [next(iter(event)) for event in events] == ["upsert", "synced", "upsert"]
    assert events[-1]["upsert"]["summary"]["id"] == "second"


def test_a_session_of_very_many_spans_comes_without_its_turns(agentevals, session, monkeypatch):
    session()
    monkeypatch.setattr(live, "MOST_SPANS", 3)

    first, _ = listen(agentevals, monkeypatch)

    assert "turns" not in first["upsert"]
    assert first["upsert"]["summary"]["spanCount"] == 4


def test_a_long_silence_is_broken_by_a_comment(agentevals, monkeypatch):
    monkeypatch.setattr(live.evaluate, "KEEPALIVE", -1)
    monkeypatch.setattr(live, "looks", lambda: iter([None]))

    response = agentevals.client.get("/stream/ui-updates", headers=agentevals.headers)

    assert b": keepalive\n\n" in response.getvalue()


def test_without_a_token_there_is_no_stream(client, db):
    response = client.get("/stream/ui-updates")

    assert (response.status_code, set(response.json()), response["WWW-Authenticate"]) == (
        *(401, {"detail"}),
        "Bearer",
    )


def test_one_listener_too_many_is_503(agentevals, settings):
    settings.MAX_STREAMS = 0

    status, answer = agentevals.get("/stream/ui-updates")

    assert (status, "MAX_STREAMS" in answer["detail"]) == (503, True)


def test_no_connection_is_held_between_two_looks(committed_db, agentevals, monkeypatch):
    held = []
    listen(agentevals, monkeypatch, lambda: held.append(connection.connection))

    assert held == [None]

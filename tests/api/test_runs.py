"""Every request and answer of CONTRACTS.md 1.1 to 1.3."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connections
from django.test import Client

from runs.models import Claim, Run, Session, Token

SPEC = {"target": {"kind": "inline", "inline": {"data": []}}}
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
RUN_KEYS = {
    *("runId", "status", "spec", "attempt", "workerId", "error", "summary"),
    *("createdAt", "startedAt", "finishedAt", "cancelRequested"),
}
TARGET_KEYS = {"kind", "inline", "baseUrl", "traceId", "traceFormat", "traceCount", "traceFiles"}


def submit(api: Any, spec: Any = SPEC, **body: Any) -> dict[str, Any]:
    status, answer = api.post(body={"spec": spec, **body})
    assert status == 202, answer
    return answer["data"]


# ── Submitting ─────────────────────────────────────────────────────────────
def test_it_queues_a_run(api):
    status, answer = api.post(body={"spec": SPEC})

    run = answer["data"]
    assert (status, answer["error"]) == (202, None)
    assert set(run) == RUN_KEYS
    assert INSTANT.fullmatch(run["createdAt"])
    assert (run["status"], run["attempt"], run["cancelRequested"]) == ("queued", 0, False)
    assert [run[key] for key in ("workerId", "error", "summary", "startedAt", "finishedAt")] == [None] * 5


def test_it_fills_in_the_defaults_of_a_spec(api):
    spec = submit(api)["spec"]

    assert set(spec["target"]) == TARGET_KEYS
    assert spec["approach"] == "trace_replay"
    assert [spec[key] for key in ("evalSet", "evalConfig", "sinks", "context", "credentialRefs")] == [
        *(None, {}, [], {}, None)
    ]


def test_it_takes_the_run_id_of_the_client(api):
    run_id = str(uuid4())

    assert submit(api, runId=run_id)["runId"] == run_id
    assert submit(api, run_id=run_id.upper())["runId"] == run_id


@pytest.mark.parametrize(
    "same",
    [
        {"target": {"kind": "inline", "inline": {"data": []}}, "context": {}, "sinks": []},
        {"target": {"inline": {"data": []}, "kind": "inline", "base_url": None}},
        {"target": {"kind": "inline", "inline": {"data": []}, "traceFormat": None}, "eval_set": None},
        {"approach": "trace_replay", "evalConfig": {}, "credential_refs": None, **SPEC},
    ],
)
def test_the_same_id_with_an_equal_spec_gives_the_run_that_is_there(api, same):
    first = submit(api, runId=str(uuid4()))
    api.post(f"/{first['runId']}/cancel")

    again = submit(api, same, runId=first["runId"])

    assert (again["runId"], again["status"]) == (first["runId"], "cancelled")
    assert Run.objects.count() == 1


def test_whole_numbers_equal_their_floats(api):
    first = submit(api, {**SPEC, "evalSet": {"n": 1}}, runId=str(uuid4()))

    assert submit(api, {**SPEC, "evalSet": {"n": 1.0}}, runId=first["runId"])["runId"] == first["runId"]


@pytest.mark.parametrize(
    "other",
    [
        {**SPEC, "note": "one more key"},
        {"target": {"kind": "inline", "inline": {"data": []}, "extra": 1}},
        {**SPEC, "evalSet": {}},
        {"target": {"kind": "inline", "inline": {"data": ["\x00"]}}},
    ],
)
def test_the_same_id_with_another_spec_is_a_conflict(api, other):
    first = submit(api, {**SPEC, "context": {"api_key": "s3cret"}}, runId=str(uuid4()))

    status, answer = api.post(body={"runId": first["runId"], "spec": other})

    assert status == 409
    assert answer["detail"]["message"] == "run_id already exists with a different spec"
    assert answer["detail"]["persisted"] == first
    assert answer["detail"]["persisted"]["spec"]["context"] == {"api_key": "REDACTED"}


def test_a_conflict_does_not_show_the_run_of_another_owner(api, strangers_api):
    theirs = submit(strangers_api, runId=str(uuid4()))

    for spec in (SPEC, {**SPEC, "note": 1}):
        status, answer = api.post(body={"runId": theirs["runId"], "spec": spec})
        assert (status, answer) == (
            409,
            {"detail": {"message": "run_id already exists with a different spec"}},
        )


def test_an_invalid_spec_is_no_conflict(api):
    first = submit(api, runId=str(uuid4()))

    assert api.post(body={"runId": first["runId"], "spec": {"target": {"kind": "no"}}})[0] == 422


def test_fifty_at_once_make_one_run(committed_db, api):
    body = {"runId": str(uuid4()), "spec": SPEC}

    def send(_: int) -> tuple[int, Any]:
        try:
            return api.post(body=body)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(send, range(50)))

    assert {status for status, _ in answers} == {202}
    assert all(answer == answers[0][1] for _, answer in answers)
    assert Run.objects.count() == 1


def test_free_dictionaries_come_back_as_they_were_sent(api):
    spec = {
        "target": {
            "kind": "inline",
            "inline": {"resource_spans": [{"fooBar": 1, "foo_bar": 2}]},
            "x_y": {"a_b": 1},
        },
        "eval_set": {"eval_set_id": "e", "evalCases": []},
        "eval_config": {"evaluators": [{"type": "builtin", "name": "response_match_score"}]},
        "some_key": {"inner_key": 1},
    }

    shown = submit(api, spec)["spec"]

    assert shown["target"]["inline"] == spec["target"]["inline"]
    assert shown["target"]["x_y"] == {"a_b": 1}
    assert shown["evalSet"] == spec["eval_set"]
    assert shown["evalConfig"] == spec["eval_config"]
    assert shown["some_key"] == {"inner_key": 1}


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        ({}, ["body", "spec"]),
        ({"spec": {}}, ["body", "spec", "target"]),
        ({"spec": {"target": {}}}, ["body", "spec", "target", "kind"]),
        ({"spec": {"target": {"kind": "ftp"}}}, ["body", "spec", "target", "kind"]),
        ({"spec": {**SPEC, "approach": "agent_invoke"}}, ["body", "spec", "approach"]),
        ({"spec": {**SPEC, "sinks": {}}}, ["body", "spec", "sinks"]),
        ({"spec": {**SPEC, "context": []}}, ["body", "spec", "context"]),
        ({"spec": {**SPEC, "evalSet": "x"}}, ["body", "spec", "evalSet"]),
        ({"runId": "zzz", "spec": SPEC}, ["body", "runId"]),
        ({"spec": {**SPEC, "credentialRefs": {"k": {"kind": "file", "name": "x"}}}},
         ["body", "spec", "credentialRefs", "k", "kind"]),
        (None, ["body"]),
        ([], ["body"]),
        (1, ["body"]),
    ],
)  # fmt: skip
def test_a_wrong_shape_is_named(api, body, loc):
    status, answer = api.post(body=body)

    assert status == 422
    assert answer["detail"][0]["loc"] == loc
    assert answer["detail"][0]["msg"]
    assert Run.objects.count() == 0


@pytest.mark.parametrize(
    "data", [b"", b"{", b"nope", b'{"spec": NaN}', b"\xff", b'{"a": 1e400}', b"\xef\xbb\xbf{}"]
)
def test_what_is_no_json_is_named(api, data):
    status, answer = api.post(body=data)

    assert status == 422
    assert answer["detail"][0]["type"] == "json_invalid"
    assert answer["detail"][0]["loc"][0] == "body"
    assert answer["detail"][0]["ctx"]["error"]


@pytest.mark.parametrize("trace_id", [None, "", "xyz", "a" * 31, "g" * 32, "a" * 33])
def test_an_http_target_needs_a_trace_id(api, trace_id):
    spec = {"target": {"kind": "http", "baseUrl": "http://h", "traceId": trace_id}}

    assert api.post(body={"spec": spec}) == (
        422,
        {"detail": "target.trace_id must be 16 or 32 hex characters"},
    )


@pytest.mark.parametrize("trace_id", ["a" * 16, "ABCDEF0123456789" * 2])
def test_an_http_target_needs_no_address_yet(api, trace_id):
    assert (
        submit(api, {"target": {"kind": "http", "traceId": trace_id}})["spec"]["target"]["traceId"]
        == trace_id
    )


@pytest.mark.parametrize(
    "config",
    [
        {"foo": 1},
        {"evaluators": []},
        {"evaluators": [{"name": "tool_trajectory_avg_score"}]},
        {"evaluators": [{"type": "builtin", "name": "a"}, {"type": "builtin", "name": "a"}]},
        {"evaluators": [{"type": "builtin", "name": "a", "threshold": 2}]},
        {"evaluators": [{"type": "builtin", "name": "a", "trajectoryMatchType": "NEARLY"}]},
        {"evaluators": [{"type": "builtin", "name": "per_turn_user_simulator_quality_v1"}]},
        {"groupBy": "weekday"},
    ],
)
def test_a_wrong_eval_config_is_a_sentence(api, config):
    status, answer = api.post(body={"spec": {**SPEC, "evalConfig": config}})

    assert status == 422
    assert answer["detail"].startswith("Invalid eval_config: 1 validation error for EvalParams")


def test_an_unknown_key_of_an_eval_config_reads_as_in_agentevals(api):
    _, answer = api.post(body={"spec": {**SPEC, "evalConfig": {"foo": 1}}})

    assert "\nfoo\n  Extra inputs are not permitted" in answer["detail"]


@pytest.mark.parametrize(
    "target",
    [{"kind": "inline"}, {"kind": "uploaded"}, {"kind": "inline", "inline": {"nonsense": True}}],
)
def test_what_the_worker_looks_at_is_accepted(api, target):
    assert submit(api, {"target": target})["status"] == "queued"


def test_a_session_can_be_named(api):
    run = submit(api, {**SPEC, "context": {"session": "nightly"}})

    assert Run.objects.get(pk=run["runId"]).session == Session.objects.get(key="nightly")


def test_a_session_name_has_a_limit(api):
    status, answer = api.post(body={"spec": {**SPEC, "context": {"session": "x" * 501}}})

    assert (status, answer) == (422, {"detail": "context.session has more than 500 characters"})


# ── Reading ────────────────────────────────────────────────────────────────
def test_a_run_can_be_read(api):
    run = submit(api)

    assert api.get(f"/{run['runId']}") == (200, {"data": run, "error": None})


@pytest.mark.parametrize("path", ["/{}", "/{}/results"])
def test_a_missing_run_is_404(api, path):
    run_id = uuid4()

    assert api.get(path.format(run_id)) == (404, {"detail": f"run {run_id} not found"})


@pytest.mark.parametrize("path", ["/{}", "/{}/results"])
def test_a_strangers_run_is_missing(api, strangers_api, path):
    run_id = submit(strangers_api)["runId"]

    assert api.get(path.format(run_id)) == (404, {"detail": f"run {run_id} not found"})


@pytest.mark.parametrize("path", ["/zzz", "/zzz/results", "/1"])
def test_an_id_that_is_no_uuid_is_422(api, path):
    status, answer = api.get(path)

    assert (status, answer["detail"][0]["loc"]) == (422, ["path", "run_id"])


def test_the_newest_run_is_listed_first(api, strangers_api):
    runs = [submit(api) for _ in range(3)]
    submit(strangers_api)

    status, answer = api.get("")

    assert (status, answer["error"]) == (200, None)
    assert answer["data"] == runs[::-1]


def test_tasks_are_no_evaluations(api, make_run):
    task = make_run(kind="task")

    assert api.get("")[1]["data"] == []
    assert api.get(f"/{task.pk}")[0] == 404


def test_statuses_can_be_chosen(api):
    queued, cancelled = submit(api), submit(api)
    api.post(f"/{cancelled['runId']}/cancel")

    def listed(**query: Any) -> set[str]:
        return {run["runId"] for run in api.get("", **query)[1]["data"]}

    assert listed(status="cancelled") == {cancelled["runId"]}
    assert listed(status=["queued", "cancelled"]) == {queued["runId"], cancelled["runId"]}
    assert listed(status="failed") == set()


@pytest.mark.parametrize(
    ("query", "loc"),
    [
        ({"status": "done"}, ["query", "status", 0]),
        ({"limit": 0}, ["query", "limit"]),
        ({"limit": 1001}, ["query", "limit"]),
        ({"limit": "x"}, ["query", "limit"]),
        ({"limit": "9" * 5000}, ["query", "limit"]),
        ({"before": "yesterday"}, ["query", "before"]),
        ({"cursor": "nonsense"}, ["query", "cursor"]),
        ({"cursor": "é"}, ["query", "cursor"]),
    ],
)
def test_a_wrong_query_is_named(api, query, loc):
    status, answer = api.get("", **query)

    assert (status, answer["detail"][0]["loc"]) == (422, loc)


def test_before_gives_the_page_behind(api):
    runs = [submit(api) for _ in range(3)]

    def before(instant: str) -> list[dict[str, Any]]:
        return api.get("", before=instant)[1]["data"]

    assert before(runs[2]["createdAt"]) == [runs[1], runs[0]]
    assert before(runs[0]["createdAt"]) == []
    assert before(runs[1]["createdAt"].removesuffix("Z")) == [runs[0]]
    assert before("2026-01-01") == []
    assert before("2999-01-01") == runs[::-1]
    assert before("0001-01-01T00:00:00+14:00") == []


def test_the_cursor_loses_no_ties(api, make_run, token):
    moment = datetime(2026, 11, 1, tzinfo=UTC)
    tied = {str(make_run(created_at=moment).pk) for _ in range(10)}
    client, seen, cursor = Client(headers={"Authorization": f"Bearer {token}"}), [], None

    for _ in range(5):
        response = client.get("/api/runs", {"limit": 3, **({"cursor": cursor} if cursor else {})})
        seen += [run["runId"] for run in response.json()["data"]]
        cursor = response.headers.get("X-Next-Cursor")
        if cursor is None:
            break

    assert len(seen) == 10
    assert set(seen) == tied


# ── Cancelling ─────────────────────────────────────────────────────────────
def test_a_queued_run_is_cancelled_at_once(api):
    run = submit(api)

    status, answer = api.post(f"/{run['runId']}/cancel")

    cancelled = answer["data"]
    assert (status, cancelled["status"], cancelled["cancelRequested"]) == (200, "cancelled", True)
    assert (cancelled["startedAt"], cancelled["attempt"], cancelled["error"]) == (None, 0, None)
    assert INSTANT.fullmatch(cancelled["finishedAt"])


def test_cancelling_twice_changes_nothing(api):
    run = submit(api)

    first = api.post(f"/{run['runId']}/cancel")

    assert api.post(f"/{run['runId']}/cancel") == first


def test_a_running_run_is_asked_to_stop(api, claim):
    run = submit(api)
    claim("host/0a1b/1")

    _, answer = api.post(f"/{run['runId']}/cancel")

    assert (answer["data"]["status"], answer["data"]["cancelRequested"]) == ("running", True)
    assert (answer["data"]["workerId"], answer["data"]["attempt"]) == ("host/0a1b/1", 1)


def test_a_final_run_stays_as_it_is(api, claim):
    run = submit(api)
    claim()[1].fail("it broke")
    before = api.get(f"/{run['runId']}")

    assert api.post(f"/{run['runId']}/cancel") == before
    assert before[1]["data"]["error"] == "it broke"


def test_cancelling_what_is_not_there(api, strangers_api):
    missing, theirs = uuid4(), submit(strangers_api)["runId"]

    assert api.post(f"/{missing}/cancel") == (404, {"detail": f"run {missing} not found"})
    assert api.post(f"/{theirs}/cancel") == (404, {"detail": f"run {theirs} not found"})
    assert api.post("/zzz/cancel")[0] == 422
    assert strangers_api.get(f"/{theirs}")[1]["data"]["status"] == "queued"


# ── Redaction ──────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (
            {"headers": {"X-Key": "k", "Y": {"from_env": "NAME"}}},
            {"headers": {"X-Key": "REDACTED", "Y": {"from_env": "NAME"}}},
        ),
        ({"Headers": {"a": ["b"]}}, {"Headers": {"a": "REDACTED"}}),
        ({"password": "p", "dsn": None}, {"password": "REDACTED", "dsn": None}),
        ({"apiKey": "k", "MY_TOKEN": 1}, {"apiKey": "REDACTED", "MY_TOKEN": "REDACTED"}),
        ({"token_list": ["a"]}, {"token_list": ["a"]}),
        ({"secret": {"inner": 1, "private_key": "k"}}, {"secret": {"inner": 1, "private_key": "REDACTED"}}),
        ({"url": "http://127.0.0.1:18555/hook/x?token=zzz"}, {"url": "http://127.0.0.1:18555/REDACTED"}),
        ({"url": "http://user:pw@host/"}, {"url": "http://host"}),
        ({"url": "http://host?x=1"}, {"url": "http://host/REDACTED"}),
        ({"url": "not an address"}, {"url": "REDACTED"}),
        ({"url": "http://[::1"}, {"url": "REDACTED"}),
        ({"url": 5}, {"url": 5}),
        ({"deep": [{"authorization": "a"}]}, {"deep": [{"authorization": "REDACTED"}]}),
        ({"headers_from_env": {"Authorization": "VAR"}}, {"headers_from_env": {"Authorization": "VAR"}}),
        ({"plain": "stays"}, {"plain": "stays"}),
    ],
)  # fmt: skip
def test_secrets_of_context_and_sinks_are_redacted(api, given, shown):
    spec = submit(api, {**SPEC, "context": given, "sinks": [{"kind": "http_webhook", **given}]})["spec"]

    assert spec["context"] == shown
    assert spec["sinks"] == [{"kind": "http_webhook", **shown}]


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("http://user:pw@h/api/?k=v", "http://h/api/"),
        ("http://h:99/api", "http://h:99/api"),
        ("http://[::1]:80/a", "http://[::1]:80/a"),
        ("nonsense", "nonsense"),
        (None, None),
    ],
)
def test_credentials_of_the_base_url_are_redacted(api, given, shown):
    target = {"kind": "http", "traceId": "a" * 32, "baseUrl": given}

    assert submit(api, {"target": target})["spec"]["target"]["baseUrl"] == shown


def test_secrets_are_kept_encrypted_and_the_rest_is_not_redacted(api):
    spec = {
        "target": {"kind": "inline", "inline": {"password": "p"}, "token": "t"},
        "evalSet": {"secret": "s"},
        "context": {"password": "p"},
        "api_key": "k",
        "credentialRefs": {"secret": {"kind": "env", "name": "VAR"}},
    }

    run = submit(api, spec)

    assert run["spec"]["target"]["inline"] == {"password": "p"}
    assert (run["spec"]["target"]["token"], run["spec"]["api_key"]) == ("t", "k")
    assert run["spec"]["evalSet"] == {"secret": "s"}
    assert run["spec"]["credentialRefs"] == spec["credentialRefs"]
    kept = Run.objects.get(pk=run["runId"])
    assert kept.spec["context"] == {"password": "REDACTED"}
    assert kept.full_spec["context"] == {"password": "p"}


# ── Who may ────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer rf_wrong"}, {"Authorization": "Basic YTpi"}]
)
def test_without_a_good_token_it_is_401(client, db, headers):
    response = client.get("/api/runs", headers=headers)

    assert response.status_code == 401
    assert list(response.json()) == ["detail"]
    assert response["WWW-Authenticate"] == "Bearer"


def test_a_session_cookie_is_no_token(signed_in):
    assert signed_in.get("/api/runs").status_code == 401


def test_a_token_that_may_only_read_is_refused_writing(owner, client):
    _, secret = Token.objects.issue(owner, "reader", ["read"])
    headers = {"Authorization": f"Bearer {secret}"}

    response = client.post("/api/runs", b"{}", content_type="application/json", headers=headers)

    assert (response.status_code, list(response.json())) == (403, ["detail"])
    assert client.get("/api/runs", headers=headers).status_code == 200


@pytest.mark.parametrize("field", ["revoked_at", "expires_at"])
def test_a_revoked_or_expired_token_is_refused_on_the_next_request(api, field):
    assert api.get("")[0] == 200
    Token.objects.update(**{field: datetime.now(UTC) - timedelta(seconds=1)})

    assert api.get("")[0] == 401


# ── Other errors have the same shape ───────────────────────────────────────
def test_an_unknown_path_has_the_shape(client, db):
    response = client.get("/api/runs/a/b/c")

    assert (response.status_code, list(response.json())) == (404, ["detail"])


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
def test_a_wrong_method_has_the_shape(client, db, method):
    response = getattr(client, method)("/api/runs")

    assert (response.status_code, list(response.json())) == (405, ["detail"])
    assert "POST" in response["Allow"]


def test_trace_is_refused(client, db):
    assert client.trace("/api/runs").status_code == 405


def test_a_body_over_the_limit_is_413(api, settings):
    settings.MAX_BODY_BYTES = 1000

    status, answer = api.post(body={"spec": {**SPEC, "note": "x" * 2000}})

    assert (status, list(answer)) == (413, ["detail"])


# ── Results ────────────────────────────────────────────────────────────────
RESULT = {
    "resultId": "f" * 64,
    "evalSetItemId": "3e289017fe03ffd7c4145316d2eb3d0d",
    "evalSetItemName": "3e289017fe03ffd7c4145316d2eb3d0d",
    "evaluatorName": "tool_trajectory_avg_score",
    "evaluatorType": "builtin",
    "status": "passed",
    "score": 1.0,
    "perInvocationScores": [1.0, None],
    "traceId": "3e289017fe03ffd7c4145316d2eb3d0d",
    "spanId": "fd2888bee9aed2db",
    "details": {"comparisons": [{"matched": True, "text": "a\x00b"}]},
    "errorText": None,
    "tokensUsed": None,
    "latencyMs": 10,
}


def record(claim: Claim, **fields: Any) -> None:
    from runs.exact import split_exact
    from runs.models import Result

    details, exact = split_exact(fields.pop("details", RESULT["details"]))
    claim.record(
        [
            Result(
                id=fields.pop("id", RESULT["resultId"]),
                run_id=claim.run_id,
                item_id=RESULT["evalSetItemId"],
                item_name=RESULT["evalSetItemName"],
                evaluator_name=RESULT["evaluatorName"],
                evaluator_type="builtin",
                status=fields.pop("status", "passed"),
                score=fields.pop("score", 1.0),
                per_invocation_scores=[1.0, None],
                trace_id=fields.pop("trace_id", RESULT["traceId"]),
                span_id=RESULT["spanId"],
                details=details,
                details_exact=exact,
                latency_ms=10,
                **fields,
            )
        ]
    )


def test_results_have_the_shape_of_the_contract(api, claim):
    run = submit(api)
    record(claim()[1])

    status, answer = api.get(f"/{run['runId']}/results")

    (result,) = answer["data"]
    assert (status, answer["error"]) == (200, None)
    assert INSTANT.fullmatch(result.pop("createdAt"))
    assert result == {**RESULT, "runId": run["runId"]}


def test_a_run_without_results_has_an_empty_list(api):
    assert api.get(f"/{submit(api)['runId']}/results") == (200, {"data": [], "error": None})


def test_the_oldest_result_is_listed_first(api, claim):
    run = submit(api)
    held = claim()[1]
    for number in (3, 1, 2):
        record(held, id=f"{number}" * 64)

    results = api.get(f"/{run['runId']}/results")[1]["data"]

    assert [result["resultId"][0] for result in results] == ["3", "1", "2"]


def test_a_result_that_is_there_takes_the_newer_verdict_alone(api, claim):
    run = submit(api)
    held = claim()[1]
    record(held)
    (before,) = api.get(f"/{run['runId']}/results")[1]["data"]

    record(held, status="failed", score=0.0, details={}, trace_id="another", error="why")
    (after,) = api.get(f"/{run['runId']}/results")[1]["data"]

    changed = {"status": "failed", "score": 0.0, "details": {}, "errorText": "why"}
    assert after == {**before, **changed}


def test_a_failed_run_tells_why(api, claim):
    run = submit(api)
    claim()[1].fail("no traces\x00 here")

    shown = api.get(f"/{run['runId']}")[1]["data"]

    assert (shown["status"], shown["summary"]) == ("failed", None)
    assert shown["error"] == "no traces\N{REPLACEMENT CHARACTER} here"
    assert shown["workerId"] is None

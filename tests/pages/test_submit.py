import gzip
import json
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from runs.models import Event, Membership, Owner, Run, Upload
from runs.submission import submit
from tests.conftest import ROOT

TRACE = (ROOT / "samples" / "trace.json").read_bytes()
EVAL_SET = (ROOT / "samples" / "eval_set.json").read_bytes()
BOTH = {"use-tool_trajectory_avg_score": "on", "use-response_match_score": "on"}


def file(content: bytes, name: str = "trace.json") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, content, "application/json")


@pytest.fixture
def send(signed_in, owner):
    def post(address: str = "/submit", **fields: Any):
        form = {"traces": file(TRACE), "owner": owner.pk, **BOTH, **fields}
        return signed_in.post(address, {key: value for key, value in form.items() if value is not None})

    return post


def test_it_works(send):
    answer = send(eval_set=file(EVAL_SET, "set.json"), session="tuning")
    run = Run.objects.get()
    assert answer["Location"] == f"/runs/{run.pk}"
    assert run.full_spec["target"]["inline"] == json.loads(TRACE)
    assert run.full_spec["evalSet"] == json.loads(EVAL_SET)
    assert [one["name"] for one in run.full_spec["evalConfig"]["evaluators"]] == [
        "tool_trajectory_avg_score",
        "response_match_score",
    ]
    assert run.session.key == "tuning"


def test_each_file_becomes_a_run(send):
    answer = send(traces=[file(TRACE), file(TRACE, "second.json")])
    assert answer["Location"] == "/"
    assert Run.objects.count() == 2


def test_a_packed_file_is_unpacked(send):
    send(traces=file(gzip.compress(TRACE), "trace.json.gz"))
    assert Run.objects.get().full_spec["target"]["inline"] == json.loads(TRACE)


def test_settings_go_into_the_spec_as_their_schema_says(send):
    fields = {"use-turn_count": "on", "threshold-turn_count": "1", "turn_count-maxTurns": "3",
              "tool_trajectory_avg_score-trajectoryMatchType": "ANY_ORDER"}  # fmt: skip
    send(**fields)
    trajectory, _, turns = Run.objects.get().full_spec["evalConfig"]["evaluators"]
    assert trajectory["trajectoryMatchType"] == "ANY_ORDER"
    assert turns == {"type": "builtin", "name": "turn_count", "threshold": 1.0, "config": {"maxTurns": 3}}


# ── Checking ───────────────────────────────────────────────────────────────
def test_a_check_says_what_is_in_the_files_and_sends_nothing(send):
    answer = send(check="", eval_set=file(EVAL_SET, "set.json"))
    (report,) = answer.context["reports"]
    assert (report.traces, report.turns, report.matched) == (2, 2, 1)
    assert b"Nothing stands in the way." in answer.content
    assert not Run.objects.exists()


def test_checked_files_need_not_be_sent_again(send):
    send(check="", eval_set=file(EVAL_SET, "set.json"))
    kept, case = Upload.objects.get(kind="traces"), Upload.objects.get(kind="eval_set")
    send(traces=None, kept=str(kept.pk), kept_eval_set=str(case.pk))
    run = Run.objects.get()
    assert run.pk == kept.pk
    assert run.full_spec["evalSet"] == json.loads(EVAL_SET)


def test_a_second_click_makes_no_second_run(send):
    send(check="")
    kept = str(Upload.objects.get().pk)
    first, second = (send(traces=None, kept=kept) for _ in range(2))
    assert first["Location"] == second["Location"]
    assert Run.objects.count() == 1


def test_kept_files_that_go_with_other_settings_make_another_run(send):
    send(check="")
    kept = str(Upload.objects.get().pk)
    send(traces=None, kept=kept)
    send(traces=None, kept=kept, session="tuning")
    assert Run.objects.count() == 2


def test_files_are_kept_where_something_else_is_wrong(send):
    answer = send(**{"use-response_regex": "on"})
    assert answer.status_code == 422
    assert f'value="{Upload.objects.get().pk}" checked' in answer.content.decode()


def test_anothers_kept_file_is_not_there(send, strangers_client, stranger):
    send(check="")
    kept = str(Upload.objects.get().pk)
    theirs = {"kept": kept, "owner": stranger.memberships.get().owner_id, **BOTH}
    assert b"Choose a trace file." in strangers_client.post("/submit", theirs).content


def test_evaluators_that_need_an_eval_set_are_named_where_there_is_none(send):
    page = send(check="").content.decode()
    assert "Without an eval set these skip everything: tool_trajectory_avg_score" in page


def test_a_trace_without_an_eval_case_is_said(send):
    others = json.loads(EVAL_SET)
    two = [
        {**case, "eval_id": f"other-{number}", "conversation": case["conversation"]}
        for number, case in enumerate(others["eval_cases"] * 2)
    ]
    for case in two:
        case["conversation"][0]["user_content"]["parts"][0]["text"] = "Something else entirely?"
    page = send(check="", eval_set=file(json.dumps({**others, "eval_cases": two}).encode(), "set.json"))
    assert b"1 item without an eval case" in page.content
    assert b"What is marked would be skipped." in page.content


# ── Mistakes ───────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "is not JSON"),
        (b"[NaN]", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[1, 2]", "is not a JSON object"),
        (b'{"hello": 1}', "trace.json:"),
        (b'{"data": []}', "there is no trace in it"),
        (b"", "empty"),
        (b"\x1f\x8bnonsense", "cannot be unpacked"),
        (gzip.compress(TRACE)[:-8], "its end is missing"),
    ],
)
def test_a_file_that_is_no_trace_is_refused_beside_its_field(send, content, words):
    answer = send(traces=file(content))
    assert answer.status_code == 422
    page = answer.content.decode()
    assert words in page[page.index("id_traces_error") :][:400]
    assert not Run.objects.exists()


def test_a_file_that_is_too_much_unpacked_is_refused(send, settings):
    settings.MAX_BODY_BYTES = 2**20
    answer = send(traces=file(gzip.compress(b" " * 2**21), "bomb.gz"))
    assert b"more than 1 MB when it is unpacked" in answer.content


def test_one_bad_file_of_several_submits_none(send):
    answer = send(traces=[file(TRACE), file(b'{"hello": 1}', "second.json")])
    assert answer.status_code == 422
    assert b"second.json:" in answer.content
    assert not Run.objects.exists()


@pytest.mark.parametrize("content", [b"nonsense", b'{"eval_set_id": 1}'])
def test_an_eval_set_that_is_none_is_said_beside_its_own_field(send, content):
    answer = send(eval_set=file(content))
    assert b"id_eval_set_error" in answer.content
    assert b"id_traces_error" not in answer.content


def test_an_evaluator_is_needed(send):
    answer = send(**dict.fromkeys(BOTH))
    assert answer.status_code == 422
    assert b"Choose at least one evaluator." in answer.content


def test_a_file_is_needed(send):
    assert b"Choose a trace file." in send(traces=None).content


def test_another_owner_cannot_be_written_to(send, stranger):
    other = Membership.objects.get(user=stranger).owner
    assert send(owner=other.pk).status_code == 422
    assert not Run.objects.exists()


def test_whoever_has_several_owners_chooses(signed_in, alice):
    second = Owner.objects.create(name="second")
    Membership.objects.create(user=alice, owner=second, role="admin")
    page = signed_in.get("/submit").content.decode()
    assert '<select name="owner"' in page


def test_a_file_with_one_export_a_line_becomes_one_run(send):
    block = json.loads(TRACE)["resourceSpans"]
    lines = b"\n".join(json.dumps({"resourceSpans": [one]}).encode() for one in [*block, *block])

    send(traces=file(lines, "export.jsonl"))

    assert Run.objects.get().full_spec["target"]["inline"] == {"resourceSpans": [*block, *block]}


def test_a_line_that_is_no_json_is_named(send):
    answer = send(traces=file(b'{"resourceSpans": []}\n{"resourceSpans": [}\n', "export.jsonl"))

    assert answer.status_code == 422
    assert "line 2" in answer.content.decode()


# ── Again, changed ─────────────────────────────────────────────────────────
@pytest.fixture
def original(owner, sample):
    spec = {
        **sample["spec"],
        "target": {"kind": "inline", "inline": json.loads(TRACE)},
        "evalSet": json.loads(EVAL_SET),
        "sinks": [{"kind": "http_webhook", "url": "https://example.com/hook/geheim"}],
        "context": {"session": "tuning", "token": "geheim"},
        "evalConfig": {"evaluators": [
            {"type": "builtin", "name": "turn_count", "config": {"max_turns": 7}},
            {"type": "code", "name": "polite", "path": "polite.py"},
        ]},
        "credentialRefs": None,
    }  # fmt: skip
    return submit(owner, {"spec": spec})


def again(signed_in, original, **fields: Any):
    return signed_in.post(f"/submit?from={original.pk}", fields)


def test_the_form_begins_with_what_was_submitted(signed_in, original):
    page = signed_in.get(f"/submit?from={original.pk}").content.decode()
    assert 'name="turn_count-maxTurns" value="7"' in page
    assert "polite.py" in page
    assert 'value="tuning"' in page
    assert "geheim" not in page


def test_a_run_goes_again_with_changes_and_its_secrets(signed_in, original):
    answer = again(signed_in, original, traces_as_before="on", eval_set_as_before="on",
                   **{"use-tool_error_rate": "on"})  # fmt: skip
    run = Run.objects.exclude(pk=original.pk).get()
    assert answer["Location"] == f"/runs/{run.pk}"
    assert run.retried_id == original.pk
    before, now = original.full_spec, run.full_spec
    assert [one["name"] for one in now["evalConfig"]["evaluators"]] == ["tool_error_rate"]
    assert now["sinks"] == before["sinks"]
    assert now["context"] == {"token": "geheim"}
    assert (now["target"]["inline"], now["evalSet"]) == (before["target"]["inline"], before["evalSet"])


def test_who_changed_it_stands_in_its_history(signed_in, original, alice):
    again(signed_in, original, traces_as_before="on", **{"use-tool_error_rate": "on"})
    step = Event.objects.filter(run__retried=original).get()
    assert step.payload["by"] == alice.display_name
    assert str(original.pk) in step.payload["reason"]


def test_a_target_that_is_in_no_file_stays(signed_in, make_run, original):
    query = {"kind": "filter", "query": "kind:task"}
    other = make_run({**original.full_spec, "target": {**original.full_spec["target"], **query}})
    again(signed_in, other, **{"use-tool_error_rate": "on"})
    assert Run.objects.get(retried=other).full_spec["target"]["query"] == "kind:task"


def test_another_owners_run_is_not_there(strangers_client, original):
    for way in ("", "/spec"):
        assert strangers_client.get(f"/submit{way}?from={original.pk}").status_code == 404
        assert strangers_client.get(f"/submit{way}?from=nonsense").status_code == 404


# ── As JSON ────────────────────────────────────────────────────────────────
SPEC = {"target": {"kind": "filter", "query": "kind:task"},
        "evalConfig": {"evaluators": [{"type": "builtin", "name": "tool_error_rate"}]}}  # fmt: skip


def as_json(signed_in, owner, spec: Any, query: str = "", **fields: Any):
    text = spec if isinstance(spec, str) else json.dumps(spec)
    return signed_in.post(f"/submit/spec{query}", {"spec": text, "owner": owner.pk, **fields})


@pytest.mark.parametrize("body", [SPEC, {"spec": SPEC}])
def test_a_spec_is_submitted(signed_in, owner, body):
    answer = as_json(signed_in, owner, body)
    assert answer["Location"] == f"/runs/{Run.objects.get().pk}"


def test_a_spec_that_is_checked_makes_no_run(signed_in, owner):
    assert b"The API would take it." in as_json(signed_in, owner, SPEC, check="").content
    assert not Run.objects.exists()


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"target": {"kind": "nonsense"}},
        {"target": {"kind": "filter", "query": "nonsense:1"}},
        {**SPEC, "evalConfig": {"evaluators": [{"type": "nonsense"}]}},
    ],
)
def test_a_mistake_is_said_in_the_apis_words(signed_in, owner, api, spec):
    page = as_json(signed_in, owner, spec)
    status, answer = api.post(body={"spec": spec})
    assert (page.status_code, status) == (422, 422)
    detail = answer["detail"]
    words = detail if isinstance(detail, str) else detail[0]["msg"]
    assert words[:40] in "\n".join(page.context["form"].errors["spec"])


@pytest.mark.parametrize("text", ["{", "[]", "NaN", '{"spec": "\\ud800"}'])
def test_what_is_no_object_is_refused(signed_in, owner, text):
    assert as_json(signed_in, owner, text).status_code == 422


def test_json_that_is_changed_keeps_the_secrets_that_it_does_not_show(signed_in, owner, original):
    page = signed_in.get(f"/submit/spec?from={original.pk}")
    shown = json.loads(page.context["form"].initial_spec)
    assert b"geheim" not in page.content
    shown["evalConfig"] = SPEC["evalConfig"]
    as_json(signed_in, owner, shown, f"?from={original.pk}")
    run = Run.objects.get(retried=original)
    assert run.full_spec == {**original.full_spec, "evalConfig": SPEC["evalConfig"]}


def test_a_mark_that_was_moved_is_refused(signed_in, owner, original):
    shown = json.loads(signed_in.get(f"/submit/spec?from={original.pk}").context["form"].initial_spec)
    shown["context"] = {"other": shown["context"]["token"]}
    answer = as_json(signed_in, owner, shown, f"?from={original.pk}")
    assert b"spec.context still says REDACTED" in answer.content
    assert not Run.objects.filter(retried=original).exists()


def test_what_is_large_is_not_shown_and_stays(signed_in, owner, make_run, original):
    target = original.full_spec["target"]
    large = make_run(
        {**original.full_spec, "target": {**target, "inline": {**target["inline"], "x": "y" * 50_000}}}
    )
    page = signed_in.get(f"/submit/spec?from={large.pk}")
    assert len(page.content) < 50_000
    as_json(signed_in, owner, page.context["form"].initial_spec, f"?from={large.pk}")
    assert Run.objects.get(retried=large).full_spec == large.full_spec

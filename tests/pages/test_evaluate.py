from typing import Any

import pytest

from runs.models import Result, Run, Session
from tests.pages.helpers import called, make_task, said


@pytest.fixture
def task(owner):
    session = Session.objects.open(owner, "api", "their-key")
    return make_task(owner, said("hello", "user"), called("look", {}), session=session, title="A task")


def send(client, address: str, **fields: Any):
    return client.post(address, {name.replace("__", "-"): value for name, value in fields.items()})


def test_it_works(signed_in, task):
    answer = send(signed_in, f"/runs/{task.pk}/evaluate", use__turn_count="on", threshold__turn_count="1",
                  turn_count__maxTurns="3")  # fmt: skip
    run = Run.objects.get(kind="evaluation")
    assert answer["Location"] == f"/runs/{run.pk}"
    assert run.full_spec["target"]["kind"] == "run"
    assert run.full_spec["target"]["runId"] == str(task.pk)
    assert run.full_spec["evalConfig"]["evaluators"] == [
        {"type": "builtin", "name": "turn_count", "threshold": 1.0, "config": {"maxTurns": 3}}
    ]
    assert (run.judged_id, run.session_id) == (task.pk, task.session_id)


def test_a_session_is_judged_as_a_whole(signed_in, task):
    send(signed_in, f"/sessions/{task.session_id}/evaluate", use__tool_error_rate="on")
    target = Run.objects.get(kind="evaluation").full_spec["target"]
    assert (target["kind"], target["sessionId"]) == ("session", str(task.session_id))


def test_the_pages_of_both_lead_there(signed_in, task):
    assert f'href="/runs/{task.pk}/evaluate"' in signed_in.get(f"/runs/{task.pk}").content.decode()
    page = signed_in.get(f"/sessions/{task.session_id}").content.decode()
    assert f'href="/sessions/{task.session_id}/evaluate"' in page


def test_an_evaluation_is_not_evaluated(signed_in, make_run):
    run = make_run()
    assert f"/runs/{run.pk}/evaluate" not in signed_in.get(f"/runs/{run.pk}").content.decode()
    assert signed_in.get(f"/runs/{run.pk}/evaluate").status_code == 404


def test_it_offers_what_needs_no_eval_case(signed_in, task):
    page = signed_in.get(f"/runs/{task.pk}/evaluate").content.decode()
    assert "<code>latency_budget</code>" in page
    assert "<code>response_match_score</code>" not in page


def test_the_evaluation_shows_on_the_page_of_what_it_judges(signed_in, task):
    send(signed_in, f"/runs/{task.pk}/evaluate", use__tool_error_rate="on")
    run = Run.objects.get(kind="evaluation")
    assert f'href="/runs/{run.pk}"' in signed_in.get(f"/runs/{task.pk}/rail").content.decode()


def test_what_is_not_chosen_may_be_wrong(signed_in, task):
    send(signed_in, f"/runs/{task.pk}/evaluate", use__tool_error_rate="on", turn_count__maxTurns="x")
    assert Run.objects.filter(kind="evaluation").exists()


def test_a_judge_has_fields_of_its_own(signed_in, task, settings):
    settings.SPEC_ENV_ALLOW = ["JUDGE_KEY"]
    send(signed_in, f"/runs/{task.pk}/evaluate", use__llm_judge="on", llm_judge__judgeModel="m",
         llm_judge__judgeBaseUrl="https://example.com/v1", llm_judge__credentialRef="JUDGE_KEY",
         llm_judge__rubrics="It is short.\nIt is polite.")  # fmt: skip
    spec = Run.objects.get(kind="evaluation").full_spec
    (entry,) = spec["evalConfig"]["evaluators"]
    assert entry["rubrics"] == ["It is short.", "It is polite."]
    assert (entry["judgeModel"], entry["credentialRef"]) == ("m", "JUDGE_KEY")
    assert spec["credentialRefs"] == {"JUDGE_KEY": {"kind": "env", "name": "JUDGE_KEY"}}


def test_others_are_given_as_json(signed_in, task):
    judge = '[{"type": "builtin", "name": "llm_judge", "judgeModel": "m", "rubrics": ["It is short."]}]'
    send(signed_in, f"/runs/{task.pk}/evaluate", more=judge)
    (entry,) = Run.objects.get(kind="evaluation").full_spec["evalConfig"]["evaluators"]
    assert (entry["name"], entry["rubrics"]) == ("llm_judge", ["It is short."])


@pytest.mark.parametrize(
    ("fields", "place", "words"),
    [
        ({}, "note-bad", "Choose at least one evaluator."),
        ({"use__response_regex": "on"}, "id_response_regex-pattern_error", "This is needed."),
        (
            {"use__response_regex": "on", "response_regex__pattern": "("},
            "id_response_regex-pattern_error",
            "pattern: ",
        ),
        (
            {
                "use__response_regex": "on",
                "response_regex__pattern": "a",
                "response_regex__timeoutSeconds": "0",
            },
            "id_response_regex-timeoutSeconds_error",
            "greater than 0",
        ),
        (
            {"use__turn_count": "on", "turn_count__maxTurns": "x"},
            "id_turn_count-maxTurns_error",
            "whole number",
        ),
        (
            {"use__response_json_schema": "on", "response_json_schema__schema": "{"},
            "id_response_json_schema-schema_error",
            "not JSON",
        ),
        (
            {"use__response_json_schema": "on", "response_json_schema__schema": "[1]"},
            "id_response_json_schema-schema_error",
            "an object",
        ),
        ({"use__turn_count": "on", "threshold__turn_count": "2"}, "id_threshold-turn_count_error", "1"),
        ({"more": "{}"}, "id_more_error", "a list"),
        ({"more": '[{"type": "nonsense"}]'}, "id_more_error", "type"),
        (
            {"use__tool_error_rate": "on", "more": '[{"type": "builtin", "name": "tool_error_rate"}]'},
            "note-bad",
            "more than once",
        ),
    ],
)
def test_a_mistake_is_said_beside_its_field(signed_in, task, fields, place, words):
    answer = send(signed_in, f"/runs/{task.pk}/evaluate", **fields)
    assert answer.status_code == 422
    page = answer.content.decode()
    assert words in page[page.index(place) :][:700]
    assert not Run.objects.filter(kind="evaluation").exists()


def test_a_stranger_cannot(strangers_client, task):
    for address in (f"/runs/{task.pk}/evaluate", f"/sessions/{task.session_id}/evaluate"):
        assert send(strangers_client, address, use__tool_error_rate="on").status_code == 404


# ── Results ────────────────────────────────────────────────────────────────
@pytest.fixture
def judged(make_run):
    def make(item_id: str) -> Run:
        run = make_run()
        Result.objects.create(
            id="0" * 64, run=run, item_id=item_id, item_name=item_id, question="What?",
            evaluator_name="turn_count", evaluator_type="builtin", status="passed",
        )  # fmt: skip
        return run

    return make


def test_a_result_of_a_recorded_run_leads_to_it(signed_in, judged, task):
    page = signed_in.get(f"/runs/{judged(str(task.pk)).pk}?tab=results").content.decode()
    assert f'<a href="/runs/{task.pk}" dir="auto">What?</a>' in page


def test_a_result_of_a_trace_leads_nowhere(signed_in, judged, task):
    page = signed_in.get(f"/runs/{judged(task.pk.hex).pk}?tab=results").content.decode()
    assert f'href="/runs/{task.pk}"' not in page


def test_a_result_that_names_anothers_run_leads_nowhere(signed_in, judged, stranger):
    theirs = make_task(stranger.memberships.get().owner)
    page = signed_in.get(f"/runs/{judged(str(theirs.pk)).pk}?tab=results").content.decode()
    assert f'href="/runs/{theirs.pk}"' not in page

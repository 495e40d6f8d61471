"""parse_eval_set and choose_case (CONTRACTS 1.4)."""

import pytest

from runs.evaluators import EvalSetError, parse_eval_set
from runs.evaluators.eval_sets import choose_case
from tests.evaluators.documents import case, eval_set, groups, turn_spans

INVOCATION = {"user_content": {"parts": [{"text": "hi"}]}}


def refused(raw) -> str:
    with pytest.raises(EvalSetError) as caught:
        parse_eval_set(raw)
    return str(caught.value)


def test_no_eval_set_is_none():
    assert parse_eval_set(None) is None


def test_a_case_has_questions_answers_and_calls():
    found = eval_set(case("c1", ("hi", "hello", [{"name": "wave", "args": {"n": 1}, "id": "x"}])))
    (turn,) = found.cases[0].turns
    assert (found.id, found.cases[0].id) == ("set", "c1")
    assert (turn.user_text, turn.final_text) == ("hi", "hello")
    assert [(call.name, call.args) for call in turn.tool_calls] == [("wave", {"n": 1})]


def test_keys_may_be_camel_case():
    invocation = {
        "userContent": {"parts": [{"text": "hi"}]},
        "finalResponse": {"parts": [{"text": "a"}, {"text": "b"}]},
        "intermediateData": {"toolUses": [{"name": "wave"}]},
    }
    raw = {"evalSetId": "s", "evalCases": [{"evalId": "c", "conversation": [invocation]}]}
    found = parse_eval_set(raw)
    assert found is not None
    (turn,) = found.cases[0].turns
    assert turn.final_text == "a\nb"
    assert turn.tool_calls[0].args is None


def test_calls_may_be_among_events():
    parts = [{"text": "thinking"}, {"function_call": {"name": "wave", "args": {}}}]
    data = {"invocation_events": [{"author": "agent", "content": {"parts": parts}}]}
    found = eval_set({"eval_id": "c", "conversation": [{**INVOCATION, "intermediate_data": data}]})
    assert [call.name for call in found.cases[0].turns[0].tool_calls] == ["wave"]


def test_a_case_without_a_conversation_is_left_out():
    found = eval_set({"eval_id": "a"}, {"eval_id": "b", "conversation": []}, case("c", ("x", "y", [])))
    assert [found_case.id for found_case in found.cases] == ["c"]


def test_lone_surrogates_and_nul_are_texts():
    assert eval_set(case("c", ("\ud800\0", "y", []))).cases[0].turns[0].user_text == "\ud800\0"


@pytest.mark.parametrize(
    "raw", [[], "text", 5, {}, {"eval_set_id": "s"}, {"eval_set_id": 5, "eval_cases": []}]
)
def test_other_shapes_are_refused(raw):
    assert refused(raw).startswith("not a valid eval set: ")


def test_the_mistake_and_its_place_are_named():
    raw = {"eval_set_id": "s", "eval_cases": [{"eval_id": "c", "conversation": [INVOCATION, {}]}]}
    assert refused(raw) == "not a valid eval set: eval_cases[0].conversation[1].user_content: field required"


def test_a_misspelt_key_is_refused_and_not_taken_for_nothing_expected():
    data = {"tool_usage": []}
    raw = {"eval_id": "c", "conversation": [{**INVOCATION, "intermediate_data": data}]}
    assert "tool_usage: extra inputs are not permitted" in refused({"eval_set_id": "s", "eval_cases": [raw]})


def match(question, cases, *, only_group=True, turns=1, **more):
    spans = [span for n in range(turns) for span in turn_spans(1 + 10 * n, question, "answer")]
    (group,) = groups(*spans, **more)
    return choose_case(group, cases, only_group=only_group)


def test_the_case_that_the_trace_names_is_taken():
    cases = eval_set(case("a", ("hi", "", [])), case("b", ("bye", "", [])))
    found = match("hi", cases, resource={"agentevals.eval.case.id": "b"})
    assert (found.case and found.case.id, found.how) == ("b", "explicit")


def test_a_named_case_that_does_not_exist_is_not_replaced_by_another():
    found = match("hi", eval_set(case("a", ("hi", "", []))), resource={"agentevals.eval.case.id": "z"})
    assert (found.case, found.reason) == (None, "no matching eval case")


def test_the_first_question_finds_the_case_whatever_its_spaces_and_capitals():
    cases = eval_set(case("a", ("Bye", "", [])), case("b", ("  LIST\n all ", "", [])))
    found = match("List  all", cases)
    assert (found.case and found.case.id, found.how) == ("b", "user_text")


def test_a_single_case_and_a_single_group_belong_together():
    cases = eval_set(case("a", ("something else", "", [])))
    found = match("hi", cases)
    assert (found.case and found.case.id, found.how) == ("a", "single_case")
    assert match("hi", cases, only_group=False).reason == "no matching eval case"


def test_without_a_match_there_is_no_case():
    cases = eval_set(case("a", ("x", "", [])), case("b", ("y", "", [])))
    assert match("hi", cases).reason == "no matching eval case"
    assert match("", cases).reason == "no matching eval case"


def test_of_cases_that_begin_alike_the_one_with_as_many_turns_is_taken():
    cases = eval_set(case("short", ("hi", "", [])), case("long", ("hi", "", []), ("hi", "", [])))
    found = match("hi", cases, turns=2)
    assert found.case and found.case.id == "long"


def test_two_cases_that_fit_alike_are_ambiguous():
    cases = eval_set(case("a", ("hi", "", [])), case("b", ("hi", "", [])))
    assert match("hi", cases).reason == "ambiguous eval case"


def test_no_eval_set_is_its_own_reason():
    assert match("hi", None).reason == "no eval set provided"

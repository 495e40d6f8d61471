"""tool_call_f1 and tool_error_rate."""

import json

import pytest

from tests.evaluators.documents import case, eval_set, groups, outcome, turn_spans
from tests.traces.spans import agent, assistant, chat, tool, user

A, A2, B, C = (
    {"name": "a", "args": {"n": 1}},
    {"name": "a", "args": {"n": 2}},
    {"name": "b", "args": {}},
    {"name": "c", "args": {}},
)


def compared(called, expected, **config):
    tools = [(call["name"], json.dumps(call["args"])) for call in called]
    cases = eval_set(case("c", ("hi", "ok", expected)))
    return outcome(groups(*turn_spans(1, "hi", "ok", *tools)), "tool_call_f1", cases=cases, **config)


@pytest.mark.parametrize(
    ("called", "expected", "f1", "by_name"),
    [
        ([], [], 1.0, 1.0),
        ([A, B], [B, A], 1.0, 1.0),
        ([A], [A, B], 2 / 3, 2 / 3),
        ([A, B, C], [A], 0.5, 0.5),
        ([A, A], [A], 2 / 3, 2 / 3),
        ([A2], [A], 0.0, 1.0),
        ([], [A], 0.0, 0.0),
        ([A], [], 0.0, 0.0),
        ([A2, A], [{"name": "a"}, A2], 1.0, 1.0),
        ([A], [{"name": "a"}, A2], 2 / 3, 2 / 3),
    ],
)
def test_calls_are_compared_as_a_multiset(called, expected, f1, by_name):
    assert compared(called, expected).score == pytest.approx(f1)
    assert compared(called, expected, matchArgs=False).score == pytest.approx(by_name)


def test_precision_recall_and_what_made_them_are_told():
    found = compared([A, C], [A, B, B])
    assert found.details["reason"] == "1 of 3 expected tool calls were made and 1 other."
    assert (found.details["precision"], found.details["recall"]) == (0.5, pytest.approx(1 / 3))
    (turn,) = found.details["comparisons"]
    assert (turn["missing"], turn["unexpected"], turn["matched"]) == ([B, B], [C], False)
    assert (turn["expected"], turn["actual"]) == ([A, B, B], [A, C])


def test_without_an_eval_set_there_is_nothing_to_compare_with():
    assert outcome(groups(*turn_spans(1, "hi", "ok")), "tool_call_f1").status == "skipped"


def used(*ends, **config):
    """A turn whose tools ended as said: (name, result or None, error or None)."""
    spans = [agent(1)]
    for number, (name, result, error) in enumerate(ends, start=2):
        more = {"gen_ai.tool.call.result": result} if result is not None else {}
        status = {"status": {"code": 2, "message": error}} if error else {}
        spans.append(tool(number, 1, name=name, attributes=more, **status))
    spans.append(chat(len(ends) + 2, 1, asked=[user("hi")], said=[assistant("ok")]))
    return outcome(groups(*spans), "tool_error_rate", **config)


def test_the_share_of_calls_that_worked_is_the_score():
    found = used(("a", "1", None), ("b", None, "timed out"), ("b", "{}", "refused"), ("c", "2", None))
    assert (found.score, found.per_invocation_scores, found.status) == (0.5, [0.5], "failed")
    assert found.details == {
        "reason": "2 of 4 tool calls failed: b (2).",
        "calls": 4,
        "failed": {"b": 2},
        "error_rate": 0.5,
    }


def test_without_a_failure_it_passes():
    found = used(("a", "1", None))
    assert (found.status, found.details["reason"]) == ("passed", "None of 1 tool calls failed.")


def test_only_the_tools_that_are_named_count():
    found = used(("a", "1", None), ("b", None, "timed out"), tools=["a"])
    assert (found.score, found.details["calls"]) == (1.0, 1)


@pytest.mark.parametrize("ends", [(), (("a", None, None),)])
def test_where_no_end_of_a_call_is_recorded_the_result_is_skipped(ends):
    found = used(*ends)
    assert (found.status, found.score) == ("skipped", None)
    assert found.details == {"reason": "no result of a tool call is recorded"}

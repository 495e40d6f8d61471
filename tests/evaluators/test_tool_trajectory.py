"""tool_trajectory_avg_score."""

import json

import pytest

from tests.evaluators.documents import case, eval_set, groups, outcomes, turn_spans

A, B, C = {"name": "a", "args": {"n": 1}}, {"name": "b", "args": {}}, {"name": "c", "args": {}}


def score(called, expected, match_type=None):
    tools = [(call["name"], json.dumps(call["args"])) for call in called]
    found = groups(*turn_spans(1, "hi", "ok", *tools))
    settings = {"type": "builtin", "name": "tool_trajectory_avg_score", "trajectoryMatchType": match_type}
    (outcome,) = outcomes(found, settings, cases=eval_set(case("c", ("hi", "ok", expected))))
    return outcome.score


@pytest.mark.parametrize(
    ("called", "expected", "exact", "in_order", "any_order"),
    [
        ([], [], 1, 1, 1),
        ([A, B], [A, B], 1, 1, 1),
        ([A, C, B], [A, B], 0, 1, 1),
        ([B, A], [A, B], 0, 0, 1),
        ([A], [A, B], 0, 0, 0),
        ([], [A], 0, 0, 0),
        ([A], [], 0, 1, 1),
        ([A, B], [A, A], 0, 0, 0),
        ([A, B, A], [A, A], 0, 1, 1),
        ([{"name": "a", "args": {"n": 2}}], [A], 0, 0, 0),
        ([B], [{"name": "b"}], 0, 0, 0),
    ],
)
def test_the_three_ways_to_match(called, expected, exact, in_order, any_order):
    assert score(called, expected) == exact
    assert score(called, expected, "EXACT") == exact
    assert score(called, expected, "IN_ORDER") == in_order
    assert score(called, expected, "any_order") == any_order


def test_each_turn_has_its_score_and_its_comparison():
    spans = [*turn_spans(1, "hi", "ok", ("b", "{}")), *turn_spans(10, "and now", "ok", ("c", "{}"))]
    (outcome,) = outcomes(
        groups(*spans),
        "tool_trajectory_avg_score",
        cases=eval_set(case("c", ("hi", "", [B]), ("and now", "", [B]))),
    )
    assert (outcome.score, outcome.per_invocation_scores, outcome.status) == (0.5, [1.0, 0.0], "passed")
    assert outcome.details == {
        "comparisons": [
            {"invocation_id": f"{1:016x}", "expected": [B], "actual": [B], "matched": True},
            {"invocation_id": f"{10:016x}", "expected": [B], "actual": [C], "matched": False},
        ]
    }

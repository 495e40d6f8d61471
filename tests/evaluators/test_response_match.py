"""response_match_score."""

import pytest

from tests.evaluators.documents import case, eval_set, groups, outcomes, turn_spans


def score(answer: str, expected: str):
    found = groups(*turn_spans(1, "hi", answer))
    (outcome,) = outcomes(found, "response_match_score", cases=eval_set(case("c", ("hi", expected, []))))
    return outcome.score


@pytest.mark.parametrize(
    ("answer", "expected", "wanted"),
    [
        ("the same words", "the same words", 1.0),
        ("words same the", "the same words", 1.0),
        ("nothing alike", "the same words", 0.0),
        ("", "the same words", 0.0),
        ("something", "", 0.0),
        ("The SAME, words!", "the same words", 1.0),
        ("running tests", "run test", 1.0),
        ("one two three four", "one two", 2 / 3),
    ],
)
def test_words_in_common_decide(answer, expected, wanted):
    assert score(answer, expected) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("answer", "expected", "wanted"),
    [
        ("東京は晴れ", "東京は雨", 2 * 3 / 9),
        ("สวัสดี", "สวัสดี", 1.0),
        ("Привет мир", "привет, мир!", 1.0),
        ("café", "café", 1.0),
    ],
)
def test_every_script_counts(answer, expected, wanted):
    assert score(answer, expected) == pytest.approx(wanted)


def test_there_are_no_details():
    found = groups(*turn_spans(1, "hi", "yes"))
    (outcome,) = outcomes(found, "response_match_score", cases=eval_set(case("c", ("hi", "no", []))))
    assert (outcome.details, outcome.status) == ({}, "failed")

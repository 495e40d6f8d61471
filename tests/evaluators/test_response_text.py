"""response_exact_match and response_contains."""

import pytest

from tests.evaluators.documents import answered, answers_expected, outcome


@pytest.mark.parametrize(
    ("answer", "expected", "config", "score"),
    [
        ("Paris", "Paris", {}, 1.0),
        ("paris", "Paris", {}, 0.0),
        ("paris", "PARIS", {"ignoreCase": True}, 1.0),
        ("STRASSE", "straße", {"ignoreCase": True}, 1.0),
        ("Paris ", "Paris", {}, 0.0),
        (" in\n  Paris ", "in Paris", {"ignoreSpace": True}, 1.0),
        ("inParis", "in Paris", {"ignoreSpace": True}, 0.0),
    ],
)
def test_an_exact_match_is_one_of_every_character(answer, expected, config, score):
    found = outcome(answered(answer), "response_exact_match", cases=answers_expected(expected), **config)
    assert (found.score, found.status) == (score, "passed" if score else "failed")


def test_an_answer_that_differs_says_where():
    found = outcome(answered("in Rome"), "response_exact_match", cases=answers_expected("in Paris"))
    assert found.details["reason"] == (
        "The answer differs from the expected one from character 4: 'Rome' instead of 'Paris'."
    )
    (turn,) = found.details["turns"]
    assert (turn["expected"], turn["actual"], turn["matched"], turn["differs_at"]) == (
        "in Paris",
        "in Rome",
        False,
        3,
    )


def test_an_answer_that_stops_early_says_so():
    found = outcome(answered("in"), "response_exact_match", cases=answers_expected("in Paris"))
    assert "from character 3: its end instead of ' Paris'" in found.details["reason"]


def test_each_turn_has_its_score_and_the_reason_names_the_first_that_falls_short():
    found = outcome(answered("a", "x", "y"), "response_exact_match", cases=answers_expected("a", "b", "c"))
    assert (found.score, found.per_invocation_scores) == (pytest.approx(1 / 3), [1.0, 0.0, 0.0])
    assert found.details["reason"].startswith("The answer of turn 2 differs")
    assert found.details["reason"].endswith("2 of 3 answers fall short.")


def test_only_the_last_answer_may_count():
    cases = answers_expected("a", "b")
    found = outcome(answered("x", "b"), "response_exact_match", cases=cases, turns="last")
    assert (found.score, found.per_invocation_scores) == (1.0, [None, 1.0])
    assert found.details["reason"] == "The answer is the expected one."


@pytest.mark.parametrize("name", ["response_exact_match", "response_contains"])
def test_a_case_without_an_expected_answer_is_skipped_and_not_passed(name):
    found = outcome(answered("a"), name, cases=answers_expected(""))
    assert (found.status, found.score) == ("skipped", None)
    assert found.details["reason"] == "the eval case gives no expected answer"


def test_a_large_answer_is_shown_in_part():
    found = outcome(answered("x" * 9000), "response_exact_match", cases=answers_expected("y"))
    assert len(found.details["turns"][0]["actual"]) == 2000


@pytest.mark.parametrize(
    ("config", "score"),
    [
        ({"texts": ["Paris", "France"]}, 1.0),
        ({"texts": ["Paris", "Rome"]}, 0.5),
        ({"texts": ["paris"]}, 0.0),
        ({"texts": ["paris"], "ignoreCase": True}, 1.0),
        ({"texts": ["Rome", "Paris"], "mode": "any"}, 1.0),
        ({"texts": ["Rome", "Oslo"], "mode": "any"}, 0.0),
        ({"texts": ["Rome"], "mode": "none"}, 1.0),
        ({"texts": ["Rome", "Paris"], "mode": "none"}, 0.5),
    ],
)
def test_texts_are_looked_for_in_the_answer(config, score):
    found = outcome(answered("It is Paris, in France."), "response_contains", **config)
    assert found.score == score
    assert found.status == ("passed" if score == 1 else "failed")


def test_what_is_found_and_what_is_missing_is_told():
    found = outcome(answered("It is Paris."), "response_contains", texts=["Paris", "France"])
    assert found.details["reason"] == "The answer does not contain “France”."
    (turn,) = found.details["turns"]
    assert (turn["found"], turn["missing"]) == (["Paris"], ["France"])


def test_without_texts_the_expected_answer_is_looked_for():
    cases = answers_expected(" Paris\n")
    assert outcome(answered("It is Paris."), "response_contains", cases=cases).status == "passed"
    assert outcome(answered("It is Rome."), "response_contains", cases=cases).status == "failed"


def test_with_nothing_to_look_for_the_result_is_skipped():
    found = outcome(answered("a"), "response_contains")
    assert (found.status, found.per_invocation_scores) == ("skipped", [None])
    assert found.details["reason"].startswith("there is nothing to look for")


def test_texts_are_looked_for_in_turns_that_no_case_expects_too():
    cases = answers_expected("yes")
    found = outcome(answered("yes", "no"), "response_contains", cases=cases, texts=["yes"])
    assert found.per_invocation_scores == [1.0, 0.0]

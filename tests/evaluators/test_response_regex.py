"""response_regex."""

import time

import pytest

from runs.evaluators import EvalConfigError
from tests.evaluators.documents import answered, outcome


@pytest.mark.parametrize(
    ("config", "score"),
    [
        ({"pattern": r"\d{3}"}, 1.0),
        ({"pattern": r"order \d{4}"}, 0.0),
        ({"pattern": "ORDER", "ignoreCase": True}, 1.0),
        ({"pattern": r"order \d+", "full": True}, 0.0),
        ({"pattern": r"Your order \d+\.", "full": True}, 1.0),
        ({"pattern": "sorry", "absent": True}, 1.0),
        ({"pattern": "order", "absent": True}, 0.0),
    ],
)
def test_the_pattern_decides(config, score):
    assert outcome(answered("Your order 123."), "response_regex", **config).score == score


def test_what_matched_is_told():
    found = outcome(answered("Your order 123."), "response_regex", pattern=r"\d+")
    assert found.details["turns"] == [
        {"invocation_id": f"{1:016x}", "matched": True, "found": "123", "at": 11}
    ]
    assert found.details["reason"] == r"The answer matches “\d+”."


def test_an_answer_that_does_not_match_says_so():
    found = outcome(answered("none"), "response_regex", pattern=r"\d+")
    assert (found.status, found.details["reason"]) == ("failed", r"The answer does not match “\d+”.")


def test_a_pattern_that_takes_too_long_is_an_error_that_says_so():
    began = time.monotonic()
    found = outcome(answered("a" * 100 + "!"), "response_regex", pattern="(a|aa)+$", timeoutSeconds=0.2)
    assert time.monotonic() - began < 5
    assert (found.status, found.score) == ("errored", None)
    assert "“(a|aa)+$” took longer than 0.2 s on an answer of 101 characters" in (found.error_text or "")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, "response_regex: config.pattern: field required"),
        ({"pattern": "("}, "response_regex: config.pattern: is no regular expression: missing )"),
        ({"pattern": "(" * 1900}, "config.pattern: is no regular expression"),
        ({"pattern": "x" * 2001}, "config.pattern: string should have at most 2000 characters"),
        ({"pattern": "(?:a{9999}){9999}"}, "multiply to more than 1,000,000"),
        ({"pattern": "a", "timeoutSeconds": 0}, "config.timeoutSeconds: input should be greater than 0"),
    ],
)
def test_a_bad_pattern_is_refused_when_it_is_submitted(config, said):
    with pytest.raises(EvalConfigError) as caught:
        outcome(answered("a"), "response_regex", **config)
    assert said in str(caught.value)

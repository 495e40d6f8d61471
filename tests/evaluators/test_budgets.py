"""turn_count, latency_budget, token_budget and cost_budget."""

from dataclasses import replace

import pytest

from runs.evaluators import EvalConfigError
from tests.evaluators.documents import answered, answers_expected, outcome


def turns(*changes):
    """A conversation of turns that differ from a usual one as told."""
    (group,) = answered(*["ok"] * len(changes))
    return [replace(group, turns=[replace(turn, **c) for turn, c in zip(group.turns, changes, strict=True)])]


def tokens(prompt, output, model="gpt", **more):
    return {"input_tokens": prompt, "output_tokens": output, "models": [model] if model else [], **more}


UNREPORTED = tokens(0, 0)
PRICES = {"gpt": {"input": 2, "output": 10, "cached": 1}, "mini": {"input": 1, "output": 4}}


@pytest.mark.parametrize(
    ("config", "score", "reason"),
    [
        ({"maxTurns": 3}, 1.0, "There were 3 turns, as wanted."),
        ({"maxTurns": 2}, 2 / 3, "There were 3 turns, more than 2."),
        ({"minTurns": 4}, 0.75, "There were 3 turns, fewer than 4."),
        ({"minTurns": 2, "maxTurns": 3}, 1.0, "There were 3 turns, as wanted."),
    ],
)
def test_turns_are_counted(config, score, reason):
    found = outcome(answered("a", "b", "c"), "turn_count", **config)
    assert (found.score, found.details["reason"]) == (pytest.approx(score), reason)
    assert found.status == ("passed" if score == 1 else "failed")
    assert (found.details["measured"], found.per_invocation_scores) == (3, [None] * 3)


def test_turns_that_no_case_expects_are_counted_too():
    found = outcome(answered("a", "b"), "turn_count", cases=answers_expected("a"), maxTurns=1)
    assert (found.status, found.details["measured"]) == ("failed", 2)


def test_time_is_limited_for_each_turn():
    found = outcome(turns({"duration_ms": 2000.0}, {"duration_ms": 8000.0}), "latency_budget", maxSeconds=4)
    assert (found.score, found.per_invocation_scores, found.status) == (0.75, [1.0, 0.5], "failed")
    assert found.details["reason"] == "1 of 2 turns came to more than 4 s; the most was 8 s."
    assert (found.details["limit"], found.details["measured"], found.details["unit"]) == (4.0, 8.0, "seconds")


def test_time_may_be_limited_for_all_turns_together():
    went = turns({"duration_ms": 2000.0}, {"duration_ms": 8000.0})
    found = outcome(went, "latency_budget", maxSeconds=10, per="run")
    assert (found.score, found.per_invocation_scores) == (1.0, [None, None])
    assert found.details["reason"] == "It came to 10 s, within 10 s."
    assert outcome(went, "latency_budget", maxSeconds=5, per="run").score == 0.5


def test_a_threshold_below_1_allows_as_much_more():
    found = outcome(turns({"duration_ms": 5000.0}), "latency_budget", threshold=0.8, maxSeconds=4)
    assert (found.score, found.status) == (0.8, "passed")


def test_a_trace_without_times_is_skipped():
    found = outcome(turns({"started_at": None, "duration_ms": 0.0}), "latency_budget", maxSeconds=4)
    assert (found.status, found.score) == ("skipped", None)
    assert found.details["reason"] == "the trace has no times"


@pytest.mark.parametrize(
    ("config", "score"),
    [
        ({"maxTokens": 60}, 1.0),
        ({"maxTokens": 30}, 0.5),
        ({"maxTokens": 45, "count": "input"}, 1.0),
        ({"maxTokens": 15, "count": "output"}, 1.0),
        ({"maxTokens": 30, "per": "turn"}, pytest.approx((1 + 30 / 40) / 2)),
        ({"maxTokens": 0}, 0.0),
    ],
)
def test_tokens_are_limited(config, score):
    found = outcome(turns(tokens(15, 5), tokens(30, 10)), "token_budget", **config)
    assert found.score == score


def test_tokens_that_are_not_reported_are_not_taken_for_none():
    found = outcome(turns(UNREPORTED), "token_budget", maxTokens=1000)
    assert (found.status, found.score) == ("skipped", None)
    assert found.details["reason"] == "the trace does not report the tokens of every model call"
    assert found.details["measured"] is None


def test_what_is_reported_may_be_too_much_already():
    found = outcome(turns(tokens(3000, 100), UNREPORTED), "token_budget", maxTokens=1000)
    assert found.status == "failed"
    assert found.details["reason"] == "It came to at least 3,100 tokens, more than 1,000 tokens."


def test_output_without_input_is_only_half_reported():
    went = turns(tokens(0, 50))
    assert outcome(went, "token_budget", maxTokens=100).status == "skipped"
    assert outcome(went, "token_budget", maxTokens=100, count="output").status == "passed"


def test_a_turn_that_called_no_model_used_no_tokens():
    silent = tokens(0, 0, model="", llm_calls=0)
    assert outcome(turns(tokens(5, 5), silent), "token_budget", maxTokens=10).status == "passed"
    assert outcome(turns(silent), "token_budget", maxTokens=10).status == "skipped"


@pytest.mark.parametrize(
    ("turn", "usd"),
    [
        (tokens(1_000_000, 100_000), 3.0),
        (tokens(1_000_000, 100_000, cache_read_tokens=500_000), 2.5),
        (tokens(100_000, 100_000, cache_read_tokens=500_000), 1.7),
        (tokens(1_000_000, 100_000, model="mini", cache_read_tokens=500_000), 1.4),
    ],
)
def test_tokens_have_their_price(turn, usd):
    found = outcome(turns(turn), "cost_budget", maxUsd=100, pricePerMillion=PRICES)
    assert found.details["measured"] == pytest.approx(usd)


def test_cost_is_limited():
    found = outcome(turns(tokens(1_000_000, 100_000)), "cost_budget", maxUsd=1.5, pricePerMillion=PRICES)
    assert (found.score, found.status) == (0.5, "failed")
    assert found.details["reason"] == "It came to $3.00, more than $1.50."


@pytest.mark.parametrize(
    ("turn", "reason"),
    [
        (tokens(5, 5, model="other"), "pricePerMillion has no price for other"),
        (tokens(5, 5, model=""), "pricePerMillion has no price for a model without a name"),
        (UNREPORTED, "the trace does not report the tokens of every model call"),
    ],
)
def test_a_cost_that_is_not_known_is_skipped(turn, reason):
    found = outcome(turns(turn), "cost_budget", maxUsd=1, pricePerMillion=PRICES)
    assert (found.status, found.details["reason"]) == ("skipped", reason)


def test_a_star_is_the_price_of_all_other_models():
    prices = {**PRICES, "*": {"input": 1, "output": 1}}
    found = outcome(turns(tokens(1, 1, model="x")), "cost_budget", maxUsd=1, pricePerMillion=prices)
    assert found.status == "passed"


@pytest.mark.parametrize(("limit", "status"), [(3.1, "passed"), (2.0, "skipped"), (1.0, "failed")])
def test_of_several_models_in_a_turn_the_dearest_and_the_cheapest_decide(limit, status):
    went = turns({**tokens(1_000_000, 100_000), "models": ["gpt", "mini"]})  # between 1.4 and 3 dollars
    found = outcome(went, "cost_budget", maxUsd=limit, pricePerMillion=PRICES)
    assert found.status == status


def test_a_cost_that_the_trace_reports_counts_where_no_prices_are_given():
    (group,) = turns(tokens(5, 5))
    (turn,) = group.turns
    found = outcome([replace(group, turns=[replace(turn, cost=0.02)])], "cost_budget", maxUsd=0.01)
    assert (found.score, found.details["reason"]) == (0.5, "It came to $0.02, more than $0.01.")


def test_without_prices_and_without_a_reported_cost_the_result_is_skipped():
    found = outcome(turns(tokens(5, 5)), "cost_budget", maxUsd=1)
    assert found.details["reason"] == "the trace reports no cost, and config has no pricePerMillion"


@pytest.mark.parametrize(
    ("name", "config", "said"),
    [
        ("turn_count", {}, "turn_count: config: needs minTurns, maxTurns or both"),
        ("turn_count", {"minTurns": 3, "maxTurns": 2}, "minTurns is more than maxTurns"),
        ("latency_budget", {}, "latency_budget: config.maxSeconds: field required"),
        (
            "latency_budget",
            {"maxSeconds": -1},
            "config.maxSeconds: input should be greater than or equal to 0",
        ),
        ("token_budget", {"maxTokens": 5, "per": "day"}, "config.per: input should be 'turn' or 'run'"),
        (
            "cost_budget",
            {"maxUsd": 1, "pricePerMillion": {"m": {"input": 1}}},
            "pricePerMillion.m.output: field",
        ),
        ("token_budget", {"maxTokens": 5, "maxTurns": 5}, "config.maxTurns: extra inputs are not permitted"),
    ],
)
def test_settings_that_are_wrong_are_refused_by_name_and_field(name, config, said):
    with pytest.raises(EvalConfigError) as caught:
        outcome(answered("a"), name, **config)
    assert said in str(caught.value)

"""Evaluation: outcomes and summary (CONTRACTS 1.3)."""

from uuid import UUID

import pytest

from runs.evaluators import Evaluation, Verdict, registry, result_id, validate_eval_config
from runs.traces import read_traces
from tests.evaluators.documents import RUN_ID, case, eval_set, evaluation, groups, outcomes, turn_spans
from tests.traces.spans import attributes, export, span

CASES = eval_set(case("greeting", ("hi", "hello there", [])))


@pytest.mark.parametrize(
    ("run_id", "item", "wanted"),
    [
        (
            UUID("00000000-0000-0000-0000-000000000001"),
            "3e289017fe03ffd7c4145316d2eb3d0d",
            "4ce877d6c8eefe1d17da361d6f1e51d31d59d72bee997c0b42ad74bb79e8dd66",
        ),
        (
            UUID("C14C21DA-43E7-4923-898F-6C61B2A37072"),
            "3e289017fe03ffd7c4145316d2eb3d0d",
            "db42c3cd71b94a7a2adce7c1df01a668bf2ef61d413bc05499943c0187d763ed",
        ),
    ],
)
def test_the_result_id_follows_the_contracts_recipe(run_id, item, wanted):
    assert result_id(run_id, item, "tool_trajectory_avg_score") == wanted


def test_a_result_id_can_be_made_of_any_text():
    assert len(result_id(RUN_ID, "\ud800\0", "x")) == 64


def test_each_evaluator_has_an_outcome_in_the_order_configured():
    first, second = outcomes(groups(*turn_spans(1, "hi", "hello there")), cases=CASES)
    assert (first.evaluator_name, second.evaluator_name) == (
        "tool_trajectory_avg_score",
        "response_match_score",
    )
    assert (first.status, first.score, first.per_invocation_scores) == ("passed", 1.0, [1.0])
    assert first.item_id == first.item_name == first.trace_id
    assert (first.case_id, first.question, first.span_id) == ("greeting", "hi", f"{1:016x}")
    assert (first.evaluator_type, first.error_text, first.tokens_used) == ("builtin", None, None)
    assert first.result_id == result_id(RUN_ID, first.item_id, first.evaluator_name)
    assert first.latency_ms is not None and first.latency_ms >= 0


def test_the_span_is_told_only_of_a_single_turn():
    found = groups(*turn_spans(1, "hi", "a"), *turn_spans(10, "so", "b"))
    assert {outcome.span_id for outcome in outcomes(found, cases=CASES)} == {None}


def test_a_threshold_is_the_configured_one_or_the_evaluators_own():
    settings = {"type": "builtin", "name": "response_match_score", "threshold": 1.0}
    found = groups(*turn_spans(1, "hi", "hello friend"))
    (strict,) = outcomes(found, settings, cases=CASES)
    (usual,) = outcomes(found, "response_match_score", cases=CASES)
    assert (strict.status, strict.threshold) == ("failed", 1.0)
    assert (usual.status, usual.threshold) == ("passed", 0.5)


def test_without_an_eval_set_the_outcome_is_skipped():
    for outcome in outcomes(groups(*turn_spans(1, "hi", "a"))):
        assert (outcome.status, outcome.score, outcome.per_invocation_scores) == ("skipped", None, [])
        assert outcome.details == {"reason": "no eval set provided"}


def test_without_a_matching_case_the_outcome_says_so():
    cases = eval_set(case("a", ("x", "", [])), case("b", ("y", "", [])))
    (outcome,) = outcomes(groups(*turn_spans(1, "hi", "a")), "response_match_score", cases=cases)
    assert (outcome.status, outcome.case_id) == ("skipped", "")
    assert outcome.details == {"reason": "no matching eval case"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("no_such_score", "no_such_score not found in registry."),
        ("hallucinations_v1", "needs a language model as its judge"),
        ("safety_v1", "needs Google's Vertex AI"),
        ("token_usage_v1", "not part of this version"),
        ({"type": "code", "name": "mine", "path": "mine.py"}, "mine is of type code"),
        ({"type": "remote", "name": "theirs", "ref": "theirs.py"}, "theirs is of type remote"),
    ],
)
def test_an_evaluator_that_we_do_not_have_is_an_errored_outcome_and_the_others_go_on(settings, said):
    missing, present = outcomes(
        groups(*turn_spans(1, "hi", "hello there")), settings, "response_match_score", cases=CASES
    )
    assert (missing.status, missing.score) == ("errored", None)
    assert said in (missing.error_text or "")
    assert present.status == "passed"


def test_an_evaluators_exception_is_an_errored_outcome(monkeypatch):
    class Broken:
        name = "broken"
        default_threshold = 0.5
        needs_eval_case = False

        def judge(self, task):
            raise KeyError("lost")

    monkeypatch.setitem(registry.EVALUATORS, "broken", Broken())
    (outcome,) = outcomes(groups(*turn_spans(1, "hi", "a")), "broken")
    assert (outcome.status, outcome.error_text) == ("errored", "KeyError: 'lost'")


def test_an_evaluator_gets_the_turns_and_its_settings(monkeypatch):
    class Counting:
        name = "counting"
        default_threshold = 0.1
        needs_eval_case = False

        def judge(self, task):
            return Verdict(None, [None], {"turns": len(task.turns), "model": task.settings["judge_model"]})

    monkeypatch.setitem(registry.EVALUATORS, "counting", Counting())
    settings = {"type": "builtin", "name": "counting", "judgeModel": "m"}
    (outcome,) = outcomes(groups(*turn_spans(1, "hi", "a")), settings)
    assert (outcome.status, outcome.details) == ("skipped", {"turns": 1, "model": "m"})


def test_turns_without_a_partner_are_counted_and_not_scored():
    cases = eval_set(case("c", ("hi", "hello", []), ("more", "expected", [])))
    (fewer,) = outcomes(groups(*turn_spans(1, "hi", "hello")), "response_match_score", cases=cases)
    assert (fewer.score, fewer.details) == (1.0, {"missing_turns": 1, "unexpected_turns": 0})
    found = groups(*turn_spans(1, "hi", "hello there"), *turn_spans(10, "so", "b"))
    (more,) = outcomes(found, "response_match_score", cases=CASES)
    assert (more.per_invocation_scores, more.details) == ([1.0], {"missing_turns": 0, "unexpected_turns": 1})


def test_a_trace_without_turns_is_one_errored_outcome():
    (outcome,) = outcomes(groups(span(1)), cases=CASES)
    assert (outcome.evaluator_name, outcome.status, outcome.latency_ms) == ("(all)", "errored", None)


def test_outcomes_come_one_by_one():
    found = groups(*turn_spans(1, "hi", "a"), *turn_spans(20, "so", "b", traceId="f" * 32), group_by="trace")
    results = evaluation(found, cases=CASES).results()
    assert next(results).item_id == found[0].key
    assert len(list(results)) == 3


def test_the_summary_has_the_contracts_shape():
    settled = evaluation(
        groups(*turn_spans(1, "hi", "hello you", ("look_up", "{}")), resource={"service.name": "shop"}),
        cases=CASES,
    )
    list(settled.results())
    assert settled.summary() == {
        "trace_count": 1,
        "result_counts": {"passed": 1, "failed": 1, "errored": 0, "skipped": 0},
        "per_metric": {
            "tool_trajectory_avg_score": {
                "passed": 0,
                "failed": 1,
                "errored": 0,
                "skipped": 0,
                "avg_score": 0.0,
            },
            "response_match_score": {"passed": 1, "failed": 0, "errored": 0, "skipped": 0, "avg_score": 0.5},
        },
        "agents": ["shop"],
        "errors": [],
        "performance_metrics": {
            "tokens": {
                "total_prompt": 0,
                "total_output": 0,
                "total": 0,
                "avg_per_trace": {"prompt": 0.0, "output": 0.0},
                "cache_creation_tokens": 0,
                "cache_read_tokens": 0,
            },
            "latency": {"overall_per_trace": {"p50": 3000.0, "p95": 3000.0, "p99": 3000.0}},
            "counts": {
                "traces": 1,
                "total_llm_calls": 1,
                "total_tool_calls": 1,
                "avg_llm_calls_per_trace": 1.0,
                "avg_tool_calls_per_trace": 1.0,
            },
            "models": ["model-1"],
            "trace_count": 1,
        },
    }


def test_without_traces_the_summary_says_so():
    nothing = evaluation([])
    assert list(nothing.results()) == []
    summary = nothing.summary()
    assert summary["errors"] == ["No traces provided."]
    assert (summary["trace_count"], summary["per_metric"], summary["performance_metrics"]) == (0, {}, None)


def test_an_evaluator_that_gave_no_score_has_no_average():
    skipped = evaluation(groups(*turn_spans(1, "hi", "a")), "response_match_score")
    list(skipped.results())
    assert skipped.summary()["per_metric"]["response_match_score"]["avg_score"] is None


def test_asking_again_for_results_does_not_count_them_twice():
    again = evaluation(groups(*turn_spans(1, "hi", "a")), cases=CASES)
    list(again.results())
    list(again.results())
    assert sum(again.summary()["result_counts"].values()) == 2


def test_a_multi_turn_eval_set_judges_conversations():
    spans = [*turn_spans(1, "hi", "a"), *turn_spans(10, "so", "b", traceId="f" * 32)]
    for raw in spans:
        raw["attributes"] += attributes({"gen_ai.conversation.id": "talk"})
    cases = eval_set(case("c", ("hi", "a", []), ("so", "b", [])))
    found = Evaluation.of_traces(RUN_ID, read_traces(export(*spans)), validate_eval_config({}), cases)
    assert [(o.item_id, o.per_invocation_scores) for o in found.results()] == [("talk", [1.0, 1.0])]

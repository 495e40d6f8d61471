"""Evaluation: outcomes and summary (CONTRACTS 1.3)."""

from collections import Counter
from threading import Event, Lock, current_thread
from time import sleep
from uuid import UUID

import pytest

from runs.evaluators import Config, Evaluation, Kept, Verdict, result_id, validate_eval_config
from runs.traces import read_traces
from tests.evaluators.documents import (
    RUN_ID,
    Fake,
    case,
    eval_set,
    evaluation,
    groups,
    outcomes,
    put,
    turn_spans,
)
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


def test_an_evaluator_that_nobody_has_is_an_errored_outcome_and_the_others_go_on():
    missing, present = outcomes(
        groups(*turn_spans(1, "hi", "hello there")), "no_such_score", "response_match_score", cases=CASES
    )
    assert (missing.status, missing.score, missing.latency_ms) == ("errored", None, None)
    assert missing.error_text == "no_such_score not found in registry."
    assert present.status == "passed"


def test_an_evaluator_of_agentevals_says_what_to_install():
    (found,) = outcomes(groups(*turn_spans(1, "hi", "a")), "hallucinations_v1")
    assert found.status == "errored"
    assert "pip install 'runfolio[agentevals]'" in (found.error_text or "")


@pytest.mark.parametrize(
    ("error", "said"), [(KeyError("lost"), "KeyError: 'lost'"), (SystemExit(3), "SystemExit: 3")]
)
def test_an_evaluators_exception_is_an_errored_outcome(monkeypatch, error, said):
    def judge(task):
        raise error

    put(monkeypatch, Fake(judge=judge))
    (found,) = outcomes(groups(*turn_spans(1, "hi", "a")), "fake")
    assert (found.status, found.error_text) == ("errored", said)


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        (None, "a NoneType instead of a Verdict"),
        (Verdict(1.5, []), "scores must be between 0 and 1"),
        (Verdict(float("nan"), []), "scores must be between 0 and 1"),
        (Verdict(True, []), "scores must be between 0 and 1"),
        (Verdict(1.0, [2.0]), "scores must be between 0 and 1"),
        (Verdict(1.0, [], status="errored"), "the status 'errored' is none of"),
        (Verdict(1.0, [], {"at": {1, 2}}), "cannot be written as JSON"),
        (Verdict(1.0, [], {"at": float("inf")}), "cannot be written as JSON"),
    ],
)
def test_a_verdict_that_cannot_be_kept_is_an_errored_outcome(monkeypatch, verdict, said):
    put(monkeypatch, Fake(judge=lambda task: verdict))
    (found,) = outcomes(groups(*turn_spans(1, "hi", "a")), "fake")
    assert found.status == "errored"
    assert said in (found.error_text or "")


def test_an_evaluator_gets_turns_settings_config_threshold_and_tools(monkeypatch):
    class Wanted(Config):
        how_many: int = 3

    asked = []
    put(monkeypatch, Fake(judge=lambda task: asked.append(task) or Verdict(None, [None]), Config=Wanted))
    entry = {"type": "builtin", "name": "fake", "judgeModel": "m", "threshold": 0.2, "config": {"howMany": 4}}
    tools = object()
    found = Evaluation(RUN_ID, validate_eval_config({"evaluators": [entry]}), tools=tools)
    list(found.results(groups(*turn_spans(1, "hi", "a"))))
    (task,) = asked
    assert [turn.user_text for turn in task.turns] == ["hi"]
    assert (task.settings["judge_model"], task.config, task.threshold) == ("m", Wanted(how_many=4), 0.2)
    assert task.tools is tools


def test_an_evaluator_may_decide_itself_and_tell_its_tokens(monkeypatch):
    verdict = Verdict(
        0.1, [0.1], status="passed", tokens={"prompt": 5, "output": 2, "total": 7, "cost": 0.01}
    )
    put(monkeypatch, Fake(judge=lambda task: verdict))
    (found,) = outcomes(groups(*turn_spans(1, "hi", "a")), "fake")
    assert (found.status, found.score) == ("passed", 0.1)
    assert found.tokens_used == {"prompt": 5, "output": 2, "total": 7, "cost": 0.01}


def test_turns_beyond_the_expected_ones_are_at_hand(monkeypatch):
    asked = []
    put(monkeypatch, Fake(judge=lambda task: asked.append(task) or Verdict(None, [])))
    outcomes(groups(*turn_spans(1, "hi", "a"), *turn_spans(10, "so", "b")), "fake", cases=CASES)
    (task,) = asked
    assert [turn.user_text for turn in task.turns] == ["hi"]
    assert [turn.user_text for turn in task.all_turns] == ["hi", "so"]


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
    results = evaluation(cases=CASES).results(found)
    assert next(results).item_id == found[0].key
    assert len(list(results)) == 3


def test_the_summary_has_the_contracts_shape():
    settled = evaluation(cases=CASES)
    found = groups(*turn_spans(1, "hi", "hello you", ("look_up", "{}")), resource={"service.name": "shop"})
    list(settled.results(found))
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
    nothing = evaluation()
    assert list(nothing.results([])) == []
    summary = nothing.summary()
    assert summary["errors"] == ["No traces provided."]
    assert (summary["trace_count"], summary["per_metric"], summary["performance_metrics"]) == (0, {}, None)


def test_an_evaluator_that_gave_no_score_has_no_average():
    skipped = evaluation("response_match_score")
    list(skipped.results(groups(*turn_spans(1, "hi", "a"))))
    assert skipped.summary()["per_metric"]["response_match_score"]["avg_score"] is None


def test_asking_again_for_results_does_not_count_them_twice():
    again = evaluation(cases=CASES)
    list(again.results(groups(*turn_spans(1, "hi", "a"))))
    list(again.results(groups(*turn_spans(1, "hi", "a"))))
    assert sum(again.summary()["result_counts"].values()) == 2


def test_a_multi_turn_eval_set_judges_conversations():
    spans = [*turn_spans(1, "hi", "a"), *turn_spans(10, "so", "b", traceId="f" * 32)]
    for raw in spans:
        raw["attributes"] += attributes({"gen_ai.conversation.id": "talk"})
    cases = eval_set(case("c", ("hi", "a", []), ("so", "b", [])))
    found = Evaluation(RUN_ID, validate_eval_config({}), cases)
    results = found.results(found.groups_of(read_traces(export(*spans))))
    assert [(o.item_id, o.per_invocation_scores) for o in results] == [("talk", [1.0, 1.0])]


def several(number):
    """Groups that are made one by one; what has been made is in the list."""
    made = []

    def coming():
        for index in range(number):
            made.append(index)
            yield from groups(*turn_spans(1, "hi", "hello there", traceId=f"{index + 1:032x}"))

    return coming(), made


def test_groups_are_taken_one_at_a_time():
    coming, made = several(10)
    results = evaluation("response_match_score", cases=CASES).results(coming, only_group=False)
    next(results)
    assert len(made) == 1


def test_whether_a_group_is_the_only_one_is_found_out_or_told():
    cases = eval_set(case("c", ("something else", "hello there", [])))
    alone, _ = several(1)
    assert [o.case_id for o in evaluation("response_match_score", cases=cases).results(alone)] == ["c"]
    told, _ = several(1)
    results = evaluation("response_match_score", cases=cases).results(told, only_group=False)
    assert [o.details for o in results] == [{"reason": "no matching eval case"}]
    two, _ = several(2)
    assert {o.case_id for o in evaluation("response_match_score", cases=cases).results(two)} == {""}


def test_positions_go_group_by_group():
    coming, _ = several(2)
    assert [o.position for o in evaluation(cases=CASES).results(coming)] == [0, 1, 2, 3]


def test_an_evaluator_that_waits_holds_up_no_other(monkeypatch):
    others_are_done = Event()
    slow = Fake("slow", lambda task: Verdict(float(others_are_done.wait(20)), []), waits=True)
    put(monkeypatch, slow, Fake("quick"))
    coming, _ = several(3)
    seen = []
    for found in evaluation("slow", "quick").results(coming):
        seen.append((found.evaluator_name, found.score))
        if len(seen) == 3:
            others_are_done.set()
    assert seen[:3] == [("quick", 1.0)] * 3
    assert seen[3:] == [("slow", 1.0)] * 3


@pytest.mark.parametrize(("traces", "evals"), [(1, 1), (1, 3), (2, 2), (3, 1)])
def test_no_more_wait_at_once_than_the_config_allows(monkeypatch, traces, evals):
    lock, now, most = Lock(), Counter(), Counter()

    def judge(task):
        with lock:
            now["all"] += 1
            now[task.turns[0].trace_id] += 1
            most["all"] = max(most["all"], now["all"])
            most["group"] = max(most["group"], now[task.turns[0].trace_id])
        sleep(0.05)
        with lock:
            now["all"] -= 1
            now[task.turns[0].trace_id] -= 1
        return Verdict(1.0, [1.0])

    put(monkeypatch, *[Fake(name, judge, waits=True) for name in "abcd"])
    coming, _ = several(5)
    limits = {"maxConcurrentTraces": traces, "maxConcurrentEvals": evals}
    assert len(list(evaluation(*"abcd", **limits).results(coming))) == 20
    assert most["group"] == evals
    assert evals < most["all"] <= traces * evals if traces > 1 else most["all"] == evals


def test_the_summary_does_not_depend_on_which_answer_comes_first(monkeypatch):
    scores = {f"{n + 1:032x}": score for n, score in enumerate([0.1, 0.2, 0.3])}

    def judge(task):
        trace_id = task.turns[0].trace_id
        sleep(0.05 if trace_id.endswith("1") else 0)
        return Verdict(scores[trace_id], [])

    put(monkeypatch, Fake("slow", judge, waits=True), Fake("quick"))
    coming, _ = several(3)
    settled = evaluation("slow", "quick")
    order = [found.position for found in settled.results(coming)]
    metrics = settled.summary()["per_metric"]
    assert order != sorted(order)
    assert list(metrics) == ["slow", "quick"]
    assert metrics["slow"]["avg_score"] == (0.1 + 0.2 + 0.3) / 3 != (0.2 + 0.3 + 0.1) / 3


def test_each_beginning_is_told_in_the_thread_that_asks(monkeypatch):
    put(monkeypatch, Fake("slow", waits=True), Fake("quick"))
    begun = []
    coming, _ = several(2)
    results = evaluation("slow", "quick").results(
        coming, on_start=lambda item, name: begun.append((item, name, current_thread()))
    )
    judged = {(found.item_id, found.evaluator_name, current_thread()) for found in results}
    assert set(begun) == judged
    assert len(begun) == 4


def test_what_is_kept_of_an_earlier_attempt_is_not_computed_again_and_counts(monkeypatch):
    judged = []

    def judge(task):
        judged.append(task.turns[0].trace_id)
        return Verdict(0.25, [])

    put(monkeypatch, Fake(judge=judge))
    key = f"{1:032x}"
    kept = [Kept(result_id(RUN_ID, key, "fake"), "fake", "passed", 0.75, 0)]
    resumed = evaluation("fake")
    coming, _ = several(2)
    found = list(resumed.results(coming, kept=kept))
    summary = resumed.summary()
    assert judged == [f"{2:032x}"]
    assert [one.position for one in found] == [1]
    assert summary["per_metric"]["fake"] == {
        "passed": 1,
        "failed": 1,
        "errored": 0,
        "skipped": 0,
        "avg_score": 0.5,
    }
    assert summary["trace_count"] == summary["performance_metrics"]["trace_count"] == 2


def test_an_evaluation_that_is_given_up_starts_no_more(monkeypatch):
    begun, go_on = [], Event()

    def judge(task):
        begun.append(task)
        go_on.wait(20)
        return Verdict(1.0, [])

    put(monkeypatch, *[Fake(name, judge, waits=True) for name in "abc"], Fake("quick"))
    results = evaluation(*"abc", "quick", maxConcurrentEvals=1).results(groups(*turn_spans(1, "hi", "a")))
    next(results)
    results.close()
    go_on.set()
    sleep(0.1)
    assert len(begun) == 1


def test_what_ends_a_thread_reaches_the_one_that_asks(monkeypatch):
    def judge(task):
        raise KeyboardInterrupt

    put(monkeypatch, Fake(judge=judge, waits=True))
    with pytest.raises(KeyboardInterrupt):
        list(evaluation("fake").results(groups(*turn_spans(1, "hi", "a"))))

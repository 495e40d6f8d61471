"""validate_eval_config: what an evalConfig may be (CONTRACTS 1.2)."""

import pytest

from runs.evaluators import EvalConfigError, validate_eval_config


def one(**evaluator):
    return {"evaluators": [{"type": "builtin", "name": "some_score", **evaluator}]}


def refused(raw) -> str:
    with pytest.raises(EvalConfigError) as caught:
        validate_eval_config(raw)
    return str(caught.value)


@pytest.mark.parametrize("raw", [None, {}])
def test_nothing_means_the_defaults(raw):
    params = validate_eval_config(raw)
    assert [evaluator.name for evaluator in params.evaluators] == ["tool_trajectory_avg_score"]
    assert (params.max_concurrent_traces, params.max_concurrent_evals, params.group_by) == (10, 5, "auto")


@pytest.mark.parametrize("raw", [{"groupBy": "trace"}, {"group_by": "trace"}])
def test_names_may_be_camel_case_and_snake_case(raw):
    assert validate_eval_config(raw).group_by == "trace"


def test_an_unknown_key_is_refused_in_the_words_of_the_contract():
    assert refused({"foo": 1}).startswith(
        "Invalid eval_config: 1 validation error for EvalParams\nfoo\n  Extra inputs are not permitted"
    )


@pytest.mark.parametrize("raw", [[], "text", 5, {"evaluators": 5}, {"evaluators": None}, {"evaluators": []}])
def test_other_shapes_are_refused(raw):
    assert refused(raw).startswith("Invalid eval_config: 1 validation error for EvalParams")


def test_the_type_must_be_given():
    assert "discriminator 'type'" in refused({"evaluators": [{"name": "some_score"}]})
    assert "'llm'" in refused(one(type="llm"))


def test_names_must_be_unique():
    twice = {"evaluators": [{"type": "builtin", "name": "a"}, {"type": "code", "name": "a", "path": "a.py"}]}
    assert "more than once: a" in refused(twice)


def test_an_unknown_builtin_is_accepted():
    assert validate_eval_config(one()).evaluators[0].name == "some_score"


def test_the_user_simulator_is_refused():
    assert "recorded traces have none" in refused(one(name="per_turn_user_simulator_quality_v1"))


@pytest.mark.parametrize("bad", [-0.1, 1.1, "high"])
def test_a_threshold_is_between_0_and_1(bad):
    assert "threshold" in refused(one(threshold=bad))


def test_a_match_type_is_known_in_any_case():
    assert validate_eval_config(one(trajectoryMatchType="in_order")).evaluators[0].model_dump()[
        "trajectory_match_type"
    ] == ("IN_ORDER")
    assert "EXACT, IN_ORDER, ANY_ORDER" in refused(one(trajectoryMatchType="SORTED"))


def test_rubrics_are_numbered_and_only_for_evaluators_that_take_them():
    name = "rubric_based_tool_use_quality_v1"
    params = validate_eval_config(one(name=name, rubrics=["is kind", {"id": "short", "text": "is short"}]))
    assert params.evaluators[0].model_dump()["rubrics"] == [
        {"id": "rubric_0", "text": "is kind"},
        {"id": "short", "text": "is short"},
    ]
    assert "not for some_score" in refused(one(rubrics=["is kind"]))
    assert "more than once: a" in refused(one(name=name, rubrics=[{"id": "a", "text": "b"}] * 2))
    assert "must not be blank" in refused(one(name=name, rubrics=[" "]))


def test_a_code_evaluator_has_a_path_and_defaults():
    params = validate_eval_config({"evaluators": [{"type": "code", "name": "mine", "path": "mine.py"}]})
    found = params.evaluators[0].model_dump()
    assert (found["threshold"], found["timeout"], found["config"], found["executor"]) == (
        0.5,
        30,
        {},
        "local",
    )
    assert "must end in one of" in refused({"evaluators": [{"type": "code", "name": "mine", "path": "a.sh"}]})


@pytest.mark.parametrize("timeout", [0, -1, 3601])
def test_a_timeout_is_bounded(timeout):
    raw = {"evaluators": [{"type": "code", "name": "mine", "path": "mine.py", "timeout": timeout}]}
    assert "timeout" in refused(raw)


@pytest.mark.parametrize("ref", ["a.py", "team/score.js", "a-b/c_d.v2.ts"])
def test_a_remote_ref_is_a_plain_path(ref):
    validate_eval_config({"evaluators": [{"type": "remote", "name": "x", "ref": ref}]})


@pytest.mark.parametrize(
    "ref",
    [
        *("", "../a.py", "/a.py", "a//b.py", "a/./b.py", "a\\b.py", "a%2fb.py", ".a.py", "a..py", "-a.py"),
        *("a.txt", "a\n.py", "é.py", "x" * 510 + ".py", "a/" * 16 + "b.py"),
    ],
)
def test_a_remote_ref_that_could_lead_elsewhere_is_refused(ref):
    refused({"evaluators": [{"type": "remote", "name": "x", "ref": ref}]})


@pytest.mark.parametrize("key", ["maxConcurrentTraces", "max_concurrent_evals"])
def test_concurrency_is_at_least_1(key):
    assert "greater than or equal to 1" in refused({key: 0})


def remote(**evaluator):
    return {"evaluators": [{"type": "remote", "name": "theirs", **evaluator}]}


def test_a_remote_evaluator_may_be_asked_at_a_url():
    (found,) = validate_eval_config(remote(source="http", url="https://judge.example/score")).evaluators
    assert (found.model_dump()["url"], found.model_dump()["ref"]) == ("https://judge.example/score", None)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"source": "http"}, "url is missing; source http needs it"),
        ({"source": "http", "url": "https://h/", "ref": "a.py"}, "ref is not for source http"),
        ({}, "ref is missing; source github needs it"),
        ({"ref": "a.py", "url": "https://h/"}, "url is not for source github"),
        ({"source": "builtin", "ref": "a.py"}, "builtin evaluators are not fetched"),
    ],
)
def test_a_remote_evaluator_has_the_place_that_its_source_needs(entry, said):
    assert said in refused(remote(**entry))


@pytest.mark.parametrize(
    "url", ["", "ftp://h/x", "https://", "//h/x", "https://h/a b", "https://h/" + "x" * 2048]
)
def test_a_url_is_absolute_and_of_http(url):
    assert "must begin with http:// or https://" in refused(remote(source="http", url=url))


def test_a_config_is_checked_against_the_evaluators_own():
    wrong = one(name="token_budget", config={"maxTokens": "many"})
    assert refused(wrong) == (
        "Invalid eval_config: token_budget: config.maxTokens: input should be a valid integer,"
        " unable to parse string as an integer"
    )
    assert "tool_trajectory_avg_score: config.x: extra inputs" in refused(
        one(name="tool_trajectory_avg_score", config={"x": 1})
    )


def test_the_config_of_an_unknown_builtin_is_accepted():
    assert validate_eval_config(one(config={"any": 1})).evaluators[0].config == {"any": 1}


def test_the_judge_takes_rubrics():
    (found,) = validate_eval_config(one(name="llm_judge", rubrics=["is kind"])).evaluators
    assert found.model_dump()["rubrics"] == [{"id": "rubric_0", "text": "is kind"}]

from typing import Any

import pytest

from runs.models import Result, Run
from runs.models.result import count_results


@pytest.fixture
def run(make_run) -> Run:
    return make_run()


def judge(
    run: Run, item: str, evaluator: str = "response_match_score", status: str = "passed", **fields: Any
):
    count = Result.objects.count()
    values = {
        "item_name": item,
        "question": f"Question of {item}",
        "evaluator_type": "builtin",
        "position": count,
    }
    Result.objects.create(
        id=f"{count:064}",
        run=run,
        item_id=item,
        evaluator_name=evaluator,
        status=status,
        **{"threshold": 0.7, **values, **fields},
    )
    count_results(run)


def results(client, run, query: str = "") -> str:
    answer = client.get(f"/runs/{run.pk}?tab=results{query}")
    assert answer.status_code == 200
    page = answer.content.decode()
    return page[page.index('id="run-tab"') :]


def test_it_works(signed_in, run):
    judge(run, "a", score=0.81)
    judge(run, "a", "tool_trajectory_avg_score", score=1.0)
    page = results(signed_in, run)
    for words in ("Question of a", "response_match_score", "tool_trajectory_avg_score", "0.81", "1.00"):
        assert words in page


@pytest.mark.parametrize(
    ("expected", "actual", "words"),
    [
        (["rollback"], ["upgrade"], "Called upgrade where rollback was expected."),
        (["list", "rollback"], ["list"], "rollback was not called."),
        ([], ["list"], "Called list, which was not expected."),
        (["a", "b"], ["b", "a"], "in another order or number"),
    ],
)
def test_it_says_which_tools_were_wrong(signed_in, run, expected, actual, words):
    comparison = {
        "expected": [{"name": name, "args": {"release": "kagent", "revision": 1}} for name in expected],
        "actual": [{"name": name, "args": {"release": "kagent", "revision": 1}} for name in actual],
        "matched": False,
    }
    details = {"comparisons": [comparison]}
    judge(run, "a", "tool_trajectory_avg_score", "failed", score=0.0, details=details)
    page = results(signed_in, run)
    assert words in page
    if expected:
        assert f"{expected[0]}(release=&quot;kagent&quot;, revision=1)" in page


def test_other_arguments_are_told_from_other_tools(signed_in, run):
    comparison = {
        "expected": [{"name": "go", "args": {"n": 1}}],
        "actual": [{"name": "go", "args": {"n": 2}}],
    }
    judge(run, "a", "tool_trajectory_avg_score", "failed", score=0.0, details={"comparisons": [comparison]})
    assert "go was called with other arguments." in results(signed_in, run)


def test_each_verdict_that_is_no_pass_has_its_reason(signed_in, run):
    judge(run, "a", status="failed", score=0.41)
    judge(run, "b", status="errored", error="the judge answered 503 \x1b")
    judge(run, "c", status="skipped", details={"reason": "no eval case matches"})
    page = results(signed_in, run)
    assert "agrees with the expected one to 41%; 70% is required" in page
    assert "the judge answered 503" in page
    assert "Not judged: no eval case matches." in page


def test_the_filter_shows_items_with_such_a_result(signed_in, run):
    judge(run, "good", score=1.0)
    judge(run, "bad", status="failed", score=0.1)
    for query in ("&only=failed", "&show=failed"):
        page = results(signed_in, run, query)
        assert "Question of bad" in page
        assert "Question of good" not in page
        assert "All 2" in page


def test_many_items_come_by_the_page_and_none_is_lost(signed_in, run):
    for number in range(53):
        judge(run, f"item{number:02}", score=1.0, position=number // 3)
    first = signed_in.get(f"/runs/{run.pk}?tab=results").context
    assert len(first["items"]) == 50
    second = signed_in.get(f"/runs/{run.pk}{first['more']}").context
    assert len({item.id for item in [*first["items"], *second["items"]]}) == 53
    assert second["more"] is None


def test_details_of_any_shape_are_shown_or_left_out(signed_in, run):
    for number, details in enumerate(
        [
            {"comparisons": "x"},
            {"comparisons": [1, None]},
            {"comparisons": [{"expected": "x", "actual": [3]}]},
            [],
        ]
    ):
        judge(run, f"{number}", "tool_trajectory_avg_score", "failed", score=0.0, details=details)
    assert results(signed_in, run)


def test_one_evaluator_can_be_chosen_and_kept_with_the_filter(signed_in, run):
    judge(run, "one", "e1", "failed", score=0.1)
    judge(run, "one", "e2", "failed", score=0.2)
    judge(run, "two", "e2", "passed", score=0.9)
    page = results(signed_in, run, "&only=failed&evaluator=e2")
    assert "0.20" in page
    assert "0.10" not in page
    assert "?tab=results&amp;only=failed&amp;evaluator=e1" in page
    assert results(signed_in, run, "&evaluator=nonsense").count("Question of") == 2


def test_as_a_list_each_result_has_its_line_and_its_reason(signed_in, run):
    for number in range(52):
        judge(run, f"item{number:02}", "e1", "failed", score=0.1, details={"reason": f"because {number}."})
    first = signed_in.get(f"/runs/{run.pk}?tab=results&view=list&only=failed").context
    second = signed_in.get(f"/runs/{run.pk}{first['more']}").context
    lines = [line.reason.words for page in (first, second) for line in page["lines"]]
    assert lines == [f"because {number}." for number in range(52)]
    assert second["more"] is None


def test_details_are_folded_until_one_asks(signed_in, run):
    judge(run, "one", "e1", "failed", score=0.1, details={"reason": "no", "trace": "secret of the judge"})
    page = results(signed_in, run)
    assert "secret of the judge" not in page
    assert f"/runs/{run.pk}/tree/result-{Result.objects.get().pk}" in page


def test_many_evaluators_scroll_in_a_region_of_their_own(signed_in, run):
    for number in range(60):
        judge(run, "one", f"evaluator_{number:02}", score=1.0)
    page = results(signed_in, run)
    assert '<div class="mx-wrap" id="results" tabindex="0" role="region"' in page
    assert page.count('<th scope="col">') == 51

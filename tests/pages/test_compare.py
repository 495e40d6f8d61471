"""Comparing runs and sets of runs: which item is which, what is better and worse, and who may see it."""

import re
import time
from datetime import timedelta
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from playwright.sync_api import Page, expect

from runs.models import NewEvent, Result, Run, SavedView, append_events
from runs.models.comparison import Cell, Item, align, difference, judge, worst_first
from runs.models.result import count_results
from runs.pages import differences
from runs.pages.differences import Clock
from tests.pages.helpers import called, make_task, said
from tests.serving import sign_in
from tests.test_owner_condition import Record


@pytest.fixture
def pair(make_run) -> tuple[Run, Run]:
    return make_run(title="before"), make_run(title="after")


def judged(run: Run, item: str, score: float | None, status: str = "passed", **fields: Any) -> Result:
    count = Result.objects.count()
    values = {"evaluator_name": "match", "evaluator_type": "builtin", "item_name": item, **fields}
    made = Result.objects.create(
        id=f"{count:064}", run=run, item_id=item, score=score, status=status, position=count, **values
    )
    count_results(run)
    return made


def compare(client, *runs: Run, query: str = "", status: int = 200) -> str:
    answer = client.get(f"/compare?runs={','.join(str(run.pk) for run in runs)}{query}")
    assert answer.status_code == status
    return answer.content.decode()


def rows(page: str) -> list[str]:
    """The rows of the table by item, one text each."""
    return [row.split("</tr>")[0] for row in page.split('<tr id="item-')[1:]]


def test_it_works(signed_in, pair):
    for run, score in zip(pair, (0.86, 0.41), strict=True):
        judged(run, "roll back", score)
    page = compare(signed_in, *pair)
    (row,) = rows(page)
    for words in ("roll back", "0.86", "0.41", "−0.45 worse"):
        assert words in row
    assert "<b>1</b> worse" in page
    assert "<b>0</b> better" in page


def test_a_verdict_that_turned_counts_whatever_the_score(signed_in, pair):
    for run, status in zip(pair, ("failed", "passed"), strict=True):
        judged(run, "a", 0.5, status)
    page = compare(signed_in, *pair)
    assert "<b>1</b> better" in page
    assert "match passes" in rows(page)[0]


def test_a_score_within_the_bound_is_the_same(signed_in, pair):
    for run, score in zip(pair, (0.5, 0.504), strict=True):
        judged(run, "a", score)
    assert "<b>1</b> the same" in compare(signed_in, *pair)


def test_what_is_worse_stands_first_and_each_sort_can_be_had_alone(signed_in, pair):
    before, after = pair
    for item, old, new in (("same", 0.5, 0.5), ("up", 0.2, 0.9), ("down", 0.9, 0.8), ("deep", 0.9, 0.1)):
        judged(before, item, old)
        judged(after, item, new)
    judged(after, "only new", 1.0)
    titles = [
        row.split('dir="auto"')[1].split(">")[1].split("<")[0] for row in rows(compare(signed_in, *pair))
    ]
    assert titles == ["deep", "down", "up", "only new"]
    for show, count in (
        ("regressed", 2),
        ("improved", 1),
        ("same", 1),
        ("missing", 1),
        ("different", 4),
        ("all", 5),
    ):
        assert len(rows(compare(signed_in, *pair, query=f"&show={show}"))) == count


def test_an_item_that_only_one_run_has_is_named_as_such(signed_in, pair):
    judged(pair[0], "a", 1.0)
    judged(pair[1], "a", 1.0)
    judged(pair[1], "b", 1.0)
    assert "only in B" in rows(compare(signed_in, *pair))[0]


def test_one_evaluator_can_be_counted_alone(signed_in, pair):
    for run, one, other in zip(pair, (0.1, 0.9), (0.9, 0.1), strict=True):
        judged(run, "a", one, evaluator_name="up")
        judged(run, "a", other, evaluator_name="down")
    assert "<b>1</b> worse" in compare(signed_in, *pair)
    page = compare(signed_in, *pair, query="&evaluator=up")
    assert "<b>0</b> worse" in page
    assert "<b>1</b> better" in page


def test_evaluators_stand_side_by_side(signed_in, pair):
    for run, score in zip(pair, (0.25, 0.75), strict=True):
        judged(run, "a", score, evaluator_name="match")
        judged(run, "a", 1.0, evaluator_name="calls")
    page = compare(signed_in, *pair, query="&by=evaluator")
    for words in ("match", "calls", "0.25", "0.75", "+0.50", "0 worse, 1 better"):
        assert words in page


def test_answers_and_reasons_are_compared_word_by_word(signed_in, pair):
    for run, answer, reason in zip(
        pair, ("It is <b>done</b>", "It is not done"), ("too short", "too long"), strict=True
    ):
        judged(run, "a", 0.5, trace_id="t1", details={"reason": reason})
        payload = {"parts": [{"kind": "text", "text": answer}]}
        append_events(run, [NewEvent("message", payload, role="agent", event_id="t1/1/0")])
    page = compare(signed_in, *pair, query="&by=text&show=all")
    assert "<del>&lt;b&gt;" in page
    assert "<ins>not " in page
    assert "too <del>short</del>" in page
    assert "too <ins>long</ins>" in page
    assert "<b>done" not in page


def test_up_to_five_runs_are_compared(signed_in, make_run):
    runs = [make_run(title=f"run {number}") for number in range(5)]
    for number, run in enumerate(runs):
        judged(run, "a", number / 10)
    (row,) = rows(compare(signed_in, *runs))
    assert all(f"0.{number}0" in row for number in range(5))
    assert "Make E the base" in compare(signed_in, *runs)


def test_the_address_has_everything(signed_in, pair):
    for run, score in zip(pair, (0.25, 0.75), strict=True):
        judged(run, "a", score)
    page = compare(signed_in, *pair, query="&by=evaluator&show=improved&evaluator=match")
    link = f"/compare?runs={pair[0].pk},{pair[1].pk}&amp;by=evaluator&amp;show=improved&amp;evaluator=match"
    assert f'href="{link}"' in page
    assert f"/compare?runs={pair[1].pk},{pair[0].pk}" in page  # swapped


def test_items_come_in_windows_without_gaps(signed_in, pair):
    for run in pair:
        results = [
            Result(
                id=uuid4().hex * 2, run=run, item_id=f"i{number:03}", item_name="x", evaluator_name="match",
                evaluator_type="builtin", status="passed", score=1.0, position=number,
            )
            for number in range(60)
        ]  # fmt: skip
        Result.objects.bulk_create(results)
    seen, query = [], "&show=all"
    for _ in range(3):
        page = compare(signed_in, *pair, query=query)
        seen += [row.split('"')[0] for row in rows(page)]
        query = f"&show=all&after={seen[-1]}"
    assert seen == [str(number) for number in range(1, 61)]
    assert "Next items" not in page


def test_the_specs_differ_by_path_and_secrets_stay_hidden(signed_in, make_run, sample):
    runs = []
    for threshold, secret in ((0.5, "first-secret"), (0.7, "second-secret")):
        context = {"api_key": secret}
        spec = {**sample["spec"], "tuning": {"threshold": threshold}, "context": context}
        runs.append(make_run(spec))
    page = compare(signed_in, *runs)
    assert "spec.tuning.threshold" in page
    assert "first-secret" not in page


def test_tasks_are_compared_by_answer_and_tools(signed_in, owner):
    one = make_task(owner, called("list", {"n": 1}), called("rollback", {}), said("It is done."), cost="0.50")
    two = make_task(
        owner, called("list", {"n": 1}), called("upgrade", {}), said("It is broken."), cost="0.75"
    )
    page = compare(signed_in, one, two)
    for words in (
        "<del>rollback({})</del>",
        "<ins>upgrade({})</ins>",
        "<del>done</del>",
        "<ins>broken</ins>",
        "$0.7500",
    ):
        assert words in page
    assert "<code>list({&#34;n&#34;: 1})</code>" in page


# ── Sets ───────────────────────────────────────────────────────────────────
def test_sets_are_compared_by_mean_and_pass_rate(signed_in, make_run):
    for agent, outcomes in (("old", ("passed", "passed")), ("new", ("passed", "failed"))):
        for status in outcomes:
            judged(make_run(agent=agent), "a", 1.0 if status == "passed" else 0.0, status)
    answer = signed_in.get("/compare", {"a": "agent:old", "b": "agent:new"})
    page = answer.content.decode()
    assert answer.status_code == 200
    for words in ("1.00", "0.50", "−0.50 worse", "100 % of 2 pass", "50 % of 2 pass"):
        assert words in page


def test_a_set_may_be_a_saved_view(signed_in, alice, owner, make_run):
    judged(make_run(agent="old"), "a", 1.0)
    judged(make_run(agent="new"), "a", 0.5)
    view = SavedView.objects.create(author=alice, name="The old ones", query="agent:old")
    page = signed_in.get("/compare", {"a": f"view:{view.pk}", "b": "agent:new"}).content.decode()
    assert "The old ones" in page
    assert "−0.50 worse" in page


def test_a_private_view_of_somebody_else_is_missing(signed_in, stranger):
    view = SavedView.objects.create(author=stranger, name="Mine", query="agent:x")
    answer = signed_in.get("/compare", {"a": f"view:{view.pk}", "b": ""})
    assert answer.status_code == 404
    assert "Mine" not in answer.content.decode()


def test_ages_can_be_fixed_in_the_link(signed_in, make_run):
    judged(make_run(), "a", 1.0)
    page = signed_in.get("/compare", {"a": "before:7d", "b": "after:7d"}).content.decode()
    assert "Link with fixed times" in page
    assert f"{timezone.now() - timedelta(days=7):a=before:%Y-%m-%dT}" in page
    page = signed_in.get("/compare", {"a": "agent:x", "b": "agent:y"}).content.decode()
    assert "Link with fixed times" not in page


# ── What it refuses ────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("query", "status", "field", "words"),
    [
        ("runs=", 400, "runs", "Name two to five runs"),
        ("runs={run}", 400, "runs", "This is one run"),
        ("runs={run},{run}", 400, "runs", "named twice"),
        ("runs=1,2,3,4,5,6", 400, "runs", "These are 6 runs"),
        ("runs={run},zzzz", 400, "runs", "no id of a run"),
        ("runs={run},abc", 400, "runs", "at least 4"),
        ("runs={run},ffffffff", 404, "runs", "no run “ffffffff”"),
        ("a=agent:x", 400, "b", "say the other one"),
        ("a=agnt:x&b=", 400, "a", "No field is called"),
        ("a=view:x&b=", 404, "a", "no saved view"),
        ("of=zzzz", 400, "of", "no id of a run"),
        ("of={run}&before=agent", 404, "of", "no earlier run"),
        ("of={run}&before=mood", 400, "before", "not one of the available choices"),
    ],
)
def test_a_mistake_is_named_with_its_field(signed_in, make_run, query, status, field, words):
    answer = signed_in.get(f"/compare?{query.format(run=make_run(agent='x').pk)}")
    page = answer.content.decode()
    assert answer.status_code == status
    assert words in page
    assert f"<code>{field}</code>" in page


def test_another_owners_run_is_missing_like_one_that_is_not_there(strangers_client, pair):
    for run in pair:
        judged(run, "secret", 1.0)
    page = compare(strangers_client, *pair, status=404)
    assert "before" not in page.split("<main")[1].split("Nothing was compared")[0]
    assert "secret" not in page


def test_a_set_has_only_what_one_may_see(strangers_client, make_run):
    judged(make_run(agent="old"), "secret", 1.0)
    page = strangers_client.get("/compare", {"a": "agent:old", "b": ""}).content.decode()
    assert "secret" not in page
    assert "It finds no evaluations" in page


def test_without_anything_it_asks(signed_in):
    answer = signed_in.get("/compare")
    assert answer.status_code == 200
    assert "Two sets of runs" in answer.content.decode()


# ── Ways in ────────────────────────────────────────────────────────────────
def test_the_beginning_of_an_id_is_enough(signed_in, owner):
    one = make_task(owner, id="aaaa0000-0000-7000-8000-000000000001", title="first one")
    two = make_task(owner, id="bbbb0000-0000-7000-8000-000000000001", title="second one")
    page = signed_in.get("/compare?runs=aaaa,bbbb0").content.decode()
    assert str(one.pk) in page
    assert str(two.pk) in page


def test_a_beginning_of_several_ids_asks_for_more(signed_in, owner):
    for number in (1, 2):
        make_task(owner, id=f"aaaa0000-0000-7000-8000-00000000000{number}")
    answer = signed_in.get("/compare?runs=aaaa,bbbb")
    assert answer.status_code == 400
    assert "Several runs begin with “aaaa”" in answer.content.decode()


def test_addresses_of_runs_and_boxes_of_a_list_will_do(signed_in, pair):
    page = signed_in.get(f"/compare?runs=http://here/runs/{pair[0].pk}?tab=raw&runs={pair[1].pk}")
    assert page.status_code == 200


@pytest.mark.parametrize("way", ["agent", "session", "eval_set"])
def test_a_run_is_compared_with_the_one_before_it(signed_in, make_run, owner, way):
    from runs.models import Session

    session = Session.objects.open(owner, "api", "s") if way == "session" else None
    sample = make_run().shown_spec
    spec = {**sample, "evalSet": {"eval_set_id": "nightly", "eval_cases": []}}
    other = {**sample, "evalSet": {"eval_set_id": "other", "eval_cases": []}}
    before = make_run(spec, agent="x", session=session)
    make_run(other, agent="y")
    after = make_run(spec, agent="x", session=session)
    Run.objects.filter(pk=before.pk).update(created_at=after.created_at - timedelta(hours=1))
    answer = signed_in.get(f"/compare?of={after.pk}&before={way}")
    assert answer.status_code == 302
    assert answer["Location"] == f"/compare?runs={before.pk},{after.pk}"


# ── Which item is which ────────────────────────────────────────────────────
def paired(left: list[Item], right: list[Item]) -> list[tuple[str | None, str | None]]:
    return [tuple(item and item.question for item in row.items) for row in align([left, right])]  # type: ignore[misc]


def test_cases_decide_before_anything_else():
    one, two = Item("t1", case="x", question="1"), Item("t2", case="y", question="2")
    assert paired([one, two], [Item("t2", case="x", question="3"), Item("t1", case="y", question="4")]) == [
        ("1", "3"),
        ("2", "4"),
    ]


def test_items_of_other_traces_are_found_by_their_question():
    left = [Item(uuid4().hex, question="a"), Item(uuid4().hex, question="b")]
    right = [Item(uuid4().hex, question="b"), Item(uuid4().hex, question="c")]
    assert paired(left, right) == [("a", None), ("b", "b"), (None, "c")]


def test_the_same_trace_is_the_same_item_whatever_was_asked_beside():
    trace = uuid4().hex
    left = [Item(uuid4().hex, question="a"), Item(trace, question="a")]
    assert [row.items[1] is not None for row in align([left, [Item(trace, question="a")]])] == [False, True]


def test_items_without_anything_go_by_their_place():
    left, right = [Item(uuid4().hex), Item(uuid4().hex)], [Item(uuid4().hex)]
    assert [row.is_missing for row in align([left, right])] == [False, True]


def test_repeated_items_are_numbered_and_go_in_order():
    left = [Item("1" * 32, case="x", question="1"), Item("2" * 32, case="x", question="2")]
    found = align([left, [Item("3" * 32, case="x", question="3"), Item("4" * 32, case="x", question="4")]])
    assert [(row.nth, row.items[1].question) for row in found if row.items[1]] == [(1, "3"), (2, "4")]


@pytest.mark.parametrize(
    ("base", "other", "change"),
    [
        (Cell("passed", 0.9, 1.0), Cell("failed", 0.95, 0.0), "worse"),
        (Cell("errored", None, 0.0), Cell("passed", 0.5, 1.0), "better"),
        (Cell("failed", 0.2, 0.0), Cell("failed", 0.21, 0.0), "better"),
        (Cell("failed", None, 0.0), Cell("errored", None, 0.0), "otherwise"),
        (Cell("passed", 1.0, 1.0), Cell("skipped", None, None), "otherwise"),
        (Cell("", 0.8, 0.5), Cell("", 0.8, 0.4), "worse"),
        (Cell("passed", 0.5, 1.0), Cell("passed", 0.505, 1.0), ""),
    ],
)
def test_what_is_better_and_worse(base, other, change):
    assert difference(base, other) == change


def test_means_are_of_the_evaluators_that_both_have():
    left = Item("a", cells={"one": Cell("passed", 1.0, 1.0)})
    right = Item("a", cells={"one": Cell("passed", 1.0, 1.0), "two": Cell("failed", 0.0, 0.0)})
    found = align([[left], [right]])
    judge(found)
    assert found[0].means == [1.0, 1.0]
    assert worst_first(found)[0].delta == 0


# ── Texts ──────────────────────────────────────────────────────────────────
def test_texts_without_spaces_are_compared_letter_by_letter():
    pair = differences.words("会議室を予約しました", "会議室を確認しました", Clock())
    assert pair.left == "会議室を<del>予約</del>しました"
    assert pair.right == "会議室を<ins>確認</ins>しました"


def test_a_text_beyond_the_bound_says_so():
    pair = differences.words("a b " * 1000, "b a " * 1000, Clock())
    assert "first 800" in pair.note


def test_adversarial_texts_are_compared_in_bounded_time():
    left = " ".join(str(number % 97) for number in range(5000))
    right = " ".join(str(number * 31 % 97) for number in range(5000))
    started = time.monotonic()
    differences.words(left, right, Clock())
    assert time.monotonic() - started < 2


def test_where_time_is_up_texts_stand_as_they_are():
    pair = differences.words("<one>", "<two>", Clock(-1))
    assert (pair.left, pair.right) == ("&lt;one&gt;", "&lt;two&gt;")
    assert pair.note


def test_values_differ_by_path():
    found = differences.paths([{"a": {"b": [1, 2]}, "c": 1}, {"a": {"b": [1, 3]}, "d": None}])
    assert [(one.path, one.values) for one in found] == [
        ("a.b[1]", ["2", "3"]),
        ("c", ["1", ""]),
        ("d", ["", "null"]),
    ]


def test_what_was_said_is_read_of_ones_own_runs_alone(signed_in, alice, owner, pair):
    for run in pair:
        judged(run, "a", 0.5, trace_id="t1")
    tasks = [make_task(owner, called("list", {}), said("done")) for _ in range(2)]
    record = Record(alice, owner)
    with connection.execute_wrapper(record):
        compare(signed_in, *pair, query="&by=text&show=all")
        compare(signed_in, *tasks)
    assert record.unbound == []
    assert {"result", "event"} <= record.tables


# ── Cost ───────────────────────────────────────────────────────────────────
def _fill(run: Run, items: int, evaluators: int) -> None:
    Result.objects.bulk_create(
        Result(
            id=uuid4().hex * 2,
            run=run,
            item_id=f"case {number}",
            case_id=f"case {number}",
            item_name=f"case {number}",
            evaluator_name=f"evaluator {one}",
            evaluator_type="builtin",
            status="passed" if number % 7 else "failed",
            score=number % 10 / 10,
            position=number * evaluators + one,
        )
        for number in range(items)
        for one in range(evaluators)
    )
    count_results(run)


def test_it_asks_as_often_for_many_results_as_for_few(signed_in, make_run):
    counts = []
    for items in (5, 200):
        runs = [make_run(), make_run()]
        for run in runs:
            _fill(run, items, 2)
        with CaptureQueriesContext(connection) as queries:
            compare(signed_in, *runs, query="&show=all")
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 12


# ── In a browser ───────────────────────────────────────────────────────────
def test_a_click_on_a_number_shows_its_items_and_a_click_on_an_item_what_was_said(
    site, alice, owner, make_run, browser_page: Page
):
    before, after = make_run(title="before"), make_run(title="after")
    for item, old, new in (("rises", 0.1, 0.9), ("falls", 0.9, 0.1)):
        judged(before, item, old, details={"reason": "as it was"})
        judged(after, item, new, details={"reason": "as it is"})
    sign_in(browser_page, site)
    browser_page.goto(f"{site.url}/compare?runs={before.pk},{after.pk}")
    expect(browser_page.get_by_role("row", name="rises")).to_be_visible()
    browser_page.get_by_role("navigation", name="Show").get_by_role("link", name="1 worse").click()
    expect(browser_page.get_by_role("row", name="rises")).to_have_count(0)
    expect(browser_page).to_have_url(re.compile("show=regressed"))
    browser_page.get_by_role("navigation", name="Show").get_by_role("link", name="2 in all").click()
    browser_page.get_by_role("link", name="rises").click()
    expect(browser_page.get_by_role("link", name="rises")).to_have_attribute("aria-expanded", "true")
    expect(browser_page.locator(".dd ins", has_text="is")).to_be_visible()
    browser_page.go_back()
    expect(browser_page.get_by_role("link", name="rises")).to_have_attribute("aria-expanded", "false")


def test_two_queries_are_compared_from_the_form(site, alice, owner, make_run, browser_page: Page):
    for agent, score in (("old", 0.9), ("new", 0.4)):
        judged(make_run(agent=agent), "a", score)
    sign_in(browser_page, site)
    browser_page.get_by_role("link", name="Compare").click()
    browser_page.get_by_label("Set A, the base").fill("agent:old")
    browser_page.get_by_label("Set B").fill("agent:new")
    browser_page.get_by_role("button", name="Compare sets").click()
    expect(browser_page.get_by_text("−0.50 worse").first).to_be_visible()
    assert quote("agent:old", safe=":") in browser_page.url.replace("%3A", ":")

"""Trends: what is drawn of the rollups, whose, and where a click leads."""

import re
from datetime import UTC, date, datetime, time, timedelta
from html import unescape
from itertools import pairwise
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from playwright.sync_api import Page, expect

from runs.models import Membership, Owner, Rollup, RollupDelta
from runs.pages import charts
from runs.pages.charts import Bar, Scale, Series
from tests.serving import sign_in


def today() -> date:
    return timezone.now().astimezone(UTC).date()


def kept(owner: Owner, ago: int = 0, model: Any = Rollup, **sums: Any) -> None:
    """Sums of a day some days ago; of runs, or of an evaluator's results."""
    values = {"kind": "evaluation", "agent": "helm", "evaluator": "", **sums}
    model.objects.create(owner=owner, day=today() - timedelta(days=ago), **values)


def trends(client, query: str = "", status: int = 200) -> str:
    answer = client.get(f"/trends{query}")
    assert answer.status_code == status
    return answer.content.decode()


def chart(page: str, name: str) -> str:
    """The figure of that name."""
    start = page.index(f'aria-labelledby="{name}-h"')
    return page[start : page.index("</figure>", start)]


def figure(page: str, name: str) -> str:
    return re.sub("<[^>]+>", " ", page.split(f"<dt>{name}</dt>")[1].split("</div>")[0]).strip()


def test_it_works(signed_in, owner):
    kept(
        owner,
        1,
        succeeded_runs=8,
        failed_runs=2,
        duration=20_000,
        duration_count=10,
        input_tokens=900,
        output_tokens=100,
        cost="1.50",
        rating_sum=9,
        rating_count=2,
    )
    kept(
        owner, 1, evaluator="match", passed=6, failed=2, errored=1, skipped=5, score_sum="4.5", score_count=9
    )
    page = trends(signed_in)
    for name, shown in (
        ("Runs", "10"),
        ("Pass rate", "67 %"),
        ("Mean score", "0.50"),
        ("Took, on average", "2.0s"),
        ("Tokens", "1.0k"),
        ("Cost", "$1.50"),
        ("Rating", "4.5"),
    ):
        assert figure(page, name).startswith(shown), name
    for name in ("runs", "pass", "score", "took", "tokens", "cost", "rating"):
        assert "<svg" in chart(page, name)


def test_what_is_not_folded_yet_counts_too(signed_in, owner):
    kept(owner, 1, succeeded_runs=3)
    kept(owner, 1, RollupDelta, succeeded_runs=2)
    kept(owner, 1, RollupDelta, succeeded_runs=-1)
    assert figure(trends(signed_in), "Runs") == "4"


def test_what_went_wrong_hangs_below_the_line(signed_in, owner):
    kept(owner, 1, succeeded_runs=3, failed_runs=1, cancelled_runs=1)
    shown = chart(trends(signed_in), "runs")
    zero = float(re.search(r'g-zero" d="M0 ([\d.]+)H', shown)[1])  # type: ignore[index]
    at = {
        css: (float(y), float(height))
        for css, y, height in re.findall(
            r'class="(c-\w+)" x="\d+" y="([\d.]+)" width="8" height="([\d.]+)"', shown
        )
    }
    assert sum(at["c-ok"]) == pytest.approx(zero, abs=0.2)
    assert at["c-bad"][0] == zero
    assert at["c-can"][0] == pytest.approx(sum(at["c-bad"]), abs=0.2)
    assert at["c-ok"][1] == pytest.approx(3 * at["c-bad"][1], abs=0.2)


def test_a_point_leads_to_the_runs_behind_it(signed_in, owner):
    day = today() - timedelta(days=1)
    kept(owner, 1, evaluator="match", passed=1, score_sum=1, score_count=1)
    page = unescape(trends(signed_in, "?kind=evaluation&agent=helm&evaluator=match"))
    asked = (
        f"kind%3Aevaluation+agent%3Ahelm+evaluator%3Amatch+after%3A{day}T00%3A00Z+before%3A{today()}T00%3A00Z"
    )
    assert f'href="/?q={asked}"' in chart(page, "score")


def test_the_runs_behind_a_point_are_those_that_it_counts(signed_in, owner, make_run):
    yesterday = datetime.combine(today() - timedelta(days=1), time(12), UTC)
    for agent, at in (("helm", yesterday), ("helm", yesterday - timedelta(days=1)), ("other", yesterday)):
        make_run(
            title=f"{agent} {at:%d}",
            agent=agent,
            created_at=at,
            started_at=at,
            finished_at=at,
            status="succeeded",
        )
    page = chart(trends(signed_in), "took")
    point = re.search(rf'href="([^"]+)" tabindex="-1"><title>{yesterday:%-d %b}, helm', page)
    assert point
    behind = signed_in.get(unescape(point[1])).content.decode()
    assert f"helm {yesterday:%d}" in behind
    assert "other" not in behind.split('id="rows"')[1].split("</table>")[0]
    assert f"helm {yesterday - timedelta(days=1):%d}" not in behind


def test_there_is_a_table_behind_each_chart(signed_in, owner):
    kept(owner, 1, succeeded_runs=7, failed_runs=2, duration=1000, duration_count=1)
    table = chart(trends(signed_in), "runs").split("<table")[1]
    assert f"{today() - timedelta(days=1):%-d %b}" in table
    assert "<td>7</td><td>2</td><td>0</td>" in table


def test_the_span_is_compared_with_the_one_before(signed_in, owner):
    for ago, passed in ((1, 9), (8, 5)):
        kept(owner, ago, evaluator="match", passed=passed, failed=10 - passed)
        kept(owner, ago, succeeded_runs=passed)
    page = trends(signed_in, "?span=7")
    assert figure(page, "Pass rate").split() == ["90", "%", "50", "%", "before"]
    assert figure(page, "Runs").split() == ["9", "5", "before"]


@pytest.mark.parametrize(
    ("query", "runs"),
    [
        ("?span=7", "1"),
        ("?span=30", "3"),
        ("?span=all", "7"),
        ("?agent=helm", "1"),
        ("?agent=helm&agent=k8s", "3"),
        ("?kind=task", "2"),
        ("?from={day20}&to={day10}", "2"),
        ("?owner={owner}", "3"),
    ],
)
def test_controls_narrow_it(signed_in, owner, query, runs):
    kept(owner, 1, succeeded_runs=1)
    kept(owner, 15, agent="k8s", kind="task", succeeded_runs=2)
    kept(owner, 200, agent="old", succeeded_runs=4)
    days = {f"day{ago}": today() - timedelta(days=ago) for ago in (10, 20)}
    assert figure(trends(signed_in, query.format(owner=owner.pk, **days)), "Runs").split()[0] == runs


@pytest.mark.parametrize(("by", "periods"), [("day", 30), ("week", range(5, 7)), ("month", range(1, 4))])
def test_it_counts_by_day_week_or_month(signed_in, owner, by, periods):
    kept(owner, 1, succeeded_runs=1)
    count = chart(trends(signed_in, f"?by={by}"), "runs").count('class="c-col"')
    assert count == periods if isinstance(periods, int) else count in periods


def test_a_long_time_is_drawn_in_larger_steps(signed_in, owner):
    kept(owner, 1, succeeded_runs=1)
    kept(owner, 3000, succeeded_runs=1)
    page = trends(signed_in, "?span=all&by=day")
    assert figure(page, "Runs") == "2"
    assert chart(page, "runs").count('class="c-col"') <= 430


def test_only_what_one_may_see_is_drawn(strangers_client, signed_in, owner):
    kept(owner, 1, agent="secret", succeeded_runs=5)
    page = trends(strangers_client)
    assert "There is nothing in this time" in page
    assert "secret" not in page
    assert "secret" in trends(signed_in)


def test_another_owner_is_missing(strangers_client, owner):
    kept(owner, 1, succeeded_runs=5)
    assert "owner:" in trends(strangers_client, f"?owner={owner.pk}", status=404)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("?span=12", "span"),
        ("?by=hour", "by"),
        ("?kind=x", "kind"),
        ("?from=x", "from"),
        ("?from=2026-02-02&to=2026-02-01", "to"),
        ("?from=0001-01-01", "from"),
        ("?to=0001-01-01", "to"),
    ],
)
def test_a_mistake_is_named_with_its_field(signed_in, owner, query, field):
    assert f"{field}:" in trends(signed_in, query, status=400)


def test_all_owners_of_a_person_are_added_up(signed_in, alice, owner):
    other = Owner.objects.create(name="other")
    Membership.objects.create(user=alice, owner=other, role="viewer")
    for one in (owner, other):
        kept(one, 1, succeeded_runs=2)
    assert figure(trends(signed_in), "Runs") == "4"
    assert figure(trends(signed_in, f"?owner={other.pk}"), "Runs") == "2"


def test_names_of_agents_are_escaped(signed_in, owner):
    kept(owner, 1, agent='<b>"x"&', succeeded_runs=1, duration=5, duration_count=1)
    page = trends(signed_in)
    assert "<b>&quot;" not in page
    assert "&lt;b&gt;" in page


def test_it_asks_as_often_for_many_agents_as_for_one(signed_in, owner):
    counts = []
    for agents in (range(1), range(1, 30)):
        for number in agents:
            kept(owner, 1, agent=f"agent {number}", succeeded_runs=1)
            kept(owner, 1, agent=f"agent {number}", evaluator="match", passed=1)
        with CaptureQueriesContext(connection) as queries:
            trends(signed_in)
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 12


# ── Charts ─────────────────────────────────────────────────────────────────
def _series(*values: float | None) -> Series:
    return Series("a", values, ["said"] * len(values), ["/"] * len(values))


def test_a_line_is_broken_where_there_is_nothing():
    drawn = charts.lines("x", "x: y", [_series(0, 1, None, 1)], Scale(0, 1), ())
    assert 'd="M5 83.0L15 5.0M35 5.0h0"' in drawn


@pytest.mark.parametrize(
    ("top", "end"),
    [(0, 1), (0.03, 0.04), (0.7, 1), (1, 1), (3, 4), (7, 10), (26, 40), (1234, 2000), (4e9, 4e9)],
)
def test_axes_end_at_a_round_number(top, end):
    assert charts.nice(top) == pytest.approx(end)


def test_nothing_is_drawn_outside():
    assert Scale(0, 1).y(7) == 5
    assert Scale(0, 1).y(-7) == 83


def test_labels_of_ends_do_not_lie_on_each_other():
    drawn = charts.ends([_series(0.5), _series(0.5), _series(0.51), _series(0)], Scale(0, 1))
    heights = sorted(float(y) for y in re.findall(r'<text x="22" y="([\d.]+)"', drawn))
    assert all(below - above >= 12.9 for above, below in pairwise(heights))
    assert heights[-1] <= 88


def test_no_bars_are_a_line():
    drawn, (up, down) = charts.bars("x", "x: y", [Bar(0, 0, 0, "", "/")])
    assert (up, down) == (0, 0)
    assert "g-zero" in drawn


# ── In a browser ───────────────────────────────────────────────────────────
def test_a_click_on_a_bar_goes_to_its_runs_and_a_filter_narrows(
    site, alice, owner, make_run, browser_page: Page
):
    at = timezone.now() - timedelta(days=1)
    for agent in ("helm", "other"):
        make_run(
            title=f"done by {agent}",
            agent=agent,
            created_at=at,
            started_at=at,
            finished_at=at,
            status="succeeded",
        )
    sign_in(browser_page, site)
    browser_page.get_by_role("link", name="Trends").click()
    expect(browser_page.get_by_role("heading", name="Runs by how they ended")).to_be_visible()
    browser_page.locator(".legend a", has_text="helm").first.click()
    expect(browser_page.locator(".chip", has_text="helm")).to_be_visible()
    browser_page.locator("figure[aria-labelledby=runs-h] svg.chart a:has(.c-ok)").click()
    expect(browser_page.get_by_text("done by helm")).to_be_visible()
    expect(browser_page.get_by_text("done by other")).to_have_count(0)

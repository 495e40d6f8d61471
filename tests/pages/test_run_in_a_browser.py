"""What only a browser can tell of a run's page: unfolding, finding, keys, following, copying."""

import re

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from runs.models import Run, append_events
from tests.pages.helpers import answered, called, make_task, said
from tests.pages.test_in_a_browser import scriptless_page, sign_in

__all__ = ["scriptless_page"]  # a fixture


@pytest.fixture
def run(owner) -> Run:
    return make_task(
        owner,
        *(said(f"filler {number}.", role="user") for number in range(1, 121)),
        called("helm_get", {"release": "shop"}),
        answered("helm_get", "the needle " + "and much hay " * 100),
        called("helm_upgrade", {"release": "shop"}, "2"),
        answered("helm_upgrade", "OOMKilled", "2", is_error=True),
        *(said(f"more {number}.", role="user") for number in range(1, 61)),
        said("the last word"),
        status="running",
        started_at=timezone.now(),
    )


@pytest.fixture
def page(site, alice, run, browser_page: Page) -> Page:
    sign_in(browser_page, site)
    browser_page.goto(f"{site.url}/runs/{run.pk}")
    return browser_page


def test_a_folded_call_loads_what_it_holds_once_unfolded(site, run, page):
    page.goto(f"{site.url}/runs/{run.pk}?tab=transcript&from=119")
    call = page.locator(".call", has_text="helm_get")
    expect(call.locator("pre")).to_have_count(0)
    call.locator("summary").click()
    expect(call).to_contain_text("the needle")
    expect(call.get_by_role("heading", name="Arguments")).to_be_visible()


def test_find_by_key_leads_to_folded_text_far_away_and_back(run, page):
    page.keyboard.press("f")
    expect(page.locator("#find")).to_be_focused()
    page.keyboard.type("needle")
    page.keyboard.press("Enter")
    expect(page.locator(".hits")).to_contain_text("1 of 1")
    expect(page.locator(".call[open]", has_text="helm_get").locator("mark").first).to_be_in_viewport()
    assert "find=needle&at=122" in page.url
    page.get_by_role("link", name="Clear").click()
    expect(page.locator("#transcript").get_by_text("the last word")).to_be_visible()
    expect(page.locator("mark")).to_have_count(0)


def test_next_and_previous_go_round(run, page):
    page.locator("#find").fill("filler")
    page.keyboard.press("Enter")
    expect(page.locator(".hits")).to_contain_text("1 of 120")
    page.locator(".hits").get_by_role("link", name="Previous").click()
    expect(page.locator(".hits")).to_contain_text("120 of 120")
    page.locator("#find").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".hits")).to_contain_text("1 of 120")


def test_a_link_to_a_call_opens_it(site, run, page):
    page.goto(f"{site.url}/runs/{run.pk}?tab=transcript&from=121#e-122")
    expect(page.locator(".call", has_text="helm_get")).to_have_attribute("open", "")
    expect(page.locator(".call", has_text="helm_get")).to_contain_text("the needle")


def test_keys_fold_and_go_from_turn_to_turn_and_error_to_error(site, run, page):
    page.goto(f"{site.url}/runs/{run.pk}?tab=transcript&from=119")
    failed = page.locator(".call-bad")
    page.keyboard.press("]")
    expect(failed.locator("summary")).to_be_focused()
    page.keyboard.press("e")
    expect(failed).not_to_have_attribute("open", "")
    page.keyboard.press("e")
    expect(page.locator(".call[open]")).to_have_count(2)
    page.keyboard.press("[")
    page.keyboard.press("j")
    first = page.evaluate("document.activeElement.textContent")
    page.keyboard.press("j")
    page.keyboard.press("k")
    assert page.evaluate("document.activeElement.textContent") == first


def test_earlier_events_leave_in_place_what_one_reads(run, page):
    turn = page.locator(".turn").first
    before = turn.bounding_box()
    number = turn.get_attribute("id")
    page.get_by_role("link", name="Load earlier").click()
    expect(page.locator(".turn").first).not_to_have_id(number or "")
    after = page.locator(f"#{number}").bounding_box()
    assert before
    assert after
    assert abs(before["y"] - after["y"]) < 4
    assert page.locator(".turn").count() == len(
        set(page.locator(".turn").evaluate_all("all => all.map(one => one.id)"))
    )


def test_new_events_come_by_themselves_at_the_end_and_wait_behind_a_bar_elsewhere(run, page):
    append_events(run, [said("brand new")])
    bar = page.get_by_role("link", name="1 new")
    expect(bar).to_be_visible(timeout=8_000)
    assert page.locator("#transcript").get_by_text("brand new").count() == 0
    bar.click()
    expect(page.locator("#transcript").get_by_text("brand new")).to_be_visible()
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    append_events(run, [said("newer still")])
    expect(page.locator("#transcript").get_by_text("newer still")).to_be_visible(timeout=8_000)
    assert page.locator(".turn", has_text="brand new").count() == 1


def test_one_who_reads_the_end_is_taken_along_event_after_event(run, page):
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    for number in range(4):
        append_events(run, [said(f"step {number}\n\n" + "and so on " * 60)])
        expect(page.locator(".turn", has_text=f"step {number}")).to_be_in_viewport(timeout=8_000)


def test_the_bar_of_what_is_new_is_seen_by_one_who_reads_far_above(run, page):
    page.evaluate("scrollTo(0, 300)")
    append_events(run, [said("brand new")])
    expect(page.get_by_role("link", name="1 new")).to_be_in_viewport(timeout=8_000)
    assert page.evaluate("scrollY") == 300


@pytest.mark.parametrize("width", [390, 1440])
def test_nothing_in_a_transcript_is_wider_than_the_page(site, owner, page, width):
    code = "```\n" + "a long line of code " * 30 + "\n```"
    table = "| a | b |\n|---|---|\n| " + "word " * 80 + " | 2 |"
    run = make_task(owner, said(code), said(table), called("a_tool_of_a_long_name_" * 10, {"a": 1}))
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"{site.url}/runs/{run.pk}")
    expect(page.locator(".call")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_head_follows_the_end_of_the_run(run, page):
    expect(page.locator("#run-buttons").get_by_role("link", name="Cancel")).to_be_visible()
    now = timezone.now()
    Run.objects.filter(pk=run.pk).update(status="succeeded", finished_at=now, updated_at=now)
    expect(page.locator("#run-buttons").get_by_role("link", name="Cancel")).to_have_count(0, timeout=8_000)
    expect(page).to_have_title(re.compile("^Succeeded: A task"))


def test_the_rail_and_the_outline_come_after_the_page(run, page):
    expect(page.locator("#timeline .tl")).to_contain_text("Created")
    expect(page.locator("#outline")).to_contain_text("helm_upgrade")


def test_branches_open_and_their_paths_are_copied(site, run, page):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    Run.objects.filter(pk=run.pk).update(metadata={"deep": {"list": [{"n": n} for n in range(150)]}})
    page.goto(f"{site.url}/runs/{run.pk}?tab=metadata")
    page.locator("summary", has_text="deep").click()
    page.locator("summary", has_text="list").click()
    page.get_by_role("link", name="50 more").click()
    expect(page.locator(".tree")).to_contain_text("149")
    page.locator('[data-copy="/deep/list"]').click()
    assert page.evaluate("navigator.clipboard.readText()") == "/deep/list"


def test_without_script_one_finds_and_reads_all_of_it(site, alice, run, scriptless_page):
    page = scriptless_page
    sign_in(page, site)
    page.goto(f"{site.url}/runs/{run.pk}")
    page.locator("#find").fill("needle")
    page.locator("#find").press("Enter")
    expect(page.locator(".hits")).to_contain_text("1 of 1")
    assert page.url.endswith("#e-122")
    expect(page.locator("mark").first).to_be_visible()
    page.get_by_role("link", name="By itself").first.click()
    expect(page.get_by_role("heading", name="Event 121")).to_be_visible()
    page.go_back()
    page.locator("#run-tabs").get_by_role("link", name="Timeline").click()
    expect(page.locator(".changes .tl")).to_contain_text("Created")

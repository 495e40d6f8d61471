"""The runs list in Chromium: by keyboard alone, with a mouse, and what the panel and the box do."""

import re
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from runs.models import OVERALL, Feedback, Run, Session
from tests.conftest import eventually
from tests.pages.helpers import make_task, said
from tests.serving import sign_in


@pytest.fixture
def tasks(committed_db, owner) -> list[Run]:
    """Three that are over, the newest first."""
    now = timezone.now()
    session = Session.objects.open(owner, "a2a", "night shift")
    return [
        make_task(
            owner,
            said(f"answer {number}"),
            title=f"task {number}",
            agent=agent,
            session=session,
            status="failed" if number == 1 else "succeeded",
            error="out of memory" if number == 1 else None,
            created_at=now - timedelta(minutes=number),
            finished_at=now,
        )
        for number, agent in enumerate(("helm agent", "helm agent", "k8s"))
    ]


def query_of(page: Page) -> str:
    return parse_qs(urlsplit(page.url).query).get("q", [""])[0]


def test_by_keyboard_alone(site, alice, tasks, browser_page: Page):
    page, keys = browser_page, browser_page.keyboard
    sign_in(page, site)
    keys.press("/")
    box = page.get_by_role("combobox", name="Search runs")
    expect(box).to_be_focused()
    keys.type("age")
    expect(page.get_by_role("option", name=re.compile("^agent:"))).to_be_visible()
    keys.press("Tab")
    expect(box).to_have_value("agent:")
    expect(page.locator("#q-options > li")).to_have_count(2)
    keys.press("ArrowDown")
    expect(box).to_have_attribute("aria-activedescendant", "q-option-1")
    keys.press("Enter")
    expect(box).to_have_value('agent:"helm agent" ')
    keys.press("Escape")
    expect(page.locator("#q-options")).to_have_count(0)
    keys.press("Enter")
    expect(page.locator("#rows > tr")).to_have_count(2)
    assert query_of(page) == 'agent:"helm agent"'
    expect(box).to_be_focused()
    keys.press("Escape")

    peek = page.get_by_label("Preview of the run")
    keys.press("j")
    expect(peek.get_by_role("heading", name="task 0")).to_be_visible()
    keys.press("j")
    expect(peek.get_by_role("heading", name="task 1")).to_be_visible()
    expect(peek).to_contain_text("out of memory")
    keys.press("k")
    expect(peek.get_by_role("heading", name="task 0")).to_be_visible()
    assert f"peek={tasks[0].pk}" in page.url
    keys.press("4")
    given = Feedback.objects.filter(run=tasks[0], author=alice.actor, criterion=OVERALL)
    eventually(lambda: given.values_list("rating", flat=True).first() == 4)
    keys.press("x")
    expect(page.locator("#picked")).to_contain_text("1 run chosen.")
    expect(page.get_by_role("button", name="Delete")).to_be_visible()
    page.reload()
    expect(peek.get_by_role("heading", name="task 0")).to_be_visible()
    page.keyboard.press("Escape")
    expect(peek).to_be_hidden()
    assert "peek" not in page.url
    keys.press("j")
    keys.press("Enter")
    page.wait_for_url(f"{site.url}/runs/{tasks[0].pk}")


def test_a_click_shows_the_run_beside_the_list_and_on_a_phone_opens_it(
    site, alice, tasks, browser_page: Page
):
    sign_in(browser_page, site)
    browser_page.get_by_role("link", name="task 1").click()
    peek = browser_page.get_by_label("Preview of the run")
    expect(peek.get_by_role("heading", name="task 1")).to_be_visible()
    expect(browser_page.locator(f"#run-{tasks[1].pk}")).to_have_attribute("aria-current", "true")
    peek.get_by_label("Close the preview").click()
    expect(peek).to_be_hidden()
    browser_page.set_viewport_size({"width": 390, "height": 844})
    browser_page.get_by_role("link", name="task 1").click()
    browser_page.wait_for_url(f"{site.url}/runs/{tasks[1].pk}")


def test_words_of_rows_and_the_legend_narrow_without_a_page_load(site, alice, tasks, browser_page: Page):
    sign_in(browser_page, site)
    browser_page.evaluate("window.same = true")
    browser_page.locator("#rows").get_by_role("link", name="k8s").click()
    expect(browser_page.locator("#rows > tr")).to_have_count(1)
    browser_page.locator("#status-failed").click()
    expect(browser_page.get_by_text("No run matches.")).to_be_visible()
    assert query_of(browser_page) == "agent:k8s status:failed"
    browser_page.get_by_label("Remove agent k8s").click()
    expect(browser_page.locator("#rows > tr")).to_have_count(1)
    expect(browser_page.locator("#views [aria-current]")).to_have_text("Failures")
    assert browser_page.evaluate("window.same") is True
    browser_page.go_back()
    expect(browser_page.get_by_text("No run matches.")).to_be_visible()


def test_a_mistake_is_underlined_and_explained_while_the_list_stays(site, alice, tasks, browser_page: Page):
    sign_in(browser_page, site)
    box = browser_page.locator("#q")
    box.fill("stauts:failed task")
    expect(browser_page.locator(".q-ghost .q-err")).to_have_text("stauts:failed")
    expect(browser_page.locator("#q-said")).to_contain_text("did you mean")
    box.press("Enter")
    expect(browser_page.locator("#q-said")).to_contain_text("The list still shows")
    expect(browser_page.locator("#rows > tr")).to_have_count(3)
    box.fill("status:failed")
    box.press("Enter")
    expect(browser_page.locator("#rows > tr")).to_have_count(1)


def test_all_of_the_filter_is_chosen_with_the_rows(site, alice, tasks, browser_page: Page):
    sign_in(browser_page, site)
    expect(browser_page.locator("#bulk")).to_be_hidden()
    browser_page.get_by_label("Choose all runs of this filter").check()
    expect(browser_page.locator("#picked")).to_contain_text("All runs of this filter, not only these.")
    sent = browser_page.evaluate("[...new FormData(document.querySelector('#bulk')).keys()].sort().join()")
    assert sent == "all,csrfmiddlewaretoken,q"


def test_the_strip_comes_without_moving_the_rows(site, alice, tasks, browser_page: Page):
    sign_in(browser_page, site)
    browser_page.route("**/strip*", lambda route: (browser_page.wait_for_timeout(300), route.continue_()))
    browser_page.goto(f"{site.url}/?q=task")
    before = browser_page.locator("table.runs").bounding_box()
    expect(browser_page.locator("#found")).to_contain_text("3 runs")
    expect(browser_page.locator("#strip rect").first).to_be_attached()
    assert browser_page.locator("table.runs").bounding_box() == before


def test_a_view_is_saved_in_a_dialog(site, alice, tasks, browser_page: Page):
    sign_in(browser_page, site)
    browser_page.goto(f"{site.url}/?q=agent:k8s")
    browser_page.get_by_role("link", name="Save view").click()
    browser_page.get_by_role("textbox", name="Name", exact=True).fill("Clusters")
    browser_page.get_by_role("button", name="Save").click()
    expect(browser_page.locator("#views [aria-current]")).to_have_text("Clusters")
    assert query_of(browser_page) == "agent:k8s"

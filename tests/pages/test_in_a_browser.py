"""What only a browser can tell: keys, ratings without a swap, rows that stop asking, life without script."""

import re
from collections.abc import Iterator

import pytest
from django.utils import timezone
from playwright.sync_api import Browser, Page, expect

from runs.models import Feedback, Run, User, append_events
from tests.conftest import eventually
from tests.pages.helpers import called, make_task, said
from tests.serving import sign_in


@pytest.fixture
def scriptless_page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(java_script_enabled=False)
    yield context.new_page()
    context.close()


def rating_of(run: Run, user: User) -> int | None:
    return Feedback.objects.filter(run=run, author=user.actor).values_list("rating", flat=True).first()


def test_stars_in_the_row_are_kept_and_the_row_stays(site, alice, owner, browser_page: Page):
    run = make_task(owner, status="succeeded", finished_at=timezone.now())
    sign_in(browser_page, site)
    row = browser_page.locator(f"#run-{run.pk}")
    row.get_by_role("radio", name="4 stars").check(force=True)
    eventually(lambda: rating_of(run, alice) == 4)
    expect(browser_page.locator("#trouble")).to_be_hidden()
    browser_page.reload()
    expect(row.get_by_role("radio", name="4 stars")).to_be_checked()


def test_keys_move_rate_and_open(site, alice, owner, browser_page: Page):
    make_task(owner, title="older", status="succeeded", finished_at=timezone.now())
    run = make_task(owner, said("hello"), title="newer", status="succeeded", finished_at=timezone.now())
    sign_in(browser_page, site)
    browser_page.keyboard.press("j")
    browser_page.keyboard.press("5")
    eventually(lambda: rating_of(run, alice) == 5)
    browser_page.keyboard.press("Enter")
    expect(browser_page.get_by_role("heading", name="newer")).to_be_visible()
    browser_page.keyboard.press("2")
    eventually(lambda: rating_of(run, alice) == 2)
    expect(browser_page.get_by_text("was 5 until")).to_be_visible()
    browser_page.keyboard.press("c")
    browser_page.keyboard.type("3 of 5 would do")  # digits are text while one types
    expect(browser_page.get_by_label("Comment")).to_have_value("3 of 5 would do")
    assert rating_of(run, alice) == 2
    browser_page.keyboard.press("Escape")
    browser_page.keyboard.press("?")
    expect(browser_page.get_by_role("heading", name="Keys", exact=True)).to_be_visible()
    browser_page.keyboard.press("Escape")
    browser_page.keyboard.press("g")
    browser_page.keyboard.press("s")
    expect(browser_page.get_by_role("heading", name="Sessions")).to_be_visible()


def test_a_live_row_follows_and_then_stops(site, alice, owner, browser_page: Page):
    run = make_task(owner, status="running", started_at=timezone.now())
    sign_in(browser_page, site)
    row = browser_page.locator(f"#run-{run.pk}")
    row.get_by_role("checkbox").check()
    now = timezone.now()
    Run.objects.filter(pk=run.pk).update(status="failed", error="boom", finished_at=now, updated_at=now)
    expect(row).to_contain_text("boom", timeout=8_000)
    expect(row.get_by_role("checkbox")).to_be_checked()
    asked: list[str] = []
    browser_page.on("request", lambda request: asked.append(request.url) if "/live" in request.url else None)
    browser_page.wait_for_timeout(3_500)
    assert asked == []


def test_the_strip_loads_the_tab_once_and_keeps_what_one_types(site, alice, owner, browser_page: Page):
    run = make_task(owner, said("working on it"), status="running", started_at=timezone.now())
    sign_in(browser_page, site)
    browser_page.goto(f"{site.url}/runs/{run.pk}")
    browser_page.get_by_label("Comment").fill("half a thought")
    make_last_word(run)
    expect(browser_page.locator("#run-status")).to_contain_text("Succeeded", timeout=8_000)
    expect(browser_page.locator("#transcript")).to_contain_text("the last word")
    expect(browser_page.get_by_label("Comment")).to_have_value("half a thought")
    assert browser_page.locator("#run-status").get_attribute("hx-trigger") is None


def make_last_word(run: Run) -> None:
    append_events(run, [said("the last word")])
    now = timezone.now()
    Run.objects.filter(pk=run.pk).update(status="succeeded", finished_at=now, updated_at=now)


def test_cancelling_asks_in_a_dialog(site, alice, owner, browser_page: Page):
    run = make_task(owner, title="Upgrade", status="running", started_at=timezone.now())
    sign_in(browser_page, site)
    browser_page.goto(f"{site.url}/runs/{run.pk}")
    browser_page.get_by_role("link", name="Cancel").click()
    dialog = browser_page.get_by_role("dialog")
    dialog.get_by_label("Why").fill("wrong cluster")
    dialog.get_by_role("button", name="Cancel the run").click()
    expect(browser_page.locator(".steps")).to_contain_text("by alice: “wrong cluster”")
    expect(browser_page.get_by_role("dialog")).to_be_hidden()


def test_tabs_older_messages_and_branches_load_in_place(site, alice, owner, make_run, browser_page: Page):
    messages = [said(f"message {number}.", role="user") for number in range(1, 61)]
    run = make_task(owner, *messages, called("get", {"n": 1}), status="paused")
    sign_in(browser_page, site)
    browser_page.goto(f"{site.url}/runs/{run.pk}")
    words = browser_page.locator("#transcript")
    expect(words.get_by_text("message 12.", exact=True)).to_be_visible()
    browser_page.get_by_role("link", name="Load earlier").click()
    expect(words.get_by_text("message 1.", exact=True)).to_have_count(1)
    assert browser_page.locator(".turn").count() == 61
    browser_page.get_by_role("link", name=re.compile("Raw JSON")).click()
    expect(browser_page.locator(".tree")).to_contain_text("paused")
    assert "tab=raw" in browser_page.url
    evaluation = make_run()
    browser_page.goto(f"{site.url}/runs/{evaluation.pk}?tab=spec")
    browser_page.locator("summary", has_text="target").click()
    expect(browser_page.locator(".inside .branch").first).to_contain_text("inline")


def test_everything_works_without_script(site, alice, owner, scriptless_page: Page):
    page = scriptless_page
    make_task(owner, said("hello"), title="Upgrade", status="running", started_at=timezone.now())
    done = make_task(owner, title="Roll back", status="succeeded", finished_at=timezone.now())
    sign_in(page, site)
    row = page.locator(f"#run-{done.pk}")
    row.get_by_role("radio", name="3 stars").check(force=True)
    row.get_by_role("button", name="Save").click()
    assert rating_of(done, alice) == 3
    page.get_by_role("link", name="failed").click()
    expect(page.get_by_text("No run matches.")).to_be_visible()
    page.get_by_role("link", name="Show all runs").click()
    page.get_by_role("link", name="Upgrade").click()
    page.get_by_role("link", name="Raw JSON").click()
    expect(page.locator(".tree")).to_contain_text("running")
    page.get_by_role("link", name="Cancel").click()
    page.get_by_label("Why").fill("no need")
    page.get_by_role("button", name="Cancel the run").click()
    expect(page.locator(".steps")).to_contain_text("no need")
    page.get_by_role("link", name="Account").click()
    page.get_by_role("button", name="Dark").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()

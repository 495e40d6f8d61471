"""Reading a long session back, with script and without."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connections
from playwright.sync_api import Browser, Page, expect

from runs.models import Owner, Session
from tests.pages.helpers import make_task, said
from tests.serving import sign_in

NOON = datetime(2026, 11, 10, 12, tzinfo=UTC)


@pytest.fixture
def long_session(owner: Owner) -> Session:
    session = Session.objects.open(owner, "a2a", "chat")
    for run in range(12):
        words = (said(f"said {run}.{number}", "user" if number % 2 else "agent") for number in range(10))
        make_task(
            owner, *words, title=f"part {run}", session=session, created_at=NOON + timedelta(minutes=run)
        )
    return session


@pytest.fixture
def scriptless(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(java_script_enabled=False)
    yield context.new_page()
    context.close()


def test_earlier_turns_come_above_those_that_one_reads(site, alice, long_session, browser_page: Page):
    sign_in(browser_page, site)
    browser_page.goto(f"{site.url}/sessions/{long_session.pk}")
    expect(browser_page.get_by_text("said 11.9")).to_be_visible()
    expect(browser_page.get_by_text("said 0.0")).to_have_count(0)
    while (earlier := browser_page.get_by_role("link", name="Load earlier")).count():
        before = browser_page.locator(".turn").count()
        earlier.click()
        expect(browser_page.locator(".turn").nth(before)).to_be_attached()
    expect(browser_page.get_by_text("said 0.0")).to_have_count(1)
    assert browser_page.locator(".turn").count() == 120
    ids = browser_page.eval_on_selector_all("[id]", "found => found.map(one => one.id)")
    assert len(ids) == len(set(ids))


def test_without_script_the_links_lead_there(site, alice, long_session, scriptless: Page):
    sign_in(scriptless, site)
    scriptless.goto(f"{site.url}/sessions/{long_session.pk}")
    scriptless.get_by_role("link", name="Load earlier").click()
    expect(scriptless.get_by_text("said 11.9")).to_have_count(0)
    scriptless.get_by_role("link", name="Go to the end").click()
    expect(scriptless.get_by_text("said 11.9")).to_be_visible()
    scriptless.get_by_role("link", name="Go to the start").click()
    expect(scriptless.get_by_text("said 0.0")).to_be_visible()


def test_older_sessions_follow_by_themselves(site, alice, owner, browser_page: Page):
    for number in range(60):
        Session.objects.open(owner, "a2a", f"session {number}")
    sign_in(browser_page, site)
    browser_page.goto(f"{site.url}/sessions")
    expect(browser_page.locator("#rows tr")).to_have_count(50)
    browser_page.locator("#more").scroll_into_view_if_needed()
    expect(browser_page.locator("#rows tr")).to_have_count(60)
    expect(browser_page.get_by_text("The oldest session is above.")).to_be_visible()


def test_an_export_is_chosen_and_downloaded_without_script(site, alice, owner, scriptless: Page, settings):
    settings.DATABASE_DIRECT = connections.settings["default"]
    make_task(owner, title="one")
    sign_in(scriptless, site)
    scriptless.goto(f"{site.url}/export/choose?q=one")
    scriptless.get_by_label("Cost").uncheck()
    with scriptless.expect_download() as download:
        scriptless.get_by_role("button", name="Export").click()
    lines = download.value.path().read_text("utf-8-sig").splitlines()
    assert "cost_usd" not in lines[0]
    assert lines[-1] == "# complete: 1 run"

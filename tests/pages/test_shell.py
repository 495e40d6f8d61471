"""The spine on all widths, and what only a browser shows of the pages around it."""

import pytest
from playwright.sync_api import Browser, Page, expect

from runs.models import SignInLink, User
from tests.conftest import ROOT, Site

SAMPLES = ROOT / "samples"


@pytest.fixture
def sign_in(site: Site, alice: User):
    """Opens the site as alice."""

    def go(page: Page) -> Page:
        page.goto(f"{site}/sign-in/link/{SignInLink.objects.issue(alice)}")
        page.get_by_role("button").first.click()
        page.wait_for_url(f"{site}/**")
        return page

    return go


def test_on_a_phone_five_places_lie_at_the_bottom_and_the_others_behind_more(site, sign_in, browser_page):
    browser_page.set_viewport_size({"width": 390, "height": 844})
    page = sign_in(browser_page)
    page.goto(f"{site}/help")
    spine = page.get_by_role("navigation", name="Main")
    shown = [link.inner_text() for link in spine.get_by_role("link").all()]
    assert shown == ["Runs", "Sessions", "Review", "Trends", "Workers"]
    more = spine.get_by_role("button", name="More")
    more.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(spine.get_by_role("link", name="Compare")).to_be_focused()
    page.keyboard.press("Escape")
    expect(spine.get_by_role("link", name="Compare")).to_be_hidden()
    expect(more).to_be_focused()


def test_the_page_does_not_scroll_sideways_on_a_phone(site, sign_in, browser_page):
    browser_page.set_viewport_size({"width": 390, "height": 844})
    page = sign_in(browser_page)
    for address in ("help", "help/operate", "system", "people", "account", "submit", "submit/spec"):
        page.goto(f"{site}/{address}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, address


def test_g_and_a_letter_go_to_a_place(site, sign_in, browser_page):
    page = sign_in(browser_page)
    page.goto(f"{site}/help")
    for letter, place in (("s", "sessions"), ("w", "workers"), ("r", "")):
        page.keyboard.press("g")
        page.keyboard.press(letter)
        page.wait_for_url(f"{site}/{place}")


def test_what_has_focus_is_not_under_the_spine(site, sign_in, browser_page):
    browser_page.set_viewport_size({"width": 390, "height": 500})
    page = sign_in(browser_page)
    page.goto(f"{site}/account")
    top = page.get_by_role("navigation", name="Main").bounding_box()["y"]
    page.locator("#main a, #main button, #main input, #main select").first.focus()
    for _ in range(12):
        page.keyboard.press("Tab")
        inside = page.evaluate("document.activeElement.closest('#main') !== null")
        assert not inside or page.evaluate("document.activeElement.getBoundingClientRect().bottom") <= top


def test_the_browsers_time_zone_is_offered(site, sign_in, browser: Browser, alice):
    context = browser.new_context(timezone_id="Asia/Tokyo")
    page = sign_in(context.new_page())
    page.goto(f"{site}/account")
    page.get_by_role("button", name="As this browser: Asia/Tokyo").click()
    expect(page.get_by_text("Times are shown in Asia/Tokyo.")).to_be_visible()
    context.close()
    alice.refresh_from_db()
    assert alice.time_zone == "Asia/Tokyo"


def test_files_are_checked_and_sent_without_script(site, sign_in, browser: Browser):
    context = browser.new_context(java_script_enabled=False)
    page = sign_in(context.new_page())
    page.goto(f"{site}/submit")
    page.set_input_files("[name=traces]", SAMPLES / "trace.json")
    page.set_input_files("[name=eval_set]", SAMPLES / "eval_set.json")
    page.get_by_role("button", name="Check", exact=True).click()
    expect(page.get_by_text("Nothing stands in the way.")).to_be_visible()
    page.get_by_role("button", name="Submit", exact=True).click()
    page.wait_for_url(f"{site}/runs/*")
    context.close()


def test_what_takes_long_on_the_system_page_comes_by_itself(site, sign_in, browser_page):
    page = sign_in(browser_page)
    page.goto(f"{site}/system")
    expect(page.get_by_role("rowheader", name="History")).to_be_visible()
    expect(page.get_by_text("Nothing is due.")).to_be_visible()

"""The admin in a real browser: under the strict CSP its own scripts and styles work."""

from collections.abc import Callable

from playwright.sync_api import Page, expect

from runs.models import Run, SignInLink, User
from tests.admin_forms import change_url


def test_a_run_is_corrected(site, admin: User, make_run: Callable[..., Run], browser_page: Page) -> None:
    run, page = make_run(title="Misnamed"), browser_page
    page.goto(f"{site.url}/sign-in/link/{SignInLink.objects.issue(admin)}")
    page.get_by_role("button", name="Sign in").click()
    page.goto(f"{site.url}{change_url(run)}")
    page.get_by_label("Title").fill("Renamed")
    page.get_by_role("button", name="Today").first.click()  # scripts of Django's
    page.get_by_role("button", name="Now").first.click()
    page.get_by_label("Reason").fill("It was named after another")
    page.get_by_role("button", name="Save and continue editing").click()

    expect(page.get_by_label("Title")).to_have_value("Renamed")
    expect(page.locator(".changes")).to_contain_text("It was named after another")
    for path in ("", "runs/run/", "runs/session/", "runs/event/", "runs/user/", "runs/token/add/"):
        page.goto(f"{site.url}/admin/{path}")
        expect(page.get_by_role("link", name="Runfolio", exact=True)).to_be_visible()

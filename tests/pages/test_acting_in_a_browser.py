"""Acting on runs in a browser: sheets give the focus back, progress comes by itself, and without script."""

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from runs.models import BulkJob, Run, delete_runs
from runs.worker.bulk import carry_on
from tests.conftest import eventually
from tests.pages.helpers import make_task
from tests.pages.test_in_a_browser import scriptless_page, sign_in  # noqa: F401  a fixture

ENDED = {"status": "failed", "error": "boom"}


@pytest.fixture
def runs(owner) -> list[Run]:
    return [
        make_task(owner, title=f"Nightly {number}", finished_at=timezone.now(), **ENDED)
        for number in range(3)
    ]


def work_off() -> None:
    while carry_on("tests/1"):
        pass


def test_all_of_a_filter_is_deleted_and_undone(site, alice, runs, browser_page: Page):
    page = browser_page
    sign_in(page, site)
    page.get_by_label("Choose all runs of this filter").check()
    opener = page.locator("#bulk button[value=delete]")
    opener.click()
    sheet = page.get_by_role("dialog")
    expect(sheet.get_by_role("heading", name="Delete 3 runs?")).to_be_visible()
    page.keyboard.press("Escape")
    expect(sheet).to_be_hidden()
    expect(opener).to_be_focused()
    opener.click()
    sheet.get_by_role("button", name="Delete 3").click()
    expect(sheet).to_be_hidden()
    expect(page.locator("#bulk")).to_contain_text("Deleting 3: waits for a worker.")
    expect(page.locator("#job-page")).to_be_focused()
    work_off()
    expect(page.locator("#bulk")).to_contain_text("3 runs deleted.", timeout=8_000)
    assert page.locator("#bulk").get_attribute("hx-trigger") is None
    page.get_by_role("button", name="Undo: restore 3").click()
    work_off()
    expect(page.locator("#job")).to_contain_text("3 runs restored.", timeout=8_000)
    assert Run.objects.filter(deleted_at=None).count() == 3


def test_the_sheet_says_that_the_number_is_another(site, alice, owner, runs, browser_page: Page):
    page = browser_page
    sign_in(page, site)
    page.get_by_label("Choose all runs of this filter").check()
    page.locator("#bulk button[value=delete]").click()
    sheet = page.get_by_role("dialog")
    expect(sheet.get_by_role("button", name="Delete 3")).to_be_visible()
    delete_runs(Run.objects.filter(pk=runs[0].pk), "user:8", "meanwhile")
    sheet.get_by_role("button", name="Delete 3").click()
    expect(sheet.get_by_role("alert")).to_contain_text("It was 3 when you were asked.")
    sheet.get_by_role("button", name="Delete 2").click()
    expect(page.locator("#bulk")).to_contain_text("Deleting 2")
    assert BulkJob.objects.get().counted == 2


def test_a_run_is_deleted_by_keyboard_and_undone_from_the_toast(site, alice, runs, browser_page: Page):
    page = browser_page
    sign_in(page, site)
    page.goto(f"{site.url}/runs/{runs[0].pk}")
    opener = page.get_by_role("link", name="Delete")
    opener.focus()
    page.keyboard.press("Enter")
    sheet = page.get_by_role("dialog")
    expect(sheet.get_by_role("heading", name="Delete “Nightly 0”?")).to_be_visible()
    page.keyboard.press("Escape")
    expect(opener).to_be_focused()
    page.keyboard.press("Enter")
    sheet.get_by_role("button", name="Delete the run").press("Enter")
    toast = page.locator("div.toast")
    expect(toast).to_contain_text("Deleted “Nightly 0”.")
    toast.get_by_role("button", name="Undo").press("Enter")
    expect(page.get_by_role("heading", name="Nightly 0")).to_be_visible()
    assert Run.objects.filter(deleted_at=None).count() == 3


def test_a_retry_opens_the_new_run(site, alice, make_run, browser_page: Page):
    page = browser_page
    run = make_run(title="Nightly", finished_at=timezone.now(), **ENDED)
    sign_in(page, site)
    page.goto(f"{site.url}/runs/{run.pk}")
    page.get_by_role("link", name="Retry", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Retry").click()
    again = eventually(lambda: Run.objects.filter(retried=run).first())
    page.wait_for_url(f"**/runs/{again.pk}")


def test_all_of_it_works_without_script(site, alice, runs, scriptless_page: Page):  # noqa: F811
    page = scriptless_page
    sign_in(page, site)
    page.get_by_label("Choose Nightly 1").check()
    page.get_by_label("Choose Nightly 2").check()
    page.locator("#bulk button[value=delete]").click()
    page.get_by_label("Why").fill("noise")
    page.get_by_role("button", name="Delete 2").click()
    work_off()
    page.reload()
    expect(page.locator("#job")).to_contain_text("2 runs deleted.")
    page.get_by_role("link", name="Actions on many").first.click()
    expect(page.get_by_role("link", name="2 runs deleted.")).to_be_visible()
    page.get_by_role("link", name="Deleted runs").click()
    page.get_by_role("button", name="Restore Nightly 1").click()
    expect(page.get_by_role("heading", name="Nightly 1")).to_be_visible()
    page.get_by_role("link", name="Delete").click()
    page.get_by_role("button", name="Delete the run").click()
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_role("heading", name="Nightly 1")).to_be_visible()
    assert Run.objects.filter(deleted_at=None).count() == 2

"""What Runfolio is for, in a real browser: from an uploaded trace to a rating that stays."""

import re

from playwright.sync_api import Page, expect

from runs.models import SignInLink
from tests.conftest import ROOT


def test_a_trace_is_submitted_evaluated_and_rated(site, start_worker, alice, browser_page: Page):
    start_worker()
    page = browser_page

    page.goto(f"{site.url}/sign-in/link/{SignInLink.objects.issue(alice)}")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Send the first run")).to_be_visible()

    page.get_by_role("link", name="Upload trace files instead").click()
    page.get_by_label("Trace files").set_input_files(ROOT / "samples" / "trace.json")
    page.locator("#id_eval_set").set_input_files(ROOT / "samples" / "eval_set.json")
    page.get_by_role("button", name=re.compile("^Submit")).click()

    expect(page.locator("#run-status")).to_contain_text("Succeeded", timeout=15_000)
    results = page.locator("#results")
    expect(results).to_contain_text("tool_trajectory_avg_score")
    expect(results.locator("tbody .v")).to_have_text([re.compile(r"1\.00"), re.compile(r"0\.7\d")])

    overall = page.locator("#feedback").get_by_role("group", name="Overall")
    overall.get_by_role("radio", name="4 stars").check(force=True)
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#feedback").get_by_role("status")).to_have_text("Saved")
    page.reload()
    expect(overall.get_by_role("radio", name="4 stars")).to_be_checked()

    page.get_by_role("link", name="Runs", exact=True).first.click()
    expect(page.locator("#rows tr").first.get_by_role("radio", name="4 stars")).to_be_checked()

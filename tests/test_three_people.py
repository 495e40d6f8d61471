"""A reviewer, a programmer and an operator, from sign-in to done: by mouse, without script, by keys."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import Browser, Page, expect

from runs.models import Event, Feedback, Membership, NewEvent, ReviewItem, Session, User
from runs.models.criterion import add_criterion
from runs.models.review import add_items, open_queue
from runs.worker.bulk import carry_on
from tests.conftest import Site
from tests.hands import Hands, Keys
from tests.pages.helpers import called, make_task, said

WAYS: dict[str, Callable[[Page], Hands]] = {
    "mouse": Hands,
    "no script": lambda page: Hands(page, scripted=False),
    "keys": Keys,
}


@pytest.fixture(params=WAYS)
def hands(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Hands]:
    way = request.param
    context = browser.new_context(
        viewport={"width": 1440, "height": 900}, java_script_enabled=way != "no script"
    )
    yield WAYS[way](context.new_page())
    context.close()


def sign_in(hands: Hands, site: Site, name: str) -> None:
    hands.page.goto(site.url)
    hands.write(hands.page.get_by_label("Name"), name)
    hands.write(hands.page.get_by_label("Password"), "correct horse")
    hands.press(hands.page.get_by_role("button", name="Sign in"))
    hands.page.wait_for_url(f"{site.url}/")


def main_link(page: Page, name: str):
    return page.get_by_role("navigation", name="Main").get_by_role("link", name=re.compile(f"^{name}"))


def answered(name: str, result: str, is_error: bool = False) -> NewEvent:
    payload = {"name": name, "call_id": "1", "result": result, "is_error": is_error}
    return NewEvent(Event.Kind.TOOL_RESULT, payload, role="tool")


def test_a_reviewer_works_through_a_queue(hands: Hands, site: Site, owner):
    mira = User.objects.create_user("mira", password="correct horse")
    Membership.objects.create(user=mira, owner=owner, role="reviewer")
    add_criterion(owner, "Correct", "5: every figure holds.")
    done = {"status": "succeeded", "finished_at": timezone.now()}
    runs = [
        make_task(
            owner, said(f"How do I reset {thing}?", role="user"), said(f"Hold **{thing}** for 10 s."), **done
        )
        for thing in ("the router", "the phone", "the printer")
    ]
    queue = open_queue(owner, "Answers", mira.actor, criteria=["correct"])
    add_items(queue, [run.pk for run in runs])
    page = hands.page

    sign_in(hands, site, "mira")
    hands.press(main_link(page, "Review"))
    hands.press(page.get_by_role("link", name="Review Answers"))
    expect(page.get_by_text("How do I reset the router?")).to_be_visible()
    if isinstance(hands, Keys):
        page.wait_for_load_state()  # keys need the script, which comes after the page
        page.keyboard.press("5")
        page.keyboard.press("4")
    else:
        hands.star(page.get_by_role("group", name="Overall"), 5)
        hands.star(page.get_by_role("group", name="Correct"), 4)
    hands.write(page.get_by_label("Comment"), "It could say which lamp.")
    hands.press(page.get_by_role("button", name=re.compile("Done, next")))
    expect(page.get_by_text("How do I reset the phone?")).to_be_visible()
    expect(page.get_by_text("1 of 3 looked at")).to_be_visible()
    if isinstance(hands, Keys):
        page.keyboard.press("s")
    else:
        hands.press(page.get_by_role("button", name=re.compile("^Skip")))
    expect(page.get_by_text("How do I reset the printer?")).to_be_visible()
    if isinstance(hands, Keys):
        page.keyboard.press("3")
        page.keyboard.press("Enter")
    else:
        hands.star(page.get_by_role("group", name="Overall"), 3)
        hands.press(page.get_by_role("button", name=re.compile("Done, next")))
    expect(page.get_by_text("2 done, 1 skipped")).to_be_visible()

    given = Feedback.objects.filter(author=mira.actor).values_list("run", "criterion", "rating", "comment")
    assert set(given) == {
        (runs[0].pk, "overall", 5, "It could say which lamp."),
        (runs[0].pk, "correct", 4, ""),
        (runs[2].pk, "overall", 3, ""),
    }
    states = ReviewItem.objects.filter(queue=queue).order_by("id").values_list("state", flat=True)
    assert list(states) == ["done", "skipped", "done"]


def test_a_programmer_finds_out_why_last_nights_run_failed(hands: Hands, site: Site, alice, owner):
    now = timezone.now()
    ask = said("Upgrade opensearch in search to 2.19", role="user")
    session = Session.objects.open(owner, "api", "nightly")
    common = {"session": session, "agent": "helm-agent", "finished_at": now, "started_at": now}
    make_task(
        owner,
        *(ask, called("helm_upgrade", {"version": "2.18"}), answered("helm_upgrade", "STATUS: deployed")),
        said("Upgraded; all three pods are ready."),
        **common,
        status="succeeded",
        title="Upgrade opensearch (yesterday)",
        created_at=now - timedelta(days=1),
    )
    broken = make_task(
        owner,
        *(ask, called("helm_upgrade", {"version": "2.19"})),
        answered("helm_upgrade", "Error: pvc quota exceeded for tier gold", is_error=True),
        said("I could not upgrade it."),
        **common,
        status="failed",
        error="the quota for volumes is used up",
        title="Upgrade opensearch (tonight)",
    )
    page = hands.page

    sign_in(hands, site, "alice")
    hands.find(page.get_by_label("Search runs"), "status:failed")
    expect(page.get_by_role("link", name="Upgrade opensearch (yesterday)")).to_have_count(0)
    failed = page.get_by_role("link", name="Upgrade opensearch (tonight)")
    if hands.scripted and not isinstance(hands, Keys):
        hands.press(failed)  # beside the list
        hands.press(page.get_by_role("link", name="Open the run"))
    else:
        hands.press(failed)
    expect(page).to_have_url(re.compile(f"/runs/{broken.pk}"))
    expect(page.locator("#run-status")).to_contain_text("the quota for volumes is used up")
    expect(page.get_by_text("pvc quota exceeded for tier gold")).to_be_visible()  # what went wrong is open
    hands.find(page.get_by_label(re.compile("^Find")), "tier gold")
    expect(page.locator("mark", has_text="tier gold").first).to_be_visible()
    hands.press(page.locator("#act-compare"))
    expect(page.get_by_role("heading", name="Compare", exact=True)).to_be_visible()
    expect(page.get_by_text("Upgrade opensearch (yesterday)").first).to_be_visible()
    expect(page.locator("#diff ins, #diff del").first).to_be_visible()


def test_an_operator_clears_the_backlog_and_takes_a_mistake_back(hands: Hands, site: Site, alice, owner):
    waiting = [make_task(owner, status="queued", title=f"Backfill {number}") for number in range(3)]
    done = make_task(owner, status="succeeded", title="Keep me", finished_at=timezone.now())
    page = hands.page

    sign_in(hands, site, "alice")
    hands.press(main_link(page, "Workers"))
    expect(page.get_by_role("heading", name="Workers", exact=True)).to_be_visible()
    hands.press(main_link(page, "Runs"))
    hands.find(page.get_by_label("Search runs"), "is:open")
    expect(page.get_by_role("link", name="Keep me")).to_have_count(0)
    if hands.scripted:
        hands.tick(page.get_by_label("Choose all runs of this filter"))
    else:
        hands.tick(page.get_by_label("Choose Backfill 0"))  # the bar comes with the first
        hands.press(page.get_by_role("link", name="All of this filter instead"))
    hands.press(page.locator("#bulk").get_by_role("button", name="Cancel"))
    sheet = page.get_by_role("dialog") if hands.scripted else page.locator(".sheet-page")
    expect(sheet.get_by_role("heading", name="Cancel 3 runs?")).to_be_visible()
    hands.write(sheet.get_by_label("Why"), "the backfill was started twice")
    hands.press(sheet.get_by_role("button", name="Cancel 3"))
    if hands.scripted:
        expect(page.locator("#bulk")).to_contain_text("Cancelling 3")
    else:
        expect(page).to_have_url(re.compile("/bulk/"))
    carry_on("tests/1")
    if not hands.scripted:
        page.reload()
    expect(
        page.get_by_text(re.compile("3 runs? .*cancelled|cancelled 3", re.IGNORECASE)).first
    ).to_be_visible()
    for run in waiting:
        run.refresh_from_db()
        assert (run.status, run.cancel_reason) == ("cancelled", "the backfill was started twice")

    page.goto(f"{site.url}/runs/{done.pk}")
    hands.press(page.locator("#act-delete"))
    sheet = page.get_by_role("dialog") if hands.scripted else page.locator(".sheet-page")
    expect(sheet).to_contain_text("Keep me")
    if sheet.get_by_label("Why").count():
        hands.write(sheet.get_by_label("Why"), "not needed")
    hands.press(sheet.get_by_role("button", name="Delete"))
    page.wait_for_url(re.compile(f"^{site.url}/(\\?.*)?$"))
    expect(page.get_by_role("link", name="Keep me")).to_have_count(0)
    done.refresh_from_db()
    assert done.deleted_at
    hands.press(page.get_by_role("button", name="Undo"))
    page.wait_for_url(re.compile(f"/runs/{done.pk}"))
    done.refresh_from_db()
    assert done.deleted_at is None
    expect(page.get_by_role("heading", name="Keep me")).to_be_visible()

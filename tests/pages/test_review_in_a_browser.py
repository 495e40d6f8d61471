"""Reviewing with nothing but a keyboard, on a phone, without script, and what a swap must not lose."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from runs.models import Feedback, FeedbackVersion, Owner, ReviewItem, ReviewQueue, Run, User
from runs.models.criterion import add_criterion
from runs.models.review import add_items, open_queue
from tests.conftest import eventually
from tests.pages.helpers import make_task, said
from tests.serving import sign_in


@pytest.fixture
def queue(site, owner: Owner, alice: User) -> ReviewQueue:
    """Three answers to rate overall and on two criteria."""
    keys = [add_criterion(owner, label).key for label in ("Correct", "Tone")]
    queue = open_queue(owner, "Answers", "user:1", instructions="Look twice.", criteria=keys)
    runs = [make_task(owner, said(f"Question {n}?", "user"), said(f"Answer {n}.")) for n in (1, 2, 3)]
    add_items(queue, [run.pk for run in runs])
    return queue


@pytest.fixture
def scriptless_page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(java_script_enabled=False)
    yield context.new_page()
    context.close()


def states(queue: ReviewQueue) -> list[str]:
    return list(ReviewItem.objects.filter(queue=queue).order_by("pk").values_list("state", flat=True))


def ratings(run: Run) -> dict[str, int | None]:
    return dict(Feedback.objects.filter(run=run).values_list("criterion", "rating"))


def run_of(queue: ReviewQueue, number: int) -> Run:
    return queue.items.order_by("pk")[number - 1].run


def test_a_queue_is_reviewed_with_nothing_but_a_keyboard(site, queue, browser_page: Page):
    page, keys = browser_page, browser_page.keyboard
    sign_in(page, site)
    page.goto(f"{site.url}/review/{queue.pk}")
    for key in "425":  # the first that is not rated, then the next
        keys.press(key)
    keys.press("c")
    keys.type("s5 is text while one types")
    keys.press("Escape")
    assert states(queue) == ["open"] * 3
    keys.press("Enter")
    expect(page.get_by_text("Question 2?")).to_be_visible()
    expect(page.locator("#question")).to_be_focused()
    expect(page.get_by_text("1 of 3 looked at")).to_be_visible()
    assert ratings(run_of(queue, 1)) == {"overall": 4, "correct": 2, "tone": 5}
    assert Feedback.objects.get(criterion="overall").comment == "s5 is text while one types"
    keys.press("s")
    expect(page.get_by_text("Question 3?")).to_be_visible()
    assert states(queue) == ["done", "skipped", "open"]
    keys.press("ArrowLeft")
    expect(page.get_by_text("You skipped this one")).to_be_visible()
    keys.press("ArrowLeft")
    expect(page.get_by_text("You did this one")).to_be_visible()
    expect(page.get_by_role("radio", name="4 Good")).to_be_checked()
    page.goto(f"{site.url}/review/{queue.pk}")
    keys.press("3")
    keys.press("Enter")
    expect(page.get_by_role("heading", name="All 3 are looked at.")).to_be_focused()
    assert page.url == f"{site.url}/review/{queue.pk}"
    keys.press("Escape")
    page.wait_for_url(f"{site.url}/review")


def test_enter_on_what_was_chosen_is_done_and_not_skip(site, queue, browser_page: Page):
    sign_in(browser_page, site)
    browser_page.goto(f"{site.url}/review/{queue.pk}")
    browser_page.get_by_role("radio", name="2 Poor").focus()
    browser_page.keyboard.press("Space")
    browser_page.keyboard.press("Enter")
    expect(browser_page.get_by_text("Question 2?")).to_be_visible()
    assert states(queue) == ["done", "open", "open"]


def test_escape_stops_and_keeps_what_was_said(site, queue, browser_page: Page):
    sign_in(browser_page, site)
    browser_page.goto(f"{site.url}/review/{queue.pk}")
    browser_page.keyboard.press("4")
    browser_page.keyboard.press("Escape")
    browser_page.wait_for_url(f"{site.url}/review")
    assert states(queue) == ["open"] * 3
    assert ratings(run_of(queue, 1)) == {"overall": 4}
    assert ReviewItem.objects.filter(reserved_by__isnull=False).count() == 0


def test_a_double_click_ends_one_item(site, queue, browser_page: Page):
    sign_in(browser_page, site)
    browser_page.goto(f"{site.url}/review/{queue.pk}")
    browser_page.get_by_role("button", name="Skip").dblclick()
    expect(browser_page.get_by_text("Question 2?")).to_be_visible()
    browser_page.wait_for_timeout(300)
    assert states(queue) == ["skipped", "open", "open"]


def test_an_error_leaves_what_was_typed(site, queue, browser_page: Page):
    sign_in(browser_page, site)
    browser_page.goto(f"{site.url}/review/{queue.pk}")
    browser_page.keyboard.press("Enter")
    expect(browser_page.get_by_role("alert")).to_contain_text("Choose from 1 to 5, or skip it.")
    browser_page.get_by_label("Comment").fill("half a thought")
    browser_page.keyboard.press("Escape")
    browser_page.keyboard.press("5")
    browser_page.keyboard.press("Enter")
    expect(browser_page.get_by_text("Question 2?")).to_be_visible()
    assert Feedback.objects.get().comment == "half a thought"


def test_the_browsers_back_button_shows_the_item_as_it_was_rated(site, queue, browser_page: Page):
    sign_in(browser_page, site)
    browser_page.goto(f"{site.url}/review/{queue.pk}")
    browser_page.keyboard.press("2")
    browser_page.keyboard.press("Enter")
    expect(browser_page.get_by_text("Question 2?")).to_be_visible()
    browser_page.go_back()
    expect(browser_page.get_by_text("You did this one")).to_be_visible()
    expect(browser_page.get_by_role("radio", name="2 Poor")).to_be_checked()
    browser_page.keyboard.press("Enter")
    expect(browser_page.get_by_text("Question 2?")).to_be_visible()
    assert FeedbackVersion.objects.count() == 1


def test_how_it_got_there_is_loaded_when_it_is_opened(site, queue, browser_page: Page):
    sign_in(browser_page, site)
    browser_page.goto(f"{site.url}/review/{queue.pk}")
    expect(browser_page.locator("#transcript")).to_have_count(0)
    browser_page.get_by_text("How it got there").click()
    expect(browser_page.locator("#transcript")).to_contain_text("Answer 1.")


def test_it_works_without_script(site, queue, scriptless_page: Page):
    page = scriptless_page
    sign_in(page, site)
    page.get_by_role("link", name="Review", exact=True).click()
    page.get_by_role("link", name="Review Answers").click()
    expect(page.get_by_text("kept for you until")).to_be_visible()
    page.get_by_role("radio", name="4 Good").check(force=True)
    page.get_by_role("group", name="Tone").get_by_role("radio", name="2 stars").check(force=True)
    page.get_by_role("button", name="Done, next").click()
    expect(page.get_by_text("Question 2?")).to_be_visible()
    assert ratings(run_of(queue, 1)) == {"overall": 4, "tone": 2}
    page.get_by_role("button", name="Skip").click()
    page.get_by_role("link", name="Back").click()
    expect(page.get_by_text("You skipped this one")).to_be_visible()
    page.get_by_role("button", name="Stop reviewing").click()
    expect(page.get_by_role("heading", name="Review")).to_be_visible()
    assert states(queue) == ["done", "skipped", "open"]


def test_on_a_phone_the_marks_stay_in_reach(site, queue, owner, browser_page: Page):
    long = make_task(owner, said("Long?", "user"), said("Word. " * 3000))
    ReviewItem.objects.filter(queue=queue, pk=queue.items.order_by("pk")[0].pk).update(run=long)
    page = browser_page
    sign_in(page, site)
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{site.url}/review/{queue.pk}")
    marks = page.locator("#verdict > fieldset")
    expect(marks).to_be_in_viewport()
    done = page.get_by_role("button", name="Done, next")
    spine = page.get_by_role("navigation", name="Main").bounding_box()
    for _ in range(2):  # at the top, and in the middle of the answer
        assert marks.bounding_box()["y"] + marks.bounding_box()["height"] <= done.bounding_box()["y"]
        assert done.bounding_box()["y"] + done.bounding_box()["height"] <= spine["y"]
        page.mouse.wheel(0, 2000)
    expect(marks).to_be_in_viewport()
    page.get_by_role("link", name="Comment").click()
    expect(page.get_by_label("Comment")).to_be_in_viewport()
    expect(page.get_by_label("Comment")).to_be_focused()
    page.get_by_role("radio", name="3 Fair").check()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.get_by_role("button", name="Done, next").click()
    expect(page.get_by_text("Question 2?")).to_be_in_viewport()


def test_what_is_typed_while_the_panel_saves_is_not_lost(site, alice, owner, browser_page: Page):
    run = make_task(owner, said("hello"), status="paused")
    page = browser_page
    sign_in(page, site)
    page.goto(f"{site.url}/runs/{run.pk}")

    def slowly(route: Route) -> None:
        page.wait_for_timeout(10)
        answer = route.fetch()
        page.get_by_label("Comment").press_sequentially(" and more", delay=1)
        route.fulfill(response=answer)

    page.get_by_label("Comment").fill("first")
    page.route("**/feedback", slowly)
    page.keyboard.press("Escape")
    page.keyboard.press("4")
    expect(page.get_by_text("Saved")).to_be_visible()
    expect(page.get_by_label("Comment")).to_have_value("first and more")
    expect(page.get_by_label("Comment")).to_be_focused()
    eventually(lambda: Feedback.objects.filter(run=run, rating=4, comment="first").exists())

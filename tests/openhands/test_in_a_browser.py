"""A conversation that goes on, as somebody sees it who has its run open."""

from runs.models import Run, Status
from tests.conftest import eventually
from tests.openhands.talk import Talk, words
from tests.serving import sign_in


def test_what_is_written_appears_on_the_open_page(work, owner, alice, site, browser_page):
    work()
    talk = Talk(owner)
    talk.save("idle")
    talk.ask("Which file is the biggest?")
    run = eventually(lambda: Run.objects.filter(status=Status.QUEUED).first())
    page = browser_page
    sign_in(page, site)
    page.goto(f"{site}/sessions")
    page.get_by_role("link", name="Which file is the biggest?").click()
    page.wait_for_url(f"{site}/sessions/{run.session_id}")
    page.goto(f"{site}/runs/{run.pk}")
    talk.save("running")
    talk.call(thought=[words("I look at their sizes.")])
    page.get_by_text("I look at their sizes.").wait_for()
    talk.observe()
    talk.finish("It is **a.txt**.")
    page.locator("strong", has_text="a.txt").wait_for()
    page.get_by_text("Its agent finished.").wait_for()

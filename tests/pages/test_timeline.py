"""What happened to a run, in one list."""

import re
from datetime import timedelta

import pytest
from django.utils import timezone

from runs.models import Attempt, Change, Run, append_events, correction, give_feedback, request_cancel
from tests.pages.helpers import make_task, said


def timeline(client, run, query: str = "") -> str:
    answer = client.get(f"/runs/{run.pk}?tab=timeline{query}")
    assert answer.status_code == 200
    page = answer.content.decode()
    return page[page.index('class="tl"') : page.index('<section class="rail"')]


def test_it_works(signed_in, alice, owner):
    run = make_task(owner, said("hello"), started_at=timezone.now())
    request_cancel(run, alice.display_name, "wrong cluster")
    now = timezone.now()
    Run.objects.filter(pk=run.pk).update(status="cancelled", finished_at=now, updated_at=now)
    append_events(run, [said("too late")])
    give_feedback(run, alice, 2, comment="should have asked")
    with correction(alice.actor, "named the wrong cluster"):
        Run.objects.filter(pk=run.pk).update(title="Right <b>")
    page = timeline(signed_in, run)
    for words in (
        "Created",
        "Cancel asked",
        "wrong cluster",
        "Cancelled",
        "Late write",
        "Rated 2",
        "should have asked",
        "title of the run corrected",
        "alice: “named the wrong cluster”",
        '<ins dir="auto">Right &lt;b&gt;</ins>',
        " later</small>",
    ):
        assert words in page, words
    assert (
        page.index("title of the run")
        < page.index("Rated 2")
        < page.index("Cancel asked")
        < page.index("Created")
    )


def test_attempts_and_their_ends_are_in_it(signed_in, make_run):
    run = make_run()
    start = timezone.now() - timedelta(minutes=5)
    fields = {"run": run, "owner_id": run.owner_id, "worker_id": "host/1/2"}
    Attempt.objects.create(
        number=1,
        started_at=start,
        ended_at=start + timedelta(minutes=1),
        outcome="lost",
        reason="silence",
        **fields,
    )
    page = timeline(signed_in, run)
    assert "Attempt 1: lost" in page
    assert "silence" in page
    assert "1m 00s later" in page


def test_it_comes_by_the_page_and_none_is_lost_or_doubled(signed_in, owner):
    run = make_task(owner, said("hello"))
    for number in range(120):
        with correction("user:1", f"why {number}."):
            Run.objects.filter(pk=run.pk).update(title=f"title {number}")
    assert Change.objects.filter(run=run).count() == 120
    seen, query = [], ""
    for _ in range(6):
        page = timeline(signed_in, run, query)
        seen += re.findall(r"why (\d+)\.", page)
        older = re.search(r"before=([^\"&]+)", page)
        if older is None:
            break
        query = f"&before={older[1]}"
    assert seen == [str(number) for number in reversed(range(120))]


@pytest.mark.parametrize("before", ["x", "1e999_run-1", "nan_x", "1_"])
def test_a_wrong_place_is_the_newest(signed_in, owner, before):
    run = make_task(owner, said("hello"))
    assert signed_in.get(f"/runs/{run.pk}?tab=timeline&before={before}").status_code == 200


def test_the_rail_has_its_newest_and_the_runs_around_it(signed_in, alice, owner, make_run):
    task = make_task(owner, said("hello"), title="The task")
    judge = make_run(title="The judge", judged=task, passed_count=3, failed_count=1)
    again = make_run(title="The judge", retried=judge)
    rail = signed_in.get(f"/runs/{task.pk}/rail").content.decode()
    assert "3 passed, 1 failed" in rail
    assert 'id="timeline"' in rail
    rail = signed_in.get(f"/runs/{judge.pk}/rail").content.decode()
    assert "The task" in rail
    assert f"/runs/{again.pk}" in rail
    assert "retries" in signed_in.get(f"/runs/{again.pk}/rail").content.decode()


def test_others_runs_around_it_are_not_shown(signed_in, stranger, owner, make_run):
    theirs = make_task(stranger.memberships.get().owner, said("x"), title="Not yours")
    run = make_run(judged=theirs)
    assert "Not yours" not in signed_in.get(f"/runs/{run.pk}/rail").content.decode()


def test_the_old_address_of_corrections_leads_here(signed_in, owner):
    run = make_task(owner, said("hello"))
    assert signed_in.get(f"/runs/{run.pk}?tab=changes").context["tab"] == "timeline"

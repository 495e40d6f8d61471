"""What a run's page shows of its attempts, and why it is not running."""

from datetime import timedelta

import pytest
from django.utils import timezone

from runs.models import Owner, Run, Worker, claim_next, requeue
from runs.models.queue import sweep
from runs.models.workers import pause_queue
from tests.pages.helpers import make_task

LEASE = timedelta(seconds=30)


@pytest.fixture
def make_worker(db):
    def make(name="w/1", places=1, **fields):
        return Worker.objects.create(name=name, pid=1, heartbeat=5, places=places, **fields)

    return make


@pytest.fixture
def page(signed_in):
    def read(run: Run, query: str = "") -> str:
        return signed_in.get(f"/runs/{run.pk}{query}").content.decode()

    return read


# ── Attempts ───────────────────────────────────────────────────────────────
def test_it_lists_them_the_newest_on_top(page, make_run, claim):
    run = make_run()
    _, first = claim("host-a/1/1")
    first.retry_later("the provider answered 429", 0)
    _, second = claim("host-b/1/1")
    second.succeed({})
    tab = page(run, "?tab=attempts")
    assert tab.index("host-b") < tab.index("host-a")
    assert "the provider answered 429" in tab
    assert "Failed, and tried again" in tab
    assert "Succeeded" in tab


def test_one_that_goes_on_says_what_it_is_at(page, make_run, claim):
    run = make_run()
    claim()[1].tell("item 7 of 15, response_match_score", 6, 15)
    tab = page(run, "?tab=attempts")
    assert "<small" in tab
    assert tab.count("item 7 of 15, response_match_score") == 2  # in the strip as well
    assert '<progress class="progress" max="15" value="6"' in tab


def test_one_whose_worker_fell_silent_says_so(page, make_run, claim):
    run = make_run()
    claim(lease=timedelta(seconds=-1))
    sweep(3)
    assert "Lost: its worker fell silent" in page(run, "?tab=attempts")


def test_it_asks_again_until_the_run_is_over(page, make_run, claim):
    run = make_run()
    assert 'id="attempts" hx-get' in page(run, "?tab=attempts")
    claim()[1].succeed({})
    assert 'id="attempts" hx-get' not in page(run, "?tab=attempts")


def test_before_the_first_it_says_so(page, make_run):
    assert "No worker has taken it yet." in page(make_run(), "?tab=attempts")


def test_a_task_has_none(page, owner):
    assert 'href="?tab=attempts"' not in page(make_task(owner), "?tab=attempts")


def test_what_a_worker_says_is_text(page, make_run, claim):
    run = make_run()
    claim("<b>host</b>/1/1")[1].fail("<script>x</script>")
    tab = page(run, "?tab=attempts")
    assert "<script>x" not in tab
    assert "<b>host" not in tab


# ── Why is it not running? ─────────────────────────────────────────────────
def test_the_queue_is_paused(page, make_run, make_worker):
    make_worker()
    pause_queue("root", "the provider is down")
    assert "The queue is paused by root: “the provider is down”." in page(make_run())


def test_no_worker_is_alive(page, make_run, make_worker):
    make_worker()
    Worker.objects.update(seen_at=timezone.now() - timedelta(minutes=1))
    assert "No worker is alive: manage.py worker starts one." in page(make_run())


def test_all_workers_drain(page, make_run, make_worker):
    make_worker(draining=True)
    assert "Every worker is draining: none takes more runs." in page(make_run())


def test_its_next_attempt_is_later(page, make_run, make_worker, claim):
    make_worker()
    run = make_run()
    claim()[1].retry_later("it broke", 60)
    run.refresh_from_db()
    shown = page(run)
    assert f"Its next attempt is at {run.run_after:%H:%M:%S} UTC, after “it broke”." in shown
    assert f'action="/runs/{run.pk}/try-now"' in shown


def test_a_place_is_free(page, make_run, make_worker):
    make_worker()
    assert "A worker is about to take it." in page(make_run())


def test_all_places_are_taken(page, make_run, make_worker):
    make_worker(places=2)
    for n in (1, 2):
        make_run()
        claim_next(f"w/1/{n}", LEASE)
    assert "All 2 places are taken; it is the next." in page(make_run())


def test_others_of_its_owner_come_first(page, make_run, make_worker):
    make_worker()
    make_run()
    make_run(priority=1)
    assert "It waits for a place; before it go 2 runs of its own owner." in page(make_run())


def test_other_owners_have_their_turn(page, make_run, make_worker):
    make_worker()
    make_run()
    claim_next("w/1/1", LEASE)
    for name in ("second", "third"):
        make_run(owner=Owner.objects.create(name=name))
    assert "before it go 2 runs of 2 other owners, who take turns." in page(make_run())


@pytest.mark.parametrize(("can", "said"), [([], True), (["code"], False)])
def test_programs_that_nobody_may_run_are_told(page, make_run, make_worker, can, said):
    make_worker(can=can)
    run = make_run()
    Run.objects.filter(pk=run.pk).update(spec={**run.spec, "evalConfig": {"evaluators": [{"type": "code"}]}})
    assert ("No worker may run the programs that it names" in page(run)) is said


@pytest.mark.parametrize(("can", "said"), [(["code"], True), (["agentevals 0.11.0"], False)])
def test_an_engine_that_nobody_has_is_told(page, make_run, make_worker, can, said):
    make_worker(can=can)
    run = make_run()
    Run.objects.filter(pk=run.pk).update(spec={**run.spec, "engine": "agentevals"})
    assert ("No worker has the engine agentevals" in page(run)) is said


# ── And where it runs ──────────────────────────────────────────────────────
def test_it_says_which_worker_is_at_it(page, make_run, claim):
    run = make_run()
    claimed, _ = claim("host/ab/7")
    assert f"Worker host/ab is at it since {claimed.claimed_at:%H:%M:%S} UTC." in page(run)


def test_it_says_that_its_worker_fell_silent(page, make_run, claim):
    run = make_run()
    claim("host/ab/7", lease=timedelta(seconds=-1))
    assert "Its worker fell silent: host/ab had it until" in page(run)


# ── It updates itself ──────────────────────────────────────────────────────
def test_the_strip_changes_with_what_is_in_the_way(signed_in, page, make_run, make_worker):
    run = make_run()
    version = _version(page(run))
    assert signed_in.get(f"/runs/{run.pk}/status?v={version}").status_code == 204
    make_worker()
    answer = signed_in.get(f"/runs/{run.pk}/status?v={version}")
    assert "A worker is about to take it." in answer.content.decode()


def test_the_strip_changes_with_what_the_worker_is_at(signed_in, page, make_run, claim):
    run = make_run()
    _, held = claim()
    version = _version(page(run))
    assert signed_in.get(f"/runs/{run.pk}/status?v={version}").status_code == 204
    held.tell("item 2 of 3, turn_count", 1, 3)
    assert b"item 2 of 3" in signed_in.get(f"/runs/{run.pk}/status?v={version}").content


def test_a_released_run_shows_both_attempts(page, make_run, claim):
    run = make_run()
    claim("a/1/1")
    requeue(Run.objects.get(), "root", "the machine is off")
    claim("b/1/1")
    tab = page(run, "?tab=attempts")
    assert "Given back to the queue" in tab
    assert "b/1/1" in tab


def _version(page: str) -> str:
    return page.split("/status?v=")[1].split('"')[0]

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from runs.models import Change, Delivery, Membership, Run, User, Webhook, Worker, claim_next
from runs.models.workers import drain, pause_queue, queue_state
from runs.sealing import seal
from tests.conftest import eventually
from tests.pages.helpers import make_task
from tests.serving import sign_in

LEASE = timedelta(seconds=30)
HTMX = {"HX-Request": "true"}


@pytest.fixture
def make_worker(owner):
    def make(name="there/1", ago=0.0, places=4, **fields):
        Worker.objects.create(name=name, pid=1, heartbeat=5, places=places, **fields)
        Worker.objects.filter(pk=name).update(seen_at=timezone.now() - timedelta(seconds=ago))

    return make


@pytest.fixture
def others_run(make_run, stranger):
    """A run of an owner that alice does not belong to."""

    def make(**fields):
        return make_run(owner=Membership.objects.get(user=stranger).owner, title="not yours", **fields)

    return make


def read(client: Client, **headers: str) -> str:
    response = client.get("/workers", headers=headers)
    assert response.status_code == 200
    return response.content.decode()


def part(client: Client, name: str) -> str:
    return read(client, **HTMX, **{"HX-Target": name})


# ── What it shows ──────────────────────────────────────────────────────────
def test_it_works(signed_in, make_worker, make_run):
    make_worker("here/ab", places=1)
    make_run(title="At work")
    run = claim_next("here/ab/1", LEASE)
    make_run(title="In the queue")
    page = read(signed_in)
    assert f'<a href="/runs/{run.pk}" dir="auto">At work</a>' in page
    assert "In the queue" in page
    assert "The only place is taken; it is the next." in page
    assert "Working" in page


def test_it_is_in_the_navigation(signed_in):
    assert '<a href="/workers" data-go="w" aria-current="page">' in read(signed_in)
    assert '<a href="/workers" data-go="w">' in signed_in.get("/").content.decode()


def test_without_a_worker_it_says_how_to_start_one(signed_in):
    page = read(signed_in)
    assert "<b>No worker is alive.</b>" in page
    assert "<code>manage.py worker</code>" in page
    assert "<b>Nothing waits.</b>" in page


def test_what_a_worker_is_at_is_told(signed_in, make_worker, make_run, claim):
    make_worker("tests")
    make_run()
    claim()[1].tell("item 7 of 15, response_match_score", 6, 15)
    assert "item 7 of 15, response_match_score" in part(signed_in, "posts")


def test_a_silent_worker_stands_out(signed_in, make_worker):
    make_worker(ago=250)
    assert "no heartbeat for 4m 1" in part(signed_in, "health")
    assert "Silent" in part(signed_in, "posts")


def test_a_run_between_two_attempts_says_when_and_after_what(signed_in, make_worker, make_run, claim):
    make_worker()
    make_run()
    _, held = claim()
    held.retry_later("the provider answered 429", 60)
    at = Run.objects.get().run_after
    words = f"Its next attempt is at {at:%H:%M:%S} UTC, after “the provider answered 429”."
    assert words in part(signed_in, "waiting")


def test_runs_that_wait_are_limited(signed_in, make_run):
    for _ in range(25):
        make_run()
    assert part(signed_in, "waiting").count("<tr>") == 1 + 20


def test_each_part_comes_by_itself(signed_in):
    for name in ("health", "waiting", "posts", "deliveries"):
        answer = part(signed_in, name).strip()
        assert answer.startswith(("<div", "<section"))
        assert f'id="{name}"' in answer
        assert answer.count("hx-trigger") == 1


def test_the_page_depends_on_who_asks_for_what(signed_in):
    assert "HX-Target" in signed_in.get("/workers")["Vary"]


def test_as_many_queries_for_many_runs_as_for_one(
    signed_in, make_worker, make_run, django_assert_max_num_queries
):
    make_worker("w/1", places=9)
    for n in range(12):
        make_run(title=f"run {n}")
    for n in range(4):
        claim_next(f"w/1/{n}", LEASE)
    with django_assert_max_num_queries(24):
        read(signed_in)


# ── Others' runs ───────────────────────────────────────────────────────────
def test_of_others_it_gives_numbers_alone(signed_in, make_worker, make_run, others_run):
    make_worker("w/1", places=1)
    others_run()
    others_run()
    claimed = claim_next("w/1/1", LEASE)
    make_run(title="mine")
    page = read(signed_in)
    assert "not yours" not in page
    assert str(claimed.pk) not in page
    assert "1 run of other owners" in page
    assert "1 run of other owners wait as well" in page


def test_others_that_go_first_are_counted(signed_in, make_worker, make_run, others_run):
    make_worker("w/1", places=1)
    make_run(title="served")
    claim_next("w/1/1", LEASE)
    others_run()
    make_run(title="mine")
    assert "before it go 1 run of another owner, who take turns." in part(signed_in, "waiting")


# ── The queue, which is everybody's ────────────────────────────────────────
def test_a_superuser_pauses_it_with_a_reason_that_all_see(admin_client, signed_in, make_run):
    make_run()
    answer = admin_client.post("/workers/pause", {"reason": "the provider is down"})
    assert answer["Location"] == "/workers"
    assert queue_state().paused_by == "root"
    assert "“the provider is down”" in part(signed_in, "health")
    assert "The queue is paused." in part(signed_in, "waiting")


def test_pausing_needs_a_reason(admin_client, db):
    assert admin_client.post("/workers/pause", {"reason": " "}).status_code == 422
    assert queue_state().paused_at is None


def test_it_asks_in_a_dialog_or_on_a_page(admin_client):
    assert b"<!doctype html>" in admin_client.get("/workers/pause").content
    sheet = admin_client.get("/workers/pause", headers={**HTMX, "HX-Target": "dialog"}).content
    assert sheet.strip().startswith(b"<form")


def test_a_superuser_resumes_it(admin_client, db):
    pause_queue("somebody", "why")
    admin_client.post("/workers/resume")
    assert queue_state().paused_at is None


def test_a_superuser_drains_a_worker_and_has_it_take_work_again(admin_client, make_worker):
    make_worker("there/1")
    admin_client.post("/workers/there/1/drain")
    assert Worker.objects.get().draining
    assert "Take work again" in part(admin_client, "posts")
    admin_client.post("/workers/there/1/drain", {"draining": "false"})
    assert not Worker.objects.get().draining


def test_a_worker_that_there_is_not_cannot_be_drained(admin_client, db):
    assert admin_client.post("/workers/there/1/drain").status_code == 404


def test_an_admin_of_an_owner_is_offered_neither(signed_in, make_worker):
    make_worker()
    page = read(signed_in)
    assert "Pause the queue" not in page
    assert "Drain" not in page


def test_and_is_refused_with_the_reason(signed_in, make_worker):
    make_worker("there/1")
    answer = signed_in.post("/workers/there/1/drain")
    assert answer.status_code == 403
    assert "Draining a worker is for superusers" in answer.content.decode()


def test_when_all_drain_it_says_so(signed_in, make_worker):
    make_worker("there/1")
    drain("there/1")
    assert "<b>Every worker is draining:</b>" in part(signed_in, "health")


# ── Releasing ──────────────────────────────────────────────────────────────
@pytest.fixture
def silent(make_worker, make_run):
    """A run whose worker fell silent."""
    make_worker("gone/1", ago=60)
    make_run(title="stuck")
    return claim_next("gone/1/1", LEASE)


def test_a_silent_workers_run_is_released_with_a_reason(signed_in, silent, alice):
    answer = signed_in.post("/workers/gone/1/release", {"reason": "the machine is off"})
    assert answer["Location"] == "/workers"
    silent.refresh_from_db()
    assert (silent.status, silent.worker_id) == ("queued", None)
    change = Change.objects.get(run=silent, field="status")
    assert (change.actor, change.reason) == (alice.actor, "the machine is off")


def test_releasing_names_what_it_hits(signed_in, silent):
    page = signed_in.get("/workers/gone/1/release").content.decode()
    assert "Release 1 run now?" in page
    assert "stuck" in page


def test_a_reason_is_needed_to_release(signed_in, silent):
    assert signed_in.post("/workers/gone/1/release", {"reason": ""}).status_code == 422
    silent.refresh_from_db()
    assert silent.status == "running"


def test_a_worker_that_answers_keeps_its_runs(signed_in, silent):
    Worker.objects.update(seen_at=timezone.now())
    assert signed_in.post("/workers/gone/1/release", {"reason": "why"}).status_code == 404


def test_others_runs_stay_with_it(signed_in, silent, others_run):
    others_run()
    theirs = claim_next("gone/1/2", LEASE)
    signed_in.post("/workers/gone/1/release", {"reason": "why"})
    theirs.refresh_from_db()
    assert theirs.status == "running"


def test_a_stranger_does_not_find_it(strangers_client, silent):
    assert strangers_client.post("/workers/gone/1/release", {"reason": "why"}).status_code == 404


def test_a_viewer_may_not_release(silent, owner):
    viewer = User.objects.create_user("viewer")
    Membership.objects.create(user=viewer, owner=owner, role="viewer")
    client = Client()
    client.force_login(viewer, backend="django.contrib.auth.backends.ModelBackend")
    assert client.post("/workers/gone/1/release", {"reason": "why"}).status_code == 403
    assert "Release now" not in part(client, "posts")


# ── Trying now ─────────────────────────────────────────────────────────────
def test_a_pause_is_ended(signed_in, make_run):
    run = make_run(run_after=timezone.now() + LEASE)
    answer = signed_in.post(f"/runs/{run.pk}/try-now", {"next": "/workers"})
    assert answer["Location"] == "/workers"
    run.refresh_from_db()
    assert run.run_after is None


def test_a_run_in_no_pause_stays_as_it_is(signed_in, owner):
    run = make_task(owner)
    assert signed_in.post(f"/runs/{run.pk}/try-now")["Location"] == f"/runs/{run.pk}"
    run.refresh_from_db()
    assert run.status == "running"


def test_try_now_is_offered_for_a_pause_alone(signed_in, make_run):
    make_run()
    assert "Try now" not in part(signed_in, "waiting")
    make_run(run_after=timezone.now() + LEASE)
    assert "Try now" in part(signed_in, "waiting")


# ── Deliveries ─────────────────────────────────────────────────────────────
def test_a_dead_delivery_leads_to_its_run_and_can_be_resent(signed_in, make_run):
    run = make_run(title="told in vain")
    hook = Webhook.objects.create(run=run, kind="stdout", sealed=seal({}))
    dead = Delivery.objects.create(
        run=run, webhook=hook, phase="final", body="{}", state="dead", tries=5, ended_at=timezone.now()
    )
    answer = part(signed_in, "deliveries")
    assert f'href="/runs/{run.pk}?tab=deliveries"' in answer
    assert f'action="/runs/{run.pk}/deliveries/{dead.pk}/resend"' in answer


# ── In a browser ───────────────────────────────────────────────────────────
def test_it_updates_itself_but_not_under_ones_hands(browser_page, site, alice, make_run, make_worker):
    make_worker("there/1", places=1, draining=True)
    make_run(title="first")
    sign_in(browser_page, site)
    browser_page.goto(f"{site}/workers")
    browser_page.get_by_role("link", name="Cancel first").focus()
    make_run(title="second")
    drain("there/1", draining=False)
    eventually(lambda: browser_page.locator("#posts").get_by_text("Idle").is_visible())
    assert not browser_page.get_by_text("second").is_visible()
    browser_page.evaluate("document.activeElement.blur()")
    eventually(lambda: browser_page.get_by_text("second").is_visible())
    assert browser_page.locator("#aloud").inner_text() == "1 worker answers."


def test_a_dialog_asks_for_the_reason_to_cancel(browser_page, site, alice, make_run):
    run = make_run(title="first")
    sign_in(browser_page, site)
    browser_page.goto(f"{site}/workers")
    browser_page.get_by_role("link", name="Cancel first").click()
    browser_page.get_by_role("textbox", name="Why").fill("no need")
    browser_page.get_by_role("button", name="Cancel the run").click()
    eventually(lambda: browser_page.get_by_text("Nothing waits.").is_visible())
    run.refresh_from_db()
    assert run.cancel_reason == "no need"

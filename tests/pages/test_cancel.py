from django.utils import timezone

from tests.pages.helpers import make_task

HTMX = {"HX-Request": "true"}


def test_it_works(signed_in, make_run, alice):
    run = make_run()
    answer = signed_in.post(f"/runs/{run.pk}/cancel", {"reason": "wrong cluster"})
    assert answer["Location"] == f"/runs/{run.pk}"
    run.refresh_from_db()
    assert (run.status, run.cancel_requested_by, run.cancel_reason) == ("cancelled", "alice", "wrong cluster")
    page = signed_in.get(f"/runs/{run.pk}").content.decode()
    assert "by alice: “wrong cluster”" in page


def test_a_running_one_is_asked_and_its_steps_show_it(signed_in, owner):
    run = make_task(owner)
    signed_in.post(f"/runs/{run.pk}/cancel", {"reason": "no need"})
    page = signed_in.get(f"/runs/{run.pk}").content.decode()
    assert "It was asked to stop, and has not answered yet." in page
    assert page.count('<li class="todo">') == 2


def test_it_asks_first_on_a_page_or_in_a_dialog(signed_in, make_run):
    run = make_run()
    assert b"<!doctype html>" in signed_in.get(f"/runs/{run.pk}/cancel").content
    sheet = signed_in.get(f"/runs/{run.pk}/cancel", headers={**HTMX, "HX-Target": "dialog"}).content
    assert sheet.strip().startswith(b"<form")
    run.refresh_from_db()
    assert run.cancel_requested_at is None


def test_a_reason_is_needed(signed_in, make_run):
    run = make_run()
    answer = signed_in.post(f"/runs/{run.pk}/cancel", {"reason": "  "})
    assert answer.status_code == 422
    run.refresh_from_db()
    assert run.status == "queued"


def test_twice_is_once(signed_in, make_run):
    run = make_run()
    for reason in ("first", "second"):
        assert signed_in.post(f"/runs/{run.pk}/cancel", {"reason": reason}).status_code == 302
    run.refresh_from_db()
    assert run.cancel_reason == "first"


def test_a_final_run_says_that_it_is_over(signed_in, make_run):
    run = make_run(status="succeeded", finished_at=timezone.now())
    assert "is over" in signed_in.get(f"/runs/{run.pk}/cancel").content.decode()
    signed_in.post(f"/runs/{run.pk}/cancel", {"reason": "too late"})
    run.refresh_from_db()
    assert run.status == "succeeded"


def test_a_stranger_cannot(strangers_client, make_run):
    run = make_run()
    assert strangers_client.post(f"/runs/{run.pk}/cancel", {"reason": "x"}).status_code == 404

"""Forcing, retrying, deleting and restoring one run; tests/pages/test_cancel.py has cancelling."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from runs.models import Change, Membership, Run, delete_runs, give_feedback
from runs.models.deletion import grace
from runs.pages.acting import FORCE_AFTER
from tests.pages.helpers import make_task, said

HTMX = {"HX-Request": "true", "HX-Target": "dialog"}


@pytest.fixture
def ended(make_run):
    def make(**fields: Any) -> Run:
        return make_run(**{"status": "failed", "finished_at": timezone.now(), **fields})

    return make


def asked_to_stop(owner: Any, ago: timedelta, **fields: Any) -> Run:
    at = timezone.now() - ago
    return make_task(owner, cancel_requested_at=at, cancel_requested_by="alice", **fields)


def page_of(client: Client, address: str) -> str:
    answer = client.get(address)
    assert answer.status_code == 200
    return answer.content.decode()


# ── Cancel and force ───────────────────────────────────────────────────────
def test_cancelling_again_says_who_asked(signed_in, owner):
    run = asked_to_stop(owner, FORCE_AFTER)
    assert "alice asked at" in page_of(signed_in, f"/runs/{run.pk}/cancel")


def test_a_cancel_that_nobody_answers_can_be_forced(signed_in, owner, alice):
    run = asked_to_stop(owner, FORCE_AFTER, started_at=timezone.now())
    assert f'href="/runs/{run.pk}/force"' in page_of(signed_in, f"/runs/{run.pk}")
    assert "is not stopped by that" in page_of(signed_in, f"/runs/{run.pk}/force")
    answer = signed_in.post(f"/runs/{run.pk}/force", {"reason": "its host is gone"})
    assert answer["Location"] == f"/runs/{run.pk}"
    run.refresh_from_db()
    assert run.status == "cancelled"
    change = Change.objects.get(run=run, field="status")
    assert (change.actor, change.reason) == (alice.actor, "its host is gone")


def test_forcing_twice_is_once(signed_in, owner):
    run = asked_to_stop(owner, FORCE_AFTER)
    for _ in range(2):
        assert signed_in.post(f"/runs/{run.pk}/force", {"reason": "why"}).status_code == 302
    assert Change.objects.filter(run=run, field="status").count() == 1


def test_it_is_not_forced_before_it_had_time_to_answer(signed_in, owner):
    run = asked_to_stop(owner, FORCE_AFTER - timedelta(seconds=10))
    assert "cannot be forced yet" in page_of(signed_in, f"/runs/{run.pk}/force")
    assert signed_in.post(f"/runs/{run.pk}/force", {"reason": "why"}).status_code == 422
    run.refresh_from_db()
    assert run.status == "running"


def test_what_nobody_asked_to_stop_is_not_forced(signed_in, owner):
    run = make_task(owner)
    assert "cancel it first" in page_of(signed_in, f"/runs/{run.pk}/force")
    assert signed_in.post(f"/runs/{run.pk}/force", {"reason": "why"}).status_code == 422


# ── Retry ──────────────────────────────────────────────────────────────────
def retry_form(client: Client, run: Run) -> dict[str, str]:
    page = page_of(client, f"/runs/{run.pk}/retry")
    return {"key": re.search(r'name="key" value="([^"]+)"', page)[1], "reason": "flaky"}


def test_a_retry_is_linked_from_both_sides(signed_in, ended):
    run = ended(title="Nightly")
    answer = signed_in.post(f"/runs/{run.pk}/retry", retry_form(signed_in, run))
    again = Run.objects.get(retried=run)
    assert answer["Location"] == f"/runs/{again.pk}"
    assert f'href="/runs/{run.pk}"' in page_of(signed_in, f"/runs/{again.pk}/rail")
    assert f'href="/runs/{again.pk}"' in page_of(signed_in, f"/runs/{run.pk}/rail")
    run.refresh_from_db()
    assert (run.status, again.title, again.spec) == ("failed", "Nightly", run.spec)


def test_the_same_form_makes_one_retry_also_when_that_has_ended(signed_in, ended):
    run = ended()
    form = retry_form(signed_in, run)
    first = signed_in.post(f"/runs/{run.pk}/retry", form)["Location"]
    Run.objects.filter(retried=run).update(status="cancelled", finished_at=timezone.now())
    assert signed_in.post(f"/runs/{run.pk}/retry", form)["Location"] == first
    assert Run.objects.filter(retried=run).count() == 1


def test_while_a_retry_is_open_another_form_leads_there(signed_in, ended):
    run = ended()
    one, another = retry_form(signed_in, run), retry_form(signed_in, run)
    first = signed_in.post(f"/runs/{run.pk}/retry", one)["Location"]
    assert signed_in.post(f"/runs/{run.pk}/retry", another)["Location"] == first
    page = page_of(signed_in, f"/runs/{run.pk}/retry")
    assert "is being retried" in page
    assert f'href="{first}"' in page


def test_a_key_of_another_run_is_not_taken(signed_in, ended):
    run, other = ended(), ended()
    answer = signed_in.post(f"/runs/{run.pk}/retry", {"key": other.pk})
    assert answer.status_code == 422
    assert "Send it once more." in answer.content.decode()
    assert str(other.pk) not in re.search(r'name="key" value="([^"]+)"', answer.content.decode())[1]


@pytest.mark.parametrize("make", ["task", "open"])
def test_what_cannot_be_retried_says_why(signed_in, owner, make_run, make):
    run = make_task(owner, status="failed", finished_at=timezone.now()) if make == "task" else make_run()
    page = page_of(signed_in, f"/runs/{run.pk}/retry")
    assert "cannot be retried" in page
    assert ("alone can do it again" if make == "task" else "still being tried") in page
    assert signed_in.post(f"/runs/{run.pk}/retry", {"key": run.pk}).status_code == 422
    assert Run.objects.count() == 1


def test_a_spec_whose_secrets_cannot_be_opened_is_told(signed_in, ended):
    run = ended(secrets=b"sealed by a lost key")
    answer = signed_in.post(f"/runs/{run.pk}/retry", retry_form(signed_in, run))
    assert answer.status_code == 422
    assert "It cannot be retried:" in answer.content.decode()


# ── Delete and restore ─────────────────────────────────────────────────────
def test_it_names_what_goes(signed_in, owner, alice):
    run = make_task(owner, said("hello"), title="Upgrade", status="failed", finished_at=timezone.now())
    give_feedback(run, alice, 4)
    page = page_of(signed_in, f"/runs/{run.pk}/delete")
    assert "Delete “Upgrade”?" in page
    assert "1 event," in page
    assert "1, on average 4.0: they go with it" in page
    run.refresh_from_db()
    assert run.deleted_at is None


def test_it_is_deleted_and_undone(signed_in, ended, alice):
    run = ended(title="Nightly")
    page = signed_in.post(f"/runs/{run.pk}/delete", {"reason": "noise"}, follow=True).content.decode()
    assert "Deleted “Nightly”." in page
    assert signed_in.get(f"/runs/{run.pk}").status_code == 404
    change = Change.objects.get(run=run, field="deleted_at")
    assert (change.actor, change.reason) == (alice.actor, "noise")
    undo = re.search(r'<div class="toast[^>]*>.*?action="([^"]+)"', page, re.DOTALL)[1]
    page = signed_in.post(undo, follow=True).content.decode()
    assert "Restored “Nightly”." in page
    assert signed_in.get(f"/runs/{run.pk}").status_code == 200


def test_the_toast_is_shown_once(signed_in, ended):
    page = signed_in.post(f"/runs/{ended().pk}/delete", follow=True).content.decode()
    assert '<div class="toast' in page
    assert '<div class="toast' not in page_of(signed_in, "/")


def test_deleting_again_leads_to_what_is_deleted(signed_in, ended):
    run = ended()
    signed_in.post(f"/runs/{run.pk}/delete")
    for answer in (signed_in.post(f"/runs/{run.pk}/delete"), signed_in.get(f"/runs/{run.pk}/delete")):
        assert answer["Location"] == "/deleted"
    assert Change.objects.filter(run=run).count() == 1


def test_restoring_what_is_there_leads_there(signed_in, ended):
    run = ended()
    assert signed_in.post(f"/runs/{run.pk}/restore")["Location"] == f"/runs/{run.pk}"
    assert not Change.objects.filter(run=run).exists()


def test_past_the_grace_time_it_says_so(signed_in, ended):
    run = ended(title="Nightly", deleted_at=timezone.now() - grace() - timedelta(minutes=1))
    page = signed_in.post(f"/runs/{run.pk}/restore", follow=True).content.decode()
    assert "“Nightly” cannot be restored any more." in page
    assert "Nothing to restore." in page


def test_what_is_deleted_is_listed_with_who_why_and_until_when(signed_in, ended, alice):
    run = ended(title="Nightly")
    signed_in.post(f"/runs/{run.pk}/delete", {"reason": "noise"})
    page = page_of(signed_in, "/deleted")
    assert "Nightly" in page
    assert "“noise”" in page
    assert '<span class="whom">alice</span>' in page
    run.refresh_from_db()
    assert f"{run.deleted_at + grace():%Y-%m-%d %H:%M:%S}" in page


def test_the_deleted_ones_come_in_pages(signed_in, ended, alice, monkeypatch):
    monkeypatch.setattr("runs.pages.acting._DELETED", 2)
    for number in range(5):
        ended(title=f"run {number}")
    delete_runs(Run.objects.all(), alice.actor, "why")
    seen, address = [], "/deleted"
    while address:
        page = page_of(signed_in, address)
        seen += re.findall(r"run \d(?=<small>)", page)
        older = re.search(r'href="(\?after=[^"]+)">Deleted before', page)
        address = older and f"/deleted{older[1]}"
    assert sorted(seen) == [f"run {number}" for number in range(5)]


def test_htmx_is_sent_on(signed_in, ended):
    run = ended()
    assert signed_in.get(f"/runs/{run.pk}/delete", headers=HTMX).content.strip().startswith(b"<form")
    assert signed_in.post(f"/runs/{run.pk}/delete", headers=HTMX)["HX-Redirect"] == "/"


# ── Rights ─────────────────────────────────────────────────────────────────
ADDRESSES = ["force", "retry", "delete", "restore"]


@pytest.mark.parametrize("act", ADDRESSES)
def test_a_stranger_finds_nothing(strangers_client, ended, act):
    assert strangers_client.post(f"/runs/{ended().pk}/{act}", {"reason": "x"}).status_code == 404


@pytest.mark.parametrize("act", ADDRESSES)
def test_a_reviewer_may_not(signed_in, ended, act):
    run = ended()
    Membership.objects.update(role="reviewer")
    assert signed_in.post(f"/runs/{run.pk}/{act}", {"reason": "x"}).status_code == 403
    page = page_of(signed_in, f"/runs/{run.pk}")
    assert "/retry" not in page
    assert "/delete" not in page


def test_a_reviewer_does_not_see_what_is_deleted(signed_in, ended, alice):
    ended()
    delete_runs(Run.objects.all(), alice.actor, "why")
    Membership.objects.update(role="reviewer")
    assert signed_in.get("/deleted").status_code == 403


def test_anothers_deleted_run_is_not_listed(strangers_client, ended, alice):
    ended(title="Nightly")
    delete_runs(Run.objects.all(), alice.actor, "why")
    assert "Nightly" not in page_of(strangers_client, "/deleted")

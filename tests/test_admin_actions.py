"""What the admin's lists do to the rows that are chosen, each time with a reason."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.db.models import F
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Page, expect

from runs.admin import actions
from runs.models import (
    Change,
    Deletion,
    Owner,
    RetentionPolicy,
    Run,
    Session,
    SignInLink,
    User,
    delete_runs,
)
from runs.models.deletion import grace, purge
from tests.admin_forms import fields_of, opened

MakeRun = Callable[..., Run]
WHY = "sent by mistake"


def list_url(model: str = "run") -> str:
    return reverse(f"admin:runs_{model}_changelist")


def choose(client: Client, action: str, *rows: Any, url: str = "", **more: str) -> HttpResponse:
    """Chooses the action in the list, as a browser sends it."""
    ticked = {"action": action, "index": "0", "select_across": "0", **more}
    url = url or list_url(rows[0]._meta.model_name)
    return client.post(url, {**ticked, "_selected_action": [str(row.pk) for row in rows]})


def do(client: Client, action: str, *rows: Any, reason: str = WHY, url: str = "", **more: str) -> str:
    """Chooses the action and gives the reason that it asks for; what the list says then."""
    asked = choose(client, action, *rows, url=url, **more)
    assert asked.status_code == 200
    form = {**fields_of(asked.content.decode()), "reason": reason}
    form["_selected_action"] = [str(row.pk) for row in rows]
    url = url or list_url(rows[0]._meta.model_name)
    return client.post(url, form, follow=True).content.decode()


def ended(make_run: MakeRun, **fields: Any) -> Run:
    return make_run(status="failed", finished_at=timezone.now(), **fields)


# ── The page that asks ─────────────────────────────────────────────────────
def test_it_names_what_it_hits_before_anything_is_done(admin_client, make_run):
    runs = [ended(make_run, title=f"Run number {number}") for number in range(12)]

    page = choose(admin_client, "put_away", *runs).content.decode()

    assert "12 runs:" in page
    assert sum(f"Run number {number}<" in page for number in range(12)) == actions.NAMED
    assert "and 2 more" in page
    assert not Run.objects.filter(deleted_at__isnull=False).exists()


@pytest.mark.parametrize("reason", ["", "   "])
def test_it_asks_again_without_a_reason(admin_client, make_run, reason):
    run = ended(make_run)

    page = do(admin_client, "put_away", run, reason=reason)

    assert "This field is required" in page
    assert Run.objects.get().deleted_at is None


def test_it_hits_all_that_the_list_has_where_all_are_chosen(admin_client, make_run):
    runs = [ended(make_run) for _ in range(3)]

    page = do(admin_client, "put_away", runs[0], select_across="1")

    assert "3 runs deleted" in page


def test_it_hits_only_what_the_list_was_filtered_by(admin_client, make_run):
    runs = [ended(make_run), make_run()]

    do(admin_client, "put_away", runs[0], select_across="1", url=f"{list_url()}?status__exact=failed")

    assert Run.objects.get(deleted_at=None) == runs[1]


def test_it_takes_no_more_than_a_list_pages_through(admin_client, make_run, monkeypatch):
    monkeypatch.setattr(actions, "MOST", 2)
    runs = [ended(make_run) for _ in range(3)]

    page = choose(admin_client, "put_away", *runs, follow="1")

    assert page.status_code == 302
    assert "at most 2 at a time" in admin_client.get(list_url()).content.decode()


def test_a_hostile_title_stays_text(admin_client, make_run):
    run = ended(make_run, title="<script>alert(1)</script>")

    assert "<script>alert(1)" not in choose(admin_client, "put_away", run).content.decode()


# ── Deleting and restoring ─────────────────────────────────────────────────
def test_every_run_of_a_bulk_delete_has_its_change(admin_client, admin, make_run):
    runs = [ended(make_run) for _ in range(3)]

    assert "3 runs deleted" in do(admin_client, "put_away", *runs)

    changes = Change.objects.filter(field="deleted_at")
    assert {change.run_id for change in changes} == {run.pk for run in runs}
    assert {(change.actor, change.reason) for change in changes} == {(admin.actor, WHY)}
    assert len({change.request_id for change in changes} - {""}) == 1


def test_deleted_runs_show_only_where_they_are_asked_for(admin_client, make_run):
    kept, gone = ended(make_run, title="Still here"), ended(make_run, title="Gone")
    delete_runs(Run.objects.filter(pk=gone.pk), "user:7", WHY)

    def titles(query: str) -> tuple[bool, bool]:
        page = admin_client.get(f"{list_url()}{query}").content.decode()
        return kept.title in page, gone.title in page

    assert titles("") == (True, False)
    assert titles("?deleted=yes") == (False, True)
    assert titles("?deleted=all") == (True, True)


def test_a_deleted_run_is_restored(admin_client, make_run):
    run = ended(make_run)
    delete_runs(Run.objects.all(), "user:7", WHY)

    page = do(admin_client, "bring_back", run, url=f"{list_url()}?deleted=yes", reason="it was needed")

    assert "1 run restored" in page
    assert Change.objects.filter(field="deleted_at", reason="it was needed").exists()


def test_a_run_is_not_restored_when_its_grace_time_is_over(admin_client, make_run):
    run = ended(make_run)
    delete_runs(Run.objects.all(), "user:7", WHY)
    Run.objects.update(deleted_at=F("deleted_at") - grace() - timedelta(minutes=1))

    page = do(admin_client, "bring_back", run, url=f"{list_url()}?deleted=yes")

    assert "0 runs restored" in page


def test_a_session_is_deleted_with_its_runs_and_restored(admin_client, owner, make_run):
    session = Session.objects.open(owner, "api", "a long talk")
    ended(make_run, session=session)

    assert "1 session deleted, with 1 run" in do(admin_client, "put_away", session)
    assert "a long talk" not in admin_client.get(list_url("session")).content.decode()

    url = f"{list_url('session')}?deleted=yes"
    assert "1 session restored" in do(admin_client, "bring_back", session, url=url)
    assert Run.objects.filter(deleted_at=None).exists()


def test_only_who_may_delete_is_offered_to(alice, signed_in, make_run):
    User.objects.filter(pk=alice.pk).update(is_staff=True)
    alice.user_permissions.add(*Permission.objects.filter(codename__in=["view_run", "change_run"]))
    run = ended(make_run)

    assert 'value="put_away"' not in signed_in.get(list_url()).content.decode()
    choose(signed_in, "put_away", run)
    signed_in.post(list_url(), {"action": "put_away", "_selected_action": str(run.pk), "reason": WHY})
    assert Run.objects.get().deleted_at is None


# ── Stuck and failed ones ──────────────────────────────────────────────────
def test_a_stuck_evaluation_goes_back_to_the_queue(admin_client, admin, make_run, claim):
    make_run()
    run, held = claim()

    assert "1 requeued" in do(admin_client, "execute_again", run)

    run.refresh_from_db()
    assert (run.status, run.worker_id) == ("queued", None)
    assert not held.extend(timedelta(seconds=30))
    assert Change.objects.get(field="status").actor == admin.actor


def test_an_ended_evaluation_gets_a_linked_retry(admin_client, make_run):
    run = ended(make_run)

    assert "1 queued anew" in do(admin_client, "execute_again", run)

    assert Run.objects.get(status="queued").retried == run


def test_tasks_and_deleted_evaluations_are_left_as_they_are(admin_client, owner, make_run):
    task, gone = Run.objects.open_task(owner), ended(make_run)
    delete_runs(Run.objects.filter(pk=gone.pk), "user:7", WHY)

    page = do(admin_client, "execute_again", task, gone, url=f"{list_url()}?deleted=all")

    assert "0 requeued, 0 queued anew, 2 left as they are" in page
    assert Run.objects.count() == 2


def test_a_stuck_cancel_is_forced(admin_client, admin, owner):
    task = Run.objects.open_task(owner)
    Run.objects.update(status="running", cancel_requested_at=timezone.now(), cancel_requested_by="user:9")

    assert "1 run ended as cancelled" in do(admin_client, "end_cancelled", task)

    task.refresh_from_db()
    assert (task.status, task.cancel_requested_by) == ("cancelled", "user:9")
    change = Change.objects.get(field="status")
    assert (change.actor, change.reason) == (admin.actor, WHY)


def test_a_final_run_is_not_ended_again(admin_client, make_run):
    run = ended(make_run)

    assert "0 runs ended as cancelled, 1 left" in do(admin_client, "end_cancelled", run)
    run.refresh_from_db()
    assert run.status == "failed"


# ── Retention ──────────────────────────────────────────────────────────────
@pytest.fixture
def old_run(owner: Owner) -> Run:
    at = timezone.now() - timedelta(days=50)
    run = Run.objects.record_past(owner, "failed", at, kind="task", finished_at=at)
    Run.objects.update(size=2048)
    return run


def test_a_new_policy_shows_what_it_would_delete_before_it_is_enabled(admin_client, owner, old_run):
    fields = {"owner": owner.pk, "agent": "", "max_age_days": "30", "max_runs": "", "keep_rated": "on"}

    page = admin_client.post(reverse("admin:runs_retentionpolicy_add"), fields, follow=True).content.decode()

    assert not RetentionPolicy.objects.get().enabled
    assert "<strong>1 run</strong> (2.0\xa0KB)" in page
    assert "once it is enabled" in page


def test_a_policy_is_enabled_on_the_page_that_shows_its_preview(admin_client, owner):
    policy = RetentionPolicy.objects.create(owner=owner, max_age_days=30, enabled=False)
    form = opened(admin_client, policy)

    admin_client.post(policy_url(policy), {**form, "keep_rated": "on", "enabled": "on"})

    policy.refresh_from_db()
    assert policy.enabled


def test_a_policy_whose_limits_change_is_enabled_anew(admin_client, owner):
    policy = RetentionPolicy.objects.create(owner=owner, max_age_days=30)
    form = {**opened(admin_client, policy), "keep_rated": "on", "enabled": "on", "max_age_days": "3"}

    page = admin_client.post(policy_url(policy), form, follow=True).content.decode()

    policy.refresh_from_db()
    assert (policy.max_age_days, policy.enabled) == (3, False)
    assert "not enabled yet" in page


def test_a_policy_limits_something(admin_client, owner):
    fields = {"owner": owner.pk, "agent": "", "max_age_days": "", "max_runs": "", "keep_rated": "on"}

    response = admin_client.post(reverse("admin:runs_retentionpolicy_add"), fields)

    assert response.status_code == 200
    assert not RetentionPolicy.objects.exists()


def test_a_deletion_is_shown_and_stays_as_it_is(admin_client, old_run):
    purge(Run.objects.all(), "retention", "older than 30 days")
    url = reverse("admin:runs_deletion_change", args=[Deletion.objects.get().pk])

    assert "older than 30 days" in admin_client.get(url).content.decode()
    assert admin_client.post(url, {"reason": "other"}).status_code == 403


def test_an_owner_of_whom_something_was_deleted_stays(admin_client, owner, old_run):
    purge(Run.objects.all(), "retention", "older than 30 days")

    assert admin_client.get(reverse("admin:runs_owner_delete", args=[owner.pk])).status_code == 403


def policy_url(policy: RetentionPolicy) -> str:
    return reverse("admin:runs_retentionpolicy_change", args=[policy.pk])


# ── In a browser ───────────────────────────────────────────────────────────
def test_it_works_in_a_browser(site, admin: User, make_run: MakeRun, browser_page: Page) -> None:
    ended(make_run, title="Misdirected")
    page = browser_page
    page.goto(f"{site.url}/sign-in/link/{SignInLink.objects.issue(admin)}")
    page.get_by_role("button", name="Sign in").click()
    page.goto(f"{site.url}{list_url()}")
    page.locator("input.action-select").check()
    page.locator("select[name=action]").select_option("Delete")
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_label("Reason").fill(WHY)
    page.get_by_role("button", name="Delete", exact=True).click()

    expect(page.locator(".messagelist")).to_contain_text("1 run deleted.")
    page.get_by_role("link", name="Deleted", exact=True).click()
    expect(page.get_by_role("link", name="Misdirected")).to_be_visible()

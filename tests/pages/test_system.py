from datetime import timedelta

import pytest
from django.db import DatabaseError, connection
from django.test import Client
from django.utils import timezone

from runs.models import Deletion, Feedback, Membership, RetentionPolicy, User, Worker, health
from runs.pages import system
from tests.pages.helpers import make_task, said


def lines(answer) -> dict[str, tuple[str, str]]:
    """State and sentence of each line, by its name."""
    groups = answer.context["groups"]
    return {check.name: (check.state, check.says) for checks in groups.values() for check in checks}


def part(client: Client, name: str) -> str:
    return client.get("/system", headers={"HX-Request": "true", "HX-Target": name}).content.decode()


def test_it_works(signed_in):
    found = lines(signed_in.get("/system"))
    assert {
        "PostgreSQL",
        "Size",
        "Guards",
        "Connections",
        "Oldest transaction",
        "Migrations",
        "Workers",
    } <= set(found)
    assert found["Migrations"] == ("ok", "All are applied.")
    assert found["Guards"][0] == "ok"


def test_it_is_for_those_who_manage_and_for_staff(signed_in, owner, admin_client):
    viewer = User.objects.create_user("viewer")
    Membership.objects.create(user=viewer, owner=owner, role="operator")
    client = Client()
    client.force_login(viewer, backend="django.contrib.auth.backends.ModelBackend")
    assert client.get("/system").status_code == 403
    assert admin_client.get("/system").status_code == 200
    assert 'href="/system"' not in client.get("/account").content.decode()
    assert 'href="/system"' in signed_in.get("/account").content.decode()


def test_without_a_worker_it_says_what_to_do(signed_in):
    assert lines(signed_in.get("/system"))["Workers"][0] == "problem"
    Worker.objects.create(name="here/1", pid=1, places=1, heartbeat=5)
    assert lines(signed_in.get("/system"))["Workers"] == ("ok", "One answers.")


def test_one_role_is_told(signed_in, monkeypatch):
    one = health.Database("18.1", 1, timezone.now(), guarded=False)
    monkeypatch.setattr(system.health, "database", lambda: one)
    state, says = lines(signed_in.get("/system"))["Guards"]
    assert state == "attention"
    assert "triggers alone" in says


def test_no_secret_is_shown(signed_in, settings):
    settings.SECRET_KEY_FALLBACKS = ["geheim"]
    page = signed_in.get("/system").content.decode()
    assert settings.SECRET_KEY not in page
    assert "geheim" not in page


def test_a_key_that_a_restart_forgets_is_a_problem(signed_in, settings):
    settings.SECRET_KEY_IS_KEPT = False
    assert lines(signed_in.get("/system"))["SECRET_KEY"][0] == "problem"


# ── What fails, fails alone ────────────────────────────────────────────────
def test_a_figure_that_fails_says_so_and_hides_no_other(signed_in, monkeypatch):
    def fail():
        raise DatabaseError("no such luck")

    monkeypatch.setattr(system.health, "activity", fail)
    found = lines(signed_in.get("/system"))
    assert found["Connections"] == ("attention", "PostgreSQL did not tell: no such luck.")
    assert found["Size"][0] == "ok"


def test_no_statement_takes_longer_than_its_limit(signed_in, monkeypatch):
    def sleep():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(30)")

    monkeypatch.setattr(health, "PATIENCE", 0.2)
    monkeypatch.setattr(system.health, "activity", sleep)
    assert "statement timeout" in lines(signed_in.get("/system"))["Connections"][1]


def test_the_limit_ends_with_its_figure(signed_in):
    signed_in.get("/system")
    with connection.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone()[0] == "0"


# ── By its own piece ───────────────────────────────────────────────────────
def test_what_takes_long_comes_by_itself(signed_in):
    page = signed_in.get("/system").content.decode()
    assert 'id="space"' in page
    assert '<th scope="row">History</th>' not in page
    alone = part(signed_in, "space")
    assert "History" in alone
    assert "<h1>" not in alone


@pytest.mark.parametrize("name", system.PARTS)
def test_without_script_a_link_fills_it_in(signed_in, name):
    assert f'href="/system?part={name}#{name}"' in signed_in.get("/system").content.decode()
    page = signed_in.get(f"/system?part={name}").content.decode()
    assert f'href="/system?part={name}#{name}"' not in page
    assert "<h1>System</h1>" in page


# ── What goes by itself ────────────────────────────────────────────────────
@pytest.fixture
def old_runs(owner, alice):
    """Two runs that a policy would delete, one of them rated."""
    RetentionPolicy.objects.create(owner=owner, max_age_days=30)
    past = timezone.now() - timedelta(days=60)
    runs = [
        make_task(owner, said("x"), status="succeeded", finished_at=past, created_at=past) for _ in range(2)
    ]
    Feedback.objects.create(run=runs[0], author=alice.actor, criterion="overall", rating=5)
    return runs


def test_the_preview_counts_what_would_go_and_keeps_what_is_rated(signed_in, old_runs):
    alone = part(signed_in, "due")
    assert "1 runs" in alone
    assert "what is rated stays" in alone


def test_the_preview_deletes_nothing(signed_in, old_runs):
    part(signed_in, "due")
    assert all(type(run).objects.filter(pk=run.pk).exists() for run in old_runs)


def test_the_preview_is_of_ones_own_owners(strangers_client, old_runs):
    assert "Nothing is due." in part(strangers_client, "due")


def test_the_last_deletions_are_told(signed_in, strangers_client, owner):
    Deletion.objects.create(
        owner=owner, actor="retention", reason="older than 30 days", runs=7, bytes=2_000_000
    )
    page = signed_in.get("/system").content.decode()
    assert "older than 30 days" in page
    assert "2.0 MB" in page
    assert "older than 30 days" not in strangers_client.get("/system").content.decode()

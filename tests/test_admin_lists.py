"""The admin's lists: usable on big tables, deaf to hostile questions."""

from collections.abc import Callable

import pytest
from django.apps import apps
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from runs.admin import lists
from runs.models import NewEvent, Owner, Run, Session, User, append_events

MakeRun = Callable[..., Run]
# What is made from the rest, for lists, searches and trends; and spans, which their trace stands for.
DERIVED = {"choice", "rollup", "rollupdelta", "searchblock", "searchdoc", "searchterm", "spanbatch"}
MODELS = [
    model._meta.model_name
    for model in apps.get_app_config("runs").get_models()
    if model._meta.model_name not in DERIVED
]


def page_of(client: Client, model: str = "run", **query: str) -> str:
    response = client.get(reverse(f"admin:runs_{model}_changelist"), query)
    assert response.status_code == 200, response.status_code
    return str(response.content.decode())


def test_it_sees_the_runs_of_all_owners(admin_client: Client, make_run: MakeRun) -> None:
    make_run(title="Ours")
    make_run(title="Theirs", owner=Owner.objects.create(name="other"))
    page = page_of(admin_client)
    assert "Ours" in page
    assert "Theirs" in page


def test_the_header_leads_back(admin_client: Client) -> None:
    page = admin_client.get(reverse("admin:index")).content.decode()
    assert '<a href="/">Runfolio</a>' in page


@pytest.mark.parametrize("model", MODELS)
def test_every_model_has_a_list(admin_client: Client, model: str) -> None:
    page_of(admin_client, model)
    page_of(admin_client, model, q="no such thing")


def test_lists_count_no_further_than_they_page(
    admin_client: Client, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "MOST", 3)
    for _ in range(5):
        make_run()
    with CaptureQueriesContext(connection) as queries:
        page = page_of(admin_client)
    counts = [query["sql"] for query in queries if "COUNT(" in query["sql"] and '"run"' in query["sql"]]
    assert len(counts) == 1
    assert "LIMIT 4" in counts[0]
    assert "about" in page
    assert "more than 3 runs" in page_of(admin_client, status__exact="queued")


def test_lists_load_no_payload(admin_client: Client, make_run: MakeRun) -> None:
    append_events(make_run(), [NewEvent("message", {"parts": []})])
    for model, column in (("run", "spec"), ("run", "summary"), ("event", "payload"), ("session", "metadata")):
        with CaptureQueriesContext(connection) as queries:
            page_of(admin_client, model)
        assert not any(f'"{model}"."{column}"' in query["sql"] for query in queries), column


def test_lists_ask_as_often_for_many_rows_as_for_one(admin_client: Client, make_run: MakeRun) -> None:
    make_run()
    page_of(admin_client)  # what is read once and kept
    with CaptureQueriesContext(connection) as few:
        page_of(admin_client)
    for _ in range(10):
        make_run()
    with CaptureQueriesContext(connection) as many:
        page_of(admin_client)
    assert len(many) == len(few)


def test_the_list_of_one_owners_runs_reads_along_an_index(make_run: MakeRun) -> None:
    run = make_run()
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("SET LOCAL enable_bitmapscan = off")
        cursor.execute("SET LOCAL enable_sort = off")  # of one row it would sort, whatever the index
    rows = Run.objects.filter(owner=run.owner, deleted_at=None).order_by("-created_at", "-id")[:50]
    plan = rows.explain()
    assert "run_list" in plan
    assert "Sort" not in plan


def test_it_finds_a_run_by_the_beginning_of_its_id(admin_client: Client, make_run: MakeRun) -> None:
    run = make_run(title="Wanted")
    make_run(title="Unwanted one")
    page = page_of(admin_client, q=str(run.pk))
    assert "Wanted" in page
    assert "Unwanted one" not in page
    assert "Wanted" in page_of(admin_client, q=run.pk.hex[:8].upper())


def test_it_finds_runs_by_the_key_of_their_session(
    admin_client: Client, owner: Owner, make_run: MakeRun
) -> None:
    make_run(title="Wanted", session=Session.objects.open(owner, "api", "conv-1"))
    make_run(title="Other")
    assert "Other" not in page_of(admin_client, q="conv-1")
    assert "Wanted" in page_of(admin_client, q="conv-1")
    assert "conv-1" in page_of(admin_client, "session", q="conv-1")


def test_it_finds_the_events_of_a_run_in_their_order(admin_client: Client, make_run: MakeRun) -> None:
    run = make_run()
    append_events(run, [NewEvent("message", {}), NewEvent("error", {})])
    page = page_of(admin_client, "event", run__id__exact=str(run.pk))
    assert page.index('field-kind">message') < page.index('field-kind">error')
    assert "2 events" in page_of(admin_client, "event", q=str(run.pk))


HOSTILE = [
    {"q": "9" * 5000},
    {"q": "'\"\\%_\ufffd"},
    {"q": "٣"},
    {"q": "ffffffff-ffff-ffff-ffff-ffffffffffffff"},
    {"p": "9" * 30},
    {"p": "-1"},
    {"p": "1" * 5000},
    {"o": "1.99999999.-x"},
    {"all": "1"},
    {"status__exact": "nonsense"},
    {"run__id__exact": "not-a-uuid"},
    {"session__id__exact": "not-a-uuid"},
    {"id__exact": "not-an-id"},
    {"id__exact": "9" * 40},
    {"owner__id__exact": "9" * 40},
    {"owner__id__exact": "x"},
    {"id__regex": "("},
    {"spec__a__contains": "{"},
    {"created_at__gte": "x"},
    {"_to_field": "spec"},
    {"_popup": "1", "_to_field": "id"},
    {"e": "1"},
    {"_facets": "True"},
]


@pytest.mark.parametrize("model", ["run", "session", "event", "result", "change", "token", "membership"])
def test_hostile_questions_are_refused_or_passed_over(admin: User, model: str) -> None:
    client = Client(raise_request_exception=False)
    client.force_login(admin, backend="django.contrib.auth.backends.ModelBackend")
    for query in HOSTILE:
        response = client.get(reverse(f"admin:runs_{model}_changelist"), query)
        assert response.status_code in (200, 302, 400), query


@pytest.mark.parametrize("model", MODELS)
def test_a_row_that_is_not_there_leads_back(admin_client: Client, model: str) -> None:
    for pk in ("x", "9" * 40, "%22", "_00", "00000000-0000-0000-0000-000000000000"):
        for page in ("change", "history", "delete"):
            response = admin_client.get(f"/admin/runs/{model}/{pk}/{page}/")
            assert response.status_code in (302, 403, 404), (pk, page)


def test_people_who_are_no_staff_are_turned_away(signed_in: Client) -> None:
    response = signed_in.get(reverse("admin:runs_run_changelist"), follow=True)
    assert response.status_code == 403


def test_nobody_is_sent_to_the_one_sign_in_page(client: Client, db: None) -> None:
    response = client.get(reverse("admin:runs_run_changelist"), follow=True)
    assert response.redirect_chain[-1][0].startswith(reverse("sign_in"))
    assert "admin/runs/run" in response.redirect_chain[-1][0]


def test_staff_see_what_they_have_a_right_to(alice: User, signed_in: Client, make_run: MakeRun) -> None:
    User.objects.filter(pk=alice.pk).update(is_staff=True)
    alice.user_permissions.add(Permission.objects.get(codename="view_event"))
    event = append_events(make_run(), [NewEvent("message", {"parts": []})])[0]
    assert signed_in.get(reverse("admin:runs_run_changelist")).status_code == 403
    assert "1 event" in page_of(signed_in, "event")
    assert signed_in.get(reverse("admin:runs_event_change", args=[event.pk])).status_code == 200


def test_staff_who_may_only_look_get_no_form(alice: User, signed_in: Client, make_run: MakeRun) -> None:
    User.objects.filter(pk=alice.pk).update(is_staff=True)
    alice.user_permissions.add(Permission.objects.get(codename="view_run"))
    run = make_run()
    page = signed_in.get(reverse("admin:runs_run_change", args=[run.pk])).content.decode()
    assert 'name="reason"' not in page
    assert 'name="_save"' not in page
    assert "Corrections" not in page
    assert signed_in.post(reverse("admin:runs_run_change", args=[run.pk]), {"title": "x"}).status_code == 403

"""Saved views: kept, marked, shared, renamed, replaced and deleted."""

import pytest

from runs.models import Membership, Owner, SavedView, User
from tests.pages.helpers import make_task

HTMX = {"HX-Request": "true", "HX-Target": "dialog"}
BACKEND = "django.contrib.auth.backends.ModelBackend"


@pytest.fixture
def view(alice, owner):
    return SavedView.objects.create(author=alice, name="Nightly", query="kind:evaluation", columns=["cost"])


def tabs(client, address: str = "/") -> list[tuple[str, bool, bool]]:
    return [(tab.name, tab.current, tab.is_changed) for tab in client.get(address).context["tabs"]]


@pytest.fixture(autouse=True)
def some_run(db, owner):
    make_task(owner)


def test_it_keeps_what_the_list_shows(signed_in, alice):
    form = {"name": "Bad ones", "q": "status:failed", "columns": "cost,events"}
    answer = signed_in.post("/views/new", form)
    kept = SavedView.objects.get()
    assert answer["Location"] == f"/?columns=cost%2Cevents&view={kept.pk}&q=status%3Afailed"
    assert (kept.author, kept.owner, kept.query, kept.columns) == (
        alice,
        None,
        "status:failed",
        ["cost", "events"],
    )


def test_built_in_ones_come_first_and_the_one_that_is_on_is_marked(signed_in, view):
    assert tabs(signed_in) == [
        ("All", True, False),
        ("Failures", False, False),
        ("Unreviewed", False, False),
        ("Nightly", False, False),
    ]
    assert tabs(signed_in, "/?q=status:failed")[1] == ("Failures", True, False)
    assert tabs(signed_in, "/?q=kind:evaluation&columns=cost")[3] == ("Nightly", True, False)


def test_one_that_is_changed_says_so_and_can_be_replaced(signed_in, view):
    shown = f"/?view={view.pk}&q=status:failed&columns=cost"
    assert tabs(signed_in, shown)[3] == ("Nightly", True, True)
    change = signed_in.get(shown).context["tabs"][3].change
    sheet = signed_in.get(change).content.decode()
    assert 'name="replace" checked' in sheet
    signed_in.post(change, {"name": "Nightly", "q": "status:failed", "columns": "cost", "replace": "on"})
    view.refresh_from_db()
    assert (view.query, view.columns) == ("status:failed", ["cost"])


def test_renaming_leaves_what_it_shows(signed_in, view):
    signed_in.post(f"/views/{view.pk}?q=status:failed", {"name": "Every night", "q": "status:failed"})
    view.refresh_from_db()
    assert (view.name, view.query, view.columns) == ("Every night", "kind:evaluation", ["cost"])


def test_its_number_alone_leads_to_what_it_shows(signed_in, view):
    address = signed_in.get(f"/?view={view.pk}")["Location"]
    assert address == f"/?columns=cost&view={view.pk}&q=kind%3Aevaluation"


@pytest.mark.parametrize("number", ["0", "99999999999999999999999", "x", "²"])
def test_a_number_of_no_view_is_the_list(signed_in, number):
    assert signed_in.get(f"/?view={number}").status_code == 200


def test_a_column_that_is_gone_is_left_out_with_a_word(signed_in, view):
    SavedView.objects.filter(pk=view.pk).update(columns=["labels", "cost"])
    page = signed_in.get(f"/?view={view.pk}", follow=True)
    assert b"Not a column any more, and left out: labels." in page.content
    assert page.context["tabs"][3].current
    assert not page.context["tabs"][3].is_changed


def test_it_is_deleted(signed_in, view):
    assert signed_in.post(f"/views/{view.pk}/delete")["Location"] == "/"
    assert not SavedView.objects.exists()


def test_a_private_one_is_its_authors_alone(client, view, owner):
    colleague = User.objects.create_user("colleague")
    Membership.objects.create(user=colleague, owner=owner, role="admin")
    client.force_login(colleague, backend=BACKEND)
    assert "Nightly" not in client.get("/").content.decode()
    assert client.get(f"/views/{view.pk}").status_code == 404
    assert client.get(f"/?view={view.pk}").status_code == 200


def test_a_shared_one_is_everybodys_and_changed_by_who_may_submit(client, signed_in, view, owner):
    signed_in.post(f"/views/{view.pk}", {"name": "Nightly", "owner": owner.pk})
    viewer = User.objects.create_user("viewer")
    Membership.objects.create(user=viewer, owner=owner, role="viewer")
    client.force_login(viewer, backend=BACKEND)
    page = client.get(f"/?view={view.pk}", follow=True)
    assert [tab.name for tab in page.context["tabs"]][3:] == ["Nightly"]
    assert page.context["tabs"][3].change == ""
    assert client.get(f"/views/{view.pk}").status_code == 403
    assert client.post(f"/views/{view.pk}/delete").status_code == 403


def test_a_reviewer_shares_nothing(client, alice, owner):
    Membership.objects.filter(user=alice).update(role="reviewer")
    client.force_login(alice, backend=BACKEND)
    answer = client.post("/views/new", {"name": "Ours", "owner": owner.pk})
    assert answer.status_code == 422
    assert not SavedView.objects.exists()


def test_nothing_is_shared_with_anothers_owner(signed_in):
    other = Owner.objects.create(name="elsewhere")
    assert signed_in.post("/views/new", {"name": "Ours", "owner": other.pk}).status_code == 422


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"name": ""}, "This field is required."),
        ({"name": "x" * 61}, "at most 60 characters"),
        ({"name": "Nightly"}, "You have a view of this name already: choose another one."),
        ({"name": "New", "q": "stauts:failed"}, "The search has a mistake"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_a_word(signed_in, view, form, said):
    answer = signed_in.post("/views/new", form, headers=HTMX)
    assert answer.status_code == 422
    assert said in answer.content.decode()
    assert SavedView.objects.count() == 1


def test_in_a_dialog_it_leads_on_by_itself(signed_in):
    answer = signed_in.post("/views/new", {"name": "Mine", "q": "kind:task"}, headers=HTMX)
    assert answer["HX-Redirect"].endswith("q=kind%3Atask")


def test_names_of_strangers_are_text(signed_in, alice):
    SavedView.objects.create(author=alice, name="<b>" + "long " * 11)
    assert "<b>long" not in signed_in.get("/").content.decode()

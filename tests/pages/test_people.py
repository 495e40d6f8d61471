import re

import pytest
from django.test import Client
from playwright.sync_api import Page, expect

from runs.models import Change, Membership, Owner, SignInLink, User


@pytest.fixture
def bob(owner):
    user = User.objects.create_user("bob")
    Membership.objects.create(user=user, owner=owner, role="viewer")
    return user


def member(user: User, owner: Owner) -> Membership:
    return Membership.objects.get(user=user, owner=owner)


def add(client: Client, owner: Owner, username: str, role: str = "viewer"):
    return client.post(
        f"/people/{owner.pk}/add", {f"add-{owner.pk}-username": username, f"add-{owner.pk}-role": role}
    )


def secret_in(answer) -> str:
    return re.search(r"/sign-in/link/([\w-]+)", answer.content.decode())[1]


def test_it_works(signed_in, bob):
    page = signed_in.get("/people").content.decode()
    assert "bob" in page
    assert "alice" in page


def test_people_of_other_owners_are_not_there(signed_in, stranger):
    page = signed_in.get("/people").content.decode()
    assert "stranger" not in page
    assert "elsewhere" not in page


def test_one_who_manages_nothing_is_refused(bob):
    client = Client()
    client.force_login(bob, backend="django.contrib.auth.backends.ModelBackend")
    assert client.get("/people").status_code == 403


# ── Adding ─────────────────────────────────────────────────────────────────
def test_a_new_person_gets_a_role_and_a_link_that_signs_in_once(signed_in, owner):
    answer = add(signed_in, owner, "carol", "reviewer")
    carol = User.objects.get(username="carol")
    assert member(carol, owner).role == "reviewer"
    assert not carol.has_usable_password()
    secret = secret_in(answer)
    assert SignInLink.objects.use(secret) == carol
    assert SignInLink.objects.use(secret) is None


def test_a_known_person_gets_a_role_and_no_link(signed_in, owner, stranger):
    answer = add(signed_in, owner, "stranger")
    assert member(stranger, owner).role == "viewer"
    assert answer["Location"] == "/people"
    assert not SignInLink.objects.exists()


@pytest.mark.parametrize(
    ("name", "role"), [("", "viewer"), ("a b", "viewer"), ("carol", "king"), ("bob", "viewer")]
)
def test_what_cannot_be_added_is_said_beside_its_field(signed_in, owner, bob, name, role):
    answer = add(signed_in, owner, name, role)
    assert answer.status_code == 422
    assert b'class="wrong"' in answer.content
    assert Membership.objects.filter(owner=owner).count() == 2


# ── Changing ───────────────────────────────────────────────────────────────
def test_a_role_is_changed_and_the_change_recorded(signed_in, alice, owner, bob):
    signed_in.post(f"/people/members/{member(bob, owner).pk}/role", {"role": "operator"})
    assert member(bob, owner).role == "operator"
    change = Change.objects.get(object_type="membership")
    assert (change.actor, change.object_id) == (alice.actor, f"user:{bob.pk} owner:{owner.pk}")
    assert (change.old, change.new) == ("viewer", "operator")


def test_whoever_is_removed_sees_nothing_more_and_it_is_recorded(signed_in, owner, bob):
    signed_in.post(f"/people/members/{member(bob, owner).pk}/remove")
    assert not Membership.objects.filter(user=bob).exists()
    assert User.objects.filter(pk=bob.pk).exists()
    change = Change.objects.get(object_type="membership")
    assert (change.old, change.new) == ("viewer", None)


def test_whoever_is_added_is_recorded(signed_in, owner, alice):
    add(signed_in, owner, "carol")
    change = Change.objects.get(object_type="membership")
    assert (change.actor, change.old, change.new) == (alice.actor, None, "viewer")


@pytest.mark.parametrize(("what", "data"), [("role", {"role": "viewer"}), ("remove", {})])
def test_the_last_admin_stays(signed_in, alice, owner, what, data):
    answer = signed_in.post(f"/people/members/{member(alice, owner).pk}/{what}", data)
    assert answer.status_code == 422
    assert b"last admin of platform" in answer.content
    assert member(alice, owner).role == "admin"


def test_one_of_two_admins_may_go(signed_in, alice, owner, bob):
    Membership.objects.filter(user=bob).update(role="admin")
    answer = signed_in.post(f"/people/members/{member(alice, owner).pk}/remove")
    assert answer["Location"] == "/account"
    assert not Membership.objects.filter(user=alice).exists()


def test_a_role_that_there_is_not_is_refused(signed_in, owner, bob):
    answer = signed_in.post(f"/people/members/{member(bob, owner).pk}/role", {"role": "king"})
    assert answer.status_code == 422
    assert member(bob, owner).role == "viewer"


# ── Links ──────────────────────────────────────────────────────────────────
def test_a_person_of_this_owner_gets_a_new_link(signed_in, owner, bob):
    answer = signed_in.post(f"/people/members/{member(bob, owner).pk}/link")
    assert SignInLink.objects.use(secret_in(answer)) == bob


def test_no_link_is_made_for_one_who_belongs_elsewhere_too(signed_in, owner, stranger):
    Membership.objects.create(user=stranger, owner=owner, role="viewer")
    answer = signed_in.post(f"/people/members/{member(stranger, owner).pk}/link")
    assert answer.status_code == 422
    assert not SignInLink.objects.exists()
    assert f"members/{member(stranger, owner).pk}/link" not in signed_in.get("/people").content.decode()


def test_no_link_is_made_for_staff(signed_in, owner, admin):
    Membership.objects.create(user=admin, owner=owner, role="viewer")
    assert signed_in.post(f"/people/members/{member(admin, owner).pk}/link").status_code == 422
    assert not SignInLink.objects.exists()


# ── Owners ─────────────────────────────────────────────────────────────────
def test_an_owner_is_renamed_and_it_is_recorded(signed_in, owner):
    signed_in.post(f"/people/{owner.pk}/name", {f"name-{owner.pk}-name": "research"})
    owner.refresh_from_db()
    assert owner.name == "research"
    change = Change.objects.get(object_type="owner")
    assert (change.old, change.new) == ("platform", "research")


def test_a_name_that_is_taken_is_refused(signed_in, owner, stranger):
    answer = signed_in.post(f"/people/{owner.pk}/name", {f"name-{owner.pk}-name": "elsewhere"})
    assert answer.status_code == 422
    owner.refresh_from_db()
    assert owner.name == "platform"


def test_another_owner_cannot_be_touched(strangers_client, owner, bob):
    pk = member(bob, owner).pk
    for address in (
        f"{owner.pk}/add",
        f"{owner.pk}/name",
        *(f"members/{pk}/{act}" for act in ("role", "remove", "link")),
    ):
        assert strangers_client.post(f"/people/{address}", {"role": "admin"}).status_code == 404
    assert member(bob, owner).role == "viewer"


def test_removing_asks_first_and_says_whom_it_hits(site, alice, bob, owner, browser_page: Page):
    page = browser_page
    page.goto(f"{site.url}/sign-in?next=/people")
    page.get_by_label("Name").fill("alice")
    page.get_by_label("Password").fill("correct horse")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Remove bob from").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="Remove bob from")).to_be_visible()
    assert Membership.objects.filter(user=bob, owner=owner).exists()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_text("bob belongs to")).to_be_visible()
    assert not Membership.objects.filter(user=bob, owner=owner).exists()

"""People, owners, tokens and sign-in links in the admin."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from runs.models import Membership, Owner, Run, SignInLink, Token, User

TOKENS = "admin:runs_token_changelist"


def issue(client: Client, owner: Owner, typed: dict[str, Any] | None = None) -> tuple[int, str]:
    data = {"owner": str(owner.pk), "name": "CI", "scopes": ["read"], **(typed or {})}
    response = client.post(reverse("admin:runs_token_add"), data)
    return response.status_code, response.content.decode()


def test_a_new_tokens_secret_is_shown_once(admin_client: Client, owner: Owner) -> None:
    status, page = issue(admin_client, owner)
    assert status == 200
    secret = re.search(r"rf_[\w-]{30,}", page)
    assert secret
    token = Token.objects.authenticate(secret[0])
    assert token is not None
    assert (token.owner, token.scopes) == (owner, ["read"])
    later = admin_client.get(reverse("admin:runs_token_change", args=[token.pk])).content.decode()
    assert secret[0] not in later
    assert token.hash not in later


@pytest.mark.parametrize(
    "typed", [{"owner": "x"}, {"owner": "9" * 40}, {"scopes": ["all"]}, {"name": "a\x00"}]
)
def test_it_refuses_such_a_token(admin_client: Client, owner: Owner, typed: dict[str, Any]) -> None:
    status, page = issue(admin_client, owner, typed)
    assert status == 200
    assert "errornote" in page
    assert not Token.objects.exists()


def test_tokens_are_revoked_and_stay(admin_client: Client, owner: Owner) -> None:
    token, secret = Token.objects.issue(owner, "CI")
    admin_client.post(reverse(TOKENS), {"action": "revoke", "_selected_action": [token.pk]})
    assert Token.objects.authenticate(secret) is None
    assert admin_client.get(reverse("admin:runs_token_delete", args=[token.pk])).status_code == 403


def test_a_token_keeps_its_secret_when_it_is_renamed(admin_client: Client, owner: Owner) -> None:
    token, secret = Token.objects.issue(owner, "CI")
    data = {"name": "Nightly", "scopes": ["read", "write"]}
    assert admin_client.post(reverse("admin:runs_token_change", args=[token.pk]), data).status_code == 302
    found = Token.objects.authenticate(secret)
    assert found
    assert found.name == "Nightly"


def test_a_superuser_makes_a_link_that_signs_somebody_in(admin_client: Client, alice: User) -> None:
    data = {"action": "make_sign_in_link", "_selected_action": [alice.pk]}
    page = admin_client.post(reverse("admin:runs_user_changelist"), data).content.decode()
    secret = re.search(r"/sign-in/link/([\w-]+)", page)
    assert secret
    link = SignInLink.objects.find(secret[1])
    assert link
    assert link.user == alice


def test_people_can_be_added_without_a_password(admin_client: Client) -> None:
    data = {"username": "bob", "usable_password": "false"}
    assert admin_client.post(reverse("admin:runs_user_add"), data).status_code == 302
    assert not User.objects.get(username="bob").has_usable_password()


@pytest.fixture
def clerk(alice: User, signed_in: Client) -> Client:
    """Staff who may look after people, and no superuser."""
    User.objects.filter(pk=alice.pk).update(is_staff=True)
    names = ["view_user", "change_user", "delete_user"]
    alice.user_permissions.set(Permission.objects.filter(codename__in=names))
    return signed_in


def test_staff_cannot_give_themselves_rights(clerk: Client, alice: User) -> None:
    data = {"username": "alice", "is_active": "on", "is_superuser": "on", "is_staff": "on"}
    dates = {"date_joined_0": "2026-01-01", "date_joined_1": "00:00:00"}
    clerk.post(reverse("admin:runs_user_change", args=[alice.pk]), {**data, **dates})
    alice.refresh_from_db()
    assert not alice.is_superuser


def test_staff_cannot_touch_a_superuser(clerk: Client, admin: User) -> None:
    url = reverse("admin:runs_user_change", args=[admin.pk])
    assert clerk.post(url, {"username": "mine"}).status_code == 403
    assert clerk.get(reverse("admin:auth_user_password_change", args=[admin.pk])).status_code == 403
    clerk.post(
        reverse("admin:runs_user_changelist"), {"action": "make_sign_in_link", "_selected_action": [admin.pk]}
    )
    clerk.post(
        reverse("admin:runs_user_changelist"),
        {"action": "delete_selected", "_selected_action": [admin.pk], "post": "yes"},
    )
    assert not SignInLink.objects.exists()
    assert User.objects.filter(pk=admin.pk).exists()


def test_an_owner_with_history_cannot_be_deleted(
    admin_client: Client, owner: Owner, make_run: Callable[..., Run]
) -> None:
    url = reverse("admin:runs_owner_delete", args=[owner.pk])
    assert admin_client.get(url).status_code == 200
    make_run()
    assert admin_client.get(url).status_code == 403


def test_somebody_becomes_a_member(admin_client: Client, alice: User) -> None:
    other = Owner.objects.create(name="other")
    data = {"user": str(alice.pk), "owner": str(other.pk), "role": "viewer"}
    assert admin_client.post(reverse("admin:runs_membership_add"), data).status_code == 302
    assert Membership.objects.filter(user=alice, owner=other).exists()
    assert "already exists" in admin_client.post(reverse("admin:runs_membership_add"), data).content.decode()

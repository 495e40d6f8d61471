"""Marks on views that say who may call them, and the request types that go with them (STYLE.md 10, 12)."""

from collections.abc import Callable

from django.contrib.auth.decorators import login_not_required, login_required
from django.http import HttpRequest, HttpResponseBase

from runs.models import User

type View = Callable[..., HttpResponseBase]


class SignedInRequest(HttpRequest):
    """A request by a person."""

    user: User


def signed_in(view: View) -> View:
    """People who are signed in; others are sent to the sign-in page."""
    return _mark(login_required(view), "signed in")


def public(view: View) -> View:
    """Anybody: the view must show nothing that is an owner's."""
    return _mark(login_not_required(view), "public")


def token_only(view: View) -> View:
    """API clients: the view itself asks for a token, and never takes the session cookie."""
    return _mark(login_not_required(view), "token")


def _mark(view: View, access: str) -> View:
    view.access = access  # type: ignore[attr-defined]
    return view

"""Marks on views that say who may call them, and the request types that go with them (STYLE.md 10, 12)."""

from collections.abc import Callable
from functools import wraps
from typing import Any, cast

from django.contrib.auth.decorators import login_not_required, login_required
from django.http import HttpRequest, HttpResponseBase
from django.utils import timezone
from django.utils.functional import SimpleLazyObject

from runs.models import User
from runs.models.access import Rights, rights_of

type View = Callable[..., HttpResponseBase]


class SignedInRequest(HttpRequest):
    """A request by a person; `rights` are asked for when a page first needs them, once a request."""

    user: User
    rights: Rights


def signed_in(view: View) -> View:
    """People who are signed in, in their time zone; others are sent to the sign-in page."""

    @wraps(view)
    def with_rights(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        person = cast(SignedInRequest, request)
        person.rights = cast(Rights, SimpleLazyObject(lambda: rights_of(person.user)))
        with timezone.override(person.user.zone):
            return view(request, *args, **kwargs)

    return _mark(login_required(with_rights), "signed in")


def public(view: View) -> View:
    """Anybody: the view must show nothing that is an owner's."""
    return _mark(login_not_required(view), "public")


def token_only(view: View) -> View:
    """API clients: the view itself asks for a token, and never takes the session cookie."""
    return _mark(login_not_required(view), "token")


def _mark(view: View, access: str) -> View:
    view.access = access  # type: ignore[attr-defined]
    return view

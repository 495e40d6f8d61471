"""One's own account: name, password, theme, time zone, and the tokens of one's owners."""

from datetime import timedelta
from functools import cache
from typing import Any
from zoneinfo import available_timezones

from django import forms
from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.forms import PasswordChangeForm, SetPasswordForm
from django.db.models.functions import Now
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST, require_safe

from runs import access
from runs.access import SignedInRequest
from runs.models import Action, Owner, Token, User, owner_ids, require
from runs.pages.jinja import draw
from runs.pages.parts import OwnerField, local_address
from runs.templatetags.look import THEME_COOKIE, THEMES

_A_YEAR = 365 * 24 * 3600  # seconds
_THEMES = [("system", "As the system"), ("light", "Light"), ("dark", "Dark")]
_MONTH, _YEAR = 30, 365  # days


class NameForm(forms.ModelForm):
    class Meta:
        model = User
        fields = ["first_name", "last_name"]
        labels = {"first_name": "First name", "last_name": "Last name"}


@cache
def zone_names() -> frozenset[str]:
    """The zones that people choose from; those that stand for no place are another way to say the same."""
    return frozenset(name for name in available_timezones() if "/" in name and not name.startswith("Etc/"))


class ZoneForm(forms.Form):
    """`zone` is a name of zoneinfo, and becomes empty for UTC."""

    zone = forms.ChoiceField(
        required=False, label="Time zone", help_text="In which times are shown and typed."
    )

    def __init__(self, user: User, data: Any = None) -> None:
        super().__init__(data)
        zone: Any = self.fields["zone"]
        zone.choices = _zones(user)

    def clean_zone(self) -> str:
        return self.cleaned_data["zone"] if self.cleaned_data["zone"] != "UTC" else ""


class TokenForm(forms.Form):
    owner = forms.ModelChoiceField(Owner.objects.none(), label="Owner", empty_label=None)
    name = forms.CharField(max_length=200, label="What it is for")
    days = forms.TypedChoiceField(
        coerce=int,
        empty_value=None,
        required=False,
        choices=[("", "Never"), (_MONTH, "In 30 days"), (3 * _MONTH, "In 90 days"), (_YEAR, "In a year")],
        label="Expires",
    )
    may_write = forms.BooleanField(required=False, initial=True, label="May write")

    def __init__(self, request: SignedInRequest, data: Any = None) -> None:
        super().__init__(data)
        self.fields["owner"] = OwnerField(request, Action.MANAGE)


@access.signed_in
@require_safe
def account(request: SignedInRequest) -> HttpResponse:
    return _page(request)


@access.signed_in
@require_POST
def account_name(request: SignedInRequest) -> HttpResponse:
    form = NameForm(request.POST, instance=User.objects.get(pk=request.user.pk))
    if not form.is_valid():
        return _page(request, name_form=form, status=422)
    User.objects.filter(pk=request.user.pk).update(**form.cleaned_data)
    messages.success(request, "Your name is saved.")
    return redirect("account")


@access.signed_in
@sensitive_post_parameters()
@require_POST
def account_password(request: SignedInRequest) -> HttpResponse:
    form = _password_form(request.user, request.POST)
    if not form.is_valid():
        return _page(request, password_form=form, status=422)
    update_session_auth_hash(request, form.save())  # other sessions of this person end, this one stays
    messages.success(request, "Your password is set. Other sessions of yours are signed out.")
    return redirect("account")


@access.signed_in
@require_POST
def account_theme(request: SignedInRequest) -> HttpResponse:
    """A cookie, so that it is the browser's, needs no script and is there before the page is drawn."""
    response = redirect(local_address(request, request.POST.get("next"), "/account"))
    chosen = request.POST.get("theme")
    if chosen in THEMES:
        response.set_cookie(
            THEME_COOKIE, chosen, max_age=_A_YEAR, samesite="Lax", httponly=True, secure=request.is_secure()
        )
    else:
        response.delete_cookie(THEME_COOKIE, samesite="Lax")
    return response


@access.signed_in
@require_POST
def account_zone(request: SignedInRequest) -> HttpResponse:
    form = ZoneForm(request.user, request.POST)
    if not form.is_valid():
        return _page(request, zone_form=form, status=422)
    chosen = form.cleaned_data["zone"]
    User.objects.filter(pk=request.user.pk).update(time_zone=chosen)
    messages.success(request, f"Times are shown in {chosen.replace('_', ' ') or 'UTC'}.")
    return redirect("account")


@access.signed_in
@require_POST
def token_create(request: SignedInRequest) -> HttpResponse:
    """Answers with the page itself: a redirect would have to keep the secret somewhere."""
    require(request.user, Action.MANAGE)
    form = TokenForm(request, request.POST)
    if not form.is_valid():
        return _page(request, token_form=form, status=422)
    scopes = Token.Scope.values if form.cleaned_data["may_write"] else [Token.Scope.READ]
    days = form.cleaned_data["days"]
    until = timezone.now() + timedelta(days=days) if days else None
    token, secret = Token.objects.issue(form.cleaned_data["owner"], form.cleaned_data["name"], scopes, until)
    return _page(request, new_token=token, secret=secret)


@access.signed_in
@require_POST
def token_revoke(request: SignedInRequest, token_id: int) -> HttpResponse:
    token = get_object_or_404(_tokens(request.user), pk=token_id)
    require(request.user, Action.MANAGE, token.owner)
    _tokens(request.user).filter(pk=token.pk, revoked_at=None).update(revoked_at=Now())
    messages.success(request, f"{token.name} is revoked: nothing gets in with it any more.")
    return redirect("account")


def _page(request: SignedInRequest, status: int = 200, **context: Any) -> HttpResponse:
    user = request.user
    chosen = request.COOKIES.get(THEME_COOKIE)
    context = {
        "place": "account",
        "now": timezone.now(),
        "name_form": NameForm(instance=user),
        "password_form": _password_form(user),
        "zone_form": ZoneForm(user),
        "zones": draw("account/zones", zones=_zones(user), chosen=user.time_zone or "UTC"),
        "token_form": TokenForm(request),
        "tokens": _tokens(user),
        "themes": _THEMES,
        "theme_chosen": chosen if chosen in THEMES else "system",
        **context,
    }
    return render(request, "account/account.html", context, status=status)


def _zones(user: User) -> list[tuple[str, str]]:
    """What is offered, by name and label; one's own stands there also where it is unusual."""
    names = sorted(zone_names() | {user.time_zone} - {""})
    return [("UTC", "UTC"), *((name, name.replace("_", " ")) for name in names)]


def _password_form(user: User, data: Any = None) -> "SetPasswordForm[User]":
    """Whoever came by a link has no password to confirm."""
    form = (PasswordChangeForm if user.has_usable_password() else SetPasswordForm)(user, data)
    for field in form.fields.values():
        field.widget.attrs.pop("autofocus", None)  # it is one form of several on this page
    return form


def _tokens(user: User) -> Any:
    return Token.objects.filter(owner__in=owner_ids(user)).select_related("owner").order_by("-created_at")

"""Signing in, by password or by a link that works once, and out."""

from typing import Any

from django import forms
from django.contrib.auth import login, logout
from django.contrib.auth.forms import AuthenticationForm
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from runs import access
from runs.models import SignInLink
from runs.pages.parts import local_address

_BACKEND = "django.contrib.auth.backends.ModelBackend"


class SignInForm(AuthenticationForm):
    """Name and password; tries are counted by axes, which asks us for `locked_out`."""

    username = forms.CharField(
        max_length=254,
        widget=forms.TextInput(
            attrs={"class": "in", "autocomplete": "username", "autocapitalize": "none", "autofocus": True}
        ),
    )
    password = forms.CharField(
        max_length=4096,
        strip=False,
        widget=forms.PasswordInput(attrs={"class": "in", "autocomplete": "current-password"}),
    )
    error_messages = {"invalid_login": "Name or password is wrong.", "inactive": "Name or password is wrong."}


@access.public
@sensitive_post_parameters("password")
@require_http_methods(["GET", "HEAD", "POST"])
def sign_in(request: HttpRequest) -> HttpResponse:
    onward = local_address(request, request.POST.get("next") or request.GET.get("next"), reverse("run_list"))
    if request.user.is_authenticated:
        return redirect(onward)
    form = SignInForm(request, data=request.POST or None)
    if request.method == "POST" and form.is_valid():
        login(request, form.get_user())  # gives the session a new key
        return redirect(onward)
    return _page(request, {"form": form, "onward": onward})


@access.public
@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return redirect("sign_in")


@access.public
@require_http_methods(["GET", "HEAD", "POST"])
def sign_in_link(request: HttpRequest, secret: str) -> HttpResponse:
    """GET only shows a button: link previews and prefetching must not use the link up."""
    if request.method == "POST":
        user = SignInLink.objects.use(secret)
        if user:
            login(request, user, backend=_BACKEND)
            return redirect("run_list" if user.has_usable_password() else "account")
    link = SignInLink.objects.find(secret)
    context = {"link": link}
    return render(request, "sign_in/link.html", context, status=200 if link else 404)


def locked_out(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
    """What axes answers after too many wrong passwords for this name from this address."""
    response = _page(request, {"form": SignInForm(request), "locked": True}, status=429)
    response["Retry-After"] = "900"
    return response


def _page(request: HttpRequest, context: dict[str, Any], status: int = 200) -> HttpResponse:
    return render(request, "sign_in/sign_in.html", context, status=status)

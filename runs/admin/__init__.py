"""The admin site: looking at every table, and correcting what was recorded (DESIGN.md 3.10)."""

from django.conf import settings
from django.contrib import admin
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from runs.admin import (
    conversations,
    files,
    imports,
    keeping,
    people,
    pipeline,
    record,
    reviewing,
    spans,
    tasks,
)

__all__ = [
    "conversations",
    "files",
    "imports",
    "keeping",
    "people",
    "pipeline",
    "record",
    "reviewing",
    "spans",
    "tasks",
]

admin.site.site_header = "Runfolio"
admin.site.site_title = "Runfolio admin"
admin.site.index_title = "Data fixes"
admin.site.site_url = "/"


@login_not_required
def sign_in_first(request: HttpRequest, extra_context: dict[str, object] | None = None) -> HttpResponse:
    """Runfolio has one sign-in page, with one throttle and the links; the admin has none of its own."""
    after = request.GET.get("next") or reverse("admin:index")
    if not request.user.is_authenticated:
        return redirect_to_login(after, reverse(settings.LOGIN_URL))
    if not admin.site.has_permission(request):
        raise PermissionDenied
    return redirect("admin:index")


admin.site.login = sign_in_first  # type: ignore[method-assign]

"""What all pages share: answering a part of a page, and addresses to go on to."""

from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.cache import patch_vary_headers
from django.utils.http import url_has_allowed_host_and_scheme

from runs.access import SignedInRequest
from runs.models import Run

# What the run's header and strip do without: a spec may hold megabytes.
_HEAVY = ("spec", "spec_exact", "metadata")


def render_part(
    request: HttpRequest,
    template: str,
    context: dict[str, Any],
    *,
    part: str,
    target: str,
    status: int = 200,
) -> HttpResponse:
    """The template's partial `part` where htmx asks for the element `target`, else the whole page.

    The only place that reads htmx's headers; both answers say that they depend on them.
    """
    name = f"{template}#{part}" if wants(request, target) else template
    response = render(request, name, context, status=status)
    patch_vary_headers(response, ["HX-Request", "HX-Target"])
    return response


def wants(request: HttpRequest, target: str) -> bool:
    """Whether htmx asks, and is going to put the answer into `target`."""
    return request.headers.get("HX-Request") == "true" and request.headers.get("HX-Target") == target


def is_htmx(request: HttpRequest) -> bool:
    return request.headers.get("HX-Request") == "true"


def unchanged() -> HttpResponse:
    """htmx leaves the page as it is."""
    return HttpResponse(status=204)


def local_address(request: HttpRequest, address: str | None, fallback: str) -> str:
    """`address` where it is one of ours: nobody is sent to another site."""
    safe = url_has_allowed_host_and_scheme(
        address or "", allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return address if safe and address else fallback


def visible_runs(request: SignedInRequest) -> QuerySet[Run]:
    """The runs of this person, without what only some tabs read."""
    return Run.objects.visible_to(request.user).defer(*_HEAVY).select_related("session", "owner")


def find_run(request: SignedInRequest, run_id: UUID) -> Run:
    """The run, with its session and owner. Raises Http404 where it is missing or not this person's."""
    run = visible_runs(request).filter(pk=run_id).first()
    if run is None:
        raise Http404
    return run

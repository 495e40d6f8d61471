"""What all pages share: loading what the reader may use, answers of a part, addresses to go on to."""

from typing import Any
from uuid import UUID

from django import forms
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.cache import patch_vary_headers
from django.utils.http import url_has_allowed_host_and_scheme

from runs.access import SignedInRequest
from runs.models import Action, Owner, Run, owner_ids, require

# What the run's header and strip do without: a spec may hold megabytes.
_HEAVY = ("spec", "spec_exact", "secrets", "metadata")


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


def find_run(request: SignedInRequest, run_id: UUID, action: Action = Action.VIEW) -> Run:
    """The run, with its session and owner.

    Raises Http404 where it is missing or not this person's, NotAllowed where they may see it but not do
    `action` with it.
    """
    run = visible_runs(request).filter(pk=run_id).first()
    if run is None:
        raise Http404
    if action != Action.VIEW:
        require(request.user, action, run.owner)
    return run


class OwnerField(forms.ModelChoiceField):
    """Offers the owners for which this person may do `action`.

    Another one of theirs raises NotAllowed; anybody else's is no choice, as if there were none.
    """

    def __init__(self, request: SignedInRequest, action: Action) -> None:
        visible = Owner.objects.filter(pk__in=owner_ids(request.user))
        super().__init__(visible, label="Owner", empty_label=None)
        self.user, self.action = request.user, action
        self.choices = [(one.pk, one.name) for one in visible if one.pk in request.rights[action]]

    def clean(self, value: Any) -> Owner:
        owner = super().clean(value)
        require(self.user, self.action, owner)
        return owner

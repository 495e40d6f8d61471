"""What all pages share: loading what the reader may use, answers of a part, addresses to go on to."""

import re
import zlib
from typing import Any
from uuid import UUID

from django import forms
from django.db import DEFAULT_DB_ALIAS, connection
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.cache import patch_vary_headers
from django.utils.http import url_has_allowed_host_and_scheme

from runs.access import SignedInRequest
from runs.models import Action, Owner, Run, Session, owner_ids, require
from runs.models.run import PAYLOADS

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


def news_only(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """204 where a part that polls itself looks as it did. It asks with `v=`, which this fills in."""
    looks = f"v={zlib.crc32(_TOKEN.sub(b'', response.content)):08x}"
    if request.GET.get("v") == looks[2:]:
        return unchanged()
    response.content = response.content.replace(b"v=NEWS", looks.encode())
    return response


_TOKEN = re.compile(rb'name="csrfmiddlewaretoken" value="[^"]*"')  # another one in every answer


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
    run, _ = find_run_and_hooks(request, run_id)
    if action != Action.VIEW:
        require(request.user, action, run.owner)
    return run


def find_run_and_hooks(request: SignedInRequest, run_id: UUID) -> tuple[Run, bool]:
    """The same, and whether anybody is to be told of it.

    By hand: of all that a poll or a piece of a page costs, Django's way of asking would be half.
    """
    with connection.cursor() as cursor:
        cursor.execute(_FIND_RUN, [run_id, list(request.rights[Action.VIEW])])
        row = cursor.fetchone()
    if row is None:
        raise Http404
    ends = len(_OF_RUN), len(_OF_RUN) + len(_OF_OWNER), len(row) - 1
    run = Run.from_db(DEFAULT_DB_ALIAS, _OF_RUN, row[: ends[0]])
    run.owner = Owner.from_db(DEFAULT_DB_ALIAS, _OF_OWNER, row[ends[0] : ends[1]])
    if run.session_id:
        run.session = Session.from_db(DEFAULT_DB_ALIAS, _OF_SESSION, row[ends[1] : ends[2]])
    return run, row[-1]


def _columns(model: type[Model], *left_out: str) -> list[str]:
    return [field.attname for field in model._meta.concrete_fields if field.attname not in left_out]


_OF_RUN = _columns(Run, *PAYLOADS)
_OF_OWNER = _columns(Owner, "signing_secret")
_OF_SESSION = _columns(Session, "metadata")
_OF_ONE = """SELECT {run}, {owner}, {session}, EXISTS (SELECT 1 FROM webhook WHERE webhook.run_id = run.id)
    FROM run JOIN owner ON owner.id = run.owner_id LEFT JOIN session ON session.id = run.session_id
    WHERE run.id = %s AND run.owner_id = ANY(%s) AND run.deleted_at IS NULL
"""
_FIND_RUN = _OF_ONE.format(
    run=", ".join(f"run.{name}" for name in _OF_RUN),
    owner=", ".join(f"owner.{name}" for name in _OF_OWNER),
    session=", ".join(f"session.{name}" for name in _OF_SESSION),
)


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

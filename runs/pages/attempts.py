"""What the pipeline did with a run: its attempts, and what its webhooks were told (issue 4, points 4, 9)."""

from typing import Any
from uuid import UUID

from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_POST

from runs import access
from runs.access import SignedInRequest
from runs.models import Action, Attempt, Delivery, Run, Webhook
from runs.models.webhook import resend
from runs.pages.parts import find_run, local_address

PAGE = 50  # attempts or deliveries


def attempts_context(run: Run) -> dict[str, Any]:
    """The newest on top; `more` says that older ones are left out."""
    found = list(Attempt.objects.filter(run=run).order_by("-number")[: PAGE + 1])
    return {"attempts": found[:PAGE], "more": len(found) > PAGE, "now": timezone.now()}


def deliveries_context(run: Run, before: int) -> dict[str, Any]:
    """The newest on top, from the one before `before`; 0 is the newest."""
    deliveries = Delivery.objects.filter(run=run).select_related("webhook").defer("body", "webhook__sealed")
    if before:
        deliveries = deliveries.filter(pk__lt=before)
    found = list(deliveries.order_by("-id")[: PAGE + 1])
    shown = found[:PAGE]
    for delivery in shown:
        delivery.run = run
    return {
        "deliveries": shown,
        "webhooks": list(Webhook.objects.filter(run=run).defer("sealed").order_by("position", "id")),
        "older": shown[-1].pk if len(found) > PAGE else None,
        "back": f"/runs/{run.pk}?tab=deliveries",
        "before": before,
        "now": timezone.now(),
    }


@access.signed_in
@require_POST
def delivery_resend(request: SignedInRequest, run_id: UUID, delivery_id: int) -> HttpResponse:
    """Sends one again that was delivered or given up; one that waits already is left alone."""
    run = find_run(request, run_id, Action.RETRY)
    delivery = Delivery.objects.filter(run=run, pk=delivery_id).first()
    if delivery is None:
        raise Http404
    resend(delivery)
    return redirect(local_address(request, request.POST.get("next"), f"/runs/{run.pk}?tab=deliveries"))

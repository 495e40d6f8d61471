"""Rating a run: one current rating per person, in the row and on the run's page."""

from typing import Any
from uuid import UUID

from django import forms
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST

from runs import access
from runs.access import SignedInRequest
from runs.models import OVERALL, Action, Feedback, FeedbackVersion, Run, User, give_feedback
from runs.pages.parts import find_run, is_htmx, local_address, wants


class FeedbackForm(forms.Form):
    rating = forms.TypedChoiceField(
        choices=[(str(number), str(number)) for number in range(1, 6)],
        coerce=int,
        error_messages={
            "required": "Choose from 1 to 5 stars.",
            "invalid_choice": "A rating is a whole number from 1 to 5.",
        },
    )
    comment = forms.CharField(required=False, max_length=20_000, strip=True)


@access.signed_in
@require_POST
def feedback(request: SignedInRequest, run_id: UUID) -> HttpResponse:
    """From the row only the rating comes, and the comment that is there stays."""
    run = find_run(request, run_id, Action.RATE)
    form = FeedbackForm(request.POST)
    if form.is_valid():
        give_feedback(run, request.user, form.cleaned_data["rating"], _comment(request, run, form))
    back = local_address(request, request.POST.get("next"), f"/runs/{run.pk}")
    if not is_htmx(request) and form.is_valid():
        return redirect(back)
    wrong = "" if form.is_valid() else next(iter(form.errors.values()))[0]
    status = 422 if wrong else 200
    if wants(request, "feedback") or not is_htmx(request):
        context = {**feedback_context(find_run(request, run_id), request.user), "wrong": wrong, "run": run}
        context |= {"saved": not wrong, "place": "runs"}
        template = "runs/feedback.html" if is_htmx(request) else "runs/feedback_page.html"
        return render(request, template, context, status=status)
    if not wrong:
        return HttpResponse(status=204)
    given = Feedback.objects.filter(run=run, author=request.user.actor, criterion=OVERALL).first()
    context = {"run": run, "rating": given and given.rating, "wrong": wrong, "oob": True, "here": back}
    return render(request, "runs/rate_cell.html", context, status=status)


def feedback_context(run: Run, user: User) -> dict[str, Any]:
    """The reader's own rating with what it was before, and what others said."""
    given = list(Feedback.objects.filter(run=run, withdrawn_at=None).order_by("-updated_at")[:100])
    mine = next((one for one in given if one.author == user.actor and one.criterion == OVERALL), None)
    earlier = None
    if mine:
        versions = FeedbackVersion.objects.filter(feedback=mine).order_by("-pk")
        earlier = next((one for one in versions[1:20] if one.rating != mine.rating), None)
    return {"mine": mine, "earlier": earlier, "others": [one for one in given if one is not mine]}


def _comment(request: SignedInRequest, run: Run, form: FeedbackForm) -> str:
    if "comment" in request.POST:
        return str(form.cleaned_data["comment"])
    kept = Feedback.objects.filter(run=run, author=request.user.actor, criterion=OVERALL).first()
    return kept.comment if kept else ""

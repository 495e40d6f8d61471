"""Evaluating what is recorded here: a task's run, or a session as a whole (issue 4, point 6)."""

from typing import Any
from uuid import UUID

from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods

from runs import access
from runs.access import SignedInRequest
from runs.exact import Json
from runs.models import Action, Owner, Session, require
from runs.pages.evaluator_form import EvaluatorForm
from runs.pages.parts import find_run
from runs.submission import SubmissionError, submit

_CHOSEN = ("tool_error_rate",)  # what needs nothing to be set


@access.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
def evaluate_run(request: SignedInRequest, task_id: UUID) -> HttpResponse:
    run = find_run(request, task_id, Action.SUBMIT)
    if run.is_evaluation:
        raise Http404
    target: dict[str, Json] = {"kind": "run", "runId": str(run.pk)}
    return _page(request, run.owner, target, {"place": "runs", "run": run, "judged": run})


@access.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
def evaluate_session(request: SignedInRequest, session_id: UUID) -> HttpResponse:
    """The runs of a session, in their order, as one conversation."""
    sessions = Session.objects.visible_to(request.user).select_related("owner")
    session = get_object_or_404(sessions, pk=session_id)
    require(request.user, Action.SUBMIT, session.owner)
    target: dict[str, Json] = {"kind": "session", "sessionId": str(session.pk)}
    return _page(request, session.owner, target, {"place": "sessions", "session": session, "judged": session})


def _page(
    request: SignedInRequest, owner: Owner, target: dict[str, Json], context: dict[str, Any]
) -> HttpResponse:
    """Nothing recorded has an eval case, so only what needs none is offered."""
    form = EvaluatorForm(request.POST if request.method == "POST" else None, with_cases=False, chosen=_CHOSEN)
    if request.method == "POST" and form.is_valid():
        spec = {
            "target": target,
            "evalConfig": {"evaluators": form.entries()},
            "credentialRefs": form.credential_refs() or None,
        }
        try:
            made = submit(owner, {"spec": spec})
        except SubmissionError as error:
            form.add_error(None, str(error))
        else:
            return redirect("run", made.pk)
    context |= {"form": form}
    return render(request, "runs/evaluate.html", context, status=422 if form.is_bound else 200)

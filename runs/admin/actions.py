"""Actions on rows that a list shows: each asks for a reason first, on a page that names what it hits."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.response import TemplateResponse

from runs.admin.lists import MOST
from runs.models import (
    Run,
    Session,
    User,
    correction,
    delete_runs,
    delete_session,
    force_cancel,
    requeue,
    restore_runs,
    restore_session,
    retry,
)

NAMED = 10  # rows that the page names


class ReasonForm(forms.Form):
    reason = forms.CharField(
        max_length=2000,
        widget=forms.Textarea(attrs={"class": "vLargeTextField", "rows": 2}),
        help_text="It is kept with every change that this makes.",
    )


@dataclass(frozen=True, slots=True)
class Reasoned:
    """Who does it, and why, as the verbs of the store take it."""

    by: str
    reason: str
    request_id: str

    @property
    def why(self) -> tuple[str, str, str]:
        return self.by, self.reason, self.request_id


@dataclass(frozen=True, slots=True)
class Step:
    """What an action asks, and does once it has its reason; `act` says what it did."""

    question: str
    note: str
    button: str
    act: Callable[[QuerySet[Any], Reasoned], str]


def ask_first(
    model_admin: admin.ModelAdmin, request: HttpRequest, rows: QuerySet[Any], action: str, step: Step
) -> TemplateResponse | None:
    """The page that asks for the reason; None once it had one and the step is done."""
    number = rows.order_by().values("pk")[: MOST + 1].count()
    if number > MOST:
        refusal = f"Choose at most {MOST:,} at a time. Nothing was done."
        model_admin.message_user(request, refusal, messages.WARNING)
        return None
    form = ReasonForm(request.POST if "reason" in request.POST else None)
    if form.is_valid():
        person = cast(User, request.user)
        reasoned = Reasoned(person.actor, form.cleaned_data["reason"], request.META["REQUEST_ID"])
        model_admin.message_user(request, step.act(rows, reasoned), messages.SUCCESS)
        return None
    context = {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.opts,
        "title": step.question,
        "step": step,
        "form": form,
        "number": number,
        "named": rows[:NAMED],
        "more": max(0, number - NAMED),
        "action": action,
        "select_across": request.POST.get("select_across", "0"),
        "checkbox": ACTION_CHECKBOX_NAME,
        "chosen": request.POST.getlist(ACTION_CHECKBOX_NAME),
    }
    return TemplateResponse(request, "admin/reason.html", context)


class DeletingAdmin(admin.ModelAdmin):
    """Base for rows that are put away and brought back: who may delete them may do both."""

    def has_put_away_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm(f"runs.delete_{self.opts.model_name}"))


class RunActions(DeletingAdmin):
    actions = ("put_away", "bring_back", "execute_again", "end_cancelled")

    @admin.action(description="Delete", permissions=["put_away"])
    def put_away(self, request: HttpRequest, queryset: QuerySet[Run]) -> TemplateResponse | None:
        return ask_first(self, request, queryset, "put_away", DELETE_RUNS)

    @admin.action(description="Restore", permissions=["put_away"])
    def bring_back(self, request: HttpRequest, queryset: QuerySet[Run]) -> TemplateResponse | None:
        return ask_first(self, request, queryset, "bring_back", RESTORE_RUNS)

    @admin.action(description="Execute again", permissions=["change"])
    def execute_again(self, request: HttpRequest, queryset: QuerySet[Run]) -> TemplateResponse | None:
        return ask_first(self, request, queryset, "execute_again", EXECUTE_AGAIN)

    @admin.action(description="End as cancelled", permissions=["change"])
    def end_cancelled(self, request: HttpRequest, queryset: QuerySet[Run]) -> TemplateResponse | None:
        return ask_first(self, request, queryset, "end_cancelled", END_CANCELLED)


class SessionActions(DeletingAdmin):
    actions = ("put_away", "bring_back")

    @admin.action(description="Delete", permissions=["put_away"])
    def put_away(self, request: HttpRequest, queryset: QuerySet[Session]) -> TemplateResponse | None:
        return ask_first(self, request, queryset, "put_away", DELETE_SESSIONS)

    @admin.action(description="Restore", permissions=["put_away"])
    def bring_back(self, request: HttpRequest, queryset: QuerySet[Session]) -> TemplateResponse | None:
        return ask_first(self, request, queryset, "bring_back", RESTORE_SESSIONS)


def _delete_runs(runs: QuerySet[Run], reasoned: Reasoned) -> str:
    return f"{_counted(delete_runs(runs, *reasoned.why), 'run')} deleted."


def _restore_runs(runs: QuerySet[Run], reasoned: Reasoned) -> str:
    return f"{_counted(restore_runs(runs, *reasoned.why), 'run')} restored."


def _delete_sessions(sessions: QuerySet[Session], reasoned: Reasoned) -> str:
    chosen = list(sessions.filter(deleted_at=None))
    runs = sum(delete_session(session, *reasoned.why) for session in chosen)
    return f"{_counted(len(chosen), 'session')} deleted, with {_counted(runs, 'run')}."


def _restore_sessions(sessions: QuerySet[Session], reasoned: Reasoned) -> str:
    restored = sum(restore_session(session, *reasoned.why) for session in list(sessions))
    return f"{_counted(restored, 'session')} restored."


def _execute_again(runs: QuerySet[Run], reasoned: Reasoned) -> str:
    done = Counter(_again(run, reasoned) for run in _one_by_one(runs))
    return f"{done['requeued']} requeued, {done['anew']} queued anew, {done['left']} left as they are."


def _end_cancelled(runs: QuerySet[Run], reasoned: Reasoned) -> str:
    done = Counter(_force_cancel(run, reasoned) for run in _one_by_one(runs))
    return f"{_counted(done[True], 'run')} ended as cancelled, {done[False]} left as they are."


def _again(run: Run, reasoned: Reasoned) -> str:
    if requeue(run, *reasoned.why):
        return "requeued"
    if run.is_evaluation and run.is_final and run.deleted_at is None:
        retry(run, reasoned.by, reasoned.reason)
        return "anew"
    return "left"


def _force_cancel(run: Run, reasoned: Reasoned) -> bool:
    if run.is_final:
        return False
    with correction(*reasoned.why):
        return force_cancel(run, reasoned.by, reasoned.reason)


def _one_by_one(runs: QuerySet[Run]) -> Iterator[Run]:
    """Each as it is when its turn comes; a spec may hold megabytes."""
    for pk in list(runs.values_list("pk", flat=True)):
        yield Run.objects.select_related("owner", "session").get(pk=pk)


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


DELETE_RUNS = Step(
    "Delete these runs?",
    "They can be restored within the grace time. Open ones are asked to cancel; queued ones end now.",
    "Delete",
    _delete_runs,
)
RESTORE_RUNS = Step(
    "Restore these runs?",
    "Their sessions come back with them. A cancel that the deletion asked for stands.",
    "Restore",
    _restore_runs,
)
EXECUTE_AGAIN = Step(
    "Execute these evaluations again?",
    "One that runs is taken from its worker and goes back to the queue. One that has ended stays as it is, "
    "and a new one of the same spec, linked to it, is queued. Others are left as they are.",
    "Execute again",
    _execute_again,
)
END_CANCELLED = Step(
    "End these runs as cancelled?",
    "For runs whose agent or worker does not answer. What comes from it later changes nothing.",
    "End as cancelled",
    _end_cancelled,
)
DELETE_SESSIONS = Step(
    "Delete these sessions?",
    "Their runs go with them. They can be restored within the grace time.",
    "Delete",
    _delete_sessions,
)
RESTORE_SESSIONS = Step(
    "Restore these sessions?",
    "The runs that went with them come back; those that were deleted before do not.",
    "Restore",
    _restore_sessions,
)

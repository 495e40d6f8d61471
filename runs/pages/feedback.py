"""Rating a run: one current rating per person and criterion, in the row and on the run's page."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Case, When
from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST

from runs import access
from runs.access import SignedInRequest
from runs.models import OVERALL, Action, Criterion, Feedback, FeedbackVersion, Run, User, withdraw_feedback
from runs.models.feedback import feedback_of, rate
from runs.pages.marks import STARS, MarksForm, comment_of, marks
from runs.pages.parts import find_run, is_htmx, local_address, wants

_SHOWN = 200  # ratings of a run that its page shows
_EARLIER = 50  # of one's own that are looked at


@access.signed_in
@require_POST
def feedback(request: SignedInRequest, run_id: UUID) -> HttpResponse:
    """Ratings by criterion, with a comment or without one: then the comment that is there stays.

    `rating` is the overall one unless `criterion` names another; `rating-<key>` are further ones;
    `withdraw` takes all back, or what was said on `criterion`.
    """
    run = find_run(request, run_id, Action.RATE)
    wrong = _withdraw(run, request) if "withdraw" in request.POST else _rate(run, request)
    back = local_address(request, request.POST.get("next"), f"/runs/{run.pk}")
    if not is_htmx(request) and not wrong:
        return redirect(back)
    status = 422 if wrong else 200
    if wants(request, "feedback") or not is_htmx(request):
        context = feedback_context(find_run(request, run_id), request.user, request.POST if wrong else None)
        context |= {"wrong": wrong, "run": run, "place": "runs", "saved": not wrong}
        context["keep"] = "withdraw" not in request.POST
        template = "runs/feedback.html" if is_htmx(request) else "runs/feedback_page.html"
        return render(request, template, context, status=status)
    if not wrong and request.POST.get("criterion") != OVERALL:  # what is named was rated beside the row
        return HttpResponse(status=204)
    given = feedback_of(run, request.user).filter(criterion=OVERALL).first()
    context = {"run": run, "rating": given and given.rating, "wrong": wrong, "oob": True, "here": back}
    return render(request, "runs/rate_cell.html", context, status=status)


@dataclass(slots=True)
class Said:
    """What one author said of the run, on all criteria."""

    name: str
    at: datetime
    rating: int | None = None
    others: list[tuple[str, int]] = field(default_factory=list)  # criterion and rating
    comments: list[tuple[str, str]] = field(default_factory=list)  # criterion, "" for overall, and words
    odd: str = ""  # a rating that is none, as its client sent it (DESIGN.md 4)


@dataclass(frozen=True, slots=True)
class Was:
    """An earlier rating or comment of one's own, and when another took its place."""

    label: str
    rating: int | None
    comment: str
    at: datetime
    until: datetime


def feedback_context(run: Run, user: User, posted: QueryDict | None = None) -> dict[str, Any]:
    """The reader's own ratings with what they were before, and what others said.

    `posted` is a form that was refused: what it holds is shown again.
    """
    criteria = list(Criterion.objects.filter(owner=run.owner_id))
    given = feedback_on(run, user)
    mine = {one.criterion: one for one in given if one.author == user.actor}
    asked = [one for one in criteria if one.retired_at is None]
    labels = {one.key: one.label for one in criteria}
    earlier = _earlier(mine, labels)
    return {
        "mine": mine.get(OVERALL),
        "rated": bool(mine),
        "marks": marks(asked, mine, posted),
        "comment": comment_of(mine, posted),
        "numbers": STARS,
        "earlier": earlier,
        "changed": _changed(mine, labels, earlier),
        "others": said_by((one for one in given if one.author != user.actor), labels),
        "own": said_by(mine.values(), labels),
    }


def feedback_on(run: Run, reader: User) -> list[Feedback]:
    """What is said of the run and not withdrawn: the reader's own first, then the newest."""
    own_first = Case(When(author=reader.actor, then=0), default=1)
    return list(
        Feedback.objects.filter(run=run, withdrawn_at=None).order_by(own_first, "-updated_at")[:_SHOWN]
    )


def said_by(given: Iterable[Feedback], labels: Mapping[str, str]) -> list[Said]:
    """By author, in the order in which they come. A criterion that nobody defined is called by its key."""
    found: dict[str, Said] = {}
    for one in given:
        said = found.setdefault(one.author, Said(one.author_name, one.updated_at))
        label = "" if one.criterion == OVERALL else labels.get(one.criterion, one.criterion)
        if not label:
            said.rating = one.rating
        elif one.rating is not None:
            said.others.append((label, one.rating))
        if one.comment:
            said.comments.append((label, one.comment))
        if one.rating is None and isinstance(one.raw, dict) and one.raw.get("rating") is not None:
            said.odd = str(one.raw["rating"])[:40]
    return list(found.values())


def _rate(run: Run, request: SignedInRequest) -> str:
    """What is wrong with it, in words; empty where it is kept."""
    criteria = Criterion.objects.filter(owner=run.owner_id)
    form = MarksForm(request.POST, criteria, empty="Choose from 1 to 5 stars.")
    if form.is_valid():
        rate(run, request.user, form.ratings, form.words, form.about)
    return form.wrong


def _withdraw(run: Run, request: SignedInRequest) -> str:
    given = feedback_of(run, request.user)
    if "criterion" in request.POST:
        given = given.filter(criterion=request.POST["criterion"][:100])
    with transaction.atomic():
        for criterion in given.values_list("criterion", flat=True):
            withdraw_feedback(run, request.user, criterion)
    return ""


def _earlier(mine: Mapping[str, Feedback], labels: Mapping[str, str]) -> list[Was]:
    """One's own earlier ratings and comments, the newest first."""
    if not mine:
        return []
    by_id = {one.pk: one for one in mine.values()}
    versions = FeedbackVersion.objects.filter(feedback__in=list(by_id)).order_by("-pk")[:_EARLIER]
    kept: dict[int, list[FeedbackVersion]] = {}
    for version in versions:
        kept.setdefault(version.feedback_id, []).append(version)
    found = [
        Was(_label(by_id[key], labels), before.rating, before.comment, before.created_at, after.created_at)
        for key, row in kept.items()
        for after, before in pairwise(row)
        if not before.withdrawn and (before.rating, before.comment) != (after.rating, after.comment)
    ]
    return sorted(found, key=lambda was: was.until, reverse=True)


def _changed(mine: Mapping[str, Feedback], labels: Mapping[str, str], earlier: Sequence[Was]) -> list[Was]:
    """Of each criterion the last rating that was another."""
    now = {_label(one, labels): one.rating for one in mine.values()}
    found: dict[str, Was] = {}
    for was in earlier:
        if was.rating is not None and was.rating != now[was.label]:
            found.setdefault(was.label, was)
    return list(found.values())


def _label(one: Feedback, labels: Mapping[str, str]) -> str:
    return "Overall" if one.criterion == OVERALL else labels.get(one.criterion, one.criterion)

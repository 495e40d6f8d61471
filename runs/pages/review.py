"""Review queues: runs handed out one at a time, question and answer first (issue 5, point 5)."""

from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from django_htmx.http import HttpResponseClientRedirect, push_url, reswap, retarget

from runs import access
from runs.access import SignedInRequest
from runs.models import Action, Criterion, Owner, ReviewItem, ReviewQueue, Run, User, bulk, require
from runs.models.feedback import rate
from runs.models.listing import Found, find_runs
from runs.models.review import (
    RESERVED_FOR,
    Progress,
    QueueTaken,
    add_items,
    ask_again,
    change_queue,
    close_queue,
    end_item,
    hold,
    items_left,
    last_ended,
    open_queue,
    progress_of,
    release,
    reopen_queue,
    reserve_next,
    reserved_in,
)
from runs.models.run import PAYLOADS
from runs.pages.asked import Asked, asked, list_address
from runs.pages.feedback import feedback_on, said_by
from runs.pages.marks import STARS, MarksForm, comment_of, marks
from runs.pages.parts import OwnerField, is_htmx, unchanged
from runs.pages.reading import reading_of
from runs.query import Condition, OneOf, Query

AT_ONCE = 1000  # runs that a form puts into a queue by itself; more are the worker's
_PAGE = 50  # queues
_HEAVY = tuple(f"run__{name}" for name in PAYLOADS)
_WORDS = list(zip(STARS, ("Bad", "Poor", "Fair", "Good", "Excellent"), strict=True))
_SAY_SOMETHING = "Choose from 1 to 5, or skip it."


# ── The queues ─────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Row:
    """A queue in the list; `people` are at it now."""

    queue: ReviewQueue
    progress: Progress
    people: list[str]


@access.signed_in
@require_safe
def review_queues(request: SignedInRequest) -> HttpResponse:
    """Those that are open, or those that are closed; the newest first."""
    closed = "closed" in request.GET
    queues = ReviewQueue.objects.visible_to(request.user).filter(closed_at__isnull=not closed)
    before = request.GET.get("before", "")
    if before.isascii() and before.isdigit() and len(before) < 19:
        queues = queues.filter(pk__lt=int(before))
    found = list(queues.select_related("owner").order_by("-pk")[: _PAGE + 1])
    shown = found[:_PAGE]
    context = {
        "place": "review",
        "rows": _rows(shown),
        "closed": closed,
        "older": shown[-1].pk if len(found) > _PAGE else None,
        "several_owners": len({queue.owner_id for queue in shown}) > 1,
        "to_review": items_left(request.user),
    }
    return render(request, "review/queues.html", context)


def _rows(queues: list[ReviewQueue]) -> list[Row]:
    if not queues:
        return []
    progress, held = progress_of(queues), reserved_in(queues)
    people: dict[int, list[str]] = {}
    for item in held:
        people.setdefault(item.queue_id, []).append(_name(item.reserved_by))
    return [Row(queue, progress[queue.pk], people.get(queue.pk, [])) for queue in queues]


class QueueForm(forms.Form):
    """What reviewers are told."""

    name = forms.CharField(max_length=100, label="Name")
    instructions = forms.CharField(
        required=False,
        max_length=20_000,
        label="What to look for",
        help_text="Reviewers read it before they begin. Markdown.",
        widget=forms.Textarea(attrs={"class": "in", "rows": 5, "dir": "auto"}),
    )
    criteria = forms.MultipleChoiceField(required=False, label="Rated on")

    def __init__(self, data: Any, criteria: list[Criterion], initial: dict[str, Any]) -> None:
        super().__init__(data, initial=initial)
        self.fields["criteria"].choices = [(str(one.pk), one.label) for one in criteria]  # type: ignore[attr-defined]
        self.known = {str(one.pk): one for one in criteria}

    def keys(self, owner: Owner) -> list[str]:
        """Of the criteria that were chosen, as far as they are this owner's."""
        chosen = (self.known[number] for number in self.cleaned_data["criteria"])
        return [one.key for one in chosen if one.owner_id == owner.pk]

    @property
    def offered(self) -> list[tuple[Criterion, bool]]:
        """The criteria, and whether each is chosen."""
        chosen = {str(one) for one in self["criteria"].value() or []}
        return [(one, number in chosen) for number, one in self.known.items()]


class NewQueueForm(QueueForm):
    q = forms.CharField(
        required=False,
        strip=False,
        label="Runs",
        help_text="As in the search of runs; empty for all.",
        widget=forms.TextInput(attrs={"class": "in mono", "spellcheck": "false", "dir": "auto"}),
    )
    owner = forms.ModelChoiceField(Owner.objects.none(), label="Owner", empty_label=None)

    def __init__(self, request: SignedInRequest, criteria: list[Criterion], filtered: Asked) -> None:
        everything = [str(one.pk) for one in criteria]
        data = request.POST if request.method == "POST" else None
        super().__init__(data, criteria, {"q": filtered.text, "criteria": everything})
        self.fields["owner"] = OwnerField(request, Action.RATE)
        self.filtered = filtered

    def clean_q(self) -> str:
        if self.filtered.problems:
            raise forms.ValidationError([problem.message for problem in self.filtered.problems])
        return str(self.cleaned_data["q"])


@access.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
def review_queue_new(request: SignedInRequest) -> HttpResponse:
    """A queue of the runs of a filter; how many they are is shown before, and counted again."""
    require(request.user, Action.RATE)
    filtered = asked(request.POST if request.method == "POST" else request.GET, request.user)
    criteria = list(Criterion.objects.allowing(request.user, Action.RATE).asked().select_related("owner"))
    form = NewQueueForm(request, criteria, filtered)
    if request.method == "POST" and form.is_valid():
        queue = _make(request, form)
        if queue is not None:
            return redirect("review_queues")
    context = {
        "place": "review",
        "form": form,
        "found": None if filtered.problems else find_runs(filtered.query, request.user, size=AT_ONCE),
        "most": AT_ONCE,
        "list_address": list_address(filtered.text),
        "several_owners": len(form.fields["owner"].choices) > 1,  # type: ignore[attr-defined]
    }
    return render(request, "review/queue_new.html", context, status=422 if form.is_bound else 200)


def _make(request: SignedInRequest, form: NewQueueForm) -> ReviewQueue | None:
    """The queue with its runs; None where there are none, or the name is taken: the form says so."""
    given, owner = form.cleaned_data, form.cleaned_data["owner"]
    query = form.filtered.query.with_(Condition(OneOf("owner", (owner.name,)))).fixed()
    found = find_runs(query, request.user, size=AT_ONCE)
    if not found.runs and not found.is_cut:
        form.add_error("q", f"No run of {owner} matches: nothing would be in the queue.")
        return None
    told = {"instructions": given["instructions"], "query": str(query), "criteria": form.keys(owner)}
    try:
        queue = open_queue(owner, given["name"], request.user.actor, **told)
    except QueueTaken as error:
        form.add_error("name", str(error))
        return None
    messages.success(request, _fill(request.user, queue, query, found))
    return queue


def _fill(person: User, queue: ReviewQueue, query: Query, found: Found) -> str:
    """What was done, in a sentence."""
    if found.older is None:
        count = add_items(queue, [run.pk for run in found.runs])
        return f"“{queue}” has {count:,} run{'' if count == 1 else 's'} to review."
    bulk.start(
        person,
        bulk.BulkJob.Action.REVIEW,
        query,
        until=timezone.now(),
        owners=[queue.owner_id],
        counted=len(found.runs),
        queue=queue,
    )
    return f"“{queue}” is made. More than {AT_ONCE:,} runs go into it: the worker is putting them in."


@access.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
def review_queue_change(request: SignedInRequest, queue_id: int) -> HttpResponse:
    queue = _find_queue(request, queue_id)
    criteria = list(Criterion.objects.filter(owner=queue.owner_id).asked())
    chosen = [str(one.pk) for one in criteria if one.key in queue.criteria]
    initial = {"name": queue.name, "instructions": queue.instructions, "criteria": chosen}
    form = QueueForm(request.POST if request.method == "POST" else None, criteria, initial)
    if request.method == "POST" and form.is_valid():
        given = form.cleaned_data
        try:
            change_queue(queue, given["name"], given["instructions"], form.keys(queue.owner))
            return redirect("review_queues")
        except QueueTaken as error:
            form.add_error("name", str(error))
    context = {"place": "review", "queue": queue, "form": form, "row": _rows([queue])[0]}
    context["list_address"] = list_address(queue.query)
    return render(request, "review/queue_change.html", context, status=422 if form.is_bound else 200)


@access.signed_in
@require_POST
def review_queue_close(request: SignedInRequest, queue_id: int) -> HttpResponse:
    close_queue(_find_queue(request, queue_id))
    return redirect("review_queues")


@access.signed_in
@require_POST
def review_queue_reopen(request: SignedInRequest, queue_id: int) -> HttpResponse:
    reopen_queue(_find_queue(request, queue_id))
    return redirect("review_queues")


@access.signed_in
@require_POST
def review_queue_again(request: SignedInRequest, queue_id: int) -> HttpResponse:
    """Hands out what was skipped."""
    queue = _find_queue(request, queue_id)
    ask_again(queue)
    return redirect("review_next", queue.pk)


# ── One item after the other ───────────────────────────────────────────────
@access.signed_in
@require_safe
def review_next(request: SignedInRequest, queue_id: int) -> HttpResponse:
    """On to the next item, which is reserved for the reader; what there is to say where none is left."""
    queue = _find_queue(request, queue_id)
    item_id = reserve_next(queue, request.user)
    if item_id is not None:
        return redirect("review_item", queue.pk, item_id)
    return render(request, "review/item.html", _end_context(request, queue))


@access.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
def review_item(request: SignedInRequest, queue_id: int, item_id: int) -> HttpResponse:
    """To read and to rate; a POST keeps what was said, ends the item and goes on to the next."""
    item = _find_item(request, queue_id, item_id)
    if item is None:
        queue = _find_queue(request, queue_id)
        messages.info(request, "That run has been deleted. Here is what comes next.")
        return redirect("review_next", queue.pk)
    if request.method == "POST":
        return _judged(request, item)
    if item.state == ReviewItem.State.OPEN:
        hold(item, request.user)
    context = _item_context(request, item)
    return render(request, "review/item.html", context)


@access.signed_in
@require_POST
def review_ping(request: SignedInRequest, queue_id: int, item_id: int) -> HttpResponse:
    """Keeps the item for whoever reads it; once it is another's, says whose."""
    item = _find_item(request, queue_id, item_id)
    if item is None:
        _find_queue(request, queue_id)
    if item is None or hold(item, request.user):
        return unchanged()
    return render(request, "review/item.html#kept", {"item": item, "whose": _whose(item, request.user)})


@access.signed_in
@require_POST
def review_stop(request: SignedInRequest, queue_id: int) -> HttpResponse:
    """Frees what the reader is at. What they have said of it so far is kept as their feedback."""
    queue = _find_queue(request, queue_id)
    number = request.POST.get("item", "")
    item = _find_item(request, queue_id, int(number)) if number.isdecimal() and len(number) < 19 else None
    if item is not None:
        form = _form(request, item)
        if form.is_valid():
            rate(item.run, request.user, form.ratings, form.words)
    release(queue, request.user)
    back = reverse("review_queues")
    return HttpResponseClientRedirect(back) if is_htmx(request) else redirect(back)


def _judged(request: SignedInRequest, item: ReviewItem) -> HttpResponse:
    """What was said is kept in any case, also where the item is another's by now."""
    skipped = "skip" in request.POST
    form = _form(request, item)
    if not form.is_valid() and not (skipped and form.wrong == _SAY_SOMETHING):
        return _refused(request, item, form)
    if form.is_valid():
        rate(item.run, request.user, form.ratings, form.words)
    state = ReviewItem.State.SKIPPED if skipped else ReviewItem.State.DONE
    if not end_item(item, request.user, state):
        _tell_whose(request, item)
    return _on_to_the_next(request, item.queue)


def _refused(request: SignedInRequest, item: ReviewItem, form: MarksForm) -> HttpResponse:
    """The mistake alone where htmx asks: nothing that was typed is touched."""
    if is_htmx(request):
        answer = render(request, "review/item.html#wrong", {"wrong": form.wrong}, status=422)
        return reswap(retarget(answer, "#wrong"), "outerHTML")
    return render(request, "review/item.html", _item_context(request, item, form), status=422)


def _on_to_the_next(request: SignedInRequest, queue: ReviewQueue) -> HttpResponse:
    item_id = reserve_next(queue, request.user)
    if not is_htmx(request):
        return redirect("review_item", queue.pk, item_id) if item_id else redirect("review_next", queue.pk)
    item = _find_item(request, queue.pk, item_id) if item_id else None
    if item is None:
        answer = render(request, "review/item.html#next", _end_context(request, queue) | {"oob": True})
        return push_url(answer, reverse("review_next", args=[queue.pk]))
    answer = render(request, "review/item.html#next", _item_context(request, item) | {"oob": True})
    return push_url(answer, reverse("review_item", args=[queue.pk, item.pk]))


def _tell_whose(request: SignedInRequest, item: ReviewItem) -> None:
    """Says who has the item now, unless the reader ended it themselves: with a second click, or before."""
    now = _find_item(request, item.queue_id, item.pk)
    whose = _whose(now, request.user) if now else ""
    if whose:
        messages.warning(
            request, f"{whose} What you said of “{str(item.run)[:80]}” is kept as your feedback."
        )


def _whose(item: ReviewItem, reader: User) -> str:
    """Who else has the item or ended it, in a sentence; empty where nobody else does."""
    if item.state == ReviewItem.State.OPEN:
        other = item.reserved_by if item.reserved_by_id != reader.pk else None
        held = item.reserved_until is not None and item.reserved_until > timezone.now()
        return f"{_name(other)} has this one now." if other is not None and held else ""
    if item.ended_by in ("", reader.actor):
        return ""
    number = item.ended_by.removeprefix("user:")
    other = User.objects.filter(pk=number).first() if number.isdecimal() else None
    return f"{_name(other)} {'did' if item.state == ReviewItem.State.DONE else 'skipped'} this one."


# ── What the page needs ────────────────────────────────────────────────────
def _item_context(
    request: SignedInRequest, item: ReviewItem, form: MarksForm | None = None
) -> dict[str, Any]:
    run, queue, reader = item.run, item.queue, request.user
    criteria = list(Criterion.objects.filter(owner=queue.owner_id))
    given = feedback_on(run, reader)
    mine = {one.criterion: one for one in given if one.author == reader.actor}
    others = said_by(
        (one for one in given if one.author != reader.actor), {one.key: one.label for one in criteria}
    )
    posted = form.given if form else None
    overall, *more = marks(_asked(queue, criteria), mine, posted)
    ended = item.state != ReviewItem.State.OPEN
    return {
        **_top_context(request, queue, item),
        "item": item,
        "run": run,
        "reading": reading_of(run, _judged_run(request, run)),
        "took": run.duration(timezone.now()),
        "overall": overall,
        "marks": more,
        "numbers": STARS,
        "words": _WORDS,
        "comment": comment_of(mine, posted),
        "others": others,
        "show_others": ended and item.ended_by == reader.actor,
        "whose": _whose(item, reader),
        "wrong": form.wrong if form else "",
    }


def _end_context(request: SignedInRequest, queue: ReviewQueue) -> dict[str, Any]:
    """Nothing is left for the reader: who is at the rest, and what to do next."""
    return {
        **_top_context(request, queue),
        "item": None,
        "held": [one for one in reserved_in([queue]) if one.reserved_by_id != request.user.pk],
    }


def _top_context(
    request: SignedInRequest, queue: ReviewQueue, item: ReviewItem | None = None
) -> dict[str, Any]:
    progress = progress_of([queue])[queue.pk]
    return {
        "place": "review",
        "queue": queue,
        "progress": progress,
        "share": f"{100 * progress.ended / progress.total:.1f}" if progress.total else "0",
        "back": last_ended(queue, request.user, item),
        "kept_until": timezone.now() + RESERVED_FOR,
    }


def _find_queue(request: SignedInRequest, queue_id: int) -> ReviewQueue:
    """A queue that the reader may work on.

    Raises Http404 where it is missing or not theirs to see, NotAllowed where they may not rate.
    """
    queues = ReviewQueue.objects.visible_to(request.user).select_related("owner")
    queue = queues.filter(pk=queue_id).first()
    if queue is None:
        raise Http404
    require(request.user, Action.RATE, queue.owner)
    return queue


def _find_item(request: SignedInRequest, queue_id: int, item_id: int) -> ReviewItem | None:
    """With its queue and its run; None where it is missing, or its run is deleted. Raises NotAllowed."""
    items = ReviewItem.objects.visible_to(request.user).select_related(
        "queue__owner", "reserved_by", "run__session", "run__owner"
    )
    item = items.filter(pk=item_id, queue=queue_id).defer(*_HEAVY).first()
    if item is not None and item.queue.owner_id not in request.rights[Action.RATE]:
        require(request.user, Action.RATE, item.queue.owner)
    return item


def _judged_run(request: SignedInRequest, run: Run) -> Run | None:
    if run.judged_id is None:
        return None
    runs = Run.objects.visible_to(request.user).defer(*PAYLOADS).select_related("session")
    return runs.filter(pk=run.judged_id).first()


def _form(request: SignedInRequest, item: ReviewItem) -> MarksForm:
    criteria = Criterion.objects.filter(owner=item.queue.owner_id)
    return MarksForm(request.POST, criteria, empty=_SAY_SOMETHING)


def _asked(queue: ReviewQueue, criteria: list[Criterion]) -> list[Criterion]:
    """Of the queue's criteria those that are not retired, in their owner's order."""
    return [one for one in criteria if one.key in queue.criteria and one.retired_at is None]


def _name(person: User | None) -> str:
    return person.display_name if person else "Somebody"

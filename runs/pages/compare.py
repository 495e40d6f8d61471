"""Compare: two to five runs, or two sets of runs, item by item (issue 5, point 7; look/compare.html)."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from statistics import fmean
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django import forms
from django.db.models import QuerySet
from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.views.decorators.http import require_safe

from runs import access
from runs.access import SignedInRequest
from runs.exact import Json
from runs.models import Run, SavedView, User
from runs.models.access import owners_seen
from runs.models.comparison import (
    MOST_RESULTS,
    MOST_RUNS,
    Judge,
    Row,
    align,
    answers_of,
    calls_of,
    difference,
    items_of_runs,
    items_of_set,
    judge,
    last_words_of,
    said_of,
    specs_of,
    within_bounds,
    worst_first,
)
from runs.models.listing import find_runs
from runs.models.run import PAYLOADS
from runs.pages import differences, text
from runs.pages.asked import asked, list_address
from runs.pages.differences import Clock, Pair, Path, Step
from runs.pages.jinja import draw
from runs.pages.parts import render_part
from runs.pages.run_table import total_tokens
from runs.query import Condition, OneOf, Query, QueryError
from runs.templatetags import look

MOST_SIDES = 5
PAGE, TEXTS = 25, 8  # items
_SHORTEST = 4  # digits of an id

_SHOW: dict[str, Callable[[Row], object]] = {
    "regressed": lambda row: row.worse,
    "improved": lambda row: row.better,
    "same": lambda row: not row.differs,
    "missing": lambda row: row.is_missing,
    "different": lambda row: row.differs,
    "all": lambda row: True,
}
_BY = {"item": "By item", "evaluator": "By evaluator", "text": "Answers side by side"}
_BEFORE = [
    ("agent", "of the same agent"),
    ("session", "in the same session"),
    ("eval_set", "of the same eval set"),
]
_EVALUATIONS = Condition(OneOf("kind", (str(Run.Kind.EVALUATION),)))
_ID = re.compile("[0-9a-f]{4,32}")
_EVAL_SET = ("spec__evalSet__eval_set_id", "spec__evalSet__evalSetId", "spec__evalSet__name")
_LOOKED_AT = 100  # earlier evaluations


class CompareForm(forms.Form):
    """What is compared, by the address: `runs`, or `a` and `b`, or `of` a run and the one before it.

    An error of the code "missing" is about something that is not there, or not this person's.
    """

    runs = forms.CharField(
        required=False,
        max_length=2000,
        label="Runs",
        help_text="Two to five ids or addresses of runs, the base first; the beginning of an id is enough.",
        widget=forms.TextInput(attrs={"class": "in mono", "autocomplete": "off"}),
    )
    of = forms.CharField(
        required=False,
        max_length=500,
        label="This run",
        help_text="Its id, or the beginning of it.",
        widget=forms.TextInput(attrs={"class": "in mono", "autocomplete": "off"}),
    )
    before = forms.ChoiceField(choices=_BEFORE, required=False, label="and the one before it")
    a = forms.CharField(
        required=False,
        strip=False,
        label="Set A, the base",
        help_text="A query, as on the runs page, or view: and the number of a saved view.",
        widget=forms.TextInput(
            attrs={"class": "in mono", "placeholder": "agent:helm before:7d", "list": "views"}
        ),
    )
    b = forms.CharField(
        required=False,
        strip=False,
        label="Set B",
        widget=forms.TextInput(
            attrs={"class": "in mono", "placeholder": "agent:helm after:7d", "list": "views"}
        ),
    )

    def __init__(self, data: QueryDict, user: User) -> None:
        """Several parameters `runs`, as a list's boxes send them, are one."""
        super().__init__({**data.dict(), "runs": ",".join(data.getlist("runs"))} if data else None)
        self.user = user

    @property
    def status(self) -> int:
        codes = {error.code for errors in self.errors.as_data().values() for error in errors}
        return 404 if "missing" in codes else 400 if codes else 200

    def clean_runs(self) -> list[Run]:
        tokens = [token for token in re.split(r"[\s,]+", self.cleaned_data["runs"]) if token]
        if not tokens:
            return []
        if len(tokens) > MOST_SIDES:
            raise forms.ValidationError(f"These are {len(tokens)} runs: take out all but {MOST_SIDES}.")
        if len(tokens) < 2:
            raise forms.ValidationError("This is one run: add another one, or give it below as “this run”.")
        ids = [
            UUID(digits) for token in tokens if len(digits := _digits(token)) == 32 and _ID.fullmatch(digits)
        ]
        whole = {run.pk.hex: run for run in self._visible().filter(pk__in=ids)}
        runs = [whole.get(_digits(token)) or self._find(token) for token in tokens]
        if len({run.pk for run in runs}) < len(runs):
            raise forms.ValidationError("The same run is named twice: take one out.")
        return runs

    def clean_of(self) -> Run | None:
        return self._find(self.cleaned_data["of"].strip()) if self.cleaned_data["of"].strip() else None

    def clean_a(self) -> "Set | None":
        return self._set("a", "A")

    def clean_b(self) -> "Set | None":
        return self._set("b", "B")

    def clean(self) -> None:
        given = self.cleaned_data
        one_set = "b" if "a" in self.data and "b" not in self.data else "a" if "b" in self.data else ""
        if "a" in self.data and "b" in self.data:
            return
        if one_set:
            self.add_error(one_set, "Two sets are compared: say the other one, too.")
        elif not self.errors and not given.get("runs") and not given.get("of"):
            self.add_error("runs", "Name two to five runs.")

    def _visible(self) -> QuerySet[Run]:
        return Run.objects.visible_to(self.user).defer(*PAYLOADS)

    def _find(self, token: str) -> Run:
        """The run whose id begins so; of an address, that of its run."""
        digits = _digits(token)
        shown = text.visible(token[:60])
        if not _ID.fullmatch(digits):
            raise forms.ValidationError(
                f"“{shown}” is no id of a run: give at least {_SHORTEST} of its hexadecimal digits."
            )
        span = (UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f")))
        found = list(self._visible().filter(pk__range=span)[:2])
        if not found:
            raise forms.ValidationError(f"There is no run “{shown}”, or it is not yours.", code="missing")
        if len(found) > 1:
            raise forms.ValidationError(f"Several runs begin with “{shown}”: add digits.")
        return found[0]

    def _set(self, name: str, letter: str) -> "Set | None":
        said = self.cleaned_data[name]
        if name not in self.data:
            return None
        view = None
        if said.startswith("view:"):
            view = _saved_view(said.removeprefix("view:").strip(), self.user)
            if view is None:
                raise forms.ValidationError(
                    f"There is no saved view “{text.visible(said[5:60])}”.", code="missing"
                )
        data = QueryDict(mutable=True)
        data["q"] = view.query if view else said
        question = asked(data, self.user)
        if question.problems:
            raise forms.ValidationError([problem.message for problem in question.problems])
        try:
            found = find_runs(question.query.with_(_EVALUATIONS), self.user, size=MOST_RUNS)
        except QueryError as error:
            raise forms.ValidationError(error.message) from None
        title = view.name if view else question.text or "All runs"
        return Set(letter, said, title, question.query, found.runs, found.older is not None)


def _digits(token: str) -> str:
    """Those of an id, or of the run of an address."""
    last = token.rsplit("/runs/")[-1]
    return re.split("[?#/]", last)[0].replace("-", "").lower()


@dataclass
class Set:
    """Evaluations that a query finds, the newest first; `is_cut` where it would find more."""

    letter: str
    said: str
    title: str
    query: Query
    found: list[Run]
    is_cut: bool

    @cached_property
    def runs(self) -> list[Run]:
        return within_bounds(self.found)

    @property
    def address(self) -> str:
        return list_address(str(self.query))

    @property
    def has_ages(self) -> bool:
        return self.query.text() != self.query.fixed().text()

    @property
    def note(self) -> str:
        if not self.found:
            return "It finds no evaluations: only they have results to compare."
        if self.is_cut or len(self.runs) < len(self.found):
            return f"Only its newest {len(self.runs):,} evaluations are compared."
        return ""


@dataclass(frozen=True, slots=True)
class Side:
    """One of what is compared: a run, or a set of runs where `run` is None."""

    letter: str
    title: str
    address: str
    hint: str
    run: Run | None = None
    note: str = ""
    as_base: str = ""  # the address that makes it the base; empty for the base itself


@dataclass(frozen=True, slots=True)
class Fact:
    name: str
    values: list[Any]

    @property
    def differs(self) -> bool:
        return any(value != self.values[0] for value in self.values[1:])


@dataclass(frozen=True, slots=True)
class Tally:
    """How many items there are of a sort; the address shows them alone."""

    show: str
    css: str
    icon: str
    count: int
    words: str
    about: str
    address: str


@dataclass(frozen=True, slots=True)
class Block:
    """A text of the base beside that of another side."""

    title: str
    left: Side
    right: Side
    pair: Pair


@dataclass(frozen=True, slots=True)
class Talk:
    """How two tasks went: their answers, and the tools that they called, in order."""

    left: Side
    right: Side
    answers: Pair
    steps: list[Step]

    @property
    def changed(self) -> int:
        return sum(not step.same for step in self.steps)


@access.signed_in
@require_safe
def compare(request: SignedInRequest) -> HttpResponse:
    form = CompareForm(request.GET, request.user)
    if not form.is_valid():
        return _ask(request, form)
    given = form.cleaned_data
    if given["of"]:
        return _with_the_one_before(request, form)
    context = _sets(request, given["a"], given["b"]) if given["a"] else _runs(request, given["runs"])
    return render_part(request, "compare/compare.html", context, part="diff", target="diff")


def _ask(request: SignedInRequest, form: CompareForm) -> HttpResponse:
    """The form, with what is wrong in the address."""
    context = {"place": "compare", "form": form, "views": _views(request.user)}
    return render(request, "compare/ask.html", context, status=form.status)


def _views(user: User) -> list[SavedView]:
    return SavedView.objects.seen_by(user, sorted(owners_seen(user)))


def _with_the_one_before(request: SignedInRequest, form: CompareForm) -> HttpResponse:
    run, way = form.cleaned_data["of"], form.cleaned_data["before"] or "agent"
    earlier = _before(run, way, request.user)
    if earlier is None:
        form.add_error(
            "of", forms.ValidationError(f"There is no earlier run {dict(_BEFORE)[way]}.", code="missing")
        )
        return _ask(request, form)
    return redirect(f"{reverse('compare')}?runs={earlier.pk},{run.pk}")


def _before(run: Run, way: str, user: User) -> Run | None:
    if way == "eval_set":
        return _before_of_eval_set(run, user)
    if way == "session" and run.session_id is None:
        return None
    same = {"session": run.session_id} if way == "session" else {"agent": run.agent}
    earlier = Run.objects.visible_to(user).filter(owner=run.owner_id, kind=run.kind, **same)
    return earlier.older_than(run.created_at, run.pk).newest_first().only("pk").first()


def _before_of_eval_set(run: Run, user: User) -> Run | None:
    """Among the evaluations right before it: an eval set is no column, and what it holds is not searched."""
    visible = Run.objects.visible_to(user).filter(owner=run.owner_id, kind=Run.Kind.EVALUATION)
    mine = _eval_set(visible.filter(pk=run.pk).values_list("pk", *_EVAL_SET).first())
    if mine is None:
        return None
    earlier = visible.older_than(run.created_at, run.pk).newest_first()[:_LOOKED_AT]
    same = [row[0] for row in earlier.values_list("pk", *_EVAL_SET) if _eval_set(row) == mine]
    return visible.filter(pk__in=same[:1]).only("pk").first()


def _eval_set(row: Sequence[Any] | None) -> str | None:
    """The first name of an eval set that there is, of a row of the key and _EVAL_SET."""
    return next((name for name in (row or ())[1:] if isinstance(name, str) and name), None)


def _saved_view(number: str, user: User) -> SavedView | None:
    """Their own, or one that is shared with them."""
    is_id = number.isascii() and number.isdecimal() and len(number) <= 18
    return SavedView.objects.find(user, int(number)) if is_id else None


# ── Runs ───────────────────────────────────────────────────────────────────
def _runs(request: SignedInRequest, runs: list[Run]) -> dict[str, Any]:
    ids = [run.pk for run in runs]
    asked_for = {"runs": ",".join(map(str, ids))}
    sides = [_side_of(run, letter, ids) for letter, run in zip("ABCDE", runs, strict=False)]
    rows = align(items_of_runs(ids))
    context = _context(request, asked_for, sides, rows)
    context["facts"] = _facts(runs)
    context["specs"] = _specs(runs)
    context["swap"] = (
        _address({"runs": ",".join(map(str, reversed(ids)))}, _kept(request)) if len(ids) == 2 else ""
    )
    if not rows:
        context["table"] = draw("compare/talks", talks=_talks(sides, ids))
    elif context["by"] == "text":
        texts = zip(context["lines"], _texts(context["shown"], sides, ids), strict=True)
        context["table"] = draw("compare/texts", texts=list(texts))
    else:
        detail = _texts([context["opened"]], sides, ids)[0] if context["opened"] else []
        context["table"] = _table(context, detail)
    return context


def _side_of(run: Run, letter: str, ids: list[UUID]) -> Side:
    count = run.passed_count + run.failed_count + run.errored_count + run.skipped_count
    took = run.duration(timezone.now())
    hints = [
        look.status_word(run.status),
        f"{count:,} result{'' if count == 1 else 's'}" if run.is_evaluation else "",
        f"mean {run.score:.2f}" if run.score is not None else "",
        look.duration(took),
        f"${run.cost:.2f}" if run.cost is not None else "",
    ]
    first = ",".join(map(str, [run.pk, *(other for other in ids if other != run.pk)]))
    return Side(
        letter,
        text.visible(str(run)),
        reverse("run", args=[run.pk]),
        " · ".join(hint for hint in hints if hint),
        run,
        f"Only its first {MOST_RESULTS:,} results are compared." if count > MOST_RESULTS else "",
        "" if letter == "A" else _address({"runs": first}),
    )


def _facts(runs: Sequence[Run]) -> list[Fact]:
    now = timezone.now()
    facts = [
        Fact("Status", [look.status(run.status) for run in runs]),
        Fact("Agent", [text.visible(run.agent) for run in runs]),
        Fact("Model", [text.visible(run.model) for run in runs]),
        Fact("Created", [look.moment(run.created_at) for run in runs]),
        Fact("Took", [look.duration(run.duration(now)) for run in runs]),
        Fact("Tokens", [look.thousands(total_tokens(run)) for run in runs]),
        Fact("Cost", ["" if run.cost is None else f"${run.cost:.4f}" for run in runs]),
        Fact("Events", [f"{run.event_count:,}" for run in runs]),
        Fact("Passed", [f"{run.passed_count:,}" if run.is_evaluation else "" for run in runs]),
        Fact("Mean score", [look.score(run.score) for run in runs]),
        Fact("Rating", ["" if run.rating_average is None else f"{run.rating_average:.1f}" for run in runs]),
    ]
    return [fact for fact in facts if any(fact.values)]


def _specs(runs: Sequence[Run]) -> list[Path] | None:
    """Where the specs differ; None where one is too large to compare, nothing where there are not two."""
    judged = [run.pk for run in runs if run.is_evaluation]
    if len(judged) < len(runs):
        return []
    specs = specs_of(judged)
    values = [specs.get(run_id) for run_id in judged]
    return None if None in values else differences.paths(values)


# ── Sets ───────────────────────────────────────────────────────────────────
def _sets(request: SignedInRequest, a: Set, b: Set) -> dict[str, Any]:
    sides = [
        Side(
            one.letter,
            text.visible(one.title),
            one.address,
            _hint(one.runs),
            note=one.note,
            as_base=as_base,
        )
        for one, as_base in ((a, ""), (b, _address({"a": b.said, "b": a.said})))
    ]
    rows = align([items_of_set([run.pk for run in one.runs]) for one in (a, b)])
    context = _context(request, {"a": a.said, "b": b.said}, sides, rows)
    context["facts"] = _facts_of_sets([a.runs, b.runs])
    context["specs"] = []
    context["swap"] = _address({"a": b.said, "b": a.said}, _kept(request))
    if a.has_ages or b.has_ages:
        fixed = {one.letter.lower(): one.query.fixed().text() for one in (a, b)}
        context["fixed"] = _address(fixed, _kept(request))
    if rows:
        context["table"] = _table(context, [])
    return context


def _hint(runs: Sequence[Run]) -> str:
    scores = [run.score for run in runs if run.score is not None]
    hints = [
        f"{len(runs):,} evaluation{'' if len(runs) == 1 else 's'}",
        f"mean {fmean(scores):.2f}" if scores else "",
        f"{look.duration(_mean_time(runs))} each" if _mean_time(runs) else "",
    ]
    return " · ".join(hint for hint in hints if hint)


def _mean_time(runs: Sequence[Run]) -> timedelta | None:
    times = [took for run in runs if run.is_final and (took := run.duration(timezone.now()))]
    return sum(times, timedelta()) / len(times) if times else None


def _facts_of_sets(sets: Sequence[Sequence[Run]]) -> list[Fact]:
    def total(name: str) -> list[int]:
        return [sum(getattr(run, name) or 0 for run in runs) for runs in sets]

    costs = [sum(run.cost or 0 for run in runs) for runs in sets]
    judged = [
        sum(one)
        for one in zip(*(total(f"{name}_count") for name in ("passed", "failed", "errored")), strict=True)
    ]
    passed = total("passed_count")
    facts = [
        Fact("Evaluations", [f"{len(runs):,}" for runs in sets]),
        Fact("Results", [f"{one:,}" for one in judged]),
        Fact(
            "Passed", [f"{part / one:.0%}" if one else "" for part, one in zip(passed, judged, strict=True)]
        ),
        Fact("Took, on average", [look.duration(_mean_time(runs)) for runs in sets]),
        Fact(
            "Tokens",
            [
                look.thousands(one)
                for one in (
                    sum(two) for two in zip(total("input_tokens"), total("output_tokens"), strict=True)
                )
            ],
        ),
        Fact("Cost", [f"${cost:.2f}" if cost else "" for cost in costs]),
        Fact("Agents", [_several({run.agent for run in runs if run.agent}) for runs in sets]),
        Fact("Models", [_several({run.model for run in runs if run.model}) for runs in sets]),
    ]
    return [fact for fact in facts if any(fact.values)]


def _several(names: set[str]) -> str:
    some = ", ".join(text.visible(name)[:60] for name in sorted(names)[:3])
    return f"{some} and {len(names) - 3} more" if len(names) > 3 else some


# ── Items ──────────────────────────────────────────────────────────────────
def _context(
    request: SignedInRequest, of: dict[str, str], sides: Sequence[Side], rows: list[Row]
) -> dict[str, Any]:
    """What the page shows of the aligned items, as the address asks."""
    data = request.GET
    judges = judge(rows, data.get("evaluator", "")) if rows else []
    evaluator = next((one.name for one in judges if one.name == data.get("evaluator")), "")
    counts = {show: sum(1 for row in rows if fits(row)) for show, fits in _SHOW.items()}
    show = data.get("show", "")
    show = show if show in _SHOW else "different" if counts["different"] else "all"
    tabs = [name for name in _BY if name != "text" or sides[0].run]
    by = data.get("by", "") if data.get("by") in tabs else "item"
    here = {**of, "by": "" if by == "item" else by, "show": data.get("show", ""), "evaluator": evaluator}
    chosen = worst_first(row for row in rows if _SHOW[show](row))
    shown, more = _window(chosen, _number(data.get("after")), TEXTS if by == "text" else PAGE)
    opened = _opened(shown, data.get("open"), by)
    context: dict[str, Any] = {
        "place": "compare",
        "sides": sides,
        "evaluator": evaluator,
        "by": by,
        "tabs": [(name, _BY[name], _address(here, {"by": "" if name == "item" else name})) for name in tabs]
        if rows
        else [],
        "show": show,
        "tallies": _tallies(rows, counts, sides, here) if rows else [],
        "count": len(chosen),
        "shown": shown,
        "opened": opened,
        "more": _address(here, {"after": str(shown[-1].number)}) if more else "",
        "left": more,
        "link": _address(here),
        "without_evaluator": _address(here, {"evaluator": ""}) if evaluator else "",
        "lines": [_line(row, sides, judges, here, row is opened) for row in shown],
    }
    context["judges"] = [(one, _address(here, {"evaluator": one.name})) for one in judges]
    return context


def _window(rows: list[Row], after: int, size: int) -> tuple[list[Row], int]:
    """The rows behind the one numbered `after`, and how many follow them."""
    start = next((at for at, row in enumerate(rows, 1) if row.number == after), 0)
    return rows[start : start + size], max(0, len(rows) - start - size)


def _opened(shown: Sequence[Row], asked_for: str | None, by: str) -> Row | None:
    """The row whose details are shown: the first that differs, unless the address names one or none."""
    if by != "item" or not shown:
        return None
    if asked_for is None:
        return shown[0] if shown[0].worse or shown[0].better else None
    return next((row for row in shown if row.number == _number(asked_for)), None)


def _tallies(
    rows: Sequence[Row], counts: dict[str, int], sides: Sequence[Side], here: dict[str, str]
) -> list[Tally]:
    def tally(show: str, css: str, icon: str, words: str, about: str) -> Tally:
        return Tally(show, css, icon, counts[show], words, about, _address(here, {"show": show}))

    only = [side.letter for at, side in enumerate(sides) if any(row.items[at] is None for row in rows)]
    present = [side.letter for side in sides if side.letter not in only]
    missing = f"not in {only[0]}" if len(only) == 1 else "in one only" if len(sides) == 2 else "not in all"
    return [
        tally("regressed", "down", "down-d", "worse", _most(rows, "worse")),
        tally("improved", "up", "up-d", "better", _most(rows, "better")),
        tally("same", "", "same-d", "the same", "within 0.005"),
        tally(
            "missing",
            "",
            "plus",
            missing,
            f"{' and '.join(present)} {'has' if len(present) == 1 else 'have'} all"
            if only and present
            else "",
        ),
        tally("different", "", "compare", "that differ", "worse ones first"),
        tally("all", "", "list", "in all", ""),
    ]


def _most(rows: Sequence[Row], what: str) -> str:
    """The evaluator that says it most often, and how often."""
    counted: dict[str, int] = {}
    for row in rows:
        for name in getattr(row, what):
            counted[name] = counted.get(name, 0) + 1
    if not counted:
        return "by no evaluator"
    name = max(sorted(counted), key=lambda one: counted[one])
    more = f", {len(counted) - 1} more" if len(counted) > 1 else ""
    return f"{counted[name]} by {text.visible(name)[:60]}{more}"


def _line(
    row: Row, sides: Sequence[Side], judges: Sequence[Judge], here: dict[str, str], is_open: bool
) -> dict[str, Any]:
    """What the templates draw of a row."""
    item = row.some
    question = next((one.question for one in row.items if one and one.question), "")
    title = question or item.case or item.name or item.id
    after = {"open": "0" if is_open else str(row.number)}
    return {
        "number": row.number,
        "means": row.means,
        "is_missing": row.is_missing,
        "title": text.visible(title)[:160] or "without a name",
        "id": text.visible(item.known_as or item.id)[:80],
        "nth": row.nth if row.nth > 1 else 0,
        "delta": row.delta if _agrees(row) else None,
        "change": _change(row),
        "where": " and ".join(side.letter for side, one in zip(sides, row.items, strict=True) if one),
        "what": _what(row),
        "slope": _slope(row) if len(sides) == 2 else None,
        "is_open": is_open,
        "address": f"{_address(here, after)}#item-{row.number}",
        "cells": [(one.name, _cells(row, one.name)) for one in judges],
    }


def _table(context: dict[str, Any], detail: list[Block]) -> SafeString:
    """The rows, drawn; `detail` is what was said of the one that is open."""
    known = {name: context[name] for name in ("sides", "lines", "judges")}
    return draw(
        "compare/evaluators" if context["by"] == "evaluator" else "compare/items", **known, detail=detail
    )


def _change(row: Row) -> str:
    return "worse" if row.worse else "better" if row.better else "otherwise" if row.otherwise else ""


def _agrees(row: Row) -> bool:
    """Whether the mean score moved as the row is judged: what fails now may have a better score elsewhere."""
    return row.delta is not None and (row.delta <= 0 if row.worse else row.delta >= 0)


def _cells(row: Row, evaluator: str) -> list[dict[str, Any]]:
    """What one evaluator says on every side, with how far it is from the base."""
    cells = [row.cell(side, evaluator) for side in range(len(row.items))]
    base = cells[0]
    return [
        {
            "cell": cell,
            "change": difference(base, cell) if at and base and cell else "",
            "delta": cell.score - base.score
            if at and base and cell and cell.score is not None and base.score is not None
            else None,
        }
        for at, cell in enumerate(cells)
    ]


def _what(row: Row) -> str:
    """Which evaluators think otherwise now, in words."""
    if row.is_missing and not (row.worse or row.better):
        return ""
    changed = row.worse or row.better or row.otherwise
    failing, passing = _turned(row, 1.0, 0.0), _turned(row, 0.0, 1.0)
    if row.worse and failing:
        return f"{_named(failing)} fail{'s' if len(failing) == 1 else ''}"
    if row.better and not row.worse and passing:
        return f"{_named(passing)} pass{'es' if len(passing) == 1 else ''}"
    return f"by {_named(sorted(changed))}" if changed else ""


def _turned(row: Row, before: float, now: float) -> list[str]:
    base = row.items[0]
    return [
        name
        for name, cell in (base.cells.items() if base else ())
        if cell.rate == before
        and any(other.cells[name].rate == now for other in row.items[1:] if other and name in other.cells)
    ]


def _named(names: Sequence[str]) -> str:
    return text.visible(names[0])[:80] if len(names) == 1 else f"{len(names)} evaluators"


def _slope(row: Row) -> tuple[str, float, float] | None:
    """The class of the line from A to B, and where it begins and ends; scores beyond 0 to 1 stop there."""
    base, other = row.means
    if base is None or other is None:
        return None
    css = {"worse": "sl-dn", "better": "sl-up"}.get(_change(row), "sl-eq") if _agrees(row) else "sl-eq"
    ends = [round(4 + 120 * min(1.0, max(0.0, mean)), 1) for mean in (base, other)]
    return css, ends[0], ends[1]


# ── What was said ──────────────────────────────────────────────────────────
def _texts(rows: Sequence[Row], sides: Sequence[Side], ids: Sequence[UUID]) -> list[list[Block]]:
    """For each row the agents' answers and the evaluators' reasons, the base's beside each other side's."""
    if not rows:
        return []
    said, answers = said_of(ids, rows), answers_of(ids, rows)
    clock = Clock()
    return [list(_blocks(row, sides, ids, said, answers, clock)) for row in rows]


def _blocks(
    row: Row, sides: Sequence[Side], ids: Sequence[UUID], said: Any, answers: Any, clock: Clock
) -> Iterator[Block]:
    reasons, spoken = [], []
    for run_id, item in zip(ids, row.items, strict=True):
        reasons.append(
            {one.result.evaluator_name: one.reason for one in said.get((run_id, item.id), ())} if item else {}
        )
        spoken.append(_words_of(answers.get((run_id, item.trace))) if item else "")
    for at, side in enumerate(sides[1:], 1):
        if spoken[0] != spoken[at] or (spoken[0] and len(sides) == 2):
            yield Block("Answer", sides[0], side, differences.words(spoken[0], spoken[at], clock))
        for name in (name for name in reasons[0] if name in reasons[at]):
            left, right = reasons[0][name], reasons[at][name]
            if left != right:
                yield Block(text.visible(name), sides[0], side, differences.words(left, right, clock))


def _talks(sides: Sequence[Side], ids: Sequence[UUID]) -> list[Talk]:
    """Tasks have no results: what they answered and which tools they called."""
    answers, calls = last_words_of(ids), calls_of(ids)
    spoken = [_words_of(answers.get(run_id)) for run_id in ids]
    called = [[_call(name, arguments) for name, arguments in calls[run_id]] for run_id in ids]
    clock = Clock()
    return [
        Talk(
            sides[0],
            sides[at],
            differences.words(spoken[0], spoken[at], clock),
            differences.steps(called[0], called[at]),
        )
        for at in range(1, len(sides))
    ]


def _call(name: str, arguments: str) -> str:
    return text.visible(f"{name}({text.without_base64(arguments)})"[:300])


def _words_of(payload: Json) -> str:
    """The texts of a message."""
    parts = payload.get("parts") if isinstance(payload, dict) else None
    said = [
        part["text"] for part in parts or () if isinstance(part, dict) and isinstance(part.get("text"), str)
    ]
    return text.without_base64("\n".join(said))


# ── Addresses ──────────────────────────────────────────────────────────────
def _address(of: dict[str, str], changes: dict[str, str] | None = None) -> str:
    given = {name: value for name, value in {**of, **(changes or {})}.items() if value or name in ("a", "b")}
    return f"{reverse('compare')}?{urlencode(given, safe=',:')}"


def _kept(request: SignedInRequest) -> dict[str, str]:
    """What of the address does not depend on which side is the base."""
    return {name: request.GET.get(name, "") for name in ("by", "evaluator")}


def _number(digits: str | None) -> int:
    return int(digits) if digits and digits.isascii() and digits.isdigit() and len(digits) < 10 else 0

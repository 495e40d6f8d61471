"""Trends: how the runs go over time, by agent and by evaluator (issue 5, point 8)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, timedelta
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.http import HttpResponse, QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.views.decorators.http import require_safe

from runs import access
from runs.access import SignedInRequest
from runs.models import Choice, Owner, Run, User, owner_ids
from runs.models.trend import (
    ByPlace,
    OfResults,
    OfRuns,
    Step,
    Wanted,
    results_over_time,
    runs_over_time,
    totals,
)
from runs.pages import charts, text
from runs.pages.asked import list_address
from runs.pages.charts import Bar, Scale, Series
from runs.pages.jinja import draw
from runs.query import Condition, OneOf, Query
from runs.templatetags import look

SPANS = {"7": "7 days", "30": "30 days", "90": "90 days", "all": "All"}
STEPS: Mapping[Step, str] = {"day": "Day", "week": "Week", "month": "Month"}
MOST_PERIODS = 400  # of a chart; beyond, steps grow
_POINTS = 31  # periods with a link for every point; beyond, for every period
_CHOICES = 300
_FIRST_DAY = date(2000, 1, 1)


class TrendsForm(forms.Form):
    """The controls; all of them stand in the address. An owner that is not this person's is "missing"."""

    span = forms.ChoiceField(choices=list(SPANS.items()), required=False)
    by = forms.ChoiceField(choices=list(STEPS.items()), required=False)
    since = forms.DateField(required=False, label="From", widget=forms.DateInput(attrs={"type": "date"}))
    until = forms.DateField(required=False, label="To", widget=forms.DateInput(attrs={"type": "date"}))
    kind = forms.ChoiceField(choices=[("", "Any"), *Run.Kind.choices], required=False, label="Kind")
    evaluator = forms.ChoiceField(required=False, label="Evaluator")
    owner = forms.ChoiceField(required=False, label="Owner")
    agent = forms.MultipleChoiceField(required=False, label="Agents")

    def __init__(self, data: QueryDict, user: User) -> None:
        given = data.copy()
        for old, new in (("from", "since"), ("to", "until")):
            if old in given:
                given.setlist(new, given.pop(old))
        super().__init__(given)
        self.user = user
        self.owners = list(Owner.objects.filter(pk__in=owner_ids(user)).order_by("name"))
        self.fields["owner"].choices = [("", "All"), *((str(one.pk), one.name) for one in self.owners)]  # type: ignore[attr-defined]
        self._offer()

    @property
    def status(self) -> int:
        return 404 if "owner" in self.errors else 400 if self.errors else 200

    def clean(self) -> None:
        since, until = self.cleaned_data.get("since"), self.cleaned_data.get("until")
        for name, day in (("since", since), ("until", until)):
            if day and day < _FIRST_DAY:
                self.add_error(name, f"Choose a day from {_FIRST_DAY} on.")
        if since and until and since > until:
            self.add_error("until", "This is before the first day: turn the two around.")

    @property
    def problems(self) -> list[str]:
        """What is wrong in the address, field by field."""
        names = {"since": "from", "until": "to"}
        return [
            f"{names.get(name, name)}: {' '.join(errors)}"  # type: ignore[arg-type]
            for name, errors in self.errors.items()
        ]

    def _offer(self) -> None:
        """The agents and evaluators that the owners have; what the address names is always a choice."""
        values: dict[str, list[str]] = {"agent": [], "evaluator": []}
        known = Choice.objects.visible_to(self.user).filter(field__in=values).order_by("value")
        for field, value in known.values_list("field", "value").distinct()[:_CHOICES]:
            values[field].append(value)
        named = {"agent": self.data.getlist("agent"), "evaluator": self.data.getlist("evaluator")}  # type: ignore[attr-defined]
        for field, found in values.items():
            found += [value[:300] for value in named[field] if value and value not in found]
            choices = [(value, text.visible(value)[:80]) for value in found]
            self.fields[field].choices = choices if field == "agent" else [("", "All"), *choices]  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Figure:
    """A number of the whole span, and how it was in the span before; `css` says whether that is good."""

    name: str
    shown: str
    before: str
    css: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """`table` has a row for every period with something: its name, its address and a cell for each series."""

    id: str
    title: str
    about: str
    svg: SafeString
    marks: Sequence[str]
    legend: Sequence[tuple[SafeString, str, str, str]]
    ends: SafeString | None
    heads: Sequence[str]
    table: Sequence[tuple[str, str, Sequence[str]]]
    note: str = ""


@dataclass(frozen=True, slots=True)
class _Data:
    """Everything that charts are made of."""

    periods: list[date]
    step: Step
    asked: Query
    of_runs: ByPlace[OfRuns]
    by_agent: ByPlace[OfResults]
    by_evaluator: ByPlace[OfResults]
    agents: list[str]
    evaluators: list[str]
    here: Mapping[str, list[str]]
    more_agents: int = 0
    more_evaluators: int = 0

    def runs_of(self, more: Condition | None = None) -> Callable[[date], str]:
        """The address of the runs of a period: that of the list, of which only the days differ."""
        conditions = self.asked.conditions
        if more is not None:
            conditions = (*(one for one in conditions if not _same_field(one, more)), more)
        start = list_address(f"{Query(conditions)} after:".strip())
        return lambda at: f"{start}{at}T00%3A00Z+before%3A{_next(at, self.step)}T00%3A00Z"


@access.signed_in
@require_safe
def trends(request: SignedInRequest) -> HttpResponse:
    form = TrendsForm(request.GET, request.user)
    if not form.is_valid():
        context = {"place": "trends", "form": form, "problems": form.problems}
        return render(request, "trends/trends.html", context, status=form.status)
    wanted, span = _wanted(form)
    drawn = _drawn(form, wanted, span)
    context = {
        "place": "trends",
        "form": form,
        "several_owners": len(form.owners) > 1,
        "spans": _choices(request.GET, "span", SPANS, span, ("from", "to", "since", "until")),
        "steps": _choices(request.GET, "by", STEPS, drawn["step"]),
        "chips": _chips(request.GET, form),
        "since": wanted.since,
        "until": wanted.until,
        **drawn,
    }
    return render(request, "trends/trends.html", context)


def _drawn(form: TrendsForm, wanted: Wanted, span: str) -> dict[str, Any]:
    of_runs = runs_over_time(wanted)
    by_agent, by_evaluator = results_over_time(wanted)
    days = [at for places in (of_runs, by_agent) for at, _ in places]
    if not days:
        return {"step": wanted.step}
    first = min(days) if span == "all" else _start(wanted.since, wanted.step)
    periods = _periods(first, wanted.until, wanted.step)
    if len(periods) > MOST_PERIODS and wanted.step != "month":
        return _drawn(form, replace(wanted, step="week" if wanted.step == "day" else "month"), span)
    every = [name for name, _ in _largest(of_runs, lambda sums: sums.ended)]
    judges = [name for name, _ in _largest(by_evaluator, lambda sums: sums.judged)]
    found = _Data(
        periods,
        wanted.step,
        _asked(form),
        of_runs,
        by_agent,
        by_evaluator,
        sorted(every[: charts.SHAPES]),
        sorted(judges[: charts.SHAPES]),
        dict(form.data.lists()),  # type: ignore[attr-defined]
        max(0, len(every) - charts.SHAPES),
        max(0, len(judges) - charts.SHAPES),
    )
    return {
        "step": wanted.step,
        "drawn": draw(
            "trends/charts",
            charts=list(_charts(found)),
            first=_named(found.periods[0], found.step),
            last=_named(found.periods[-1], found.step),
        ),
        "figures": _figures(found, wanted, span),
        "first": found.periods[0],
    }


# ── What is asked ──────────────────────────────────────────────────────────
def _wanted(form: TrendsForm) -> tuple[Wanted, str]:
    """The sums that the address asks for, and its span; empty where it names days."""
    given, today = form.cleaned_data, timezone.now().astimezone(UTC).date()
    until = min(given["until"] or today, today)
    span = "" if given["since"] or given["until"] else given["span"] or "30"
    since = given["since"] or (_FIRST_DAY if span == "all" else until - timedelta(days=int(span or 30) - 1))
    owners = [int(given["owner"])] if given["owner"] else [one.pk for one in form.owners]
    step: Step = given["by"] or ("week" if (until - since).days > 120 else "day")
    return Wanted(owners, since, until, step, given["kind"], given["agent"], given["evaluator"]), span


def _asked(form: TrendsForm) -> Query:
    """The same as the runs list would be asked."""
    given = form.cleaned_data
    owner = [one.name for one in form.owners if str(one.pk) == given["owner"]]
    values = [
        ("kind", [given["kind"]]),
        ("agent", given["agent"]),
        ("evaluator", [given["evaluator"]]),
        ("owner", owner),
    ]
    return Query(tuple(Condition(OneOf(name, tuple(some))) for name, some in values if any(some)))


def _same_field(one: Condition, other: Condition) -> bool:
    return (
        isinstance(one.test, OneOf) and isinstance(other.test, OneOf) and one.test.field == other.test.field
    )


def _start(at: date, step: Step) -> date:
    """The first day of the period that has this day."""
    if step == "week":
        return at - timedelta(days=at.weekday())
    return at.replace(day=1) if step == "month" else at


def _next(at: date, step: Step) -> date:
    if step == "month":
        return (at.replace(day=1) + timedelta(days=32)).replace(day=1)
    return at + timedelta(days=7 if step == "week" else 1)


def _periods(first: date, last: date, step: Step) -> list[date]:
    periods, at = [], first
    while at <= last:
        periods.append(at)
        at = _next(at, step)
    return periods


def _largest[Sums](places: ByPlace[Sums], size: Callable[[Sums], float]) -> list[tuple[str, float]]:
    """The names by how much there is of them, the largest first."""
    sizes: dict[str, float] = {}
    for (_, name), sums in places.items():
        sizes[name] = sizes.get(name, 0) + size(sums)
    return sorted(sizes.items(), key=lambda one: (-one[1], one[0]))


# ── Figures ────────────────────────────────────────────────────────────────
def _figures(found: _Data, wanted: Wanted, span: str) -> list[Figure]:
    runs = OfRuns.added(found.of_runs.values())
    results = OfResults.added(found.by_evaluator.values())
    old_runs, old_results = OfRuns(), OfResults()
    if span != "all":
        length = wanted.until - wanted.since + timedelta(days=1)
        before = Wanted(
            wanted.owners,
            wanted.since - length,
            wanted.since - timedelta(days=1),
            *(wanted.step, wanted.kind, wanted.agents, wanted.evaluator),
        )
        old_runs, old_results = totals(before)
    given: list[tuple[str, Callable[[float], str], float | None, float | None, bool]] = [
        ("Runs", _whole, runs.ended or None, old_runs.ended or None, False),
        ("Pass rate", _percent, _pass_rate(results), _pass_rate(old_results), True),
        ("Mean score", _two, _mean_score(results), _mean_score(old_results), True),
        ("Took, on average", _time, _mean_time(runs), _mean_time(old_runs), False),
        ("Tokens", _tokens, runs.tokens or None, old_runs.tokens or None, False),
        ("Cost", _money, runs.cost or None, old_runs.cost or None, False),
        ("Rating", _one, _mean_rating(runs), _mean_rating(old_runs), True),
    ]
    return [_figure(*one) for one in given]


def _figure(
    name: str, shown: Callable[[float], str], new: float | None, old: float | None, more_is_better: bool
) -> Figure:
    css = ""
    if more_is_better and new is not None and old is not None and shown(new) != shown(old):
        css = "up" if new > old else "down"
    before = "" if old is None else f"{shown(old)} before"
    return Figure(name, "–" if new is None else shown(new), before, css)


def _pass_rate(sums: OfResults) -> float | None:
    return sums.passed / sums.judged if sums.judged else None


def _mean_score(sums: OfResults) -> float | None:
    return sums.scores / sums.scored if sums.scored else None


def _mean_time(sums: OfRuns) -> float | None:
    return sums.took / sums.timed if sums.timed else None


def _mean_rating(sums: OfRuns) -> float | None:
    return sums.ratings / sums.rated if sums.rated else None


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def _two(value: float) -> str:
    return f"{value:.2f}"


def _one(value: float) -> str:
    return f"{value:.1f}"


def _time(value: float) -> str:
    return look.duration(timedelta(milliseconds=value))


def _tokens(value: float) -> str:
    return look.tokens(round(value))


def _money(value: float) -> str:
    return (
        f"${value:,.0f}"
        if value >= 100
        else f"${value:.2f}"
        if value >= 0.01 or not value
        else f"${value:.4f}"
    )


# ── Charts ─────────────────────────────────────────────────────────────────
def _charts(found: _Data) -> Iterator[Chart]:
    yield _outcomes(found)
    fixed = Scale(0, 1)
    if found.by_evaluator:
        yield _lines(
            found,
            "pass",
            "Pass rate",
            "of what evaluators judged",
            found.by_agent,
            _pass_rate,
            _percent,
            fixed,
        )
        yield _lines(
            found, "score", "Mean score", "by evaluator", found.by_evaluator, _mean_score, _two, None
        )
    of_runs = found.of_runs
    yield _lines(found, "took", "Took", "on average", of_runs, _mean_time, _time, None)
    yield _lines(
        found,
        "tokens",
        "Tokens",
        "in and out, all runs together",
        of_runs,
        lambda sums: sums.tokens or None,
        _tokens,
        None,
    )
    yield _lines(
        found,
        "cost",
        "Cost",
        "in US dollars, all runs together",
        of_runs,
        lambda sums: sums.cost or None,
        _money,
        None,
    )
    yield _lines(found, "rating", "Rating", "on average, 1 to 5", of_runs, _mean_rating, _one, Scale(1, 5))


def _outcomes(found: _Data) -> Chart:
    address = found.runs_of()
    by_period: dict[date, list[OfRuns]] = {at: [] for at in found.periods}
    for (at, _), sums in found.of_runs.items():
        by_period[at].append(sums)
    bars = [
        Bar(
            *(int(sums.succeeded), int(sums.failed), int(sums.cancelled)),
            f"{_named(at, found.step)}: {sums.succeeded:,.0f} succeeded, {sums.failed:,.0f} failed,"
            f" {sums.cancelled:,.0f} cancelled",
            address(at),
        )
        for at, sums in ((at, OfRuns.added(each)) for at, each in by_period.items())
    ]
    about = (
        f"Runs by how they ended: succeeded above the line, failed and cancelled below it, per {found.step}"
    )
    svg, (up, down) = charts.bars("runs", about, bars)
    words = ("Succeeded", "Failed", "Cancelled")
    table = [
        (_named(at, found.step), bar.link, [f"{one:,}" for one in (bar.well, bar.wrong, bar.cancelled)])
        for at, bar in zip(by_period, bars, strict=True)
        if bar.well or bar.wrong or bar.cancelled
    ]
    return Chart(
        "runs",
        "Runs",
        "by how they ended",
        svg,
        (f"{up:,}", f"−{down:,}" if down else "0"),
        (),
        None,
        words,
        table,
    )


def _lines[Sums](
    found: _Data,
    name: str,
    title: str,
    about: str,
    places: ByPlace[Sums],
    value_of: Callable[[Sums], float | None],
    words: Callable[[float], str],
    scale: Scale | None,
) -> Chart:
    """A chart with a line for each agent, or for each evaluator where the places are theirs."""
    field = "evaluator" if places is found.by_evaluator else "agent"
    names = found.evaluators if field == "evaluator" else found.agents
    series = [_series(found, one, field, places, value_of, words) for one in names]
    scale = scale or charts.scale_of(series)
    more = found.more_evaluators if field == "evaluator" else found.more_agents
    address = found.runs_of()
    columns = []
    if len(found.periods) > _POINTS:
        columns = [
            (_column(found, at, number, series, words), address(at))
            for number, at in enumerate(found.periods)
        ]
    legend = [
        (charts.swatch(shape), one.name, _last(one, words), _narrowed(found.here, field, names[shape]))
        for shape, one in enumerate(series)
    ]
    table = [
        (_named(at, found.step), address(at), [_cell(one.values[number], words) for one in series])
        for number, at in enumerate(found.periods)
        if any(one.values[number] is not None for one in series)
    ]
    svg = charts.lines(name, f"{title}, {about}: per {found.step} and {field}", series, scale, columns)
    most = "results" if field == "evaluator" else "runs"
    note = f"The {len(names)} with the most {most}; {more} more can be chosen under Filter." if more else ""
    ends = charts.ends(series, scale)
    marks = [words(mark) for mark in scale.marks]
    return Chart(name, title, about, svg, marks, legend, ends, [one.name for one in series], table, note)


def _series[Sums](
    found: _Data,
    name: str,
    field: str,
    places: ByPlace[Sums],
    value_of: Callable[[Sums], float | None],
    words: Callable[[float], str],
) -> Series:
    sums = [places.get((at, name)) for at in found.periods]
    values = [None if one is None else value_of(one) for one in sums]
    shown = text.visible(name)[:80] or f"no {field}"
    if len(found.periods) > _POINTS:
        return Series(shown, values, (), ())
    said = [
        "" if value is None else f"{_named(at, found.step)}, {shown}: {words(value)}"
        for at, value in zip(found.periods, values, strict=True)
    ]
    address = found.runs_of(Condition(OneOf(field, (name,))) if name else None)
    links = ["" if value is None else address(at) for at, value in zip(found.periods, values, strict=True)]
    return Series(shown, values, said, links)


def _column(
    found: _Data, at: date, number: int, series: Sequence[Series], words: Callable[[float], str]
) -> str:
    """All lines at one period, in the order of the legend."""
    there = [_cell(one.values[number], words) or "nothing" for one in series]
    return f"{_named(at, found.step)}: {', '.join(there)}"


def _cell(value: float | None, words: Callable[[float], str]) -> str:
    return "" if value is None else words(value)


def _last(series: Series, words: Callable[[float], str]) -> str:
    return next((words(value) for value in reversed(series.values) if value is not None), "nothing")


def _named(at: date, step: Step) -> str:
    """ "20 Nov", "week of 16 Nov", "November 2026"."""
    if step == "month":
        return f"{at:%B %Y}"
    day = f"{at.day} {at:%b}" if at.year == date.today().year else f"{at.day} {at:%b} {at.year}"
    return f"week of {day}" if step == "week" else day


# ── Controls ───────────────────────────────────────────────────────────────
def _choices(
    data: QueryDict, name: str, words: Mapping[Any, str], chosen: str, instead: Sequence[str] = ()
) -> list[tuple[str, str, bool]]:
    """(words, address, whether it is chosen) of each value of a control; it takes the place of `instead`."""
    query = {key: values for key, values in data.lists() if key not in (name, *instead)}
    return [(said, _address({**query, name: [value]}), value == chosen) for value, said in words.items()]


def _chips(data: QueryDict, form: TrendsForm) -> list[tuple[str, str, str]]:
    """(field, value, the address without it) of what narrows the charts."""
    given, query = form.cleaned_data, dict(data.lists())
    owners = {str(one.pk): one.name for one in form.owners}
    chips = [
        (name, owners.get(given[name], given[name]), _address({**query, name: []}))
        for name in ("kind", "evaluator", "owner")
        if given[name]
    ]
    for agent in given["agent"]:
        chips.append(
            ("agent", agent, _address({**query, "agent": [one for one in given["agent"] if one != agent]}))
        )
    return chips


def _narrowed(here: Mapping[str, list[str]], field: str, name: str) -> str:
    """This page with that agent or evaluator alone."""
    return _address({**here, field: [name]}) if name else _address(here)


def _address(query: Mapping[str, Sequence[str]]) -> str:
    given = {name: [one for one in values if one] for name, values in query.items()}
    encoded = urlencode({name: values for name, values in given.items() if values}, doseq=True)
    return f"{reverse('trends')}?{encoded}" if encoded else reverse("trends")

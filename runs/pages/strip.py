"""The strip above the list: its runs over time, what went wrong below the line (look/LOOK.md, mark 1)."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import pairwise

from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.safestring import SafeString
from django.views.decorators.http import require_safe

from runs import access
from runs.access import SignedInRequest
from runs.models import OPEN, Status
from runs.models.tally import MOST, Tally, tally
from runs.pages.asked import Asked, Links, asked, beside
from runs.pages.jinja import draw
from runs.pages.parts import wants
from runs.query import Compare, Condition, OneOf, Query, QueryError
from runs.templatetags import look

LEGEND = tuple(
    str(one)
    for one in (
        *(Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.RUNNING, Status.INPUT_REQUIRED),
        *(Status.QUEUED, Status.PAUSED),
    )
)
_BARS = 96  # at most
_WIDTH, _HEIGHT, _ZERO = 960, 88, 54  # of the drawing; what went well has the room above _ZERO
_UP, _DOWN = _ZERO - 5, _HEIGHT - _ZERO
_LEAST = 1.2  # height of what is there at all
_LABELS = 9  # under the chart
_HOUR, _DAY, _WEEK = timedelta(hours=1), timedelta(days=1), timedelta(weeks=1)
_STEPS = {
    timedelta(minutes=1): "minute",
    timedelta(minutes=5): "5 minutes",
    timedelta(minutes=15): "15 minutes",
    timedelta(minutes=30): "30 minutes",
    _HOUR: "hour",
    3 * _HOUR: "3 hours",
    6 * _HOUR: "6 hours",
    12 * _HOUR: "12 hours",
    _DAY: "day",
    _WEEK: "week",
    28 * _DAY: "4 weeks",
    364 * _DAY: "52 weeks",
}
_NICE = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 24, 30, 36, 40, 50, 60, 80)


@dataclass(frozen=True, slots=True)
class Choice:
    """A status of the legend: its address adds it to the query, or takes it out again."""

    value: str
    chosen: bool
    address: str
    count: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    css: str
    y: str
    height: str


@dataclass(frozen=True, slots=True)
class Bar:
    """The runs from one time to the next. `said` is its row of the table."""

    x: str
    width: str
    parts: Sequence[Part]
    when: str
    said: Sequence[tuple[str, int]]
    address: str


@access.signed_in
@require_safe
def strip(request: SignedInRequest) -> HttpResponse:
    """The chart with the counts; a page that is open asks for it when the rows are there already."""
    wanted = asked(request.GET, request.user)
    links = Links(wanted.query, **beside(request.GET))
    if not wants(request, "strip"):
        return redirect(links.asking(links.query, strip="1"))
    return HttpResponse(draw_strip(request, wanted, links, oob=True))


def draw_strip(request: SignedInRequest, wanted: Asked, links: Links, oob: bool = False) -> SafeString:
    now = timezone.now()
    try:
        found = tally(links.query, request.user, now) if not wanted.problems else Tally({})
    except QueryError:  # the list says what is wrong
        found = Tally({})
    counts = found.by_status
    legend = [replace(one, count=many(counts[one.value]) if counts else "") for one in choices(links)]
    chart = _chart(found, links, now) if found.counts else {}
    words = {"found": found_words(found), "covers": _covers(found)}
    return draw("runs/over_time", legend=legend, oob=oob, **words, **chart)


def draw_legend(links: Links) -> SafeString:
    """The legend without counts: what a page shows until the chart is there."""
    return draw("runs/over_time", legend=choices(links), oob=False, covers="")


def choices(links: Links) -> list[Choice]:
    on = next((one for one in links.query.conditions if _is_status(one)), None)
    chosen = on.test.values if on and isinstance(on.test, OneOf) else ()
    return [Choice(value, value in chosen, links.asking(_turned(links.query, on, value))) for value in LEGEND]


def found_words(found: Tally) -> str:
    """ "1,284 runs", "512k+ runs", "10,000+ runs"."""
    plus = "" if found.is_whole else "+"
    return f"{many(found.total)}{plus} run{'' if found.total == 1 and not plus else 's'}"


def many(number: int) -> str:
    """Exact as far as one counts; beyond that, rounded down."""
    if number <= MOST:
        return f"{number:,}"
    return f"{number // 1000}k+" if number < 1_000_000 else f"{number // 100_000 / 10:g}M+"


def _is_status(condition: Condition) -> bool:
    return isinstance(condition.test, OneOf) and condition.test.field == "status" and not condition.negated


def _turned(query: Query, on: Condition | None, value: str) -> Query:
    """With this status among those asked for, or no longer."""
    if on is None or not isinstance(on.test, OneOf):
        return query.with_(Condition(OneOf("status", (value,))))
    values = on.test.values
    kept = tuple(one for one in values if one != value) if value in values else (*values, value)
    if not kept:
        return query.without(on)
    changed = replace(on, test=OneOf("status", kept))
    return Query(tuple(changed if one == on else one for one in query.conditions))


def _covers(found: Tally) -> str:
    """What the chart leaves out; empty where that is nothing."""
    if found.reaches is None:
        return ""
    if not found.counts:
        return "Counting these runs takes too long: narrow the filter."
    return f"Since {look.exact_time(found.reaches)[:16]}: older runs are not counted."


# ── The chart ──────────────────────────────────────────────────────────────
def _chart(found: Tally, links: Links, now: datetime) -> dict[str, object]:
    zone = UTC if found.by_day else timezone.get_current_timezone()
    since, until = _bounds(links.query)
    start = found.reaches or since or min(at for at, _ in found.counts)
    start, end = min(start, min(at for at, _ in found.counts)), min(until or now, now)
    step = next((one for one in _STEPS if (end - start) / one < _BARS - 1), max(_STEPS))
    if found.by_day:
        step = max(step, _DAY)
    edges = _edges(start, max(end, *(at for at, _ in found.counts)), step, zone)
    counts = _binned(found, edges)
    most_up = max(_well(one) for one in counts)
    most_down = max(one[Status.FAILED] + one[Status.CANCELLED] for one in counts)
    top = _nice(max(most_up, most_down * _UP / _DOWN))
    room = _WIDTH / len(counts)
    bars = [
        _bar(place, room, one, top, edges, links, step) for place, one in enumerate(counts) if one.total()
    ]
    return {
        "bars": bars,
        "top": look.tokens(top),
        "bottom": look.tokens(int(top * _DOWN / _UP)),
        "labels": _labels(edges, zone, ends_now=until is None or until > now),
        "step": _STEPS[step],
        "zone": ", by UTC" if found.by_day and _differs(zone, now) else "",
    }


def _differs(zone: tzinfo, now: datetime) -> bool:
    """Whether the reader's clocks show another time than those of the chart."""
    return now.astimezone(zone).utcoffset() != look.local(now).utcoffset()


def _bounds(query: Query) -> tuple[datetime | None, datetime | None]:
    """From when and until when the query asks."""
    times = [(one, one.test) for one in query.conditions if isinstance(one.test, Compare)]
    asks = [(test.value, (test.operator == ">=") != one.negated) for one, test in times if _is_time(test)]
    since = max((at for at, starts in asks if starts and isinstance(at, datetime)), default=None)
    until = min((at for at, starts in asks if not starts and isinstance(at, datetime)), default=None)
    return since, until


def _is_time(test: Compare) -> bool:
    return test.field == "created"


def _edges(start: datetime, end: datetime, step: timedelta, zone: tzinfo) -> list[datetime]:
    """From the full step before `start` to the first one behind `end`, by the clocks of the zone."""
    local = start.astimezone(zone)
    first = local.replace(hour=0, minute=0, second=0, microsecond=0)
    if step >= _WEEK:
        first -= first.weekday() * _DAY
    edges, one = [], first + (local.replace(tzinfo=None) - first.replace(tzinfo=None)) // step * step
    while True:
        edges.append(one.astimezone(UTC))
        if edges[-1] > end:
            return edges
        # Hours by the world's clock, days by the zone's: some have 23 hours.
        one = one + step if step >= _DAY else (one.astimezone(UTC) + step).astimezone(zone)


def _binned(found: Tally, edges: Sequence[datetime]) -> list[Counter[str]]:
    bins: list[Counter[str]] = [Counter() for _ in edges[1:]]
    for (at, status), count in found.counts.items():
        bins[max(0, bisect_right(edges, at) - 1)][status] += count
    return bins


def _bar(
    place: int,
    room: float,
    counts: Counter[str],
    top: int,
    edges: Sequence[datetime],
    links: Links,
    step: timedelta,
) -> Bar:
    since, until = edges[place], edges[place + 1]
    gap = min(2.0, room / 5)
    return Bar(
        x=f"{place * room + gap / 2:.1f}",
        width=f"{room - gap:.1f}",
        parts=list(_parts(counts, _UP / top)),
        when=_when(since, step),
        said=_said(counts),
        address=links.asking(_narrowed(links.query, since, until)),
    )


def _said(counts: Counter[str]) -> list[tuple[str, int]]:
    ended = [(look.status_word(one).lower(), counts[one]) for one in LEGEND[:3]]
    return [*ended, ("open", sum(counts[one] for one in OPEN))]


def _parts(counts: Counter[str], scale: float) -> Iterator[Part]:
    y = float(_ZERO)
    for css, count in (
        ("c-ok", counts[Status.SUCCEEDED]),
        ("c-run", _well(counts) - counts[Status.SUCCEEDED]),
    ):
        if count:
            height = max(_LEAST, count * scale)
            y -= height
            yield Part(css, f"{y:.1f}", f"{height:.1f}")
    y = float(_ZERO)
    for css, count in (("c-bad", counts[Status.FAILED]), ("c-can", counts[Status.CANCELLED])):
        if count:
            height = max(_LEAST, count * scale)
            yield Part(css, f"{y:.1f}", f"{height:.1f}")
            y += height


def _well(counts: Counter[str]) -> int:
    """What went well, or may still."""
    return counts.total() - counts[Status.FAILED] - counts[Status.CANCELLED]


def _nice(number: float) -> int:
    power = 1
    while True:
        for one in _NICE:
            if one * power >= number:
                return one * power
        power *= 10


def _narrowed(query: Query, since: datetime, until: datetime) -> Query:
    """The query for this time alone, which lies within the time it asks for already."""
    kept = tuple(
        one for one in query.conditions if not (isinstance(one.test, Compare) and _is_time(one.test))
    )
    bounds = ((">=", since), ("<", until))
    wanted = (Condition(Compare("created", operator, at, _written(at))) for operator, at in bounds)
    return Query((*kept, *wanted))


def _written(at: datetime) -> str:
    """In UTC, so that it means the same to whom it is sent."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%MZ}"


def _when(at: datetime, step: timedelta) -> str:
    local = look.local(at)
    return f"{local:%a %-d %b %Y}" if step >= _DAY else f"{local:%a %-d %b, %H:%M}"


def _labels(edges: Sequence[datetime], zone: tzinfo, ends_now: bool) -> list[str]:
    count = min(_LABELS, len(edges))
    places = [round(number * (len(edges) - 1) / (count - 1)) for number in range(count)]
    times = [edges[place].astimezone(zone) for place in places]
    if times[-1] - times[0] > _WEEK:
        labels = [f"{one:%-d %b}" for one in times]
    else:
        days = [True, *(before.date() != one.date() for before, one in pairwise(times))]
        labels = [f"{one:%a %H:%M}" if new else f"{one:%H:%M}" for one, new in zip(times, days, strict=True)]
    return [*labels[:-1], "now"] if ends_now else labels

"""How Runfolio writes things: statuses, times, sizes, stars and bars (look/LOOK.md)."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from django import template
from django.template.context import Context
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from runs.exact import Json
from runs.models import Result, Run
from runs.pages import json_view, text

register = template.Library()

THEMES = ("light", "dark")
THEME_COOKIE = "runfolio-theme"

# Where the class and the shape of a status have another name than the status.
_SHAPES = {"input_required": "input"}
_ICONS = {"passed": "succeeded", "input_required": "input"}
_LABELS = dict([*Run.Status.choices, *Result.Status.choices, ("stale", "Stale")])

_THOUSAND, _MILLION = 1_000, 1_000_000
_BAR_GAP = 0.8  # between two parts, in hundredths of the bar


# ── Icons and statuses ─────────────────────────────────────────────────────
@register.simple_tag
def icon(name: str, extra: str = "") -> SafeString:
    """A shape of the sprite; `extra` are more classes."""
    return format_html(
        '<svg class="{}" aria-hidden="true"><use href="#i-{}"/></svg>', f"i {extra}".strip(), name
    )


@register.simple_tag
def status(value: str, word: str = "") -> SafeString:
    """Shape, word and colour of a run's status or a result's verdict; of another word, the word alone."""
    if value not in _LABELS:
        return format_html('<span class="raw">{}</span>', str(value)[:100])
    return _known_status(str(value), word or status_word(value))


@lru_cache(maxsize=100)
def _known_status(value: str, word: str) -> SafeString:
    return format_html(
        '<span class="st st-{}"><svg aria-hidden="true"><use href="#i-{}"/></svg><span>{}</span></span>',
        status_shape(value),
        status_icon(value),
        word,
    )


@register.filter
def status_shape(value: str) -> str:
    return _SHAPES.get(value, value)


@register.filter
def status_icon(value: str) -> str:
    return _ICONS.get(value, value)


@register.filter
def status_word(value: str) -> str:
    return str(_LABELS.get(value, value))


# ── Times ──────────────────────────────────────────────────────────────────
@register.simple_tag
def ago(at: datetime | None, now: datetime | None = None, suffix: str = "") -> SafeString:
    """Relative time with the exact one in its title; empty where there is none."""
    if at is None:
        return SafeString("")
    words = relative(at, now or timezone.now())
    if suffix and words[-1].isalpha() and words != "now" and not words[-3:].istitle():
        words = f"{words} {suffix}"
    return _time(at, words)


@register.simple_tag
def clock(at: datetime | None) -> SafeString:
    """The time of day in the reader's zone, with the whole moment in its title."""
    return SafeString("") if at is None else _time(at, f"{local(at):%H:%M:%S}")


@register.simple_tag
def moment(at: datetime | None) -> SafeString:
    return SafeString("") if at is None else _time(at, exact_time(at))


def exact_time(at: datetime) -> str:
    """The moment in the reader's zone, which it names."""
    return f"{local(at):%Y-%m-%d %H:%M:%S %Z}"


def local(at: datetime) -> datetime:
    """In the reader's zone (`User.zone`, activated by runs.access), which is UTC by default."""
    return at.astimezone(timezone.get_current_timezone())


@register.simple_tag
def zone_name(at: datetime | None = None) -> str:
    """What the reader's zone is called at that moment, now by default: "UTC", "CET", "+0330"."""
    return f"{local(at or timezone.now()):%Z}"


def relative(at: datetime, now: datetime) -> str:
    """ "now", "19 min", "2 h", "3 d"; from a month on the date."""
    seconds = (now - at).total_seconds()
    if seconds < 60:
        return "now"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min"
    if seconds < 86400:
        return f"{seconds // 3600:.0f} h"
    if seconds < 30 * 86400:
        return f"{seconds // 86400:.0f} d"
    day, today = local(at), local(now)
    return f"{day:%-d %b %Y}" if day.year != today.year else f"{day:%-d %b}"


@register.filter
def duration(took: timedelta | None) -> str:
    """ "83 ms", "2.4s", "48s", "4m 16s", "3h 02m", "2d 4h"; empty for None."""
    if took is None:
        return ""
    seconds = max(0.0, took.total_seconds())
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02}m"
    return f"{whole // 86400}d {whole % 86400 // 3600}h"


@register.filter
def milliseconds(number: Any) -> str:
    """A duration in milliseconds, as clients report it; empty for what is no number."""
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number < 1e13:
        return ""
    return f"{number:.0f} ms" if number < 1000 else duration(timedelta(milliseconds=number))


def _time(at: datetime, words: str) -> SafeString:
    """By hand: a list of runs has one in every row, and nothing in it is anybody's text."""
    utc = at.astimezone(UTC)
    return SafeString(f'<time datetime="{utc:%Y-%m-%dT%H:%M:%SZ}" title="{exact_time(at)}">{words}</time>')


# ── Numbers ────────────────────────────────────────────────────────────────
@register.filter
def tokens(number: int | None) -> str:
    """ "0", "9.2k", "182k", "1.92M", "18.4M"; empty for None."""
    if number is None:
        return ""
    if number < _THOUSAND:
        return str(number)
    if number < _MILLION:
        return _short(number / _THOUSAND, "k")
    return _short(number / _MILLION, "M", 2)


@register.filter
def thousands(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


@register.filter
def filesize(number: int | None) -> str:
    """Bytes as "312 B", "18 kB", "2.3 MB", "1.4 GB"."""
    if number is None:
        return ""
    if number < _THOUSAND:
        return f"{number} B"
    if number < _MILLION:
        return f"{number / _THOUSAND:.0f} kB"
    if number < _THOUSAND * _MILLION:
        return f"{number / _MILLION:.1f} MB"
    return f"{number / _THOUSAND / _MILLION:.1f} GB"


@register.filter
def score(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _short(number: float, unit: str, places: int = 1) -> str:
    if number >= 100:
        places = 0
    elif number >= 10:
        places = 1
    return f"{number:.{places}f}{unit}"


# ── Stars and bars ─────────────────────────────────────────────────────────
@register.inclusion_tag("parts/stars.html")
def stars(rating: int | None, field_id: str, label: str = "Your rating of this run") -> dict[str, Any]:
    """Five radios; `field_id` keeps focus and scroll across a swap."""
    return {"rating": rating, "field_id": field_id, "label": label, "numbers": range(1, 6)}


@register.simple_tag
def stars_given(rating: int) -> SafeString:
    """A rating that somebody else gave."""
    shapes = format_html_join(
        "",
        '<svg class="{}" aria-hidden="true"><use href="#i-star"/></svg>',
        (("on" if number <= rating else "off",) for number in range(1, 6)),
    )
    return format_html('<span class="stars-ro" role="img" aria-label="{} of 5">{}</span>', rating, shapes)


@register.simple_tag
def result_bar(passed: int, failed: int, errored: int, skipped: int) -> SafeString:
    """What passed lies low, what is wrong stands up."""
    parts = [
        ("b-ok", 3, 3, passed),
        ("b-bad", 0, 6, failed),
        ("b-err", 0, 6, errored),
        ("b-skip", 4, 2, skipped),
    ]
    shown = [part for part in parts if part[3]]
    total = sum(part[3] for part in shown)
    if not total:
        return SafeString("")
    room = 100 - _BAR_GAP * (len(shown) - 1)
    rects, x = "", 0.0
    for css, y, height, count in shown:
        width = room * count / total
        rects += f'<rect class="{css}" x="{x:.2f}" y="{y}" width="{width:.2f}" height="{height}"/>'
        x += width + _BAR_GAP
    return _bar(mark_safe(rects))  # noqa: S308  names and numbers of ours


@register.simple_tag
def score_bar(value: float, verdict: str, threshold: float | None) -> SafeString:
    """A score from 0 to 1, with a mark at its threshold."""
    css = {"passed": "b-ok", "failed": "b-bad"}.get(verdict, "b-err")
    width = 100 * min(1.0, max(0.0, value))
    mark = SafeString("")
    if threshold is not None:
        mark = format_html(
            '<rect class="b-thr" x="{}" y="0" width="1" height="6"/>', f"{min(99.0, 100 * threshold):.1f}"
        )
    return _bar(
        format_html(
            '<rect class="b-track" y="3" width="100" height="3"/>'
            '<rect class="{}" y="3" width="{}" height="3"/>{}',
            css,
            f"{width:.1f}",
            mark,
        )
    )


def _bar(inside: SafeString) -> SafeString:
    frame = '<svg class="bar" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">'
    return SafeString(f"{frame}{inside}</svg>")


# ── Texts of strangers ─────────────────────────────────────────────────────
@register.filter
def markdown(value: str) -> SafeString:
    return text.markdown(value)


@register.filter
def terminal(value: str) -> SafeString:
    """Tool output, with the colours it was written in."""
    return text.terminal(value)


@register.filter
def visible(value: Any) -> str:
    """A text that can be sent: what has no form is shown by a mark."""
    return text.visible(str(value))


@register.filter
def pretty(value: Json) -> SafeString:
    """Small JSON, indented and coloured."""
    return json_view.pretty(value)


# ── Pages ──────────────────────────────────────────────────────────────────
@register.simple_tag(takes_context=True)
def theme(context: Context) -> SafeString:
    """The attribute on <html> that overrides the system's theme; empty to follow it."""
    request = context.get("request")
    chosen = request.COOKIES.get(THEME_COOKIE) if request else None
    return mark_safe(f' data-theme="{chosen}"') if chosen in THEMES else SafeString("")  # noqa: S308  of THEMES


@register.filter
def initials(name: str) -> str:
    """At most two letters for a round mark."""
    words = [word for word in name.replace("token ", "").split() if word[0].isalnum()] or [name]
    letters = words[0][:2] if len(words) == 1 else "".join(word[0] for word in words[:2])
    return letters.upper() or "?"

"""The row of a run as HTML, a function for each cell.

Written by hand: a page has fifty rows, and a template takes longer to fill them than PostgreSQL to find the
runs. Whatever is anybody's text goes through `_text`; all else is numbers and words of ours.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from typing import TYPE_CHECKING

from runs.models import Run
from runs.pages import text
from runs.pages.asked import Links
from runs.templatetags import look

if TYPE_CHECKING:
    from runs.pages.run_table import Row

_DOT = ' <span aria-hidden="true">·</span> '
_TITLE, _MODEL = 300, 40  # characters that are shown


@dataclass(frozen=True, slots=True)
class Frame:
    """What all rows of a table share. `css` has the columns, each with its class; `oob`: the rows go where
    they are already."""

    links: Links
    css: Mapping[str, str]
    rate: Callable[[Run, int | None], str]
    picks: bool = False
    all_picked: bool = False
    several_owners: bool = False
    oob: bool = False


def draw_row(row: "Row", frame: Frame) -> str:
    cells = "".join(_CELLS[name](row, frame, css) for name, css in frame.css.items())
    oob = ' hx-swap-oob="true"' if frame.oob else ""
    run_id, title = str(row.run.pk), _text(row.run.title[:_TITLE])
    pick = _pick(row, frame, run_id, title) if frame.picks else ""
    first = f"{pick}{_status(row, frame)}{_title(row, frame, run_id, title)}"
    return f'<tr id="run-{run_id}"{oob}>{first}{cells}</tr>\n'


def _pick(row: "Row", frame: Frame, run_id: str, title: str) -> str:
    """A box that stays as it is when its row alone is drawn again; another list begins with none ticked."""
    keep = f' id="ck-{run_id}"' if row.is_live or frame.oob else ""
    keep += " hx-preserve" if frame.oob else ""
    on = " checked disabled" if frame.all_picked else ""
    what = f'name="id" value="{run_id}" form="bulk" aria-label="Choose {title or run_id}"'
    return f'<td class="c-ck"><input type="checkbox" {what}{keep}{on}></td>'


def _status(row: "Row", frame: Frame) -> str:
    address = frame.links.adding("status", row.run.status)
    live = ""
    if row.is_live:
        live = f'<input type="hidden" name="live" value="{row.run.pk.hex}.{row.version}">'
    shape = look.status(row.status)
    return f'<td class="c-status"><a class="st-link" data-list href="{address}">{shape}</a>{live}</td>'


def _title(row: "Row", frame: Frame, run_id: str, title: str) -> str:
    shown = title or f'<span class="mono">{run_id}</span>'
    link = f'<a class="t" dir="auto" href="/runs/{run_id}">{shown}</a>'
    return f'<td class="c-title">{link}<span class="sub">{_DOT.join(_second_line(row, frame))}</span></td>'


def _second_line(row: "Row", frame: Frame) -> list[str]:
    """The reason first if something is wrong or moving, then agent and session (look/LOOK.md)."""
    agent, (css, reason) = row.run.agent, row.reason
    parts = [f'<span class="{css}" dir="auto">{_text(reason)}</span>'] if css else []
    if agent:
        parts.append(_adding(frame, "agent", agent, agent, ' class="agent"'))
    if row.session_key:
        parts.append(_adding(frame, "session", row.session_key, row.session))
    if reason and not css:
        parts.append(f'<span dir="auto">{_text(reason)}</span>')
    if not parts:
        parts.append("no agent named")
    if frame.several_owners:
        parts.append(_adding(frame, "owner", row.owner, row.owner))
    return parts


def _adding(frame: Frame, field: str, value: str, shown: str, css: str = "") -> str:
    address = frame.links.adding(field, value)
    return f'<a data-list dir="auto"{css} href="{address}">{_name(shown)}</a>'


def _results(row: "Row", frame: Frame, css: str) -> str:
    run = row.run
    if not run.is_final and run.total_items and run.done_items is not None:
        return f'<td class="c-res">{_progress(run.done_items, run.total_items)}</td>'
    if not row.result_count:
        return '<td class="c-res none"></td>'
    counts = (run.passed_count, run.failed_count, run.errored_count, run.skipped_count)
    told = " ".join(
        f"<b{kind}>{count:,}</b> {word}"
        for count, (word, kind) in zip(counts, _VERDICTS, strict=True)
        if count
    )
    return f'<td class="c-res"><p>{told}</p>{look.result_bar(*counts)}</td>'


def _progress(done: int, total: int) -> str:
    width = 100 * min(1.0, done / total)
    return (
        f"<p><b>{done:,}</b> of {total:,} items</p>"
        '<svg class="bar" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="b-track" y="3" width="100" height="3"/>'
        f'<rect class="b-run" y="3" width="{width:.1f}" height="3"/></svg>'
    )


def _score(row: "Row", frame: Frame, css: str) -> str:
    return _number("c-score num", look.score(row.run.score))


def _rating(row: "Row", frame: Frame, css: str) -> str:
    return frame.rate(row.run, row.rating)


def _ratings(row: "Row", frame: Frame, css: str) -> str:
    run = row.run
    told = f"{run.rating_average:.1f} ({run.rating_count})" if run.rating_average is not None else ""
    return f'<td class="{css} num two" data-l="All ratings">{told}</td>'


def _duration(row: "Row", frame: Frame, css: str) -> str:
    started = row.run.started_at
    since = f' data-since="{started.timestamp():.0f}"' if started and row.is_live else ""
    return _number("c-dur num", look.duration(row.took), since)


def _tokens(row: "Row", frame: Frame, css: str) -> str:
    return _number("c-tok num", look.tokens(row.tokens))


def _model(row: "Row", frame: Frame, css: str) -> str:
    return f'<td class="{css} two" data-l="Model">{_name(row.run.model[:_MODEL])}</td>'


def _cost(row: "Row", frame: Frame, css: str) -> str:
    told = "" if row.run.cost is None else f"${row.run.cost:.2f}"
    return f'<td class="{css} num" data-l="Cost">{told}</td>'


def _events(row: "Row", frame: Frame, css: str) -> str:
    return f'<td class="{css} num" data-l="Events">{row.run.event_count:,}</td>'


def _created(row: "Row", frame: Frame, css: str) -> str:
    return f'<td class="c-when num">{look.ago(row.run.created_at, row.now)}</td>'


def _number(css: str, told: str, more: str = "") -> str:
    """A cell that is marked where it is empty: on a phone it goes."""
    return f'<td class="{css}"{more}>{told}</td>' if told else f'<td class="{css} none"></td>'


def _text(words: str) -> str:
    """Somebody's text, safe to show."""
    return escape(text.visible(words)) if words else ""


@lru_cache(maxsize=2_000)
def _name(words: str) -> str:
    """The same for what many rows say alike: agents, models, sessions."""
    return _text(words)


_VERDICTS = (("passed", ""), ("failed", ' class="bad"'), ("errored", ' class="err"'), ("skipped", ""))
_CELLS: Mapping[str, Callable[["Row", Frame, str], str]] = {
    "results": _results,
    "score": _score,
    "rating": _rating,
    "ratings": _ratings,
    "duration": _duration,
    "tokens": _tokens,
    "model": _model,
    "cost": _cost,
    "events": _events,
    "created": _created,
}

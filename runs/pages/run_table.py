"""The table of runs, which the runs page and the session page share."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connection
from django.http import HttpRequest
from django.middleware.csrf import get_token
from django.urls import reverse
from django.utils.safestring import SafeString

from runs.access import SignedInRequest
from runs.models import OVERALL, Action, Run, Status, User
from runs.models.listing import Found
from runs.models.paging import Cursor
from runs.pages import text
from runs.pages.asked import Links, beside_list
from runs.pages.jinja import draw
from runs.pages.run_row import Frame, draw_row
from runs.query import Query
from runs.templatetags import look

PAGE = 50  # rows

# The columns that one may choose, beside status and title. Events are shown where somebody asks for them.
COLUMNS: Mapping[str, str] = {
    "results": "Results",
    "score": "Score",
    "rating": "Your rating",
    "ratings": "All ratings",
    "duration": "Took",
    "tokens": "Tokens",
    "model": "Model",
    "cost": "Cost",
    "events": "Events",
    "created": "When",
}
USUAL = tuple(name for name in COLUMNS if name != "events")
_ROOMY = frozenset({"ratings", "model", "cost"})  # shown without being chosen where the page is wide

_HEADS = {
    **dict.fromkeys(("score", "ratings", "cost", "events", "created"), "num"),
    "duration": "num c-dur",
    "tokens": "num c-tok",
}

# Kinds of a reason, which are the classes of its text.
_BAD, _ASK, _NOW, _PLAIN = "why", "ask", "now", ""
_REASON = 300  # characters
_ID = "\N{OBJECT REPLACEMENT CHARACTER}"  # stands for an id


@dataclass(frozen=True, slots=True)
class Row:
    """A run as a line of the table. `rating` is the reader's own; `now` the page's one clock reading."""

    run: Run
    now: datetime
    owner: str = ""
    session_key: str = ""
    session: str = ""
    rating: int | None = None

    @property
    def version(self) -> str:
        """Differs when the row would look different: what a page that polls sends along."""
        return f"{self.run.updated_at.timestamp() * 1e6:.0f}{'s' if self.is_stale else ''}"

    @property
    def is_live(self) -> bool:
        return not self.run.is_final

    @property
    def is_stale(self) -> bool:
        return is_stale(self.run, self.now)

    @property
    def status(self) -> str:
        return "stale" if self.is_stale else str(self.run.status)

    @property
    def took(self) -> timedelta | None:
        return self.run.duration(self.now)

    @property
    def reason(self) -> tuple[str, str]:
        """The class and the words of why the run is not simply well, or what it is doing."""
        return _reason(self.run, self.now)

    @property
    def result_count(self) -> int:
        run = self.run
        return run.passed_count + run.failed_count + run.errored_count + run.skipped_count

    @property
    def tokens(self) -> int | None:
        return total_tokens(self.run)


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns a table has; none chosen are the usual ones, some of them only on wide pages."""

    chosen: tuple[str, ...] = ()

    @classmethod
    def read(cls, names: Iterable[str]) -> "Columns":
        """Those of the names that there are, in the order of the table; any other is left out."""
        given = {name for one in names for name in one.split(",") if name}
        return cls(tuple(name for name in (*COLUMNS, "run") if name in given))

    @property
    def shown(self) -> frozenset[str]:
        return frozenset(self.chosen or USUAL)

    def css(self, name: str) -> str:
        """The class of a column that needs room: hidden where nobody asked for it and the page is narrow."""
        return "" if name not in _ROOMY and name != "events" else "c-more" if self.chosen else "only-wide"

    def __str__(self) -> str:
        return ",".join(self.chosen)


@dataclass(frozen=True, slots=True)
class Page:
    """Rows, and where the next page begins; None at the end.

    `searched_to` is set where the search stopped before the page was full: nothing newer is missing.
    `links` are where a word of a row leads; with `picks`, rows can be chosen.
    """

    rows: list[Row]
    older: Cursor | None
    searched_to: datetime | None = None
    links: Links = field(default_factory=lambda: Links(Query()))
    columns: Columns = Columns()
    picks: bool = False
    all_picked: bool = False

    @property
    def heads(self) -> list[tuple[str, str, str]]:
        """Name, label and classes of the columns."""
        shown = [name for name in COLUMNS if name in self.columns.shown]
        return [
            (name, COLUMNS[name], f"{self.columns.css(name)} {_HEADS.get(name, '')}".strip())
            for name in shown
        ]


def page_of(found: Found, user: User, now: datetime) -> Page:
    searched_to = found.older.created_at if found.is_cut and found.older else None
    return Page(rows_of(found.runs, user, now), found.older, searched_to)


def rows_of(runs: Sequence[Run], user: User, now: datetime) -> list[Row]:
    """However many rows, one query: their sessions, their owners and the reader's ratings."""
    about = _about(user, [run.pk for run in runs]) if runs else {}
    return [Row(run, now, *about[run.pk]) for run in runs]


def draw_rows(request: SignedInRequest, page: Page, here: str, oob: bool = False) -> SafeString:
    """The rows as HTML; `here` is where a rating without script leads back to."""
    frame = Frame(
        links=page.links,
        css={name: page.columns.css(name) for name in COLUMNS if name in page.columns.shown},
        rate=_Ratings(request, here),
        picks=page.picks,
        all_picked=page.all_picked,
        several_owners=len(request.rights[Action.VIEW]) > 1,
        oob=oob,
    )
    return SafeString("".join(draw_row(row, frame) for row in page.rows))


def live_address(page: Page, here: str) -> str:
    """What tells which of the page's rows moved; empty where none will."""
    if not any(row.is_live for row in page.rows):
        return ""
    picks = {"picks": "1"} if page.picks else {}
    return beside_list(reverse("live_rows"), page.links, here=here, **picks)


def draw_rating(request: SignedInRequest, run: Run, rating: int | None, here: str, wrong: str) -> SafeString:
    """The cell that takes the reader's rating, with what is wrong, to be put where it was."""
    said = {"csrf": get_token(request), "here": here, "wrong": wrong}
    return draw("runs/rate", id=run.pk, rating=rating, oob=True, **said)


class _Ratings:
    """The cells in which one rates. Those of the same rating differ by the run's id alone."""

    def __init__(self, request: SignedInRequest, here: str) -> None:
        self.owners, self.said = request.rights[Action.RATE], {"csrf": get_token(request), "here": here}
        self.drawn: dict[int | None, str] = {}

    def __call__(self, run: Run, rating: int | None) -> str:
        if not run.is_final or run.owner_id not in self.owners:
            given = look.stars_given(rating) if rating else ""
            return f'<td class="c-rate">{given}</td>'
        if rating not in self.drawn:
            self.drawn[rating] = draw("runs/rate", id=_ID, rating=rating, wrong="", oob=False, **self.said)
        return self.drawn[rating].replace(_ID, str(run.pk))


def cursor_of(request: HttpRequest) -> Cursor | None:
    """Where the address says that the page begins; a broken place is the beginning."""
    try:
        return Cursor.parse(request.GET.get("after", ""))
    except ValueError:
        return None


def is_stale(run: Run, now: datetime) -> bool:
    """Its worker fell silent: the lease is over, and nobody has taken the run yet."""
    return run.status == Status.RUNNING and run.lease_expires_at is not None and run.lease_expires_at < now


def total_tokens(run: Run) -> int | None:
    if run.input_tokens is None and run.output_tokens is None:
        return None
    return (run.input_tokens or 0) + (run.output_tokens or 0)


def _about(user: User, run_ids: list[UUID]) -> dict[UUID, tuple[str, str, str, int | None]]:
    """Owner, key and title of the session, and the reader's rating."""
    with connection.cursor() as cursor:
        cursor.execute(_ABOUT, [user.actor, OVERALL, run_ids])
        return {run_id: tuple(said) for run_id, *said in cursor.fetchall()}


_ABOUT = """
    SELECT run.id, owner.name, coalesce(session.key, ''),
        coalesce(nullif(session.title, ''), session.key, ''), feedback.rating
    FROM run JOIN owner ON owner.id = run.owner_id
    LEFT JOIN session ON session.id = run.session_id
    LEFT JOIN feedback ON feedback.run_id = run.id AND feedback.author = %s AND feedback.criterion = %s
    WHERE run.id = ANY(%s)
"""


def _reason(run: Run, now: datetime) -> tuple[str, str]:
    if run.status == Status.FAILED:
        return _BAD, _line(run.error or "no reason was given")
    if run.status == Status.CANCELLED:
        who = run.cancel_requested_by or "cancelled"
        return _PLAIN, _line(f"{who}: “{run.cancel_reason}”" if run.cancel_reason else f"by {who}")
    if is_stale(run, now):
        return _ASK, "its worker has been silent"
    if run.cancel_requested_at and not run.is_final:
        return _ASK, f"{run.cancel_requested_by or 'somebody'} asked to cancel"
    if run.status == Status.QUEUED:
        return _PLAIN, "waits for a worker" if run.is_evaluation else "its agent has not begun"
    if run.status == Status.RUNNING and run.is_evaluation:
        count = run.passed_count + run.failed_count + run.errored_count + run.skipped_count
        return _NOW, f"{count} result{'' if count == 1 else 's'} so far" if count else "reads its traces"
    if run.status == Status.INPUT_REQUIRED:
        return _ASK, "asks a person"
    return _PLAIN, ""


def _line(words: str) -> str:
    return text.visible(" ".join(words[: _REASON * 2].split()))[:_REASON]

"""The table of runs, which the runs page and the session page share."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.http import HttpRequest
from django.utils import timezone

from runs.models import OVERALL, Feedback, Owner, Run, Session, Status, User
from runs.models.listing import Found
from runs.models.paging import Cursor
from runs.pages import text

PAGE = 50  # rows
_OF_SESSION = ("key", "title", "source")

# Kinds of a reason, which are the classes of its text.
_BAD, _ASK, _NOW, _PLAIN = "why", "ask", "now", ""
_REASON = 300  # characters


@dataclass(frozen=True, slots=True)
class Row:
    """A run as a line of the table. `rating` is the reader's own; `now` the page's one clock reading."""

    run: Run
    now: datetime
    rating: int | None

    @property
    def version(self) -> str:
        """Differs when the row would look different: what a polling row sends along."""
        return f"{self.run.updated_at.timestamp():.6f}-{int(self.is_stale)}"

    @property
    def is_live(self) -> bool:
        return self.run.status in (Status.QUEUED, Status.RUNNING)

    @property
    def is_stale(self) -> bool:
        return is_stale(self.run, self.now)

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
class Page:
    """Rows, and where the next page begins; None at the end.

    `searched_to` is set where the search stopped before the page was full: nothing newer is missing.
    """

    rows: list[Row]
    older: Cursor | None
    searched_to: datetime | None = None


def page_of(found: Found, user: User, now: datetime) -> Page:
    searched_to = found.older.created_at if found.is_cut and found.older else None
    return Page(rows_of(found.runs, user, now), found.older, searched_to)


def rows_of(runs: Sequence[Run], user: User, now: datetime) -> list[Row]:
    """However many rows: one query each for their sessions, their owners and the reader's ratings."""
    sessions = Session.objects.only(*_OF_SESSION).in_bulk({run.session_id for run in runs if run.session_id})
    owners = Owner.objects.in_bulk({run.owner_id for run in runs})
    for run in runs:
        run.session, run.owner = sessions.get(run.session_id), owners[run.owner_id]
    ratings = _ratings(user, [run.pk for run in runs if run.rating_count])
    return [Row(run, now, ratings.get(run.pk)) for run in runs]


def row_of(run: Run, user: User) -> Row:
    return rows_of([run], user, timezone.now())[0]


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


def _ratings(user: User, run_ids: Iterable[UUID]) -> dict[UUID, int | None]:
    given = Feedback.objects.filter(run__in=run_ids, author=user.actor, criterion=OVERALL)
    return dict(given.values_list("run_id", "rating"))


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
        return _PLAIN, "waits for a worker"
    if run.status == Status.RUNNING and run.is_evaluation:
        count = run.passed_count + run.failed_count + run.errored_count + run.skipped_count
        return _NOW, f"{count} result{'' if count == 1 else 's'} so far" if count else "reads its traces"
    if run.status == Status.INPUT_REQUIRED:
        return _ASK, "asks a person"
    return _PLAIN, ""


def _line(words: str) -> str:
    return text.visible(" ".join(words[: _REASON * 2].split()))[:_REASON]

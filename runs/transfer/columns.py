"""The columns of a list of runs as a file has them: plain values, times in UTC."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from runs.models import OVERALL, Feedback, Owner, Run, Session, User

type Value = str | int | float | None


@dataclass(frozen=True, slots=True)
class Row:
    """A run with what a list shows beside it; `rating` is the reader's own."""

    run: Run
    session: Session | None
    owner: Owner
    rating: int | None


class UnknownColumn(ValueError):
    """There is no such column; the text says which there are."""


# A column of the list may be several of the file: what has four numbers in one cell, has four cells.
_COLUMNS: Mapping[str, Mapping[str, Callable[[Row], Any]]] = MappingProxyType(
    {
        "id": {"id": lambda row: row.run.pk},
        "status": {"status": lambda row: row.run.status, "raw_status": lambda row: row.run.raw_status},
        "run": {"title": lambda row: row.run.title},
        "reason": {
            "error": lambda row: row.run.error,
            "cancelled_by": lambda row: row.run.cancel_requested_by,
            "cancel_reason": lambda row: row.run.cancel_reason,
        },
        "kind": {"kind": lambda row: row.run.kind},
        "agent": {"agent": lambda row: row.run.agent},
        "session": {
            "session": lambda row: row.session and row.session.key,
            "session_title": lambda row: row.session and row.session.title,
        },
        "source": {"source": lambda row: row.session and row.session.source},
        "owner": {"owner": lambda row: row.owner.name},
        "results": {
            "passed": lambda row: row.run.passed_count,
            "failed": lambda row: row.run.failed_count,
            "errored": lambda row: row.run.errored_count,
            "skipped": lambda row: row.run.skipped_count,
        },
        "score": {"score": lambda row: row.run.score},
        "rating": {"your_rating": lambda row: row.rating},
        "ratings": {
            "rating_average": lambda row: row.run.rating_average,
            "rating_count": lambda row: row.run.rating_count,
        },
        "duration": {"seconds": lambda row: _seconds(row.run)},
        "tokens": {
            "input_tokens": lambda row: row.run.input_tokens,
            "output_tokens": lambda row: row.run.output_tokens,
        },
        "cost": {"cost_usd": lambda row: row.run.cost},
        "model": {"model": lambda row: row.run.model},
        "events": {"events": lambda row: row.run.event_count},
        "artifacts": {"artifacts": lambda row: row.run.artifact_count},
        "attempt": {"attempt": lambda row: row.run.attempt},
        "created": {"created_at": lambda row: row.run.created_at},
        "started": {"started_at": lambda row: row.run.started_at},
        "finished": {"finished_at": lambda row: row.run.finished_at},
    }
)
NAMES = tuple(_COLUMNS)
# What every row of the list says in its first two cells, and which row it is.
ALWAYS = ("id", "status", "run", "reason", "agent", "session")
# What the list shows where nobody chose.
USUAL = ("results", "score", "rating", "ratings", "duration", "tokens", "model", "cost", "created")


def chosen(names: Sequence[str]) -> tuple[str, ...]:
    """These columns, the usual ones, or `all` that there are, with those that are always there; in our order.

    Raises UnknownColumn.
    """
    unknown = [name for name in names if name not in _COLUMNS and name != "all"]
    if unknown:
        raise UnknownColumn(f"There is no column {unknown[0][:60]}. There are: {', '.join(NAMES)}.")
    wanted = set(NAMES) if "all" in names else {*ALWAYS, *(names or USUAL)}
    return tuple(name for name in NAMES if name in wanted)


def header(names: Sequence[str]) -> list[str]:
    return [cell for name in names for cell in _COLUMNS[name]]


def values(names: Sequence[str], row: Row) -> list[Value]:
    return [_plain(of(row)) for name in names for of in _COLUMNS[name].values()]


def rows_of(runs: Sequence[Run], person: User) -> list[Row]:
    """However many runs: a query each for their sessions, their owners and the reader's ratings."""
    sessions = Session.objects.only("key", "title", "source").in_bulk(
        {run.session_id for run in runs if run.session_id}
    )
    owners = Owner.objects.in_bulk({run.owner_id for run in runs})
    given = Feedback.objects.filter(
        run__in=[run.pk for run in runs if run.rating_count], author=person.actor, criterion=OVERALL
    )
    ratings = dict(given.values_list("run_id", "rating"))
    return [Row(run, sessions.get(run.session_id), owners[run.owner_id], ratings.get(run.pk)) for run in runs]


def _seconds(run: Run) -> float | None:
    """How long it took; None while it goes on, for a file does not grow with it."""
    took = run.duration(run.finished_at) if run.finished_at else None
    return None if took is None else took.total_seconds()


def _plain(value: Any) -> Value:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return value if value is None or isinstance(value, str | int | float) else str(value)

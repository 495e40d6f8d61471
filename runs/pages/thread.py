"""A session's conversation as one thread across its runs, a window of it at a time (issue 5, point 6)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from django.utils.safestring import SafeString

from runs.models import Run, Session
from runs.models.paging import Cursor
from runs.models.thread import runs_from
from runs.pages import text, transcript
from runs.pages.run_table import Row

_RUNS = 20  # of a window, most of which are folded or short
_READ = 8  # runs whose events a window reads: a statement each
_EVENTS = transcript.WINDOW
_TITLE = 300


@dataclass(frozen=True, slots=True)
class Place:
    """Between two events of the thread: before event `seq` of the run that `run` points to."""

    run: Cursor
    seq: int

    def __str__(self) -> str:
        return f"{self.run}.{self.seq}"

    @classmethod
    def parse(cls, written: str) -> Self | None:
        """None for what is no place of ours."""
        cursor, _, seq = written.partition(".")
        try:
            return (
                cls(Cursor.parse(cursor), int(seq))
                if seq.isascii() and seq.isdigit() and len(seq) < 10
                else None
            )
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of the thread, or those of its events that are in the window: `first` to `last`."""

    row: Row
    turns: SafeString
    first: int
    last: int

    @property
    def run(self) -> Run:
        return self.row.run

    @property
    def is_folded(self) -> bool:
        """What judges the conversation, or repeats a piece of it, does not stand in its way."""
        return self.run.is_evaluation or self.run.retried_id is not None

    @property
    def title(self) -> str:
        return text.visible(self.run.title[:_TITLE]) or f"Run {self.run.short_id}"

    @property
    def is_cut(self) -> bool:
        """Whether the window has only some of its events."""
        return self.run.event_count > self.last - self.first + 1 and not self.run.is_evaluation


@dataclass(frozen=True, slots=True)
class Thread:
    """Pieces in their order. `earlier` and `later` are where the thread goes on; None at its ends."""

    pieces: list[Piece]
    earlier: Place | None
    later: Place | None


def latest(session: Session, now: datetime, before: Place | None = None) -> Thread:
    """The end of the thread, or what is before a place. The caller has made sure that it may be seen."""
    pieces, place = _collect(_runs(session, before, newest=True), before, now, newest=True)
    return Thread(pieces[::-1], place, before)


def earliest(session: Session, now: datetime, after: Place | None = None) -> Thread:
    """The beginning of the thread, or what is from a place on."""
    pieces, place = _collect(_runs(session, after, newest=False), after, now, newest=False)
    return Thread(pieces, after, place)


def _runs(session: Session, place: Place | None, *, newest: bool) -> list[Run]:
    return runs_from(session, place.run if place else None, newest=newest, size=_RUNS + 1)


def _collect(
    runs: Sequence[Run], place: Place | None, now: datetime, newest: bool
) -> tuple[list[Piece], Place | None]:
    """As many pieces as a page takes, and where the rest begins."""
    pieces: list[Piece] = []
    left, room, unread = _EVENTS, transcript.ROOM, _READ
    for number, run in enumerate(runs):
        if number == _RUNS or left <= 0 or room <= 0 or (not unread and _has_turns(run)):
            return pieces, _edge(run, newest)
        if not _has_turns(run):
            pieces.append(Piece(Row(run, now), SafeString(""), 1, 0))
            left -= 1
            continue
        first, end = _stretch(run, place, left, newest)
        entries = transcript.read(run, first, end, newest=newest)
        if not entries:  # the place is at its end
            continue
        unread -= 1
        left -= len(entries)
        room -= sum(min(entry.size, transcript.SHOWN) for entry in entries)
        first, last = entries[0].seq, entries[-1].seq
        turns = transcript.draw_turns(transcript.turns_of(entries, run), run, prefix=f"{run.short_id}-")
        pieces.append(Piece(Row(run, now), turns, first, last))
        if newest and first > 1:
            return pieces, Place(_cursor(run), first)
        if not newest and last < run.event_count:
            return pieces, Place(_cursor(run), last + 1)
    return pieces, None


def _has_turns(run: Run) -> bool:
    """Of an evaluation the thread tells the outcome alone."""
    return run.event_count > 0 and not run.is_evaluation


def _stretch(run: Run, place: Place | None, most: int, newest: bool) -> tuple[int, int]:
    """The first event that is wanted, and the one before which it ends."""
    at = place.seq if place and place.run.id == run.pk else None
    if newest:
        end = run.event_count + 1 if at is None else min(at, run.event_count + 1)
        return max(1, end - most), end
    first = at or 1
    return first, min(first + most, run.event_count + 1)


def _edge(run: Run, newest: bool) -> Place:
    return Place(_cursor(run), run.event_count + 1 if newest else 1)


def _cursor(run: Run) -> Cursor:
    return Cursor(run.created_at, run.pk)

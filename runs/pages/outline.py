"""What happened in a whole run, in some lines beside its transcript: who spoke, what was called, what failed
(look/LOOK.md)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection

from runs.exact import Json
from runs.models import Run
from runs.pages import text
from runs.pages.transcript import Turn, gist

LINES = 160
_READ = 20_000  # events that are looked at
_ERRORS = 40
_RESULTS = 4_000_000  # bytes of results that are looked through for errors, the newest


@dataclass(frozen=True, slots=True)
class Line:
    """One line; `level` 2 is something that a speaker did. `anchor` is where it is in the transcript."""

    seq: int
    anchor: str
    words: str
    level: int = 1
    is_error: bool = False


def of_window(turns: Sequence[Turn]) -> list[Line]:
    """The lines of the turns that are shown."""
    lines = []
    for turn in turns:
        lines.append(Line(turn.seq, f"e-{turn.seq}", turn.outline))
        for place, call in enumerate(turn.calls):
            if call.is_error or place < 3:
                anchor = f"{'c' if call.seq == turn.seq else 'e'}-{call.seq}"
                lines.append(Line(call.seq, anchor, call.name, 2, bool(call.is_error)))
        if len(turn.calls) > 3:
            lines.append(
                Line(turn.calls[3].seq, f"e-{turn.calls[3].seq}", f"{len(turn.calls) - 3} more calls", 2)
            )
    return lines


def of_run(run: Run) -> list[Line]:
    """The lines of the whole run: of a long one a part of what was said, evenly, and its newest errors."""
    given = {"run": run.pk, "read": _READ}
    said = _rows(
        "SELECT seq, role FROM event WHERE run_id = %(run)s AND kind = 'message' ORDER BY seq LIMIT %(read)s",
        given,
    )
    wrong = _wrong(run)
    chosen = _evenly([seq for seq, _ in said], LINES - len(wrong))
    lines = [
        Line(seq, f"e-{seq}", gist(words or "") or text.visible(role))
        for seq, role, words in _begun(run, chosen)
    ]
    lines += [Line(seq, f"e-{seq}", text.visible(str(name))[:80], 2, is_error=True) for seq, name in wrong]
    return sorted(lines, key=lambda line: line.seq)


def _wrong(run: Run) -> list[tuple[int, Json]]:
    """Errors, and results that are one: number and name."""
    given = {"run": run.pk, "read": _READ, "bytes": _RESULTS, "most": _ERRORS}
    return _rows(_WRONG, given)[::-1]


def _begun(run: Run, seqs: list[int]) -> list[tuple[int, str, str | None]]:
    """The beginning of what was said in these events; of a large one only who said it."""
    return _rows(
        """SELECT seq, role, CASE WHEN size < 200000 THEN left(payload #>> '{parts,0,text}', 300) END
        FROM event WHERE run_id = %(run)s AND seq = ANY(%(seqs)s) ORDER BY seq""",
        {"run": run.pk, "seqs": seqs},
    )


_WRONG = """SELECT seq, CASE kind WHEN 'error' THEN 'error' ELSE payload ->> 'name' END FROM (
        SELECT seq, kind, size, payload, sum(size) OVER (ORDER BY seq DESC) AS total FROM event
        WHERE run_id = %(run)s AND kind IN ('tool_result', 'error')
        ORDER BY seq DESC LIMIT %(read)s
    ) AS newest
    WHERE kind = 'error' OR total <= %(bytes)s AND payload -> 'is_error' = 'true'::jsonb
    ORDER BY seq DESC LIMIT %(most)s
"""


def _evenly(seqs: list[int], most: int) -> list[int]:
    """At most so many of them, the first and the last included."""
    if len(seqs) <= most:
        return seqs
    return [seqs[place * (len(seqs) - 1) // (most - 1)] for place in range(most)]


def _rows(statement: str, given: dict[str, Any]) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(statement, given)
        return list(cursor.fetchall())

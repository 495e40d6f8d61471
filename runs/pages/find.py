"""Finding in a transcript, what is folded or not loaded included (issue 5, point 3).

PostgreSQL looks through the texts of the run's events as people read them, decoded, in any language. What is
looked through at once is bounded; the page says so and goes on from there.
"""

import html
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.db import connection
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

from runs.exact import clean_text
from runs.models import Run
from runs.pages import text

AT_ONCE = 24_000_000  # bytes of events that one search looks through
MOST = 500  # events that are found at once
LONGEST = 200  # characters of what is looked for
_AROUND = 60  # characters of an excerpt before what was found
_LISTED = 100  # of those found, around the current one


@dataclass(frozen=True, slots=True)
class Hit:
    seq: int
    kind: str
    excerpt: str


@dataclass(frozen=True, slots=True)
class Search:
    """What was found of `words` in the events from `first` to `last`; `hits[at]` is the one that is shown."""

    words: str
    hits: Sequence[Hit]
    at: int
    first: int
    last: int
    count: int

    @property
    def current(self) -> Hit | None:
        return self.hits[self.at] if self.hits else None

    @property
    def before(self) -> Hit | None:
        """The one before; of the first one the last."""
        return self.hits[self.at - 1] if len(self.hits) > 1 else None

    @property
    def after(self) -> Hit | None:
        return self.hits[(self.at + 1) % len(self.hits)] if len(self.hits) > 1 else None

    @property
    def listed(self) -> Sequence[Hit]:
        start = max(0, min(self.at - _LISTED // 2, len(self.hits) - _LISTED))
        return self.hits[start : start + _LISTED]

    @property
    def more_from(self) -> int | None:
        """Where a search would go on; None where all was looked through."""
        return self.last + 1 if self.last < self.count else None

    def mark(self, drawn: str) -> SafeString:
        """HTML with what was found marked, in its texts only."""
        return mark_hits(drawn, self.words)

    def excerpt(self, hit: Hit) -> SafeString:
        """A line of what is around it, without the escapes of JSON."""
        words = hit.excerpt.replace("\\n", " ").replace('\\"', '"')
        return mark_hits(escape(text.visible(text.without_base64(words))), self.words)


def search(run: Run, words: str, at: int = 0, *, past: bool = False, first: int = 1) -> Search | None:
    """Events from `first` on whose texts hold `words`, in whatever case; None where nothing is asked for.

    The current one is event `at`, or the next one; with `past` the one behind it.
    """
    words = clean_text(" ".join(words.split()))[:LONGEST]
    if not words:
        return None
    first = max(1, first)
    hits, last = _hits(run.pk, run.event_count, run.size, words, first)
    place = next((place for place, hit in enumerate(hits) if hit.seq > at or (hit.seq == at and not past)), 0)
    return Search(words, hits, place, first, last, run.event_count)


def mark_hits(drawn: str, words: str) -> SafeString:
    """HTML with each `words` of its texts in <mark>. What markup divides is left as it is."""
    if not words:
        return mark_safe(drawn)  # noqa: S308  what was drawn is escaped
    wanted = re.escape(html.escape(words)).replace(r"\ ", r"\s+")
    pattern = re.compile(f"<[^>]*>|({wanted})|&#?\\w+;", re.IGNORECASE)
    return mark_safe(  # noqa: S308  only marks are put around texts that were there
        pattern.sub(lambda found: f"<mark>{found[1]}</mark>" if found[1] else found[0], drawn)
    )


@lru_cache(maxsize=128)
def _hits(run_id: UUID, event_count: int, size: int, words: str, first: int) -> tuple[Sequence[Hit], int]:
    """What was found, and the last event that was looked through.

    Kept for going from one to the next: events never change, and where there are more, the count is another.
    """
    last = event_count if size <= AT_ONCE else _last_at_once(run_id, first) or event_count
    # As JSONB writes it: with its own escapes, and all other characters as they are.
    needle = json.dumps(words, ensure_ascii=False)[1:-1]
    given: dict[str, Any] = {
        "run": run_id,
        "first": first,
        "last": last,
        "needle": needle,
        "most": MOST,
        "around": _AROUND,
    }
    with connection.cursor() as cursor:
        cursor.execute(_FIND, given)
        hits = [Hit(*row) for row in cursor.fetchall()]
    return tuple(hits), hits[-1].seq if len(hits) == MOST else last


def _last_at_once(run_id: UUID, first: int) -> int | None:
    with connection.cursor() as cursor:
        cursor.execute(_LAST, {"run": run_id, "first": first, "bytes": AT_ONCE})
        row = cursor.fetchone()
    return row[0] if row else None


_LAST = """SELECT max(seq) FROM (
        SELECT seq, sum(size) OVER (ORDER BY seq) - size AS before FROM event
        WHERE run_id = %(run)s AND seq >= %(first)s
    ) AS summed WHERE before < %(bytes)s
"""

# What a reader sees of an event: not the names of its parts, nor the bytes of its files.
_FIND = """SELECT seq, kind,
        substr(said, greatest(1, strpos(lower(said), lower(%(needle)s)) - %(around)s), 240)
    FROM (
        SELECT seq, kind, CASE kind
                WHEN 'message' THEN concat_ws(' ', payload ->> 'name',
                    jsonb_path_query_array(payload, '$.parts[*].text'),
                    nullif(jsonb_path_query_array(payload, '$.parts[*].data'), '[]'),
                    nullif(jsonb_path_query_array(payload, '$.parts[*].file.name'), '[]'))
                WHEN 'tool_call' THEN concat_ws(' ', payload ->> 'name', payload -> 'arguments')
                WHEN 'tool_result' THEN concat_ws(' ', payload ->> 'name', payload -> 'result')
                WHEN 'error' THEN concat_ws(' ', payload -> 'message', payload -> 'code')
                WHEN 'state' THEN concat_ws(
                    ' ', payload -> 'from', payload -> 'to', payload -> 'by', payload -> 'reason')
                ELSE payload::text
            END AS said FROM event
        WHERE run_id = %(run)s AND seq >= %(first)s AND seq <= %(last)s
        OFFSET 0
    ) AS read WHERE strpos(lower(said), lower(%(needle)s)) > 0
    ORDER BY seq LIMIT %(most)s
"""

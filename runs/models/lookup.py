"""Looking runs up in the search index, newest first, block by block (models.search)."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from uuid import UUID

from django.db import connection

from runs.models.finding import BEGINNING, Sought
from runs.models.run import Run
from runs.models.search import PARTIAL, term_of

BLOCKS_AT_ONCE = (1, 2, 4, 8, 16)  # more and more, as long as too little is found


def candidate_blocks(
    owner_id: int, sought: Sequence[Sought], newest: int, oldest: int
) -> Iterator[list[int]]:
    """Blocks of the owner, from `newest` down to `oldest`, that have words of all that is sought."""
    groups = [sorted(term_of(word) for word in group) for one in sought for group in one.terms]
    steps, most = iter(BLOCKS_AT_ONCE), 0
    while True:
        most = next(steps, most)
        found = _candidates(owner_id, groups, newest, oldest, most)
        if found:
            yield found
        if len(found) < most:
            return
        newest = found[-1] - 1


def runs_with(sought: Sought, blocks: Sequence[int]) -> set[UUID]:
    """The runs of these blocks that have what is sought in a document."""
    found = _matching(_phrase(block, phrase) for block in blocks for phrase in sought.anyhow)
    if sought.unsure is not None:
        partial = _matching(_quoted(f"{block}:{PARTIAL}") for block in blocks) - found
        found |= set(Run.objects.filter(sought.unsure, pk__in=partial).values_list("pk", flat=True))
    return found


def block_of(owner_id: int, at: datetime | None) -> int:
    """The block of an owner's runs of that time; 0 where they have none."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT id FROM search_block
            WHERE owner_id = %s AND from_at <= coalesce(%s, 'infinity'::timestamptz)
            ORDER BY from_at DESC LIMIT 1
            """,
            [owner_id, at],
        )
        row = cursor.fetchone()
    return row[0] if row else 0


def _candidates(owner_id: int, groups: Sequence[list[int]], newest: int, oldest: int, most: int) -> list[int]:
    first, *others = groups
    also = "".join(
        f" AND EXISTS (SELECT FROM search_term AS other WHERE other.owner_id = term.owner_id"
        f" AND other.term = ANY(%(group{number})s) AND other.block = term.block)"
        for number in range(len(others))
    )
    statement = _CANDIDATES.format(also=also)
    parameters = {f"group{number}": group for number, group in enumerate(others)}
    found: set[int] = set()
    with connection.cursor() as cursor:
        for term in first:  # each alone: only so the index gives them in order
            cursor.execute(
                statement,
                {
                    "owner": owner_id,
                    "term": term,
                    "newest": newest,
                    "oldest": oldest,
                    "most": most,
                    **parameters,
                },
            )
            found.update(row[0] for row in cursor.fetchall())
    return sorted(found, reverse=True)[:most]


_MATCHING = """
    SELECT DISTINCT run_id FROM unnest(%s::text[]) AS asked
    CROSS JOIN LATERAL (SELECT run_id FROM search_doc WHERE words @@ asked::tsquery) AS found
"""
_CANDIDATES = """
    SELECT DISTINCT block FROM search_term AS term
    WHERE owner_id = %(owner)s AND term = %(term)s AND block BETWEEN %(oldest)s AND %(newest)s{also}
    ORDER BY block DESC LIMIT %(most)s
"""


def _matching(queries: Iterable[str]) -> set[UUID]:
    """One after the other: of many in one PostgreSQL thinks that it finds most documents, and reads all."""
    with connection.cursor() as cursor:
        cursor.execute(_MATCHING, [list(queries)])
        return {row[0] for row in cursor.fetchall()}


def _phrase(block: int, phrase: Iterable[tuple[str, int]]) -> str:
    parts: list[str] = []
    before = 0
    for word, place in phrase:
        if parts:
            parts.append(f"<{place - before}>")
        whole = _quoted(f"{block}:{word.removesuffix(BEGINNING)}")
        parts.append(f"{whole}:*" if word.endswith(BEGINNING) else whole)
        before = place
    return f"({' '.join(parts)})"


def _quoted(lexeme: str) -> str:
    doubled = lexeme.replace("\\", "\\\\").replace("'", "''")
    return f"'{doubled}'"

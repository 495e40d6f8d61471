"""The index that runs are found by: what was said in them, and what their JSON holds (issue 3, point 4).

Three tables, because PostgreSQL's GIN knows no order and a list wants the newest. An owner's runs are cut
in order of time into blocks of some hundred. A document (an event, or what the run says of itself) keeps
its words with the block in front, so that GIN finds the documents of one block alone. And each block keeps
which words occur in it at all, so that a rare word leads to its blocks at once.
"""

import threading
import zlib
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVectorField
from django.db import connection, models, transaction

from runs.exact import Json, clean_text
from runs.models import triggers
from runs.models.owner import Owner
from runs.words import BETWEEN, Found, found_in, is_paired, plain_words, texts_in

OF_RUN, OF_SPEC, OF_RESULTS = 0, -1, -2  # documents that are no event; those of events have its seq

# Stands for the block in front of a word until the statement that writes the document knows it.
MARK = "\x02"
_MOST_LEAVES = 500
_NO_WORDS = frozenset({BETWEEN})
_LONGEST_SIGN = 300  # characters; PostgreSQL takes words of 2,046 bytes
_MOST_PLACES = 255  # of a word, that PostgreSQL keeps
PARTIAL = "=partial"  # the sign of a document whose JSON had more than we keep


class SearchBlock(models.Model):
    """Runs of one owner that follow each other in time; a block ends where the next one begins."""

    owner = models.ForeignKey(Owner, on_delete=models.CASCADE, related_name="+", db_index=False)
    from_at = models.DateTimeField()
    opened_by = models.BigIntegerField(null=True, help_text="The transaction, where it was opened ahead.")

    class Meta:
        db_table = "search_block"
        constraints = [models.UniqueConstraint(fields=["owner", "from_at"], name="search_block_once")]
        triggers = [triggers.opened_in_time()]

    def __str__(self) -> str:
        return f"block {self.pk}"


class SearchDoc(models.Model):
    """What one event, or the run itself, is found by."""

    pk = models.CompositePrimaryKey("run_id", "seq")
    run_id = models.UUIDField()  # no foreign key: its check would lock the run once more for each event
    seq = models.IntegerField()
    words = SearchVectorField()
    whole = models.BooleanField(help_text="False: it has more than is searched.")

    class Meta:
        db_table = "search_doc"
        indexes = [GinIndex(fields=["words"], name="search_words")]

    def __str__(self) -> str:
        return f"words of {self.run_id}/{self.seq}"


class SearchTerm(models.Model):
    """A word that occurs somewhere in a block, by its hash.

    Not unique in the database, on purpose: two writers that meet the same new word would have to wait
    for each other. A row too many only costs its place.
    """

    pk = models.CompositePrimaryKey("owner_id", "term", "block")
    owner_id = models.BigIntegerField()
    term = models.IntegerField()
    block = models.BigIntegerField()

    class Meta:
        managed = False
        db_table = "search_term"

    def __str__(self) -> str:
        return f"{self.term} in {self.block}"


@dataclass(slots=True)  # not frozen: that takes three times as long
class Doc:
    """A document ready to be written: a tsvector with MARK for the block, and what is found in it, BETWEEN
    perhaps among it."""

    words: str
    found: Collection[str]
    whole: bool

    @property
    def terms(self) -> frozenset[int]:
        return terms_of(self.found)


def doc_of(found: Found) -> Doc:
    whole = found.whole and max(map(len, found.positions.values()), default=0) <= _MOST_PLACES
    lexemes = [
        f"'{MARK}{word}':{places[0]}" if len(places) == 1 else _lexeme(word, places)
        for word, places in found.positions.items()
    ]
    return Doc(" ".join(lexemes), found.positions.keys(), whole)


def terms_of(found: Collection[str]) -> frozenset[int]:
    """What a block keeps of the words and signs in it."""
    return frozenset(map(term_of, _terms({*found} - _NO_WORDS)))


@lru_cache(2**16)
def term_of(word: str) -> int:
    """32 bits, signed: of two words with one hash, one only makes us look into a block in vain."""
    return zlib.crc32(word.encode()) - 2**31


def event_doc(payload: Json) -> Doc:
    return _doc(texts_in(payload))


def run_doc(title: str, error: str | None, metadata: Json, model: str = "", source: str = "") -> Doc:
    """What the run says of itself: words of its title, error and metadata; its metadata's paths, its model,
    and the source of its session."""
    named = {"model": model, "source": source}
    signs = [f"={name}:{value[:_LONGEST_SIGN]}" for name, value in named.items() if value]
    return _doc([title, error or "", *texts_in(metadata)], [*signs, *_paths("metadata", metadata)])


def _doc(pieces: list[str], signs: Sequence[str] = ()) -> Doc:
    """PostgreSQL puts a word's places together by itself, where they cannot be too many."""
    words = plain_words(pieces)
    if words is None or len(words) > _MOST_PLACES:
        found = found_in(pieces)
        for sign in signs:
            found.mark(sign)
        return doc_of(found)
    lexemes = [f"'{MARK}{word}':{place}" for place, word in enumerate(words, 1) if word != BETWEEN]
    lexemes += [_lexeme(sign, []) for sign in signs]
    return Doc(" ".join(lexemes), [*words, *signs], True)


def spec_doc(spec: dict[str, Json]) -> Doc:
    """What a spec says of the evaluation, but not what is evaluated: the traces and the eval set."""
    found = Found()
    asked = {key: value for key, value in spec.items() if key not in ("evalSet", "target")}
    target = spec.get("target")
    if isinstance(target, dict):
        asked["target"] = {key: value for key, value in target.items() if key != "inline"}
    for sign in _paths("spec", asked):
        found.mark(sign)
    return doc_of(found)


def path_sign(root: str, path: Iterable[str], value: str) -> str:
    """How a document says that the JSON `root` holds `value` at `path`."""
    return clean_sign(f"={'.'.join((root, *(_escaped(key) for key in path)))}:{value}")


def clean_sign(sign: str) -> str:
    return clean_text(sign).replace(MARK, "\N{REPLACEMENT CHARACTER}")


def _paths(root: str, value: Json) -> Iterator[str]:
    """A sign for each leaf; an array holds what its elements hold. Long ones and a great many are cut."""
    for number, (path, leaf) in enumerate(_leaves(value)):
        if number == _MOST_LEAVES:
            yield PARTIAL
            return
        sign = path_sign(root, path, leaf)
        yield sign if len(sign) <= _LONGEST_SIGN else PARTIAL


def _leaves(value: Json) -> Iterator[tuple[tuple[str, ...], str]]:
    todo: list[tuple[tuple[str, ...], Any]] = [((), value)]
    while todo:
        path, item = todo.pop()
        if isinstance(item, dict):
            todo.extend(((*path, key), one) for key, one in reversed(item.items()))
        elif isinstance(item, list):
            todo.extend((path, one) for one in reversed(item))
        else:
            yield path, leaf_text(item)


def leaf_text(value: Json) -> str:
    """A leaf as one writes it in a query: true, false, null, 5, prod."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _escaped(key: str) -> str:
    """So that no key with a dot or a colon can be taken for another path or value."""
    return key.replace("\\", "\\\\").replace(".", "\\.").replace(":", "\\:")


def _lexeme(word: str, places: list[int]) -> str:
    if places:  # a word; signs have no place, and only they need quoting
        return f"'{MARK}{word}':{','.join(map(str, places[:_MOST_PLACES]))}"
    quoted = word.replace("\\", "\\\\").replace("'", "''")
    return f"'{MARK}{quoted}'"


def _terms(found: Collection[str]) -> Iterable[str]:
    """The words, and each character of a paired script, since one may look for it alone."""
    if "".join(found).isascii():
        return found
    return [term for word in found for term in ((word, *word) if is_paired(word) else (word,))]


# ── Writing it ─────────────────────────────────────────────────────────────
def put_docs(run_id: UUID, docs: Mapping[int, Doc]) -> None:
    """Writes documents of the run anew, in one statement."""
    parameters = {
        "run": run_id,
        "seqs": list(docs),
        "words": [doc.words for doc in docs.values()],
        "wholes": [doc.whole for doc in docs.values()],
        "terms": sorted(set().union(*(doc.terms for doc in docs.values()))),
    }
    _execute(_PUT, {**parameters, **_MARKED})


def add_to_doc(run_id: UUID, seq: int, doc: Doc) -> None:
    """Adds signs to a document of the run, if they are not all there."""
    _execute(_ADD, {"run": run_id, "seq": seq, "words": doc.words, "whole": doc.whole, **_MARKED})
    add_terms(run_id, doc.terms)


def add_terms(run_id: UUID, terms: Iterable[int]) -> None:
    _execute(_ADD_TERMS, {"run": run_id, "terms": sorted(terms)})


_MARKED = {"mark": MARK}

# What is there already is passed over; that two may find it missing at once is harmless. OFFSET 0 makes it a
# look into the index for each: as a join, PostgreSQL may read all that the owner has.
_ADD_TERMS = """
    INSERT INTO search_term (owner_id, term, block)
    SELECT run.owner_id, given.term, run.search_block
    FROM run, unnest(%(terms)s::integer[]) AS given (term)
    WHERE run.id = %(run)s AND NOT EXISTS (
        SELECT FROM search_term AS known
        WHERE (known.owner_id, known.term, known.block) = (run.owner_id, given.term, run.search_block)
        OFFSET 0
    )
"""

_PUT = f"""
    WITH put AS (
        INSERT INTO search_doc (run_id, seq, words, whole)
        SELECT id, given.seq, replace(given.words, %(mark)s, search_block || ':')::tsvector, given.whole
        FROM run, unnest(%(seqs)s::integer[], %(words)s::text[], %(wholes)s::boolean[])
            AS given (seq, words, whole)
        WHERE id = %(run)s
        ON CONFLICT (run_id, seq) DO UPDATE SET words = excluded.words, whole = excluded.whole
        WHERE search_doc.words IS DISTINCT FROM excluded.words
    )
    {_ADD_TERMS}
"""

_ADD = """
    INSERT INTO search_doc (run_id, seq, words, whole)
    SELECT id, %(seq)s, replace(%(words)s, %(mark)s, search_block || ':')::tsvector, %(whole)s
    FROM run WHERE id = %(run)s
    ON CONFLICT (run_id, seq) DO UPDATE SET words = search_doc.words || excluded.words
    WHERE NOT tsvector_to_array(search_doc.words) @> tsvector_to_array(excluded.words)
"""

_ADD_TERMS_OF_BLOCK = """
    INSERT INTO search_term (owner_id, term, block)
    SELECT %(owner)s, given.term, %(block)s FROM unnest(%(terms)s::integer[]) AS given (term)
    WHERE NOT EXISTS (
        SELECT FROM search_term AS known
        WHERE (known.owner_id, known.term, known.block) = (%(owner)s, given.term, %(block)s)
        OFFSET 0
    )
"""


def _execute(statement: str, parameters: dict[str, Any]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)


class _KnownTerms:
    """Which terms some blocks have for sure, so that an append need not ask for each of its words again.

    Filled with what is committed. A term of a block never goes while the block has a run.
    """

    BLOCKS, RUNS = 64, 4096

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._block_of: OrderedDict[tuple[str, UUID], int] = OrderedDict()
        self._terms: OrderedDict[tuple[str, int], set[int]] = OrderedDict()

    def missing(self, run_id: UUID, terms: frozenset[int]) -> list[int]:
        """Those of `terms` that the run's block may not have yet."""
        database = _database()
        with self._lock:
            block = self._block_of.get((database, run_id))
            known = self._terms.get((database, block), set()) if block else set()
            return sorted(terms - known)

    def note(self, run_id: UUID, block: int, terms: frozenset[int]) -> None:
        """Called when they are written; they count when they are committed."""
        database = _database()
        transaction.on_commit(lambda: self._keep(database, run_id, block, terms))

    def add(self, owner_id: int, block: int, terms: Set[int]) -> None:
        """Writes those of `terms` that the block may not have yet: for many runs of one block at once."""
        database = _database()
        with self._lock:
            new = terms - self._terms.get((database, block), set())
        if new:
            _execute(_ADD_TERMS_OF_BLOCK, {"owner": owner_id, "block": block, "terms": sorted(new)})
            transaction.on_commit(lambda: self._keep(database, None, block, frozenset(new)))

    def _keep(self, database: str, run_id: UUID | None, block: int, terms: frozenset[int]) -> None:
        with self._lock:
            if run_id is not None:
                self._block_of[database, run_id] = block
            self._terms.setdefault((database, block), set()).update(terms)
            self._terms.move_to_end((database, block))
            for kept, most in ((self._block_of, self.RUNS), (self._terms, self.BLOCKS)):
                if len(kept) > most:
                    kept.popitem(last=False)


known_terms = _KnownTerms()


def _database() -> str:
    return str(connection.settings_dict["NAME"])

"""Words of a document: the quick way finds what the way piece by piece finds."""

import random

import pytest
from django.db import connection

from runs.models.search import doc_of, event_doc, run_doc
from runs.words import LONGEST_WORD, Found, found_in, texts_in

PIECES = [
    ["one two", "two three", ""],
    ["", "", "alone"],
    ["NUL\0inside", "and after"],
    ["UPPER lower 42", "x-y_z"],
    ["w" * (LONGEST_WORD + 20), "after a long word"],
    ["grün", "und ascii"],
    ["word " * 3_000, "much"],
    [],
]


def piece_by_piece(pieces: list[str]) -> Found:
    found = Found()
    for piece in pieces:
        found.read(piece)
    return found


@pytest.mark.parametrize("pieces", PIECES, ids=lambda pieces: repr(pieces)[:30])
def test_it_finds_the_same_words_at_the_same_places(pieces):
    assert found_in(pieces).positions == piece_by_piece(pieces).positions


def test_so_it_does_for_any_pieces():
    chance = random.Random(11)
    for _ in range(300):
        pieces = [
            "".join(chance.choices("ab1 .-ä", k=chance.randrange(12))) for _ in range(chance.randrange(5))
        ]
        assert found_in(pieces).positions == piece_by_piece(pieces).positions, pieces


@pytest.mark.parametrize(
    "pieces", [*PIECES, ["again " * 255], ["again " * 256]], ids=lambda pieces: repr(pieces)[:30]
)
def test_postgresql_makes_the_same_document_of_both(db, pieces):
    quick, slow = event_doc(pieces), doc_of(found_in(pieces))
    assert (as_kept(quick.words), quick.terms, quick.whole) == (as_kept(slow.words), slow.terms, slow.whole)


def test_signs_are_found_beside_the_words_of_a_run(db):
    quick = run_doc("a title", None, {"env.a": "it's", "n": [1, 1]}, "gpt-5")
    slow = found_in(["a title", "", "it's", "1", "1"])
    for sign in ("=model:gpt-5", r"=metadata.env\.a:it's", "=metadata.n:1"):
        slow.mark(sign)
    assert as_kept(quick.words) == as_kept(doc_of(slow).words)
    assert quick.terms == doc_of(slow).terms


def as_kept(words):
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s::tsvector::text", [words])
        return cursor.fetchone()[0]


def test_data_is_no_text_however_short_and_long_base64_neither():
    data = ["data:image/png;base64,AAAA", "A" * 400, "A" * 399, "data: is a word"]
    assert list(texts_in(data)) == ["A" * 399, "data: is a word"]

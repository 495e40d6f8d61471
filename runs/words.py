"""What a text is found by: its words, the same on every server (issue 3, point 4).

PostgreSQL's own parsers depend on a language and know nothing of Chinese. Ours is one function: NFKC,
casefold, then words where Unicode's letters, marks and digits end. Scripts that put no space between
words, and Korean, whose words have endings, are cut into overlapping pairs of characters.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import regex

LONGEST_WORD = 100  # characters; what is longer is found by its beginning
MOST_TEXT = 64 * 1024  # characters of one document
MOST_POSITIONS = 10_000

BETWEEN = "\0"  # pieces of text
# What becomes of each ASCII character: many times faster than an expression.
_PLAIN = "".join(letter.lower() if letter.isalnum() else " " for letter in map(chr, range(128)))
_PLAIN_OR_BETWEEN = BETWEEN + _PLAIN[1:]
_WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+")
_PAIRED = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Bopomofo}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}ー]+"
)
_DATA_URI = re.compile(r"data:[^,\s]{0,200};base64,")
_SHORT = 400  # characters; what is no longer is text, unless it says that it is data
_BASE64 = re.compile(rf"[A-Za-z0-9+/_-]{{{_SHORT},}}={{0,2}}")


@dataclass(slots=True)
class Found:
    """The words of a document with their positions, from 1; not `whole` where it had more than we keep."""

    positions: dict[str, list[int]] = field(default_factory=dict)
    whole: bool = True
    _next: int = 1
    _left: int = MOST_TEXT

    def read(self, text: str) -> None:
        """Takes a piece of text in; a phrase does not reach from one piece into the next."""
        self.whole = self.whole and len(text) <= self._left
        text = text[: self._left]
        self._left -= len(text)
        found = words(text)
        end = self._next + len(found)
        if end > MOST_POSITIONS:
            self.whole = False
            found = found[: MOST_POSITIONS - self._next]
        self.place(found)

    def place(self, found: list[str]) -> None:
        """Takes in words that follow each other, and BETWEEN, which only takes its place."""
        positions = self.positions
        for place, word in enumerate(found, self._next):
            if word in positions:
                positions[word].append(place)
            elif word != BETWEEN:
                positions[word] = [place]
        self._next += len(found) + 1

    def mark(self, sign: str) -> None:
        """Takes in something that is found as it stands, such as `=model:gpt-5`; it has no position."""
        self.positions.setdefault(sign, [])


def words(text: str) -> list[str]:
    """The words of `text` in order; of a paired script, each pair of neighbours and then the last alone."""
    if text.isascii():
        found = text.translate(_PLAIN).split()
        return found if len(text) <= LONGEST_WORD else [word[:LONGEST_WORD] for word in found]
    spoken = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    return [part for word in spoken for part in _parts(word)]


def is_paired(word: str) -> bool:
    """Whether the word belongs to a script that is cut into pairs."""
    return _PAIRED.match(word) is not None


def _parts(word: str) -> Iterator[str]:
    if not _PAIRED.search(word):
        yield word[:LONGEST_WORD]
        return
    start = 0
    for run in _PAIRED.finditer(word):
        if start < run.start():
            yield word[start : run.start()][:LONGEST_WORD]
        yield from (word[place : min(place + 2, run.end())] for place in range(run.start(), run.end()))
        start = run.end()
    if start < len(word):
        yield word[start:][:LONGEST_WORD]


def texts_in(value: Any) -> list[str]:
    """The texts in a JSON value, numbers among them, in order; not what only looks like text."""
    found, todo = [], [value]
    while todo:
        item = todo.pop()
        if isinstance(item, str):
            if (len(item) < _SHORT and not item.startswith("data:")) or not _is_binary(item):
                found.append(item)
        elif isinstance(item, dict):
            todo.extend(reversed(item.values()))
        elif isinstance(item, list):
            todo.extend(reversed(item))
        elif isinstance(item, int | float) and not isinstance(item, bool):
            found.append(str(item))
    return found


def found_in(pieces: Iterable[str]) -> Found:
    found, pieces = Found(), pieces if isinstance(pieces, list) else list(pieces)
    quick = plain_words(pieces)
    if quick is not None:
        found.place(quick)
        return found
    for piece in pieces:
        if not found.whole:
            break
        found.read(piece)
    return found


def plain_words(pieces: list[str]) -> list[str] | None:
    """The words of all pieces in order with BETWEEN between these, each at its place from 1; None where
    that is not quickly told: it is where there is little, and plain ASCII."""
    text = BETWEEN.join(pieces)
    if len(text) > MOST_POSITIONS or not text.isascii() or text.count(BETWEEN) >= max(1, len(pieces)):
        return None
    found = text.translate(_PLAIN_OR_BETWEEN).replace(BETWEEN, f" {BETWEEN} ").split()
    return found if len(text) <= LONGEST_WORD or max(map(len, found), default=0) <= LONGEST_WORD else None


def _is_binary(text: str) -> bool:
    """Base64, as such or in a data URI: nobody looks for its letters."""
    return bool(_DATA_URI.match(text) or _BASE64.fullmatch(text))

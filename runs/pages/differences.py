"""What differs between two texts, two sequences, two JSON values: pure, bounded in size and in time."""

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from runs.exact import Json
from runs.pages import json_view, text

MOST_WORDS = 800  # of a text; what follows is not compared
MOST_CALLS = 500
MOST_PATHS = 60
PATIENCE = 0.25  # seconds for all texts of a page
_DEPTH = 12
_VISITED = 20_000  # values

# A word, a letter of a script that puts no spaces between words, a space, a sign.
_WORD = re.compile(
    r"[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af\u0e00-\u0eff]|[^\W\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af\u0e00-\u0eff]+|\s+|[^\w\s]"
)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two texts as HTML, with what is only in one of them marked. `note` says what was not compared."""

    left: SafeString
    right: SafeString
    same: bool
    note: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """A place in two sequences: what is there on either side, None where there is nothing."""

    left: str | None
    right: str | None

    @property
    def same(self) -> bool:
        return self.left == self.right


@dataclass(frozen=True, slots=True)
class Path:
    """A place in a JSON value, as a path of keys, and what each of several values has there."""

    path: str
    values: list[str]


class Clock:
    """Time that all comparisons of a page share."""

    def __init__(self, seconds: float = PATIENCE) -> None:
        self.until = time.monotonic() + seconds

    @property
    def is_over(self) -> bool:
        return time.monotonic() > self.until


def words(left: str, right: str, clock: Clock) -> Pair:
    """Compares word by word; where time is up, the texts stand as they are."""
    left, right = text.visible(left), text.visible(right)
    if left == right:
        whole = format_html("{}", text.shortened(left))
        return Pair(whole, whole, same=True)
    if clock.is_over:
        note = "Not compared word by word: this page has too many texts."
        return Pair(_plain(left), _plain(right), same=False, note=note)
    ours, theirs = _WORD.findall(left), _WORD.findall(right)
    cut = max(len(ours), len(theirs)) - MOST_WORDS
    note = f"Compared are the first {MOST_WORDS} words and signs." if cut > 0 else ""
    a, b = ours[:MOST_WORDS], theirs[:MOST_WORDS]
    pieces = _joined(_pieces(a, b))
    return Pair(_marked(pieces, "del"), _marked(pieces, "ins"), same=False, note=note)


def steps(left: Sequence[str], right: Sequence[str]) -> list[Step]:
    """The two sequences beside each other, equal entries in one line."""
    a, b = left[:MOST_CALLS], right[:MOST_CALLS]
    found: list[Step] = []
    for tag, from_a, to_a, from_b, to_b in SequenceMatcher(None, a, b).get_opcodes():
        if tag == "equal":
            found += [Step(one, one) for one in a[from_a:to_a]]
        else:
            found += [Step(one, None) for one in a[from_a:to_a]]
            found += [Step(None, one) for one in b[from_b:to_b]]
    return found


def paths(values: Sequence[Json]) -> list[Path]:
    """Where the values differ, in the order of their keys; at most MOST_PATHS places."""
    found: list[Path] = []
    room = _VISITED
    for path in _differing("", list(values), 0):
        found.append(path)
        room -= 1
        if len(found) == MOST_PATHS or room == 0:
            break
    return found


def _pieces(a: list[str], b: list[str]) -> Iterator[tuple[str, str, str]]:
    """(what, text of a, text of b); the beginning and the end that are common cost nothing."""
    start = 0
    while start < min(len(a), len(b)) and a[start] == b[start]:
        start += 1
    end = 0
    while end < min(len(a), len(b)) - start and a[-1 - end] == b[-1 - end]:
        end += 1
    yield "same", "".join(a[:start]), "".join(a[:start])
    middle_a, middle_b = a[start : len(a) - end], b[start : len(b) - end]
    for tag, from_a, to_a, from_b, to_b in SequenceMatcher(None, middle_a, middle_b).get_opcodes():
        what = "same" if tag == "equal" else "other"
        yield what, "".join(middle_a[from_a:to_a]), "".join(middle_b[from_b:to_b])
    yield "same", "".join(a[len(a) - end :]), "".join(a[len(a) - end :])


def _joined(pieces: Iterable[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Neighbours of a sort in one; a lone space between two changes belongs to them."""
    found: list[tuple[str, str, str]] = []
    for what, left, right in pieces:
        if len(found) > 1 and what == "other" and found[-1][0] == "same" and not found[-1][1].strip():
            _, space, _ = found.pop()
            left, right = f"{space}{left}", f"{space}{right}"
        if found and found[-1][0] == what:
            _, before_left, before_right = found.pop()
            left, right = f"{before_left}{left}", f"{before_right}{right}"
        if left or right:
            found.append((what, left, right))
    return found


def _marked(pieces: Sequence[tuple[str, str, str]], mark: str) -> SafeString:
    """One side of the pieces: what only it has is inside `mark`, which is del or ins."""
    side = 1 if mark == "del" else 2
    parts = ((piece[0], piece[side]) for piece in pieces if piece[side])
    html = f"<{mark}>{{}}</{mark}>"
    return format_html_join(
        "", "{}", ((format_html(html, said) if what == "other" else said,) for what, said in parts)
    )


def _plain(said: str) -> SafeString:
    return format_html("{}", text.shortened(said))


def _differing(path: str, values: list[Json], depth: int) -> Iterator[Path]:
    if all(value == values[0] for value in values[1:]):
        return
    if depth < _DEPTH and all(isinstance(value, dict) for value in values):
        for key in dict.fromkeys(key for value in values if isinstance(value, dict) for key in value):
            under = [value.get(key, _NOTHING) for value in values if isinstance(value, dict)]
            yield from _differing(f"{path}.{key}" if path else key, under, depth + 1)
    elif depth < _DEPTH and all(isinstance(value, list) for value in values):
        length = max(len(value) for value in values if isinstance(value, list))
        for at in range(length):
            under = [
                value[at] if at < len(value) else _NOTHING for value in values if isinstance(value, list)
            ]
            yield from _differing(f"{path}[{at}]", under, depth + 1)
    else:
        yield Path(text.visible(path)[:200], [_shown(value) for value in values])


def _shown(value: Json) -> str:
    if value is _NOTHING:
        return ""
    return "null" if value is None else json_view.inline(value, 160)


_NOTHING: Json = {"\N{NULL}": "nothing"}  # JSONB has no NUL

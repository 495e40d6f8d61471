"""From text to a query. Every mistake is found, not only the first, and says how to mend it (issue 3)."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from runs.query.conditions import (
    BARE_KEY,
    BARE_VALUE,
    OPERATOR_WORDS,
    AtPath,
    Between,
    Compare,
    Condition,
    Has,
    OneOf,
    Query,
    Test,
    Words,
)
from runs.query.errors import Problem, QueryError
from runs.query.fields import FIELDS, Field, Kind, suggestion
from runs.query.quoting import QUOTED, quote, unquote
from runs.query.statuses import WORDS as STATUS_WORDS
from runs.query.statuses import canonical_status
from runs.query.values import Clock, read_amount

MAX_LENGTH = 2_000  # characters
MAX_CONDITIONS = 50

# A part is what stands between spaces; `open` begins at a quote that nothing closes.
PART = re.compile(rf'(?=\S)(?:{QUOTED}|[^\s"])*(?P<open>".*)?', re.DOTALL)

_VALUE = rf"(?:{QUOTED}|{BARE_VALUE.pattern})"
_PATH_KEY = rf"(?:{QUOTED}|{BARE_KEY.pattern})"
_KEY = re.compile(rf'((?:[^\s":]|(?<=\.){QUOTED})*):', re.DOTALL)
_VALUES = re.compile(rf"{_VALUE}(?:,{_VALUE})*", re.DOTALL)
_EACH_VALUE = re.compile(_VALUE, re.DOTALL)
_PATH = re.compile(rf"{_PATH_KEY}(?:\.{_PATH_KEY})*", re.DOTALL)
_EACH_KEY = re.compile(_PATH_KEY, re.DOTALL)

_NEGATION = re.compile("-(?=[^-])")  # neither a lone dash nor `--verbose`
_OPERATORS = (">=", "<=", ">", "<", "=")
_ID = re.compile("[0-9a-f]{4,32}")
_UNSEARCHABLE = re.compile("[\x00\ud800-\udfff]+")  # PostgreSQL cannot take it in a text


def parse(text: str, now: datetime, zone: tzinfo = UTC) -> Query:
    """The query that `text` says; an empty text is a query without conditions.

    `now` (aware) is what ages count from; `zone` is where dates and times without a zone are. Raises
    QueryError with all problems of the text.
    """
    if len(text) > MAX_LENGTH:
        message = f"A query has at most {MAX_LENGTH:,} characters, so take out {len(text) - MAX_LENGTH:,}."
        raise _error(message, MAX_LENGTH, len(text))
    parts = list(PART.finditer(text))
    problems = [*_problems_of_characters(text), *_problems_of_number(parts)]
    conditions = []
    for found in parts[:MAX_CONDITIONS]:
        try:
            conditions.append(_condition(found, Clock(now, zone)))
        except QueryError as error:
            problems += error.problems
    if problems:
        raise QueryError(sorted(problems, key=lambda problem: problem.start))
    return Query(tuple(conditions))


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of the text, or what its quotes hold, and where it stands."""

    text: str
    start: int
    end: int

    def cut(self, first: int, last: int | None = None) -> "_Piece":
        text = self.text[first:last]
        return _Piece(text, self.start + first, self.start + first + len(text))

    def wrong(self, message: str) -> QueryError:
        return _error(message, self.start, self.end)


def _error(message: str, start: int, end: int) -> QueryError:
    return QueryError([Problem(message, start, end)])


def _problems_of_characters(text: str) -> Iterator[Problem]:
    for found in _UNSEARCHABLE.finditer(text):
        message = f"Take out the character U+{ord(found[0][0]):04X}: no text that is kept here has it."
        yield Problem(message, *found.span())


def _problems_of_number(parts: list[re.Match[str]]) -> Iterator[Problem]:
    extra = parts[MAX_CONDITIONS:]
    if extra:
        message = f"A query has at most {MAX_CONDITIONS} conditions, so take out {len(extra)}."
        yield Problem(message, extra[0].start(), extra[-1].end())


def _condition(found: re.Match[str], clock: Clock) -> Condition:
    if found["open"]:
        message = 'A quote is opened here and not closed: write " where it ends.'
        raise _error(message, found.start("open"), found.end())
    piece = _Piece(found[0], *found.span())
    negated = _NEGATION.match(piece.text) is not None
    return Condition(_test(piece.cut(1) if negated else piece, clock), negated, piece.start, piece.end)


def _test(piece: _Piece, clock: Clock) -> Test:
    if piece.text.startswith('"'):
        return _phrase(piece)
    if key := _KEY.match(piece.text):
        return _of_field(piece.cut(0, key.end(1)), piece.cut(key.end()), clock)
    return _word(piece)


# ── Words ──────────────────────────────────────────────────────────────────
def _phrase(piece: _Piece) -> Words:
    if not re.fullmatch(QUOTED, piece.text, re.DOTALL):
        raise piece.wrong("Put a space after the closing quote.")
    words = unquote(piece.text)
    if not words.strip():
        raise piece.wrong("There is nothing between these quotes: write words there, or take them out.")
    return Words(words)


def _word(piece: _Piece) -> Words:
    if '"' in piece.text:
        raise piece.wrong("Put a space before the opening quote, or quote all of it.")
    if piece.text in OPERATOR_WORDS:
        raise piece.wrong(
            f"Leave out {piece.text}: conditions must all hold, a comma means or (status:failed,cancelled),"
            f" a leading dash means not; for the word itself write {quote(piece.text)}."
        )
    return Words(piece.text)


# ── Fields ─────────────────────────────────────────────────────────────────
def _of_field(key: _Piece, value: _Piece, clock: Clock) -> Test:
    name, dot, _ = key.text.partition(".")
    field = FIELDS.get(name.lower())
    if field is None or (dot and field.kind is not Kind.PATH):
        raise _unknown_field(key, value)
    items = _items(field, key, value)
    match field.kind:
        case Kind.STATUS:
            return OneOf(field.name, _each(field, items, _status))
        case Kind.CHOICE:
            return OneOf(field.name, _each(field, items, _choice))
        case Kind.TEXT:
            return OneOf(field.name, _each(field, items, _text))
        case Kind.ID:
            return OneOf(field.name, _each(field, items, _id))
        case Kind.FLAG:
            return Has(_choice(field, _only(field, items)))
        case Kind.TIME:
            return _moment(field, _only(field, items), clock)
        case Kind.PATH:
            return AtPath(field.name, _path(field, key), _only(field, items).text)
        case _:
            return _amount(field, _only(field, items))


def _unknown_field(key: _Piece, value: _Piece) -> QueryError:
    typed = f"{key.text}:{value.text}"
    message = (
        f"No field is called {_shown(key.text)}{suggestion(key.text.partition('.')[0], FIELDS)};"
        f" known are {', '.join(FIELDS)}; to find the text itself, quote it: {_shown(typed)}."
    )
    return _error(message, key.start, value.end)


def _items(field: Field, key: _Piece, value: _Piece) -> list[_Piece]:
    """The values between commas, without their quotes."""
    if not _VALUES.fullmatch(value.text):
        what = "Separate values by one comma, and quote a value as a whole" if value.text else "Add a value"
        raise _error(f"{what}, as in {field.example}.", key.start, value.end)
    found = _EACH_VALUE.finditer(value.text)
    items = [_Piece(unquote(one[0]), value.start + one.start(), value.start + one.end()) for one in found]
    for item in items:
        if not item.text.strip():
            raise item.wrong(f"Write a value between these quotes, as in {field.example}.")
    return items


def _only(field: Field, items: list[_Piece]) -> _Piece:
    if len(items) > 1:
        message = (
            f"{field.name} takes one value, as in {field.example}: write {field.name} again for another,"
            " or quote a value that has a comma."
        )
        raise _error(message, items[1].start, items[-1].end)
    return items[0]


def _each(field: Field, items: list[_Piece], read: Callable[[Field, _Piece], str]) -> tuple[str, ...]:
    values: list[str] = []
    problems: list[Problem] = []
    for item in items:
        try:
            values.append(read(field, item))
        except QueryError as error:
            problems += error.problems
    if problems:
        raise QueryError(problems)
    return tuple(dict.fromkeys(values))


def _status(field: Field, item: _Piece) -> str:
    status = canonical_status(item.text)
    if status is None:
        raise item.wrong(
            f"No status is called {_shown(item.text)}{suggestion(item.text.replace('-', '_'), STATUS_WORDS)};"
            f" known are {', '.join(field.values)} and the protocols' own, such as submitted or rejected."
        )
    return status


def _choice(field: Field, item: _Piece) -> str:
    value = item.text.lower()
    if value not in field.values:
        raise item.wrong(
            f"{field.name} does not take {_shown(item.text)}{suggestion(value, field.values)};"
            f" it takes {' or '.join(field.values)}."
        )
    return value


def _text(field: Field, item: _Piece) -> str:
    return item.text


def _id(field: Field, item: _Piece) -> str:
    digits = item.text.replace("-", "").lower()
    if not _ID.fullmatch(digits):
        raise _refused(field, item)
    return digits


def _path(field: Field, key: _Piece) -> tuple[str, ...]:
    path = key.text[len(field.name) + 1 :]
    keys = [unquote(one) for one in _EACH_KEY.findall(path)]
    if not _PATH.fullmatch(path) or "" in keys:
        raise key.wrong(
            f"Name the key, as in {field.example}; a dot separates keys,"
            f' so quote one that has dots: {field.name}."a.b":x.'
        )
    return tuple(keys)


def _moment(field: Field, item: _Piece, clock: Clock) -> Compare:
    try:
        moment, written = clock.read(item.text)
    except ValueError:
        raise _refused(field, item) from None
    return Compare("created", ">=" if field.name == "after" else "<", moment, written)


def _amount(field: Field, item: _Piece) -> Compare | Between:
    if field.may_be_none and item.text.lower() == "none":
        return Compare(field.name, "=", None)
    low, dots, high = item.text.partition("..")
    operator = next((one for one in _OPERATORS if low.startswith(one)), "")
    try:
        if not dots:
            return Compare(field.name, operator or "=", read_amount(field.kind, low.removeprefix(operator)))
        between = Between(field.name, read_amount(field.kind, low), read_amount(field.kind, high))
    except ValueError:
        raise _refused(field, item) from None
    if between.low > between.high:  # type: ignore[operator]  # of one kind, so of one type
        raise item.wrong(f"This range ends before it begins: write {field.name}:{high}..{low}.")
    return between


def _refused(field: Field, item: _Piece) -> QueryError:
    return item.wrong(
        f"{field.name} takes {field.takes}, as in {field.example}, and not {_shown(item.text)}."
    )


def _shown(text: str) -> str:
    """As it was typed, in quotes: cut to 40 characters, and such that any encoding can hold it."""
    short = text if len(text) <= 40 else f"{text[:39]}…"
    return quote(_UNSEARCHABLE.sub("\N{REPLACEMENT CHARACTER}", short))

"""What may come next where somebody types: names of fields, and values of those that have a list."""

import re
from dataclasses import dataclass

from runs.query.conditions import BARE_KEY, BARE_VALUE
from runs.query.fields import FIELDS, Kind
from runs.query.parsing import PART
from runs.query.quoting import QUOTED, quote, unquote

_NAME = re.compile(r"-?([a-z_]*)", re.IGNORECASE)
_VALUE = re.compile(r'-?([a-z_]+):(?:[^",]*,)*([^",:]*)', re.IGNORECASE)
_END = re.compile(r'[\s",:.]|\Z')
_OPEN = r'(?P<begun>"(?:[^"\\]|\\.)*|[^\s",:]*)'
_TEXT = re.compile(rf'-?(?P<name>[a-z_]+):(?:(?:{QUOTED}|[^\s",]+),)*{_OPEN}', re.IGNORECASE | re.DOTALL)
_KEY = re.compile(rf"-?(?P<name>metadata)\.{_OPEN}", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Completions:
    """Texts, any of which may replace the characters from `start` to `end`."""

    start: int
    end: int
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Typed:
    """A value of `field` that begins so, from `start` to `end`; of `metadata` it is a key."""

    field: str
    beginning: str
    start: int
    end: int


def complete(text: str, position: int) -> Completions:
    """Completions of what is typed right before `position`; none within quotes."""
    typed = _typed(text[:position])
    if found := _NAME.fullmatch(typed):
        beginning, known = found[1], [_opening(name) for name in FIELDS]
    elif (found := _VALUE.fullmatch(typed)) and found[1].lower() in FIELDS:
        beginning, known = found[2], list(FIELDS[found[1].lower()].values)
    else:
        beginning, known = "", []
    texts = tuple(one for one in known if one.startswith(beginning.lower()))
    return Completions(position - len(beginning), _end(text, position), texts)


def typed_value(text: str, position: int) -> Typed | None:
    """The value, quoted or not, that is typed right before `position`; None where it is something else."""
    typed = _typed(text[:position])
    found = _KEY.fullmatch(typed) or _TEXT.fullmatch(typed)
    if found is None or found["name"].lower() not in FIELDS:
        return None
    begun, end = found["begun"], _end(text, position)
    if begun.startswith('"') and text[end : end + 1] == '"':
        end += 1
    beginning = unquote(f'{begun}"') if begun.startswith('"') else begun
    return Typed(found["name"].lower(), beginning, position - len(begun), end)


def written_value(value: str) -> str:
    """The value as one types it: in quotes where it needs them."""
    return value if BARE_VALUE.fullmatch(value) else quote(value)


def written_key(key: str) -> str:
    return key if BARE_KEY.fullmatch(key) else quote(key)


def _end(text: str, position: int) -> int:
    """Where the word ends that `position` is in."""
    return position + len(_END.split(text[position:], maxsplit=1)[0])


def _typed(before: str) -> str:
    """The part of a query that `before` ends with, up to there."""
    parts = [found[0] for found in PART.finditer(before) if found.end() == len(before)]
    return parts[0] if parts else ""


def _opening(name: str) -> str:
    return f"{name}." if FIELDS[name].kind is Kind.PATH else f"{name}:"

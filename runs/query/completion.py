"""What may come next where somebody types: names of fields, and values of those that have a list."""

import re
from dataclasses import dataclass

from runs.query.fields import FIELDS, Kind
from runs.query.parsing import PART

_NAME = re.compile(r"-?([a-z_]*)", re.IGNORECASE)
_VALUE = re.compile(r'-?([a-z_]+):(?:[^",]*,)*([^",:]*)', re.IGNORECASE)
_END = re.compile(r'[\s",:.]|\Z')


@dataclass(frozen=True, slots=True)
class Completions:
    """Texts, any of which may replace the characters from `start` to `end`."""

    start: int
    end: int
    texts: tuple[str, ...]


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
    rest = _END.split(text[position:], maxsplit=1)[0]
    return Completions(position - len(beginning), position + len(rest), texts)


def _typed(before: str) -> str:
    """The part of a query that `before` ends with, up to there."""
    parts = [found[0] for found in PART.finditer(before) if found.end() == len(before)]
    return parts[0] if parts else ""


def _opening(name: str) -> str:
    return f"{name}." if FIELDS[name].kind is Kind.PATH else f"{name}:"

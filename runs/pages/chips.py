"""The conditions of a query in words, each with the addresses that take it away or turn it around."""

from dataclasses import dataclass
from datetime import datetime

from runs.pages.asked import Links
from runs.query import AtPath, Between, Compare, Condition, Has, OneOf, Test, Words, status_meaning
from runs.query.values import Amount, write
from runs.templatetags import look

_IS, _IS_NOT = "is", "is not"
_HAS = {
    "feedback": "a rating",
    "error": "an error",
    "artifact": "an artifact",
    "result": "a result",
    "cancel": "a request to cancel",
}
_OPERATORS = {"=": "", ">": "more than ", ">=": "at least ", "<": "less than ", "<=": "at most "}


@dataclass(frozen=True, slots=True)
class Chip:
    """`verb` stands between name and words, and turns the condition around; without one it cannot be."""

    name: str
    verb: str
    words: str
    negated: bool
    without: str
    turned: str


def chips(links: Links) -> list[Chip]:
    return [_chip(links, condition) for condition in links.query.conditions]


def _chip(links: Links, condition: Condition) -> Chip:
    name, verbs, words = _told(condition.test)
    return Chip(
        name=name,
        verb=verbs[condition.negated],
        words=words,
        negated=condition.negated,
        without=links.asking(links.query.without(condition)),
        turned=links.asking(links.query.negating(condition)),
    )


def _told(test: Test) -> tuple[str, tuple[str, str], str]:
    """Its name, its verb and the one when it is turned around, its value in words."""
    match test:
        case Words(text):
            return "text", ("has", "has not"), f"“{text}”"
        case OneOf("status", values):
            return "status", (_IS, _IS_NOT), " or ".join(_status(value) for value in values)
        case OneOf(field, values):
            return field.replace("_", " "), (_IS, _IS_NOT), " or ".join(values)
        case Compare("created", operator, value):
            verbs = ("since", "before") if operator == ">=" else ("before", "since")
            return "created", verbs, _time(test.written, value)
        case Compare(field, operator, value):
            return field, (_IS, _IS_NOT), f"{_OPERATORS[operator]}{_amount(field, value)}"
        case Between(field, low, high):
            return field, (_IS, _IS_NOT), f"{_amount(field, low)} to {_amount(field, high)}"
        case Has("open" | "final" as what):
            return "run", (_IS, _IS_NOT), "over" if what == "final" else "open"
        case Has(what):
            return "run", ("has", "has not"), _HAS[what]
        case AtPath(root, path, value):
            return ".".join((root, *path)), (_IS, _IS_NOT), value


def _status(value: str) -> str:
    return look.status_word(value).lower() if not status_meaning(value).raw_statuses else value


def _time(written: str, value: object) -> str:
    """As it was typed where that is an age or a day's name, else in the reader's zone."""
    if written and not written[:4].isdecimal():
        return written if written.isalpha() else f"{written} ago"
    at = look.local(value) if isinstance(value, datetime) else None
    return "" if at is None else f"{at:%-d %b %Y}" if not (at.hour or at.minute) else f"{at:%-d %b %Y, %H:%M}"


def _amount(field: str, value: Amount | datetime | None) -> str:
    words = write(value)
    return f"${words}" if field == "cost" and value is not None else words

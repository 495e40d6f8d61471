"""The fields of the language: one table, of which parser, error texts, completions and docs are made."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum
from types import MappingProxyType

from runs.query.statuses import OURS


class Kind(Enum):
    """What a field takes, in words that fit after "takes"."""

    STATUS = "statuses, in the words of any protocol"
    CHOICE = "one or several of its values"
    TEXT = "one or several texts"
    ID = "beginnings of ids, of at least 4 hexadecimal digits"
    RATING = "a whole number from 1 to 5"
    WHOLE = "a whole number"
    NUMBER = "a number"
    MONEY = "dollars, with at most 6 decimals"
    DURATION = "a duration in d, h, m, s and ms"
    TIME = "a date, a time, an age, today or yesterday"
    FLAG = "one of its values"
    PATH = "a path of keys and a text"


@dataclass(frozen=True, slots=True)
class Field:
    name: str
    kind: Kind
    description: str
    example: str
    values: tuple[str, ...] = ()
    may_be_none: bool = False  # `none` finds the runs that have no value

    @property
    def takes(self) -> str:
        return f"{self.kind.value}, or none" if self.may_be_none else self.kind.value


_TABLE = (
    Field("status", Kind.STATUS, "How the run stands.", "status:failed,cancelled", OURS),
    Field("kind", Kind.CHOICE, "What sort of run it is.", "kind:evaluation", ("task", "evaluation")),
    Field("agent", Kind.TEXT, "The agent that did it.", 'agent:helm,"my agent"'),
    Field("model", Kind.TEXT, "The model that answered.", "model:gpt-5"),
    Field("session", Kind.TEXT, "The key of its session.", "session:checkout-42"),
    Field("source", Kind.TEXT, "The system that its session comes from.", "source:openhands"),
    Field("owner", Kind.TEXT, "The name of its owner.", "owner:platform"),
    Field(
        "evaluator",
        Kind.TEXT,
        "An evaluator that gave one of its results.",
        "evaluator:response_match_score",
    ),
    Field("raw_status", Kind.TEXT, "The status in its protocol's own words.", "raw_status:auth-required"),
    Field("id", Kind.ID, "How its id begins; dashes do not count.", "id:019a2f3c"),
    Field(
        "rating", Kind.RATING, "The average of the overall ratings, rounded.", "rating:>=4", may_be_none=True
    ),
    Field("score", Kind.NUMBER, "The score of an evaluation.", "score:0.2..0.8", may_be_none=True),
    Field("duration", Kind.DURATION, "How long it took.", "duration:>1m30s", may_be_none=True),
    Field("tokens", Kind.WHOLE, "Tokens in and out.", "tokens:>10000", may_be_none=True),
    Field("cost", Kind.MONEY, "What it cost, in US dollars.", "cost:>=0.50", may_be_none=True),
    Field("events", Kind.WHOLE, "How many events it has.", "events:<3"),
    Field("feedback", Kind.WHOLE, "How many ratings it has.", "feedback:>=2"),
    Field("after", Kind.TIME, "Created then or later.", "after:2026-11-01"),
    Field("before", Kind.TIME, "Created earlier than that.", "before:7d"),
    Field(
        "has",
        Kind.FLAG,
        "What it has; `cancel` is a request to cancel it.",
        "has:feedback",
        ("feedback", "error", "artifact", "result", "cancel"),
    ),
    Field("is", Kind.FLAG, "Whether it may still change.", "is:open", ("open", "final")),
    Field("metadata", Kind.PATH, "A value in its metadata.", "metadata.env:prod"),
    Field("spec", Kind.PATH, "A value in its spec.", "spec.target.kind:http"),
    Field("summary", Kind.PATH, "A value in its summary.", "summary.traces:1"),
)

FIELDS: Mapping[str, Field] = MappingProxyType({field.name: field for field in _TABLE})


def suggestion(word: str, known: Iterable[str]) -> str:
    """` (did you mean "status"?)` for the nearest of `known`; empty where none is near."""
    near = get_close_matches(word.lower(), known, n=1)
    return f' (did you mean "{near[0]}"?)' if near else ""

"""What a query is made of. Everything is frozen, equal by value, and written as it would be typed."""

import re
from dataclasses import dataclass, replace
from dataclasses import field as attribute
from datetime import datetime

from runs.query.quoting import quote
from runs.query.values import Amount, write

# What is written without quotes. A dash before a word that begins with dashes would be read as one of them.
BARE_WORD = re.compile(r'(?!-)[^\s":]+')
BARE_KEY = re.compile(r'[^\s".:]+')
BARE_VALUE = re.compile(r'[^\s",]+')

# Other languages' words for what is written otherwise here: as plain words they would find nothing.
OPERATOR_WORDS = frozenset({"AND", "OR", "NOT"})


@dataclass(frozen=True, slots=True)
class Words:
    """A word, or words that follow each other; matched anywhere in a run's texts."""

    text: str

    def __str__(self) -> str:
        return quote(self.text) if self.text in OPERATOR_WORDS else _bare_or_quoted(BARE_WORD, self.text)


@dataclass(frozen=True, slots=True)
class OneOf:
    """The field has one of the values.

    A value of `status` is one of ours or a finer word of a protocol, such as `rejected`:
    `status_meaning()` says which statuses and raw statuses that is. A value of `kind` is in lower case;
    a value of `id` is 4 to 32 lower-case hexadecimal digits, with which the id begins. Others are as typed.
    """

    field: str
    values: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.field}:{','.join(_bare_or_quoted(BARE_VALUE, value) for value in self.values)}"


@dataclass(frozen=True, slots=True)
class Compare:
    """The field compared with a value; `=` with None asks for runs without one.

    `operator` is =, >, >=, < or <=. `value` is an int (rating, tokens, events, feedback), a float (score),
    a Decimal (cost), a timedelta (duration), or for the field `created` a datetime in UTC, with >= for
    `after:` and < for `before:`.
    """

    field: str
    operator: str
    value: Amount | datetime | None
    # How a time was typed, so that a link to `after:7d` stays one; `Query.fixed()` forgets it.
    written: str = attribute(default="", compare=False)

    def __str__(self) -> str:
        value = self.written or write(self.value)
        if self.field == "created":
            return f"{'after' if self.operator == '>=' else 'before'}:{value}"
        return f"{self.field}:{'' if self.operator == '=' else self.operator}{value}"


@dataclass(frozen=True, slots=True)
class Between:
    """The field is at least `low` and at most `high`, both of the type that Compare has for it."""

    field: str
    low: Amount
    high: Amount

    def __str__(self) -> str:
        return f"{self.field}:{write(self.low)}..{write(self.high)}"


@dataclass(frozen=True, slots=True)
class Has:
    """A yes or no: feedback, error, artifact, result, cancel (`has:`), open, final (`is:`)."""

    what: str

    def __str__(self) -> str:
        return f"{'is' if self.what in ('open', 'final') else 'has'}:{self.what}"


@dataclass(frozen=True, slots=True)
class AtPath:
    """In the JSON of `root` (metadata, spec or summary), the value at `path` is, as text, `value`."""

    root: str
    path: tuple[str, ...]
    value: str

    def __str__(self) -> str:
        keys = ".".join((self.root, *(_bare_or_quoted(BARE_KEY, key) for key in self.path)))
        return f"{keys}:{_bare_or_quoted(BARE_VALUE, self.value)}"


Test = Words | OneOf | Compare | Between | Has | AtPath


@dataclass(frozen=True, slots=True)
class Condition:
    """A test that must hold, or must not. Where it stood in its text plays no part in equality."""

    test: Test
    negated: bool = False
    start: int = attribute(default=0, compare=False)
    end: int = attribute(default=0, compare=False)

    def __str__(self) -> str:
        return f"-{self.test}" if self.negated else str(self.test)


@dataclass(frozen=True, slots=True)
class Query:
    """Conditions in the order written, all of which must hold; none at all is every run."""

    conditions: tuple[Condition, ...] = ()

    def __str__(self) -> str:
        return self.text()

    def text(self) -> str:
        """The canonical form: it parses to an equal query, with the same now and zone."""
        return " ".join(str(condition) for condition in self.conditions)

    def fixed(self) -> "Query":
        """An equal query whose text means the same at any time and in any zone: for exports and jobs."""
        return Query(tuple(_fixed(condition) for condition in self.conditions))

    def with_(self, condition: Condition) -> "Query":
        """The query narrowed by `condition`, at the end unless it is there already."""
        return self if condition in self.conditions else Query((*self.conditions, condition))

    def without(self, condition: Condition) -> "Query":
        return Query(tuple(each for each in self.conditions if each != condition))

    def negating(self, condition: Condition) -> "Query":
        """The query with `condition`, where it stands, turned around."""
        turned = replace(condition, negated=not condition.negated)
        return Query(tuple(turned if each == condition else each for each in self.conditions))


def _bare_or_quoted(bare: re.Pattern[str], text: str) -> str:
    return text if bare.fullmatch(text) else quote(text)


def _fixed(condition: Condition) -> Condition:
    if not isinstance(condition.test, Compare):
        return condition
    return replace(condition, test=replace(condition.test, written=""))

"""What runs an address or a form asks for: one reading of it for lists, jobs, exports and comparisons."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from urllib.parse import quote_plus, urlencode

from django.http import QueryDict
from django.urls import reverse
from django.utils import timezone
from django.utils.html import escape
from django.utils.safestring import SafeString

from runs.models import Owner, Run, Status, User, owner_ids
from runs.query import Condition, OneOf, Problem, Query, QueryError, parse

# What addresses said before there was one language of queries.
OLDER = ("status", "kind", "agent", "session", "owner", "run", "not")
_FIELDS = {"run": "id"}  # where the language has another word
_LONGEST = 500  # characters of a value


@dataclass(frozen=True, slots=True)
class Asked:
    """`text` is what stands in the search box; where it has `problems`, nothing is asked.

    `ignored` has a phrase for each older parameter that is no filter.
    """

    text: str
    query: Query
    problems: Sequence[Problem] = ()
    ignored: Sequence[str] = ()


def asked(data: QueryDict, user: User) -> Asked:
    """The query in `q` and in the older parameters (`status`, `agent`, ...), with ages and dates in the
    person's time zone."""
    query, ignored = _older(data, user)
    text = data.get("q", "")
    try:
        for condition in parse(text, timezone.now(), user.zone).conditions:
            query = query.with_(condition)
    except QueryError as error:
        before = f"{query} " if query.conditions else ""
        return Asked(before + text, query, _moved(error.problems, len(before)), ignored)
    return Asked(str(query), query, (), ignored)


def list_address(text: str, **others: str) -> str:
    """The runs list that asks for `text`."""
    given = {name: value for name, value in {**others, "q": text}.items() if value}
    return f"{_runs()}?{urlencode(given)}" if given else _runs()


def beside(data: QueryDict) -> dict[str, str]:
    """What stays in the addresses of a list whatever it asks for: the columns and the saved view."""
    given = {"columns": ",".join(data.getlist("columns")), "view": data.get("view", "")}
    return {name: value for name, value in given.items() if value}


class Links:
    """Addresses of the runs list that narrow `query`, with what stays beside it: columns, the saved view.

    A page asks for hundreds: each text is written and quoted once.
    """

    def __init__(self, query: Query, **beside: str) -> None:
        self.query, self.beside = query, beside
        self._start = f"{list_address(str(query) or 'q', **beside)}{'+' if query.conditions else ''}"
        if not query.conditions:
            self._start = self._start.removesuffix("q")
        self._known: dict[tuple[str, str], SafeString] = {}

    def asking(self, query: Query, **others: str) -> str:
        """The list that asks for another query."""
        return list_address(str(query), **{**self.beside, **others})

    def adding(self, field: str, value: str) -> SafeString:
        """The list narrowed to the runs whose `field` is `value`, as it stands in HTML."""
        if (field, value) not in self._known:
            condition = Condition(OneOf(field, (value,)))
            is_new = condition not in self.query.conditions
            address = self._start + quote_plus(str(condition)) if is_new else self.asking(self.query)
            self._known[field, value] = escape(address)
        return self._known[field, value]


def beside_list(address: str, links: Links, **others: str) -> str:
    """Another address that asks for the same runs as the list."""
    return f"{address}{links.asking(links.query, **others)[1:]}"


@cache
def _runs() -> str:
    return reverse("run_list")


def _moved(problems: Sequence[Problem], by: int) -> list[Problem]:
    return [replace(problem, start=problem.start + by, end=problem.end + by) for problem in problems]


def _older(data: QueryDict, user: User) -> tuple[Query, list[str]]:
    """The conditions of the older parameters, and what of them is none."""
    given = {name: data.getlist(name) for name in OLDER if any(data.getlist(name))}
    negated = given.pop("not", [])
    query, ignored = Query(), []
    for name, values in given.items():
        known = tuple(dict.fromkeys(_read(name, values, user)))
        if known:
            query = query.with_(Condition(OneOf(_FIELDS.get(name, name), known), name in negated))
        if len(known) < len(values):
            ignored.append(f"{name} “{', '.join(values)[:60]}”")
    return query, ignored


def _read(name: str, values: list[str], user: User) -> Iterator[str]:
    """Those of the parameter's values that the language takes, as it writes them."""
    if name == "owner":
        numbers = [value for value in values if value.isdecimal() and len(value) < 18]
        yield from (
            Owner.objects.filter(pk__in=numbers).filter(pk__in=owner_ids(user)).values_list("name", flat=True)
        )
        return
    known = {"status": Status.values, "kind": Run.Kind.values}.get(name)
    for value in values:
        text = value.replace("-", "").lower() if name == "run" else value
        if name == "run" and not (4 <= len(text) <= 32 and not text.strip("0123456789abcdef")):
            continue
        if 0 < len(text) <= _LONGEST and (known is None or text in known):
            yield text

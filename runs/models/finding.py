"""A query in terms of what can answer it: indexes, the search index, and what is looked at row by row."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, cast
from uuid import UUID

from django.db.models import Case, DurationField, Exists, F, OuterRef, Q, When
from django.db.models.functions import Coalesce, Now

from runs.models.access import Caller, owners_seen
from runs.models.feedback import Feedback
from runs.models.owner import Owner
from runs.models.run import Run
from runs.models.search import PARTIAL, clean_sign, path_sign
from runs.models.session import Session
from runs.models.status import FINAL, OPEN, Status
from runs.query import (
    AtPath,
    Between,
    Compare,
    Condition,
    Has,
    OneOf,
    Problem,
    Query,
    QueryError,
    Words,
    status_meaning,
)
from runs.words import is_paired, words

BEGINNING = "\x03"  # no word has it
ALL_KINDS, ALL_STATUSES = frozenset(Run.Kind.values), frozenset(Status.values)


@dataclass(frozen=True, slots=True)
class Sought:
    """What a document must have: any of these phrases, each of words with their distances from the first.

    A word that ends with BEGINNING is the beginning of one. `unsure` is the condition by which runs are
    looked at whose documents are not kept whole.
    """

    anyhow: tuple[tuple[tuple[str, int], ...], ...]
    unsure: Q | None = None

    @property
    def terms(self) -> tuple[frozenset[str], ...]:
        """Of each group of words a block must have one."""
        if len(self.anyhow) == 1 and self.unsure is None:
            return tuple(frozenset({word.removesuffix(BEGINNING)}) for word, _ in self.anyhow[0])
        firsts = frozenset(phrase[0][0].removesuffix(BEGINNING) for phrase in self.anyhow)
        return (firsts | {PARTIAL} if self.unsure is not None else firsts,)


@dataclass(frozen=True, slots=True)
class Plan:
    """What runs are wanted. None where a query does not say; an empty set can have none."""

    owners: frozenset[int]
    kinds: frozenset[str] = ALL_KINDS
    statuses: frozenset[str] = ALL_STATUSES
    agents: frozenset[str] | None = None
    ratings: frozenset[int] | None = None
    sessions: frozenset[UUID] | None = None
    since: datetime | None = None
    until: datetime | None = None
    rows: tuple[Q, ...] = ()
    sought: tuple[Sought, ...] = ()
    shunned: tuple[Sought, ...] = ()

    @property
    def is_hopeless(self) -> bool:
        sets = (self.owners, self.kinds, self.statuses, self.agents, self.ratings, self.sessions)
        return any(values is not None and not values for values in sets)

    @property
    def created(self) -> Q:
        """The runs of its time."""
        since = Q(created_at__gte=self.since) if self.since else Q()
        return since & Q(created_at__lt=self.until) if self.until else since


def plan_of(query: Query, caller: Caller, owners: frozenset[int] | None = None) -> Plan:
    """What `caller` may see of what `query` asks for; `owners` are those that they see, where that is known.

    Raises QueryError where it asks for no word at all.
    """
    plan = Plan(owners=owners_seen(caller) if owners is None else owners)
    for condition in query.conditions:
        plan = _narrowed(plan, condition, caller)
    return plan


def _narrowed(plan: Plan, condition: Condition, caller: Caller) -> Plan:
    test = condition.test
    if isinstance(test, Words):
        return _searched(plan, Sought((_phrase(test.text, condition),)), condition)
    if isinstance(test, OneOf):
        return _ONE_OF[test.field](plan, test.values, condition, caller)
    if isinstance(test, AtPath):
        return _at_path(plan, test, condition)
    if isinstance(test, Has):
        return _having(plan, test.what, condition)
    if isinstance(test, Compare) and test.field == "created":
        return _created(plan, test, condition)
    if isinstance(test, Compare) and _is_a_rating(test) and not condition.negated:
        return replace(plan, ratings=_both(plan.ratings, [int(test.value)]))  # type: ignore[arg-type]
    return _by_row(plan, _compared(test), condition)


def _is_a_rating(test: Compare) -> bool:
    return (test.field, test.operator) == ("rating", "=") and test.value is not None


# ── Fields with few values ─────────────────────────────────────────────────
def _status(plan: Plan, values: Sequence[str], condition: Condition, caller: Caller) -> Plan:
    meanings = [status_meaning(value) for value in values]
    if all(not meaning.raw_statuses for meaning in meanings):
        asked = {status for meaning in meanings for status in meaning.statuses}
        return replace(plan, statuses=plan.statuses - asked if condition.negated else plan.statuses & asked)
    either = Q()
    for meaning in meanings:
        ours = Q(status__in=meaning.statuses) if meaning.statuses else Q()
        either |= ours & Q(raw_status__in=meaning.raw_statuses) if meaning.raw_statuses else ours
    return _by_row(plan, either, condition)


def _kind(plan: Plan, values: Sequence[str], condition: Condition, caller: Caller) -> Plan:
    return replace(plan, kinds=plan.kinds - {*values} if condition.negated else plan.kinds & {*values})


def _agent(plan: Plan, values: Sequence[str], condition: Condition, caller: Caller) -> Plan:
    if condition.negated:
        return _by_row(plan, Q(agent__in=values), condition)
    return replace(plan, agents=_both(plan.agents, values))


def _session(plan: Plan, values: Sequence[str], condition: Condition, caller: Caller) -> Plan:
    ids = list(Session.objects.visible_to(caller).filter(key__in=values).values_list("pk", flat=True)[:200])
    if condition.negated:
        return _by_row(plan, Q(session__in=ids), condition)
    return replace(plan, sessions=_both(plan.sessions, ids))


def _owner(plan: Plan, values: Sequence[str], condition: Condition, caller: Caller) -> Plan:
    named = set(Owner.objects.filter(pk__in=plan.owners, name__in=values).values_list("pk", flat=True))
    return replace(plan, owners=plan.owners - named if condition.negated else plan.owners & named)


def _id(plan: Plan, values: Sequence[str], condition: Condition, caller: Caller) -> Plan:
    either = Q()
    for start in values:
        either |= Q(pk__range=(UUID(start.ljust(32, "0")), UUID(start.ljust(32, "f"))))
    found = Run.objects.filter(either, owner__in=plan.owners, deleted_at=None)
    if condition.negated:
        return _by_row(plan, either, condition)
    # The primary key knows them at once; a list in order of time would look for them one by one.
    ids = list(found.values_list("pk", flat=True)[:1000])
    return _by_row(plan, Q(pk__in=ids), condition)


def _raw_status(plan: Plan, values: Sequence[str], condition: Condition, caller: Caller) -> Plan:
    return _by_row(plan, Q(raw_status__in=values), condition)


def _signed(name: str) -> Any:
    """A field that the search index knows by a sign."""

    def narrowed(plan: Plan, values: Sequence[str], condition: Condition, caller: Caller) -> Plan:
        signs = tuple(((clean_sign(f"={name}:{value}"), 0),) for value in values)
        return _searched(plan, Sought(signs), condition)

    return narrowed


_ONE_OF: dict[str, Any] = {
    "status": _status,
    "kind": _kind,
    "agent": _agent,
    "session": _session,
    "owner": _owner,
    "id": _id,
    "raw_status": _raw_status,
    **{name: _signed(name) for name in ("model", "source", "evaluator")},
}


# ── What is searched ───────────────────────────────────────────────────────
def _searched(plan: Plan, sought: Sought, condition: Condition) -> Plan:
    if condition.negated:
        return replace(plan, shunned=(*plan.shunned, sought))
    return replace(plan, sought=(*plan.sought, sought))


def _phrase(text: str, condition: Condition) -> tuple[tuple[str, int], ...]:
    """The words of `text` with their distances; raises QueryError where it has none."""
    found = words(text)
    placed = []
    for place, word in enumerate(found):
        if len(word) > 1 or not is_paired(word):
            placed.append((word, place))
        elif place == 0 or not (is_paired(found[place - 1]) and found[place - 1].endswith(word)):
            placed.append((word + BEGINNING, place))  # alone: any pair that begins with it
    if not placed:
        message = f'"{text}" has no letter or digit to look for.'
        raise QueryError([Problem(message, condition.start, condition.end)])
    return tuple(placed)


def _at_path(plan: Plan, test: AtPath, condition: Condition) -> Plan:
    if test.root == "summary":
        return _by_row(plan, _contains(test), condition)
    sign = ((path_sign(test.root, test.path, test.value), 0),)
    # What a spec holds beyond what is indexed stays unsearched: part of it is secret.
    unsure = _contains(test) if test.root == "metadata" else None
    return _searched(plan, Sought((sign,), unsure), condition)


def _contains(test: AtPath) -> Q:
    """The JSON has the value there, as a text or as what the text says in JSON, alone or in an array."""
    either = Q()
    for value in _readings(test.value):
        for leaf in (value, [value]):
            nested = leaf
            for key in reversed(test.path):
                nested = {key: nested}
            either |= Q(**{f"{test.root}__contains": nested})
    return either


def _readings(text: str) -> Iterable[Any]:
    yield text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return
    if value is None or isinstance(value, bool | int | float):
        yield value


# ── What is looked at row by row ───────────────────────────────────────────
def _by_row(plan: Plan, wanted: Q, condition: Condition) -> Plan:
    return replace(plan, rows=(*plan.rows, ~wanted if condition.negated else wanted))


def _having(plan: Plan, what: str, condition: Condition) -> Plan:
    if what in ("open", "final"):
        asked = (FINAL if what == "final" else OPEN) if not condition.negated else None
        asked = asked or (OPEN if what == "final" else FINAL)
        return replace(plan, statuses=plan.statuses & {str(status) for status in asked})
    return _by_row(plan, _HAS[what], condition)


_HAS = {
    "feedback": Q(Exists(Feedback.objects.filter(run=OuterRef("pk"), withdrawn_at=None))),
    "error": Q(error__isnull=False) & ~Q(error=""),
    "artifact": Q(artifact_count__gt=0),
    "result": Q(passed_count__gt=0) | Q(failed_count__gt=0) | Q(errored_count__gt=0) | Q(skipped_count__gt=0),
    "cancel": Q(cancel_requested_at__isnull=False),
}


def _created(plan: Plan, test: Compare, condition: Condition) -> Plan:
    at = cast(datetime, test.value)
    if (test.operator == ">=") != condition.negated:
        return replace(plan, since=max(filter(None, (plan.since, at))))
    return replace(plan, until=min(filter(None, (plan.until, at))))


def _compared(test: Any) -> Q:
    name = _COLUMNS[test.field]
    if isinstance(test, Between):
        return Q(**{f"{name}__gte": test.low, f"{name}__lte": test.high})
    if test.value is None:
        return Q(**{f"{name}__isnull": True})
    return Q(**{f"{name}{_LOOKUPS[test.operator]}": test.value})


_LOOKUPS = {"=": "", ">": "__gt", ">=": "__gte", "<": "__lt", "<=": "__lte"}
_COLUMNS = {
    "rating": "rating",
    "score": "score",
    "cost": "cost",
    "events": "event_count",
    "feedback": "rating_count",
    "duration": "took",
    "tokens": "token_count",
}
# Columns that are computed for those conditions that name them.
COMPUTED = {
    "took": Case(
        When(started_at=None, then=None),
        default=Coalesce("finished_at", Now()) - F("started_at"),
        output_field=DurationField(),
    ),
    "token_count": Case(
        When(input_tokens=None, output_tokens=None, then=None),
        default=Coalesce("input_tokens", 0) + Coalesce("output_tokens", 0),
    ),
}


def _both[Value](known: frozenset[Value] | None, more: Iterable[Value]) -> frozenset[Value]:
    return frozenset(more) if known is None else known & frozenset(more)

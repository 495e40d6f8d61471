"""The second lock (DESIGN.md 3.12): every statement of every route that touches an owned table is read, and
must be bound to the caller's owners.

The rule. A statement is bound where its WHERE demands, beside whatever else, that a column which names an
owner, an owned row or a person holds a value that is known, or one that a bound subquery gives. Known are the
caller, the caller's owners, and each row that a bound statement of the same request gave, or that it made for
one of them. What a bound statement joins comes with it. Each subquery is bound by itself, or to a row of the
statement around it.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
from django.apps import apps
from django.db import connection, models

from runs.models import Event, Feedback, Membership, Owner, Result, Run, Session, Token, User, owner_ids
from runs.models.queue_view import OF_EVERYBODY
from tests.test_access import TABLE
from tests.walk import BY_TOKEN, Visitor, World

# Whoever knows the secret may read the row: it is how a token says who calls.
PROOFS = {("token", "hash")}
# What the pages and the API read today; OWNED, below, is found in the models and may be more.
NAMED = {
    *("owner", "membership", "token", "session", "run", "event", "artifact", "result"),
    *("feedback", "feedback_version", "change"),
    *("attempt", "webhook", "delivery"),
    *("task", "context", "context_message"),
    *("file", "file_namespace"),
}
# Looks by the id that the client chose, compares the owner, and says no more than that the id is taken
# (RELIABILITY.md R7).
LOOKS_FOR_THE_ID = re.compile(
    r'^SELECT (.* FROM "run" INNER JOIN "owner" .* WHERE "run"\."id" = \$0 LIMIT 21'
    r'|\$0 AS "a" FROM "run" WHERE "run"\."id" = \$1 LIMIT 1)$'
)


@pytest.fixture
def world(db: None) -> World:
    return World()


# ── The walk ───────────────────────────────────────────────────────────────
@pytest.mark.parametrize("entry", TABLE)
def test_every_statement_is_bound_to_the_callers_owners(world, entry):
    method, _, route = entry.partition(" ")
    callers = ("read", "write") if route.startswith(BY_TOKEN) else ("admin", "viewer")
    for visitor in (world.visitors[name] for name in callers):
        for address in world.addresses(route):
            record = Record(visitor.user, world.owner)
            with connection.execute_wrapper(record):
                visitor.call(method, address, world.body(route))
            assert record.unbound == [], f"{method} {address} reads what is not bound to an owner"


def test_the_walk_reads_every_owned_table(world):
    """Else it would prove nothing of the table that it leaves out."""
    seen: set[str] = set()
    for entry in TABLE:
        method, _, route = entry.partition(" ")
        token = "read" if method == "GET" else "write"
        visitor: Visitor = world.visitors[token if route.startswith(BY_TOKEN) else "admin"]
        for address in world.addresses(route):
            record = Record(visitor.user, world.owner)
            with connection.execute_wrapper(record):
                visitor.call(method, address, world.body(route))
            seen |= record.tables
    assert NAMED - seen == set()


# ── The rule, by example ───────────────────────────────────────────────────
BOUND: dict[str, Callable[[World, User], Any]] = {
    "an owner that is the caller's": lambda world, user: Run.objects.visible_to(user),
    "an owner through a join": lambda world, user: Result.objects.visible_to(user),
    "an owner by number": lambda world, user: Session.objects.filter(owner=world.owner, key="x"),
    "owners by their numbers": lambda world, user: Run.objects.filter(owner__in=list(owner_ids(user))),
    "a row that a bound statement gave": lambda world, user: Event.objects.filter(
        run=Run.objects.visible_to(user).get(pk=world.run.pk)
    ),
    "rows that a bound statement gave": lambda world, user: Feedback.objects.filter(
        run__in=[run.pk for run in Run.objects.visible_to(user)]
    ),
    "rows in a subquery that is bound": lambda world, user: Event.objects.filter(
        run__in=Run.objects.visible_to(user)
    ),
    "one's own memberships": lambda world, user: Membership.objects.filter(user=user),
    "a row of the statement around it": lambda world, user: Run.objects.visible_to(user).filter(
        models.Exists(Event.objects.filter(run=models.OuterRef("pk")))
    ),
}
MADE_BY_ITSELF = {
    "a session that the request made for its owner": (True, lambda world: world.owner),
    "a session that it made for somebody else": (False, lambda world: world.elsewhere),
}
UNBOUND: dict[str, Callable[[World, User], Any]] = {
    "nothing at all": lambda world, user: Event.objects.all(),
    "something else": lambda world, user: Event.objects.filter(kind="message"),
    "an id from the address": lambda world, user: Run.objects.filter(pk=world.run.pk),
    "a key from the address": lambda world, user: Session.objects.filter(key=world.session.key),
    "another owner": lambda world, user: Run.objects.filter(owner=world.elsewhere),
    "another owner beside one's own": lambda world, user: Run.objects.filter(
        owner__in=[world.owner.pk, world.elsewhere.pk]
    ),
    "an owner or something else": lambda world, user: Run.objects.filter(
        models.Q(owner=world.owner) | models.Q(agent="x")
    ),
    "all but an owner": lambda world, user: Run.objects.exclude(owner=world.owner),
    "a subquery that is not bound": lambda world, user: Event.objects.filter(
        run__in=Run.objects.filter(agent="x")
    ),
    "a join without a condition": lambda world, user: Result.objects.select_related("run"),
    "a bound statement with an unbound one inside": lambda world, user: Run.objects.visible_to(user).filter(
        title__in=Event.objects.values("kind")
    ),
    "a row that an unbound statement gave": lambda world, user: Event.objects.filter(
        run=Run.objects.filter(pk=world.run.pk).get()
    ),
    "the owners": lambda world, user: Owner.objects.all(),
    "others' memberships": lambda world, user: Membership.objects.filter(owner__name="elsewhere"),
    "tokens by their names": lambda world, user: Token.objects.filter(name="canary read"),
}


@pytest.mark.parametrize("rows", BOUND.values(), ids=BOUND)
def test_it_lets_pass(world, rows):
    assert _recorded(world, rows).unbound == []


@pytest.mark.parametrize("rows", UNBOUND.values(), ids=UNBOUND)
def test_it_catches(world, rows):
    assert _recorded(world, rows).unbound != []


@pytest.mark.parametrize(("is_bound", "whose"), MADE_BY_ITSELF.values(), ids=MADE_BY_ITSELF)
def test_what_a_request_made_is_known_by_its_owner(world, is_bound, whose):
    def rows(*_: Any) -> Any:
        made = Session.objects.create(owner=whose(world), source="x", key="x")
        return Session.objects.filter(pk=made.pk)

    assert (_recorded(world, rows).unbound == []) is is_bound


def test_it_catches_a_write(world):
    assert _recorded(world, lambda *_: [Run.objects.filter(pk=world.run.pk).update(title="x")]).unbound != []


def test_it_reads_a_statement_however_it_is_laid_out(world):
    laid_out = "\n    SELECT id FROM run\n    WHERE agent = %s"
    assert _recorded(world, lambda *_: Run.objects.raw(laid_out, ["x"])).unbound != []


def test_every_model_with_an_owner_is_owned():
    assert NAMED - set(OWNED) == set()
    assert "user" not in OWNED


def _recorded(world: World, rows: Callable[[World, User], Any]) -> "Record":
    user = world.visitors["viewer"].user
    assert user
    record = Record(user, world.owner)
    with connection.execute_wrapper(record):
        list(rows(world, user))
    return record


# ── What is owned, found in the models ─────────────────────────────────────
def _owned() -> dict[str, dict[str, str]]:
    """The tables with a way to an owner; of each, the columns that name an owned row or a person, and of
    which table. The first is its own key."""
    every = apps.get_app_config("runs").get_models()
    ways = {model: {key.related_model for key in model._meta.fields} for model in every}
    owned = {Owner}
    while more := {model for model, to in ways.items() if to & owned} - owned:
        owned |= more
    return {model._meta.db_table: _names(model, owned) for model in owned}


def _names(model: type[models.Model], owned: set[type[models.Model]]) -> dict[str, str]:
    related = [key for key in model._meta.fields if key.related_model in {*owned, User}]
    return {
        str(model._meta.pk.column): model._meta.db_table,
        **{str(key.column): key.related_model._meta.db_table for key in related},
    }


OWNED = _owned()


# ── Reading statements ─────────────────────────────────────────────────────
@dataclass
class Block:
    """One SELECT, UPDATE or DELETE without its subqueries, in whose places `(#1)`, `(#2)` … stand."""

    text: str
    inner: dict[str, "Block"] = field(default_factory=dict)

    @property
    def tables(self) -> dict[str, str]:
        """The tables by the names that they have here."""
        found = re.findall(r'\b(?:FROM|JOIN|UPDATE) "?(\w+)"?(?: (?:AS )?"?([A-Z]\d+)\b"?)?', self.text)
        return {alias or table: table for table, alias in found}

    @property
    def conditions(self) -> list[str]:
        """What WHERE demands, each for itself: what an OR joins is one condition."""
        _, _, where = self.text.partition(" WHERE ")
        return _demands(re.split(r" (?:GROUP BY|ORDER BY|HAVING|LIMIT|FOR UPDATE|RETURNING) ", where)[0])


def blocks_of(sql: str) -> Block:
    """The statement and the subqueries in it."""
    inner: dict[str, Block] = {}
    while start := re.search(r"\(SELECT ", sql):
        end = _closing(sql, start.start())
        name = f"#{len(inner) + 1}"
        inner[name] = blocks_of(sql[start.start() + 1 : end])
        sql = f"{sql[: start.start()]}({name}){sql[end + 1 :]}"
    return Block(sql, inner)


def _demands(condition: str) -> list[str]:
    condition = condition.strip()
    while condition.startswith("(") and _closing(condition, 0) == len(condition) - 1:
        condition = condition[1:-1]
    parts, start = [], 0
    for at in (found.start() for found in re.finditer(" AND ", condition)):
        if condition[:at].count("(") == condition[:at].count(")"):
            parts.append(condition[start:at])
            start = at + len(" AND ")
    if not parts:
        return [condition]
    return [demand for part in (*parts, condition[start:]) for demand in _demands(part)]


def _closing(sql: str, start: int) -> int:
    """Where the parenthesis closes that opens at `start`."""
    depth = 0
    for at in range(start, len(sql)):
        depth += {"(": 1, ")": -1}.get(sql[at], 0)
        if depth == 0:
            return at
    raise AssertionError(f"a parenthesis does not close in {sql}")


# `column = value`, `column IN (values)`, `column = ANY(values)`, `column = (column)`.
_DEMAND = re.compile(
    r"""(?:"?(?P<table>\w+)"?\.)?"?(?P<column>\w+)"?\ (?:=|IN|=\ ANY)\ ?\(?
    (?:"?(?P<outer>\w+)"?\."?(?P<key>\w+)"?|(?P<values>[^()]+))\)?""",
    re.VERBOSE,
)


_INSERT = re.compile(r'INSERT INTO "(?P<table>\w+)" \((?P<columns>[^)]+)\) VALUES \((?P<values>.+)\)')


# What only writes rows is judged by those (`_made`), also where the INSERT is the first of several.
_WRITES = re.compile(r"(WITH \w+ AS \()?INSERT ")


class Record:
    """Wraps every statement of a request; `unbound` are those that read or write past the rule.

    Values are compared as text: that is how PostgreSQL gives them back.
    """

    def __init__(self, user: User | None, owner: Owner) -> None:
        self.known = {("owner", str(owner.pk))} | ({("user", str(user.pk))} if user else set())
        self.unbound: list[str] = []
        self.tables: set[str] = set()

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        result = execute(sql, params, many, context)
        if sql in OF_EVERYBODY:  # numbers and times alone: tests/models/test_queue_view.py
            return result
        sql = re.sub(r"\( | (?=\))", lambda found: found[0].strip(), " ".join(sql.split()))
        if "pg_class" in sql or not sql.startswith(("SELECT", "UPDATE", "DELETE", "INSERT", "WITH")):
            return result
        sql, values = _numbered(sql, params or ())
        wrong = not _WRITES.match(sql) and any(self._faults(blocks_of(sql), values, {}))
        if not wrong and "ON CONFLICT" not in sql:
            self.known |= set(_rows(context["cursor"].cursor.pgresult)) | set(self._made(sql, values))
        elif wrong and not LOOKS_FOR_THE_ID.search(sql):
            self.unbound.append(sql)
        return result

    def _made(self, sql: str, values: list[Any]) -> Iterator[tuple[str, str]]:
        """The row that an INSERT writes for an owner that is known, or for something of theirs."""
        made = _INSERT.match(sql)
        if not made or made["table"] not in OWNED:
            return
        row = dict(
            zip(made["columns"].replace('"', "").split(", "), made["values"].split(", "), strict=False)
        )
        given = {name: values[int(value[1:])] for name, value in row.items() if re.fullmatch(r"\$\d+", value)}
        names = OWNED[made["table"]]
        key = next(iter(names))
        if any(
            (names[name], str(given[name])) in self.known for name in names if name in given and name != key
        ):
            yield made["table"], str(given.get(key))

    def _faults(self, block: Block, values: list[Any], around: dict[str, str]) -> Iterator[str]:
        """The names of owned tables that no condition binds, here and in the subqueries."""
        for inner in block.inner.values():
            yield from self._faults(inner, values, {**around, **block.tables})
        owned = [table for table in block.tables.values() if table in OWNED]
        self.tables |= set(owned)
        if owned and not any(self._binds(one, block, values, around) for one in block.conditions):
            yield from owned

    def _binds(self, condition: str, block: Block, values: list[Any], around: dict[str, str]) -> bool:
        found = _DEMAND.fullmatch(condition)
        if not found:
            return False
        table = block.tables.get(found["table"] or next(iter(block.tables)), "")
        whose = OWNED.get(table, {}).get(found["column"])
        if whose is None:
            return (table, found["column"]) in PROOFS
        if found["outer"]:
            return OWNED.get(around.get(found["outer"], ""), {}).get(found["key"]) == whose
        if found["values"] in block.inner:
            return bool(set(block.inner[found["values"]].tables.values()) & set(OWNED))
        given = list(_flat(values[int(number)] for number in re.findall(r"\$(\d+)", found["values"])))
        return bool(given) and all((whose, str(one)) in self.known for one in given)


def _numbered(sql: str, params: Any) -> tuple[str, list[Any]]:
    """The statement on one line, with `$0`, `$1` … for its parameters, and these in that order."""
    places = re.findall(r"%s|%\((\w+)\)s", sql)
    values = [params[name] for name in places] if isinstance(params, dict) else list(params)
    numbers = iter(range(len(places)))
    return " ".join(re.sub(r"%s|%\(\w+\)s", lambda _: f"${next(numbers)}", sql).split()), values


def _flat(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        yield from value if isinstance(value, list | tuple | set) else (value,)


@cache
def _tables() -> dict[int, str]:
    """The owned tables by the numbers that PostgreSQL gives with its answers."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT oid, relname FROM pg_class WHERE relname = ANY(%s)", [list(OWNED)])
        return dict(cursor.fetchall())


def _rows(result: Any) -> Iterator[tuple[str, str]]:
    """The owned rows that a statement gave or named, as (table, key): a run's session is its owner's."""
    for column in range(result.nfields if result else 0):
        table = _tables().get(result.ftable(column), "")
        for named in _named(table, result.fname(column).decode()):
            for row in range(result.ntuples):
                if value := result.get_value(row, column):
                    yield named, value.decode()


def _named(table: str, column: str) -> set[str]:
    """The tables whose key this column holds: its own, if it is that, and the one that it points to."""
    names = OWNED.get(table, {})
    key = next(iter(names), None)
    own = {table} if names and column in (key, "pk") else set()
    return own | {to for name, to in names.items() if name == column}

"""The canonical form, and the queries that pages make of a query."""

import string
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from runs.query import (
    FIELDS,
    AtPath,
    Between,
    Compare,
    Condition,
    Has,
    Kind,
    OneOf,
    Query,
    QueryError,
    Words,
    parse,
)
from runs.query.statuses import WORDS, canonical_status
from tests.query.reading import NOW, query

BERLIN = ZoneInfo("Europe/Berlin")


def names(*kinds: Kind) -> st.SearchStrategy[str]:
    return st.sampled_from([name for name, field in FIELDS.items() if field.kind in kinds])


def several(values: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(values, min_size=1, max_size=3, unique=True).map(tuple)


ANY = st.characters(exclude_categories=["Cs"], exclude_characters="\x00")
TRICKY = st.sampled_from([*list(' -"\\:,.><=\n\u3000'), "OR", "..", "status:"])  # what the syntax is made of
TEXTS = st.lists(ANY | TRICKY, min_size=1, max_size=6).map("".join).filter(str.strip)
KEYS = several(st.lists(ANY | TRICKY, min_size=1, max_size=4).map("".join))
NUMBERS = {
    Kind.RATING: st.integers(1, 5),
    Kind.WHOLE: st.integers(0, 10**15 - 1),
    Kind.NUMBER: st.floats(allow_nan=False, allow_infinity=False),
    Kind.MONEY: st.decimals(0, Decimal("99999999.999999"), places=6),
    Kind.DURATION: st.timedeltas(timedelta(), timedelta(days=36_500)),
}
AMOUNT_NAMES = names(*NUMBERS)
OPERATORS = st.sampled_from(["=", ">", ">=", "<", "<="])
CREATED = st.builds(
    Compare,
    st.just("created"),
    st.sampled_from([">=", "<"]),
    st.datetimes(datetime(1000, 1, 1), timezones=st.just(UTC)),
)


def amounts(name: str) -> st.SearchStrategy[Compare | Between]:
    values = NUMBERS[FIELDS[name].kind]
    pairs = st.tuples(values, values).map(sorted)
    return st.builds(Compare, st.just(name), OPERATORS, values) | pairs.map(lambda ends: Between(name, *ends))


TESTS = st.one_of(
    st.builds(Words, TEXTS),
    st.builds(OneOf, names(Kind.TEXT), several(TEXTS)),
    st.builds(OneOf, st.just("status"), several(st.sampled_from(sorted({*map(canonical_status, WORDS)})))),
    st.builds(OneOf, st.just("kind"), several(st.sampled_from(FIELDS["kind"].values))),
    st.builds(OneOf, st.just("id"), several(st.text(string.hexdigits[:16], min_size=4, max_size=32))),
    AMOUNT_NAMES.flatmap(amounts),
    names(Kind.RATING, Kind.NUMBER, Kind.MONEY, Kind.DURATION).map(lambda name: Compare(name, "=", None)),
    CREATED,
    st.sampled_from([*FIELDS["has"].values, *FIELDS["is"].values]).map(Has),
    st.builds(AtPath, names(Kind.PATH), KEYS, TEXTS),
)
QUERIES = st.lists(st.builds(Condition, TESTS, st.booleans()), max_size=8).map(
    lambda conditions: Query(tuple(conditions))
)


@settings(deadline=None)  # a busy machine is not a failure
@given(QUERIES)
@example(Query((Condition(Words("-")), Condition(Words("-x")), Condition(Words("--x"), negated=True))))
@example(Query((Condition(Words('\\"\\')), Condition(AtPath("spec", ("\\",), "\\")))))
def test_the_text_of_any_query_parses_to_an_equal_query(made):
    assert query(made.text()) == made


@settings(deadline=None)
@given(st.lists(ANY | TRICKY | st.sampled_from(list(FIELDS)), max_size=20).map("".join))
def test_any_text_is_a_query_or_has_problems_within_it(text):
    try:
        read = query(text)
    except QueryError as error:
        assert all(0 <= problem.start < problem.end <= len(text) for problem in error.problems)
    else:
        assert query(read.text()) == read


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ('  "lamp"   chair ', "lamp chair"),
        ("STATUS:Canceled,canceled", "status:cancelled"),
        ("rating:=5 score:1.0 cost:.50", "rating:5 score:1 cost:0.50"),
        ("duration:>90s duration:0.5ms duration:0s", "duration:>1m30s duration:0.5ms duration:0s"),
        ('id:019A-2f metadata."env":"prod"', "id:019a2f metadata.env:prod"),
        ('-"a b" "-x" "OR"', '-"a b" "-x" "OR"'),
    ],
)
def test_the_text_is_the_shortest_form(text, canonical):
    assert str(query(text)) == canonical


def test_times_are_written_as_they_were_typed_so_that_links_to_the_last_week_stay_so():
    text = 'after:7d before:Today after:2026-11-01 before:"2026-11-01 10:00"'
    assert query(text).text() == "after:7d before:today after:2026-11-01 before:2026-11-01T10:00"


def test_a_fixed_query_means_the_same_later_and_elsewhere():
    fixed = query("lamp after:7d before:2026-11-20", BERLIN).fixed()
    assert fixed.text() == "lamp after:2026-11-13T12:30:00Z before:2026-11-19T23:00:00Z"
    assert parse(fixed.text(), NOW + timedelta(days=3)) == query("lamp after:7d before:2026-11-20", BERLIN)


# ── Other queries ──────────────────────────────────────────────────────────
FAILED = Condition(OneOf("status", ("failed",)))


def test_with_adds_at_the_end():
    assert query("lamp").with_(FAILED).text() == "lamp status:failed"


def test_with_adds_nothing_that_is_there():
    assert query("status:failed lamp").with_(FAILED).text() == "status:failed lamp"


def test_without_takes_the_condition_out_wherever_it_stands():
    assert query("status:failed lamp status:failed").without(FAILED).text() == "lamp"


def test_without_leaves_the_negated_condition():
    assert query("-status:failed").without(FAILED).text() == "-status:failed"


def test_negating_turns_the_condition_around_in_its_place():
    turned = query("status:failed lamp").negating(FAILED)
    assert turned.text() == "-status:failed lamp"
    assert turned.negating(turned.conditions[0]).text() == "status:failed lamp"

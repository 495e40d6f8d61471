"""Numbers, durations and times."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from runs.query import Between, Compare
from tests.query.reading import NOW, problems_of, query, read

BERLIN = ZoneInfo("Europe/Berlin")
HAVANA = ZoneInfo("America/Havana")


@pytest.mark.parametrize(
    ("text", "operator"), [("5", "="), ("=5", "="), (">5", ">"), (">=5", ">="), ("<5", "<"), ("<=5", "<=")]
)
def test_every_operator_is_read(text, operator):
    assert read(f"events:{text}") == [Compare("events", operator, 5)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("rating:4", 4),
        ("score:0.25", 0.25),
        ("score:-1", -1.0),
        ("score:.5", 0.5),
        ("score:1e-3", 0.001),
        ("tokens:120000", 120_000),
        ("cost:0.000001", Decimal("0.000001")),
        ("cost:12", Decimal(12)),
    ],
)
def test_numbers_have_the_type_of_their_field(text, value):
    (test,) = read(text)
    assert (test.value, type(test.value)) == (value, type(value))


@pytest.mark.parametrize("name", ["rating", "score", "duration", "tokens", "cost"])
def test_none_asks_for_runs_without_a_value(name):
    assert read(f"{name}:none") == [Compare(name, "=", None)]


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("30s", timedelta(seconds=30)),
        ("500ms", timedelta(milliseconds=500)),
        ("2m", timedelta(minutes=2)),
        ("1h30m", timedelta(minutes=90)),
        ("1d2h3m4s5ms", timedelta(days=1, hours=2, minutes=3, seconds=4, milliseconds=5)),
        ("1.5S", timedelta(seconds=1.5)),
    ],
)
def test_durations_are_read(text, duration):
    assert read(f"duration:>{text}") == [Compare("duration", ">", duration)]


def test_a_range_has_both_its_ends():
    assert read("score:0.2..0.8 rating:2..2 duration:500ms..1m") == [
        Between("score", 0.2, 0.8),
        Between("rating", 2, 2),
        Between("duration", timedelta(milliseconds=500), timedelta(minutes=1)),
    ]


def test_a_range_may_be_negative():
    assert read("score:-1..-.5") == [Between("score", -1.0, -0.5)]


@pytest.mark.parametrize(
    "text",
    [
        *("rating:0", "rating:6", "rating:4.5", "rating:>none", "rating:four", "rating:٣"),
        *("score:nan", "score:inf", "score:1e999", "score:..", "score:0.2..", "score:0.5.", "score:>1..2"),
        *("tokens:-1", "tokens:1.5", "tokens:1e3", "tokens:9999999999999999", "events:none"),
        *("cost:0.0000001", "cost:999999999", "cost:.", "cost:-1"),
        *("duration:30", "duration:5s3m", "duration:-5s", "duration:1w", "duration:36501d", "duration:1h30"),
    ],
)
def test_what_is_no_number_of_the_field_is_a_problem(text):
    name, _, value = text.partition(":")
    (problem,) = problems_of(text)
    assert problem.message.startswith(f"{name} takes ")
    assert text[problem.start : problem.end] == value


def test_a_range_that_ends_before_it_begins_is_a_problem():
    (problem,) = problems_of("score:0.8..0.2")
    assert problem.message == "This range ends before it begins: write score:0.2..0.8."


# ── Times ──────────────────────────────────────────────────────────────────
def created(text, zone=UTC):
    (condition,) = query(text, zone).conditions
    return condition.test.value


def test_after_includes_its_instant_and_before_does_not():
    day = datetime(2026, 11, 1, tzinfo=UTC)
    assert read("after:2026-11-01 before:2026-11-01") == [
        Compare("created", ">=", day),
        Compare("created", "<", day),
    ]


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-11-01", datetime(2026, 10, 31, 23, tzinfo=UTC)),
        ("2026-07-01", datetime(2026, 6, 30, 22, tzinfo=UTC)),
        ("2026-11-01T10:00", datetime(2026, 11, 1, 9, tzinfo=UTC)),
        ('"2026-11-01 10:00"', datetime(2026, 11, 1, 9, tzinfo=UTC)),
        ("2026-11-01T10:00:30.25", datetime(2026, 11, 1, 9, 0, 30, 250_000, tzinfo=UTC)),
        ("2026-11-01T10:00Z", datetime(2026, 11, 1, 10, tzinfo=UTC)),
        ("2026-11-01t10:00z", datetime(2026, 11, 1, 10, tzinfo=UTC)),
        ("2026-11-01T10:00-05:30", datetime(2026, 11, 1, 15, 30, tzinfo=UTC)),
    ],
)
def test_dates_and_times_are_in_the_zone_unless_they_name_one(text, instant):
    assert created(f"after:{text}", BERLIN) == instant


@pytest.mark.parametrize(
    ("text", "age"),
    [("7d", timedelta(days=7)), ("12h", timedelta(hours=12)), ("1h30m", timedelta(minutes=90))],
)
def test_an_age_counts_back_from_now(text, age):
    assert created(f"before:{text}", BERLIN) == NOW - age


def test_today_and_yesterday_begin_in_the_zone():
    kiritimati = ZoneInfo("Pacific/Kiritimati")  # where it is the 21st already
    assert created("after:today", kiritimati) == datetime(2026, 11, 20, 10, tzinfo=UTC)
    assert created("after:Yesterday", kiritimati) == datetime(2026, 11, 19, 10, tzinfo=UTC)


def test_a_day_without_midnight_begins_when_its_first_hour_does():
    assert created("after:2026-03-08", HAVANA) == datetime(2026, 3, 8, 5, tzinfo=UTC)


def test_a_day_with_two_midnights_begins_with_the_first():
    assert created("after:2026-11-01", HAVANA) == datetime(2026, 11, 1, 4, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        *("2026-02-30", "2026-13-01", "2026-11-01T25:00", "2026-11-01T10", "20261101", "2026-W44-1"),
        *("0001-01-01T00:00+01:00", "9999-12-31T23:59-01:00", "36501d", "tomorrow", "7", ">7d", "none"),
    ],
)
def test_what_is_no_time_is_a_problem(text):
    (problem,) = problems_of(f"after:{text}")
    assert problem.message == (
        f'after takes a date, a time, an age, today or yesterday, as in after:2026-11-01, and not "{text}".'
    )

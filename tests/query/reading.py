"""Parsing at a fixed moment."""

from datetime import UTC, datetime, tzinfo

from runs.query import Problem, Query, QueryError, Test, parse

NOW = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)


def query(text: str, zone: tzinfo = UTC) -> Query:
    return parse(text, NOW, zone)


def read(text: str) -> list[Test]:
    return [condition.test for condition in query(text).conditions]


def problems_of(text: str) -> tuple[Problem, ...]:
    try:
        query(text)
    except QueryError as error:
        return error.problems
    return ()


def underlined(text: str) -> list[str]:
    """What a page underlines."""
    return [text[problem.start : problem.end] for problem in problems_of(text)]

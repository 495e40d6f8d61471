"""The query language of runs (issue 3): one text that pages, API and exports understand alike.

Pure: text in, a tree of small values out. No Django, no SQL. `docs/search.md` explains it to users.
"""

from runs.query.completion import (
    Completions,
    Typed,
    complete,
    typed_value,
    written_key,
    written_value,
)
from runs.query.conditions import AtPath, Between, Compare, Condition, Has, OneOf, Query, Test, Words
from runs.query.errors import Problem, QueryError
from runs.query.fields import FIELDS, Field, Kind
from runs.query.parsing import MAX_CONDITIONS, MAX_LENGTH, parse
from runs.query.statuses import StatusMeaning, status_meaning

__all__ = [
    "FIELDS",
    "MAX_CONDITIONS",
    "MAX_LENGTH",
    "AtPath",
    "Between",
    "Compare",
    "Completions",
    "Condition",
    "Field",
    "Has",
    "Kind",
    "OneOf",
    "Problem",
    "Query",
    "QueryError",
    "StatusMeaning",
    "Test",
    "Typed",
    "Words",
    "complete",
    "parse",
    "status_meaning",
    "typed_value",
    "written_key",
    "written_value",
]

"""docs/search.md says what the parser does."""

import re
from pathlib import Path

from runs.query import FIELDS, MAX_CONDITIONS, MAX_LENGTH, Field
from tests.query.reading import problems_of

DOCUMENT = (Path(__file__).parents[2] / "docs" / "search.md").read_text()


def row(field: Field) -> str:
    values = f": {', '.join(f'`{value}`' for value in field.values)}" if field.values else ""
    return f"| `{field.name}` | {field.takes}{values} | {field.description} | `{field.example}` |"


def test_its_table_is_the_table_of_fields():
    rows = [line for line in DOCUMENT.splitlines() if line.startswith("| `")]
    assert rows == [row(field) for field in FIELDS.values()]


def test_its_examples_are_queries():
    examples = re.findall(r"^    (.+?)(?:  +.*)?$", DOCUMENT, re.MULTILINE)
    assert len(examples) > 5
    assert [problems_of(example) for example in examples] == [()] * len(examples)


def test_it_names_the_limits():
    assert f"{MAX_LENGTH:,} characters and {MAX_CONDITIONS} conditions" in DOCUMENT

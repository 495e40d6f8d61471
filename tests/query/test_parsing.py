"""What texts mean."""

import subprocess
import sys
from pathlib import Path

import pytest

from runs.query import FIELDS, AtPath, Compare, Condition, Has, OneOf, Query, Words
from tests.query.reading import query, read


def test_it_reads_the_query_of_the_issue():
    conditions = query('status:failed agent:helm -rating:5 after:2026-11-01 "exact words"').conditions
    assert [str(condition) for condition in conditions] == [
        "status:failed",
        "agent:helm",
        "-rating:5",
        "after:2026-11-01",
        '"exact words"',
    ]


@pytest.mark.parametrize("text", ["", "   ", "\n\t"])
def test_nothing_is_a_query_without_conditions(text):
    assert query(text) == Query()


@pytest.mark.parametrize("field", FIELDS.values(), ids=FIELDS)
def test_every_example_asks_for_its_own_field(field):
    (test,) = read(field.example)
    assert str(test).startswith((f"{field.name}:", f"{field.name}."))


def test_conditions_know_where_they_stand():
    text = '  -agent:"my agent"   lamp'
    assert [text[one.start : one.end] for one in query(text).conditions] == ['-agent:"my agent"', "lamp"]


def test_conditions_may_stand_on_lines_and_between_ideographic_spaces():
    assert read("lamp\nchair\u3000机") == [Words("lamp"), Words("chair"), Words("机")]


# ── Words ──────────────────────────────────────────────────────────────────
def test_words_without_quotes_are_single():
    assert read("no lamps") == [Words("no"), Words("lamps")]


def test_words_in_quotes_are_one():
    assert read('"no  lamps: left"') == [Words("no  lamps: left")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (r'"say \"hi\""', 'say "hi"'),
        (r'"C:\Users\new"', r"C:\Users\new"),
        (r'"\\server\share"', r"\\server\share"),
        (r'"C:\logs\\"', "C:\\logs\\"),
        ('"https://example.org/a?b=c"', "https://example.org/a?b=c"),
    ],
)
def test_a_backslash_in_quotes_is_itself_unless_a_quote_follows(text, words):
    assert read(text) == [Words(words)]


@pytest.mark.parametrize("word", ["OR", "AND", "NOT"])
def test_an_operator_of_other_languages_is_a_word_in_quotes(word):
    assert read(f'"{word}"') == [Words(word)]


# ── Negation ───────────────────────────────────────────────────────────────
@pytest.mark.parametrize("text", ["lamp", '"no lamps"', "status:failed", "metadata.env:prod", "has:error"])
def test_a_leading_dash_negates(text):
    (plain,), (negated,) = query(text).conditions, query(f"-{text}").conditions
    assert (negated.test, plain.negated, negated.negated) == (plain.test, False, True)


@pytest.mark.parametrize("word", ["-", "--", "--verbose", "gpt-5", "trailing-"])
def test_other_dashes_are_part_of_the_word(word):
    assert query(word).conditions == (Condition(Words(word)),)


# ── One of several values ──────────────────────────────────────────────────
def test_values_are_separated_by_commas():
    assert read("agent:helm,forge") == [OneOf("agent", ("helm", "forge"))]


def test_values_in_quotes_may_hold_spaces_commas_and_colons():
    assert read('agent:"my agent","a,b","a:b"') == [OneOf("agent", ("my agent", "a,b", "a:b"))]


def test_a_colon_in_a_value_needs_no_quotes():
    assert read("model:llama3:8b") == [OneOf("model", ("llama3:8b",))]


def test_a_value_given_twice_counts_once():
    assert read("agent:helm,forge,helm") == [OneOf("agent", ("helm", "forge"))]


def test_names_of_fields_are_read_in_any_case():
    assert read("Status:failed METADATA.Env:prod") == [
        OneOf("status", ("failed",)),
        AtPath("metadata", ("Env",), "prod"),
    ]


def test_closed_values_are_read_in_any_case():
    assert read("kind:TASK has:Feedback") == [OneOf("kind", ("task",)), Has("feedback")]


def test_values_of_texts_keep_their_case():
    assert read("agent:Helm") == [OneOf("agent", ("Helm",))]


def test_an_id_is_read_without_dashes_and_case():
    assert read("id:019A2F3C-11,abcd") == [OneOf("id", ("019a2f3c11", "abcd"))]


def test_a_whole_id_is_read():
    assert read("id:019a2f3c-1111-7000-8000-0123456789ab") == [
        OneOf("id", ("019a2f3c1111700080000123456789ab",))
    ]


# ── The others ─────────────────────────────────────────────────────────────
def test_open_and_final_are_asked_with_is():
    assert read("is:open -is:final") == [Has("open"), Has("final")]


def test_feedback_is_a_number_of_ratings():
    assert read("feedback:>=2") == [Compare("feedback", ">=", 2)]


def test_a_path_has_keys_between_dots():
    assert read("spec.target.kind:http") == [AtPath("spec", ("target", "kind"), "http")]


def test_keys_in_quotes_may_hold_dots_colons_and_spaces():
    assert read('metadata."a.b"."c: d".e:x') == [AtPath("metadata", ("a.b", "c: d", "e"), "x")]


def test_a_path_takes_a_value_in_quotes():
    assert read('summary.note:"one, two"') == [AtPath("summary", ("note",), "one, two")]


def test_the_language_loads_without_django():
    # Pure on purpose: clients and tools can take it as it is.
    code = "import sys, runs.query; sys.exit('django' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=True)

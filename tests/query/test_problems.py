"""What is wrong with a text, where, and what the user is told to do."""

import pytest

from runs.query import FIELDS, MAX_CONDITIONS, MAX_LENGTH, QueryError
from tests.query.reading import problems_of, query, underlined


def message_of(text):
    (problem,) = problems_of(text)
    return problem.message


def test_all_problems_are_found_in_the_order_of_the_text():
    text = 'statu:x "" kind:foo,task,tusk rating:6 agent: "open'
    assert underlined(text) == ["statu:x", '""', "foo", "tusk", "6", "agent:", '"open']


def test_the_error_is_its_first_problem():
    with pytest.raises(QueryError) as caught:
        query("lamp status:faild agent:")
    error = caught.value
    assert (error.message, error.start, error.end) == (error.problems[0].message, 12, 17)


def test_the_text_of_the_error_has_all_problems():
    with pytest.raises(QueryError) as caught:
        query("agent: model:")
    assert str(caught.value) == 'Add a value, as in agent:helm,"my agent". Add a value, as in model:gpt-5.'


# ── Fields ─────────────────────────────────────────────────────────────────
def test_an_unknown_field_lists_the_known_and_suggests_the_nearest():
    assert message_of("statsu:failed") == (
        'No field is called "statsu" (did you mean "status"?);'
        f' known are {", ".join(FIELDS)}; to find the text itself, quote it: "statsu:failed".'
    )


@pytest.mark.parametrize(
    "text", ["http://example.org", r"C:\Users", "10:30", ":)", "agent.name:x", "agent.:x"]
)
def test_a_word_with_a_colon_is_told_to_be_quoted(text):
    assert underlined(text) == [text]
    assert message_of(text).endswith(f'quote it: "{text}".')


def test_a_negated_unknown_field_is_underlined_without_its_dash():
    assert underlined("-statsu:failed") == ["statsu:failed"]


@pytest.mark.parametrize("name", [name for name in FIELDS if name not in ("metadata", "spec", "summary")])
def test_an_empty_value_is_a_problem(name):
    assert message_of(f"{name}:") == f"Add a value, as in {FIELDS[name].example}."


def test_a_value_of_empty_quotes_is_a_problem():
    assert underlined('agent:helm," "') == ['" "']


@pytest.mark.parametrize("text", ["agent:a,", "agent:,a", "agent:a,,b", 'agent:a"b"', 'agent:"a"b'])
def test_values_are_separated_by_one_comma_and_quoted_whole(text):
    assert message_of(text).startswith("Separate values by one comma, and quote a value as a whole, as in ")


def test_an_unknown_status_lists_the_known_and_suggests_the_nearest():
    assert message_of("status:compleeted") == (
        'No status is called "compleeted" (did you mean "completed"?); known are queued, running,'
        " input_required, paused, succeeded, failed, cancelled and the protocols' own,"
        " such as submitted or rejected."
    )


def test_an_unknown_value_of_a_list_names_the_list():
    assert message_of("kind:tusk") == (
        'kind does not take "tusk" (did you mean "task"?); it takes task or evaluation.'
    )


@pytest.mark.parametrize("digits", ["019", "019g", "0" * 33, "…abcd"])
def test_what_does_not_begin_an_id_is_a_problem(digits):
    assert message_of(f"id:{digits}").startswith(
        "id takes beginnings of ids, of at least 4 hexadecimal digits"
    )


@pytest.mark.parametrize("text", ["rating:4,5", "has:error,result", "after:7d,8d", "metadata.env:a,b"])
def test_fields_of_one_value_refuse_a_second(text):
    assert underlined(text) == [text.rpartition(",")[2]]
    assert " takes one value, as in " in message_of(text)


@pytest.mark.parametrize(
    "text", ["metadata:x", "metadata.:x", "metadata..a:x", "metadata.a.:x", 'metadata."":x']
)
def test_a_path_without_a_key_is_a_problem(text):
    assert underlined(text) == [text.removesuffix(":x")]
    assert message_of(text).startswith("Name the key, as in metadata.env:prod;")


# ── Words ──────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "text", ['"open', '-"open', 'agent:"open', 'lamp"open', r'"open\"', 'metadata."open']
)
def test_a_quote_that_is_not_closed_is_underlined_to_the_end(text):
    assert underlined(f"{text} status:x") == [f"{text[text.index('"') :]} status:x"]
    assert message_of(text) == 'A quote is opened here and not closed: write " where it ends.'


@pytest.mark.parametrize("text", ['""', '"  "', '-""'])
def test_quotes_around_nothing_are_a_problem(text):
    assert message_of(text).startswith("There is nothing between these quotes")


@pytest.mark.parametrize("text", ['"a"b', '"a""b"', '"a":b'])
def test_closing_quotes_need_a_space(text):
    assert (message_of(text), underlined(text)) == ("Put a space after the closing quote.", [text])


@pytest.mark.parametrize("text", ['a"b c"', 'don"t"'])
def test_opening_quotes_need_a_space(text):
    assert message_of(text) == "Put a space before the opening quote, or quote all of it."


@pytest.mark.parametrize("word", ["OR", "AND", "NOT"])
def test_operators_of_other_languages_are_explained(word):
    assert message_of(f"lamp {word} chair").startswith(f"Leave out {word}: ")


# ── Limits ─────────────────────────────────────────────────────────────────
def test_the_longest_text_is_read():
    assert problems_of("x" * MAX_LENGTH) == ()


def test_a_longer_text_is_underlined_from_where_it_is_too_long():
    (problem,) = problems_of("x" * (MAX_LENGTH + 7))
    assert (problem.start, problem.end) == (2000, 2007)
    assert problem.message == "A query has at most 2,000 characters, so take out 7."


def test_the_most_conditions_are_read():
    assert len(query("x " * MAX_CONDITIONS).conditions) == 50


def test_more_conditions_are_underlined():
    (problem,) = problems_of("x " * (MAX_CONDITIONS + 2))
    assert (problem.start, problem.end) == (100, 103)
    assert problem.message == "A query has at most 50 conditions, so take out 2."


@pytest.mark.parametrize(("character", "name"), [("\x00", "U+0000"), ("\ud800", "U+D800")])
def test_characters_that_no_text_here_has_are_underlined(character, name):
    text = f'"lamp{character}s"'
    assert underlined(text) == [character]
    assert message_of(text) == f"Take out the character {name}: no text that is kept here has it."


def test_messages_can_be_encoded_whatever_was_typed():
    for problem in problems_of("\ud800:x status:\udfff"):
        problem.message.encode()


def test_messages_show_the_beginning_of_what_is_long():
    assert f'"{"x" * 39}…"' in message_of("x" * 100 + ":y")

"""What may come next where somebody types."""

import pytest

from runs.query import FIELDS, Completions, Typed, complete, typed_value, written_key, written_value


def at_end(text):
    return complete(text, len(text))


def test_the_beginning_of_a_name_is_completed():
    assert at_end("lamp stat") == Completions(5, 9, ("status:",))


def test_paths_are_completed_up_to_their_dot():
    assert at_end("meta").texts == ("metadata.",)


def test_between_conditions_all_fields_are_offered():
    assert len(at_end("lamp ").texts) == len(FIELDS)


def test_a_dash_is_kept():
    assert at_end("-ki") == Completions(1, 3, ("kind:",))


@pytest.mark.parametrize(
    ("text", "texts"),
    [
        ("kind:", ("task", "evaluation")),
        ("-status:can", ("cancelled",)),
        ("status:failed,PA", ("paused",)),
        ("is:o", ("open",)),
    ],
)
def test_values_of_a_list_are_completed(text, texts):
    assert at_end(text).texts == texts


def test_the_rest_of_the_word_is_replaced_too():
    assert complete("lamp stfoo:failed", 7) == Completions(5, 10, ("status:",))


@pytest.mark.parametrize("text", ['"sta', 'agent:"my sta', "agent:hel", "statsu:fa", "metadata.en"])
def test_nothing_is_offered_where_nothing_is_known(text):
    assert at_end(text).texts == ()


@pytest.mark.parametrize(
    ("text", "typed"),
    [
        ("agent:hel", Typed("agent", "hel", 6, 9)),
        ('agent:"my sta', Typed("agent", "my sta", 6, 13)),
        ('agent:a,"b c",he', Typed("agent", "he", 14, 16)),
        ('agent:"a \\"b', Typed("agent", 'a "b', 6, 12)),
        ("-Session:x", Typed("session", "x", 9, 10)),
        ("metadata.en", Typed("metadata", "en", 9, 11)),
        ('metadata."a.b', Typed("metadata", "a.b", 9, 13)),
        ("metadata.env:pr", None),
        ("stat", None),
        ("statsu:fa", None),
        ('agent:"a" b', None),
        ('"agent:x', None),
    ],
)
def test_a_value_that_is_typed_is_found_with_its_quotes(text, typed):
    assert typed_value(text, len(text)) == typed


def test_a_closing_quote_behind_it_is_replaced_too():
    assert typed_value('agent:"my" is:open', 9) == Typed("agent", "my", 6, 10)


@pytest.mark.parametrize(
    ("value", "written"), [("helm", "helm"), ("my agent", '"my agent"'), ("a,b", '"a,b"'), ('a"b', r'"a\"b"')]
)
def test_a_value_is_written_as_one_types_it(value, written):
    assert written_value(value) == written


def test_a_key_with_a_dot_is_quoted():
    assert [written_key(key) for key in ("env", "a.b", "a b")] == ["env", '"a.b"', '"a b"']

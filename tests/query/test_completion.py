"""What may come next where somebody types."""

import pytest

from runs.query import FIELDS, Completions, complete


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

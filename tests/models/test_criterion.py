"""Criteria: what an owner's people rate runs on (issue 5, point 5)."""

import pytest

from runs.models import Criterion, Owner
from runs.models.criterion import (
    CriterionTaken,
    add_criterion,
    bring_back_criterion,
    move_criterion,
    retire_criterion,
)


def labels(owner: Owner) -> list[str]:
    return [one.label for one in Criterion.objects.filter(owner=owner).asked()]


def test_they_are_asked_in_the_order_in_which_they_were_added(owner):
    for label in ("Correct", "Complete", "Tone of voice"):
        add_criterion(owner, label)
    assert labels(owner) == ["Correct", "Complete", "Tone of voice"]
    assert Criterion.objects.get(label="Tone of voice").key == "tone-of-voice"


def test_each_owner_has_its_own(owner):
    add_criterion(owner, "Correct")
    others = Owner.objects.create(name="others")
    add_criterion(others, "Correct")
    assert labels(others) == ["Correct"]


@pytest.mark.parametrize(("label", "key"), [("Höflich", "höflich"), ("正確", "正確"), ("مهذب", "مهذب")])
def test_names_of_any_language_have_a_key(owner, label, key):
    assert add_criterion(owner, label).key == key


def test_a_name_without_a_letter_is_refused(owner):
    with pytest.raises(ValueError, match="needs a letter or a digit"):
        add_criterion(owner, "!?")


def test_overall_is_always_there(owner):
    with pytest.raises(CriterionTaken, match="Overall is always asked"):
        add_criterion(owner, "Overall")


def test_the_same_name_twice_is_refused(owner):
    retired = add_criterion(owner, "Correct")
    with pytest.raises(CriterionTaken, match="There is a criterion Correct already"):
        add_criterion(owner, "correct")
    retire_criterion(retired)
    with pytest.raises(CriterionTaken, match="It is retired: bring it back instead"):
        add_criterion(owner, "correct")


def test_one_that_is_retired_is_not_asked_until_it_is_brought_back(owner):
    criterion = add_criterion(owner, "Correct")
    for _ in range(2):
        retire_criterion(criterion)
    assert labels(owner) == []
    bring_back_criterion(criterion)
    assert labels(owner) == ["Correct"]


def test_their_order_is_changed_past_retired_ones(owner):
    first, between, last = (add_criterion(owner, label) for label in ("a", "b", "c"))
    retire_criterion(between)
    move_criterion(last, -1)
    assert labels(owner) == ["c", "a"]
    move_criterion(last, 1)
    assert labels(owner) == ["a", "c"]
    move_criterion(first, -1)
    assert labels(owner) == ["a", "c"]

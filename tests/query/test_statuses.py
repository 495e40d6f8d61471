"""Statuses in every dialect (CONTRACTS.md 4.2)."""

import pytest

from runs.models import Status
from runs.query import FIELDS, OneOf, StatusMeaning, status_meaning
from runs.query.statuses import WORDS, canonical_status
from tests.query.reading import read


def test_the_statuses_are_those_of_the_database():
    assert FIELDS["status"].values == tuple(Status.values)


@pytest.mark.parametrize(
    ("word", "status"),
    [
        *(("submitted", "queued"), ("pending", "queued"), ("working", "running")),
        *(("input-required", "input_required"), ("waiting_for_confirmation", "input_required")),
        *(("suspended", "paused"), ("completed", "succeeded"), ("finished", "succeeded")),
        *(("error", "failed"), ("canceled", "cancelled")),
    ],
)
def test_another_word_for_a_status_is_that_status(word, status):
    assert read(f"status:{word}") == [OneOf("status", (status,))]


@pytest.mark.parametrize("word", ["auth-required", "AUTH_REQUIRED", "Auth-Required"])
def test_case_and_dashes_make_no_difference(word):
    assert read(f"status:{word}") == [OneOf("status", ("auth_required",))]


def test_words_that_mean_the_same_count_once():
    assert read("status:canceled,cancelled") == [OneOf("status", ("cancelled",))]


def test_one_of_ours_asks_nothing_of_the_raw_status():
    assert status_meaning("failed") == StatusMeaning(("failed",))


@pytest.mark.parametrize(
    ("word", "meaning"),
    [
        ("rejected", StatusMeaning(("failed",), ("rejected",))),
        ("auth_required", StatusMeaning(("input_required",), ("auth-required", "auth_required"))),
        ("idle", StatusMeaning(("queued", "paused"), ("idle",))),
        ("unknown", StatusMeaning((), ("unknown",))),
    ],
)
def test_a_finer_word_asks_for_the_raw_status_as_well(word, meaning):
    assert status_meaning(word) == meaning


@pytest.mark.parametrize("word", WORDS)
def test_every_word_means_statuses_of_ours(word):
    assert set(status_meaning(canonical_status(word)).statuses) <= set(Status.values)

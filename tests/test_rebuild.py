"""`manage.py rebuild`: what is derived from the record is made anew."""

from io import StringIO

import pytest
from django.core.management import call_command
from django.db import connection

from runs.models import NewEvent, Rollup, RollupDelta, Run, SearchDoc, Status, append_events, finish, rollup
from runs.models.listing import find_runs
from runs.query import parse


@pytest.fixture
def recorded(owner):
    """An ended task in which something was said."""
    run = Run.objects.open_task(owner, metadata={"env": "prod"})
    append_events(run, [NewEvent("message", {"parts": [{"text": "needle"}]})])
    finish(run, Status.FAILED, error="boom")
    return run


def rebuild(*words: str) -> str:
    said = StringIO()
    call_command("rebuild", *words, stdout=said)
    return said.getvalue()


def found(caller, text: str) -> int:
    return len(find_runs(parse(text, caller.date_joined), caller).runs)


def test_search_finds_again_what_was_lost(recorded, alice):
    SearchDoc.objects.all().delete()
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM search_term")
    assert found(alice, "needle") == 0

    assert "1 runs are searchable" in rebuild("search")

    assert [found(alice, text) for text in ("needle", "boom", "metadata.env:prod", "haystack")] == [
        1,
        1,
        1,
        0,
    ]


def test_only_the_missing_ones_are_made(recorded, owner, alice):
    other = Run.objects.open_task(owner)
    SearchDoc.objects.filter(run_id=other.pk).delete()

    assert "1 runs" in rebuild("search", "--missing")
    assert "0 runs" in rebuild("search", "--missing")


def test_rollups_are_what_a_recount_gives(recorded):
    Rollup.objects.all().delete()
    RollupDelta.objects.all().delete()
    assert rollup.difference()

    rebuild("rollups")

    assert rollup.difference() == []

"""manage.py retention"""

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from runs.models import Deletion, Owner, RetentionPolicy, Run


@pytest.fixture
def old_run(owner: Owner) -> Run:
    RetentionPolicy.objects.create(owner=owner, max_age_days=30)
    at = timezone.now() - timedelta(days=50)
    run = Run.objects.record_past(owner, "failed", at, kind="task", finished_at=at)
    Run.objects.filter(pk=run.pk).update(size=2048)
    return run


def said(*words: str) -> str:
    out = StringIO()
    call_command("retention", *words, stdout=out)
    return out.getvalue()


def test_it_shows_what_is_due_and_deletes_nothing(old_run):
    page = said()

    assert "1 run      2.0 KB  all agents: older than 30 days, unless rated" in page
    assert "Nothing was deleted" in page
    assert Run.objects.exists()


def test_it_deletes_what_it_showed(old_run):
    page = said("--apply")

    assert "1 run      2.0 KB  deleted" in page
    assert not Run.objects.exists()
    assert Deletion.objects.get().actor == "command line"


def test_it_keeps_to_the_owner_that_is_named(old_run):
    Owner.objects.create(name="other")

    assert "platform" not in said("--apply", "--owner", "other")
    assert Run.objects.exists()


def test_it_names_an_owner_that_is_not_there(db):
    with pytest.raises(CommandError, match="no owner nobody"):
        said("--owner", "nobody")

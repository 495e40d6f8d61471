"""The demo's month of two owners, exported, taken away, imported: the same pages (issue 5, point 9)."""

import re
from datetime import datetime
from typing import Any

import pytest
from django.db import connections
from django.test import Client
from django.utils import timezone

from runs.demo.load import load
from runs.models import Membership, Owner, Run, Session, User
from runs.query import Condition, OneOf, Query
from tests.transfer.files import exported, taken

# Rows have other numbers, and forms other tokens.
_NUMBERS = re.compile(r'(artifacts?[/-]|deliveries/|csrfmiddlewaretoken" value=|X-CSRFToken": )"?\w+')
TABS = ("transcript", "results", "artifacts", "raw", "attempts", "spec", "changes")
_EACH = 6  # runs that are looked at


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> datetime:
    """A time that stands still, since pages say how long ago things were."""
    moment = timezone.now()
    monkeypatch.setattr("django.utils.timezone.now", lambda: moment)
    return moment


@pytest.mark.timeout(600)
def test_the_same_pages_come_out_for_two_owners(
    committed_db: Any, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = User.objects.create_user("alice")
    monkeypatch.setattr("runs.demo.load.TASKS", 20)
    owners = [Owner.objects.create(name=name) for name in ("platform", "support")]
    for seed, owner in enumerate(owners, start=1):
        Membership.objects.create(user=person, owner=owner, role="admin")
        load(owner, seed, now)
    client = Client()
    client.force_login(person, backend="django.contrib.auth.backends.ModelBackend")
    addresses = [address for owner in owners for address in addresses_of(owner)]
    before = {address: page(client, address) for address in addresses}
    files = [exported(person, Query((Condition(OneOf("owner", (owner.name,))),))) for owner in owners]
    with connections["owner"].cursor() as cursor:
        cursor.execute("TRUNCATE run, session, attempt, search_block, search_doc, search_term CASCADE")
    for owner, file in zip(owners, files, strict=True):
        report = taken(file, owner)
        assert (report.problems, report.refused, report.is_whole) == ([], 0, True)
    for address in addresses:
        assert page(client, address) == before[address], address


def addresses_of(owner: Owner) -> list[str]:
    """The list, sessions, and runs of every kind with each of their tabs."""
    runs = Run.objects.filter(owner=owner)
    chosen = [
        *runs.filter(kind="evaluation").newest_first()[:_EACH],
        *runs.filter(kind="task").newest_first()[:_EACH],
    ]
    chosen += runs.filter(artifact_count__gt=0)[:3]
    chosen += runs.filter(rating_count__gt=1)[:3]
    chosen += runs.filter(retried__isnull=False)[:2]
    sessions = Session.objects.filter(owner=owner).order_by("-run_count")[:5]
    return [
        f"/?q=owner:{owner.name}",
        f"/sessions?owner={owner.name}",
        *(f"/sessions/{session.pk}" for session in sessions),
        *(f"/sessions/{session.pk}?tab=runs" for session in sessions),
        *(f"/runs/{run.pk}?tab={tab}" for run in chosen for tab in TABS),
    ]


def page(client: Client, address: str) -> str:
    response = client.get(address)
    assert response.status_code == 200, address
    return _NUMBERS.sub(r"\1", response.content.decode())

"""What pages ask again and again: 204 while nothing is new, for the price of one query of its own."""

import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from runs.models import BulkJob
from tests.pages.helpers import make_task, said

WHO = 2  # queries for who asks: the session and the person
HTMX = {"HX-Request": "true"}


def quiet(client, address, target=""):
    """The queries of a poll that finds nothing new, without those for who asks."""
    headers = {**HTMX, "HX-Target": target} if target else HTMX
    with CaptureQueriesContext(connection) as queries:
        assert client.get(address, headers=headers).status_code == 204, address
    return [query["sql"] for query in queries][WHO:]


def polls(page):
    return [one.replace("&amp;", "&") for one in re.findall(r'hx-get="([^"]+)" hx-trigger="every', page)]


@pytest.fixture
def running(owner):
    return make_task(owner, said("at it"), status="running", started_at=timezone.now())


def test_a_runs_strip(signed_in, running):
    (status,) = polls(signed_in.get(f"/runs/{running.pk}").content.decode())
    assert len(quiet(signed_in, f"{status}&seen=1")) <= 2  # the run, and what one may do with it


def test_the_rows_that_move(signed_in, running):
    page = signed_in.get("/").content.decode()
    (follow,) = [one for one in polls(page) if "/live" in one]
    live = re.findall(r'name="live" value="([^"]+)"', page)
    assert len(live) == 1
    assert len(quiet(signed_in, f"{follow}{'&' if '?' in follow else '?'}live={live[0]}")) == 1


def test_newer_runs(signed_in, running):
    (newer,) = [one for one in polls(signed_in.get("/").content.decode()) if "/newer" in one]
    assert len(quiet(signed_in, newer)) <= 2  # which owners one sees, and their newer runs


def test_a_bulk_job(signed_in, alice, owner):
    now = timezone.now()
    job = BulkJob.objects.create(
        person=alice, actor=alice.actor, by="alice", action="cancel", owners=[owner.pk], until=now, counted=3
    )
    (progress,) = polls(signed_in.get(f"/bulk/{job.pk}").content.decode())
    assert len(quiet(signed_in, progress)) == 1


@pytest.mark.parametrize("part", ["waiting", "deliveries"])
def test_a_part_of_the_workers_page_is_not_swapped_for_its_like(signed_in, owner, part):
    first = signed_in.get("/workers", headers={**HTMX, "HX-Target": part}).content.decode()
    (again,) = polls(first)
    quiet(signed_in, again, part)


def test_attempts_are_not_swapped_for_their_like(signed_in, make_run):
    run = make_run()
    address = f"/runs/{run.pk}?tab=attempts"
    first = signed_in.get(address, headers={**HTMX, "HX-Target": "attempts"}).content.decode()
    (again,) = polls(first)
    assert "v=NEWS" not in again
    assert len(quiet(signed_in, again, "attempts")) <= 4


def test_nothing_asks_while_a_run_is_final(signed_in, owner):
    run = make_task(owner, said("done"), status="succeeded", finished_at=timezone.now())
    assert polls(signed_in.get(f"/runs/{run.pk}").content.decode()) == []

"""manage.py workers and manage.py signing_secret."""

import json
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from runs.models import Worker
from runs.models.webhook import signing_secret
from runs.models.workers import queue_state


@pytest.fixture
def make_worker(db):
    def make(name="there/1", ago=0, **fields):
        Worker.objects.create(name=name, pid=1, places=4, heartbeat=5, **fields)
        Worker.objects.filter(pk=name).update(seen_at=timezone.now() - timedelta(seconds=ago))

    return make


def output_of(*command: str) -> str:
    out = StringIO()
    call_command(*command, stdout=out)
    return out.getvalue()


def test_it_works(make_worker, make_run, claim):
    make_worker("tests", can=["code"])
    run = make_run(title="At work")
    claim()[1].tell("item 2 of 3, turn_count", 1, 3)
    make_run()
    out = output_of("workers")
    assert "Waiting:    1, the oldest for" in out
    assert "Running:    1 of 4 places" in out
    assert "built in, code" in out
    assert f"{run.pk}  for" in out
    assert "item 2 of 3, turn_count  At work" in out


def test_for_programs_it_is_json(make_worker, make_run, claim):
    make_worker("tests")
    run = make_run()
    claim()
    told = json.loads(output_of("workers", "--json"))
    (worker,) = told["workers"]
    assert (told["waiting"], told["running"], told["oldest"], told["paused"]) == (0, 1, None, None)
    assert (worker["name"], worker["state"], worker["places"]) == ("tests", "working", 4)
    assert worker["runs"][0]["run"] == str(run.pk)


def test_throughput_is_of_the_last_hour(make_worker, make_run, claim):
    make_worker()
    for _ in range(3):
        make_run()
    claim()[1].succeed({})
    claim()[1].fail("it broke")
    claim()[1].retry_later("later", 60)
    out = output_of("workers")
    assert "Last hour:  2 done, " in out
    assert "; 1 to be tried again" in out
    assert "1 of them until their next attempt" in out


def test_it_fails_when_runs_wait_and_no_worker_is_alive(make_worker, make_run):
    make_worker(ago=60)
    make_run()
    with pytest.raises(CommandError, match="1 wait, and no worker is alive"):
        call_command("workers", stdout=StringIO())


def test_it_fails_for_programs_as_well_once_it_has_told(make_run):
    make_run()
    out = StringIO()
    with pytest.raises(CommandError):
        call_command("workers", "--json", stdout=out)
    assert json.loads(out.getvalue())["waiting"] == 1


def test_without_a_worker_and_without_work_it_does_not_fail(db):
    assert "No worker. Start one with manage.py worker." in output_of("workers")


def test_it_drains_and_takes_back(make_worker):
    make_worker("there/1")
    call_command("workers", "drain", "there/1")
    assert Worker.objects.get().draining
    assert "draining" in output_of("workers")
    call_command("workers", "resume", "there/1")
    assert not Worker.objects.get().draining


def test_a_worker_that_there_is_not_cannot_be_drained(db):
    with pytest.raises(CommandError, match="There is no worker there/1"):
        call_command("workers", "drain", "there/1")


def test_it_pauses_and_unpauses_the_queue(db):
    call_command("workers", "pause", "--reason", "a deploy")
    assert queue_state().reason == "a deploy"
    assert "Paused by the command line since" in output_of("workers")
    call_command("workers", "unpause")
    assert queue_state().paused_at is None


def test_pausing_needs_a_reason(db):
    with pytest.raises(CommandError, match="--reason"):
        call_command("workers", "pause")


# ── signing_secret ─────────────────────────────────────────────────────────
def test_it_prints_the_secret_that_deliveries_are_signed_with(owner):
    assert output_of("signing_secret", owner.name).strip() == signing_secret(owner)


def test_a_new_one_takes_its_place(owner):
    before = signing_secret(owner)
    made = output_of("signing_secret", owner.name, "--new").strip()
    assert made == signing_secret(owner) != before


def test_an_owner_that_there_is_not_is_named(db):
    with pytest.raises(CommandError, match="There is no owner nobody"):
        call_command("signing_secret", "nobody")

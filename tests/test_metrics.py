"""What Prometheus reads."""

import re
from datetime import timedelta

from django.test import Client
from django.utils import timezone

from runs.models import Delivery, Webhook, Worker
from runs.models.workers import pause_queue
from runs.sealing import seal

LINE = re.compile(r'(runfolio_\w+)(\{outcome="\w+"\})? (-?[\d.e+-]+)')


def read() -> dict[str, float]:
    """The samples by name and label; fails on a line that is none."""
    response = Client().get("/metrics")
    assert response["Content-Type"].startswith("text/plain; version=0.0.4")
    found = {}
    for line in response.content.decode().splitlines():
        if not line.startswith("# "):
            name, label, value = LINE.fullmatch(line).groups()
            found[name + (label or "")] = float(value)
    return found


def test_it_tells_how_the_queue_is(make_run, claim):
    make_run(created_at=timezone.now() - timedelta(minutes=2))
    make_run(priority=2)
    make_run(run_after=timezone.now() + timedelta(minutes=1))
    claim()
    told = read()
    assert told["runfolio_queue_waiting"] == 2
    assert told["runfolio_queue_later"] == told["runfolio_runs_running"] == 1
    assert 120 <= told["runfolio_queue_oldest_seconds"] < 180
    assert told["runfolio_queue_paused"] == 0


def test_it_tells_that_the_queue_is_paused(db):
    pause_queue("root", "why")
    assert read()["runfolio_queue_paused"] == 1


def test_it_tells_who_is_alive_and_what_was_turned_away(db):
    for name, seconds in (("a/1", 0), ("b/1", 60)):
        Worker.objects.create(name=name, pid=1, places=4, heartbeat=5, fenced=2)
        Worker.objects.filter(pk=name).update(seen_at=timezone.now() - timedelta(seconds=seconds))
    told = read()
    assert (told["runfolio_workers_alive"], told["runfolio_workers_silent"]) == (1, 1)
    assert (told["runfolio_worker_places"], told["runfolio_workers_fenced"]) == (4, 4)


def test_it_tells_how_attempts_ended(make_run, claim):
    for _ in range(3):
        make_run()
    claim()[1].succeed({})
    claim()[1].fail("it broke")
    claim()
    told = read()
    ended = {
        name: told[f'runfolio_attempts{{outcome="{name}"}}']
        for name in ("succeeded", "failed", "open", "lost")
    }
    assert ended == {"succeeded": 1, "failed": 1, "open": 1, "lost": 0}
    assert told["runfolio_attempt_seconds"] > 0


def test_it_tells_of_deliveries(make_run):
    run = make_run()
    hook = Webhook.objects.create(run=run, kind="stdout", sealed=seal({}))
    for state in ("waiting", "dead", "dead", "delivered"):
        ended = None if state == "waiting" else timezone.now()
        Delivery.objects.create(run=run, webhook=hook, phase="final", body="{}", state=state, ended_at=ended)
    told = read()
    assert (told["runfolio_deliveries_waiting"], told["runfolio_deliveries_dead"]) == (1, 2)


def test_with_nothing_there_it_is_all_zero(db):
    assert set(read().values()) == {0.0}


def test_it_names_nobody(make_run, owner, claim):
    make_run(title="a secret title", agent="an agent")
    run, _ = claim("a-host/1/1")
    text = Client().get("/metrics").content.decode()
    for word in ("secret", "an agent", owner.name, "a-host", str(run.pk)):
        assert word not in text

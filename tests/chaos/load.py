"""The runs: submitted steadily, of a few kinds whose outcome is known from an undisturbed execution."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from django.db import Error as DatabaseError
from django.db import connections
from django.db.models.functions import Now

from runs.models import Attempt, Delivery, Owner, Run, request_cancel
from runs.models.ids import uuid7
from runs.models.status import OPEN
from tests.chaos.fleet import Fleet
from tests.worker.specs import BUILTIN, code, copies, sample_spec, spec_of

WAITING = 16  # runs that are kept in the queue while there are disturbances
_SLEEPS = """
import json, sys, time
asked = json.load(sys.stdin)
time.sleep({seconds})
print(json.dumps({{"score": 0.25, "status": "PASSED", "details": {{"turns": len(asked["invocations"])}}}}))
"""


class Load:
    """What is submitted, and what is to come of it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.sink = ""
        self.owners = [Owner.objects.create(name=f"owner {number}") for number in range(3)]
        self.expected: dict[str, Any] = {}
        self.kind_of: dict[UUID, str] = {}
        self.with_sink: set[UUID] = set()
        self._chance = random.Random(seed)
        self._kinds = _kinds(folder / "evaluators")

    # ── Submitting ─────────────────────────────────────────────────────────
    def note_what_is_expected(self, fleet: Fleet) -> None:
        """Has each kind executed by workers that nobody disturbs."""
        runs = {kind: self._submit(kind, self.owners[0], sinks=0) for kind in self._kinds}
        until = time.monotonic() + 120
        while Run.objects.filter(status__in=OPEN).exists():
            assert time.monotonic() < until, "not even an undisturbed execution ends"
            fleet.look_after()
            time.sleep(0.1)
        self.expected = {kind: outcome_of(Run.objects.get(pk=pk)) for kind, pk in runs.items()}
        self.kind_of.clear()

    @contextmanager
    def feeding(self, least: int) -> Iterator[None]:
        """Keeps some runs waiting, until there were `least` and the block has ended."""
        over = threading.Event()
        feeder = threading.Thread(target=self._feed, args=(least, over))
        feeder.start()
        try:
            yield
        finally:
            over.set()
            feeder.join()
        if len(self.kind_of) < least:
            raise RuntimeError(f"only {len(self.kind_of)} runs were submitted")

    def _feed(self, least: int, over: threading.Event) -> None:
        while len(self.kind_of) < least or not over.is_set():
            waiting = persistently(lambda: Run.objects.filter(status="queued", run_after=None).count())
            for _ in range(max(WAITING - waiting, 0)):
                kind = self._chance.choices(list(self._kinds), [odds for _, odds in self._kinds.values()])[0]
                self._submit(kind, self._chance.choice(self.owners))
            time.sleep(0.1)
        connections.close_all()

    def _submit(self, kind: str, owner: Owner, sinks: float = 0.3) -> UUID:
        """`sinks` is how many of them have one."""
        spec, pk = self._kinds[kind][0], uuid7()
        if self._chance.random() < sinks:
            sink = {"kind": "http_webhook", "url": f"{self.sink}/{pk}", "timeout_s": 2}
            spec = {**spec, "sinks": [sink]}
            self.with_sink.add(pk)
        self.kind_of[pk] = kind
        persistently(lambda: Run.objects.submit(owner, spec, pk, title=kind))
        return pk

    # ── Disturbing, and waiting ────────────────────────────────────────────
    def cancel_one(self, chance: random.Random) -> bool:
        """Asks for the cancel of a run that is open, preferably of one that runs."""
        rows = Run.objects.filter(status__in=OPEN, cancel_requested_at=None).exclude(title="")
        found = persistently(lambda: list(rows.order_by("-status", "id")[:12]))
        if not found:
            return False
        run = chance.choice(found)
        persistently(lambda: request_cancel(run, "chaos", "by chance"))
        return True

    def wait_for_the_end(self, fleet: Fleet, until: float) -> list[str]:
        """Until all has ended and is told. What a killed worker was delivering is brought forward."""
        quiet = time.monotonic()
        while left := persistently(_left):
            if time.monotonic() > until:
                return [f"after all the time there are left: {left}"]
            fleet.look_after()
            if time.monotonic() - quiet > 4:
                persistently(_hurry_deliveries)
                quiet = time.monotonic()
            time.sleep(0.2)
        return []

    def report(self) -> str:
        statuses = Counter(Run.objects.filter(pk__in=self.kind_of).values_list("status", flat=True))
        attempts = Counter(Attempt.objects.filter(run__in=self.kind_of).values_list("outcome", flat=True))
        told = Delivery.objects.count()
        return f"{len(self.kind_of)} runs: {dict(statuses)}\nattempts: {dict(attempts)}, {told} deliveries"


def _left() -> dict[str, int]:
    found = {
        "runs": Run.objects.filter(status__in=OPEN).count(),
        "deliveries": Delivery.objects.filter(state="waiting").count(),
    }
    return found if any(found.values()) else {}


def _hurry_deliveries() -> None:
    Delivery.objects.filter(state="waiting", next_try_at__gt=Now()).update(next_try_at=Now())


def persistently[T](call: Callable[[], T]) -> T:
    """As a client does whose server is away for a moment."""
    until = time.monotonic() + 60
    while True:
        try:
            return call()
        except DatabaseError:
            connections.close_all()
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


def outcome_of(run: Run) -> dict[str, Any]:
    """All that a run came to, but for ids, times and who did it."""
    return {
        "status": run.status,
        "error": run.error,
        "summary": run.summary,
        "counts": {name: getattr(run, name) for name in ("event_count", "passed_count", "errored_count")},
        "results": results_of(run),
        "events": [(e.seq, e.kind, e.role, e.event_id, e.payload) for e in run.events.order_by("seq")],
    }


def results_of(run: Run) -> list[dict[str, Any]]:
    own = ("id", "run_id", "created_at", "latency_ms")
    rows = run.results.order_by("item_id", "evaluator_name").values()
    return [{name: value for name, value in row.items() if name not in own} for row in rows]


def _kinds(folder: Path) -> dict[str, tuple[dict[str, Any], int]]:
    """By name: the spec, and how often there is one of it."""
    folder.mkdir(exist_ok=True)
    programs = {}
    for name, seconds in (("short", 0.1), ("longer", 0.8)):
        programs[name] = folder / f"{name}.py"
        programs[name].write_text(_SLEEPS.format(seconds=seconds))
    unknown = {"type": "builtin", "name": "no_such_metric"}
    return {
        "the sample": (spec_of(), 40),
        "without an eval set": (spec_of(None, BUILTIN, evalSet=None), 15),
        "many items": (spec_of(copies(25), *sample_spec()["evalConfig"]["evaluators"]), 5),
        "a short program": (spec_of(None, BUILTIN, code(programs["short"])), 15),
        "a longer program": (spec_of(None, BUILTIN, code(programs["longer"]), unknown), 15),
        "an unreadable document": (spec_of({"nonsense": True}), 5),
        "one that is tried again": (spec_of({"nonsense": True}, retry={"max": 1, "backoff": 0.1}), 5),
    }

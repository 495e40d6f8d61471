"""The loop: it only waits, starts threads, keeps leases, and listens for signals and notifications."""

import importlib.metadata
import logging
import os
import secrets
import socket
import threading
import time
from dataclasses import dataclass, field
from datetime import timedelta

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connections

from runs.evaluators import agentevals_engine
from runs.models import Claim, LeaseLost, Run, Worker, claim_next
from runs.models.queue import DEADLINE, sweep, watch
from runs.worker.bulk import carry_out
from runs.worker.conversations import follow
from runs.worker.deliver import Deliverer
from runs.worker.execute import execute
from runs.worker.job import Job, JobLost, Launcher
from runs.worker.listen import Listener
from runs.worker.outage import is_passing
from runs.worker.upkeep import keep_up

log = logging.getLogger(__name__)

_PATIENCE = 5.0  # seconds that a stopping worker waits for the last step of what runs beside the queue
_IDLE = 60.0  # seconds after which processes that have nothing to evaluate end
_STUBBORN = 2.5  # seconds after which a run is ended whose thread has not done so, process ended or not


CANCEL, OVERDUE, RELEASE, RELEASED, LOST, BUG = "cancel", "overdue", "release", "released", "lost", "bug"
REFUSED = "refused"


@dataclass(eq=False)
class Slot:
    """A run that this worker executes."""

    claim: Claim
    job: Job
    since: float = field(default_factory=time.monotonic)
    why: str = ""  # why it is to end before its time
    asked: float = 0.0  # since when

    def end(self, why: str) -> None:
        """Ends the evaluator's process; the run's thread then ends the run, as `why` says."""
        if not self.why:
            self.why, self.asked = why, time.monotonic()
            self.job.close(keep=why in (CANCEL, OVERDUE))


class EvaluationWorker:
    """Executes up to WORKER_CONCURRENCY runs at a time, each in a process that a thread of ours talks to.

    A stopping worker gives its runs back to the queue; a dead one loses them when its leases expire.
    """

    def __init__(self) -> None:
        self.name = f"{socket.gethostname()}/{secrets.token_hex(4)}"
        self._launcher = Launcher()
        self._slots: set[Slot] = set()
        self._lock = threading.Lock()
        self._free = threading.Semaphore(settings.WORKER_CONCURRENCY)
        self._stopping = threading.Event()
        self._wake = threading.Event()  # a run may wait, or a place is free
        self._look = threading.Event()  # a cancel may have been asked for
        self._number = 0
        self._draining = False
        self._record = Worker(
            name=self.name,
            version=importlib.metadata.version("runfolio") if _is_installed() else "",
            pid=os.getpid(),
            places=settings.WORKER_CONCURRENCY,
            can=_abilities(),
            heartbeat=settings.WORKER_HEARTBEAT,
        )

    @property
    def fenced(self) -> int:
        """Writes that came too late and were turned away."""
        return int(self._record.fenced)

    def run(self) -> None:
        """Works until `stop`; then gives back what is unfinished."""
        log.info("worker %s started", self.name)
        self._launcher.warm_up()
        deliverer = Deliverer(self._stopping)
        helpers = [
            threading.Thread(target=self._keep_leases, daemon=True),
            threading.Thread(target=keep_up, args=(self._stopping,), daemon=True),
            threading.Thread(target=carry_out, args=(self.name, self._stopping), daemon=True),
            threading.Thread(target=follow, args=(self._stopping,), daemon=True),
            threading.Thread(target=deliverer.run, daemon=True),
            threading.Thread(target=Listener(self._wake, self._look, self._stopping).run, daemon=True),
        ]
        for helper in helpers:
            helper.start()
        busy = time.monotonic()
        while not self._stopping.is_set():
            self._wake.clear()
            while self._start_next():
                busy = time.monotonic()
            if time.monotonic() - busy > _IDLE and not self._slots:
                self._launcher.end_idle()
            self._wake.wait(settings.WORKER_POLL)
        self._give_back()
        until = time.monotonic() + _PATIENCE
        for helper in helpers:  # what one is at then ends with us, and PostgreSQL takes it back
            helper.join(max(0.0, until - time.monotonic()))
        self._launcher.stop()
        self._sign_off()
        log.info("worker %s stopped, %d late writes were turned away", self.name, self.fenced)

    def stop(self) -> None:
        """Safe to call from a signal handler."""
        self._stopping.set()
        self._wake.set()
        self._look.set()

    def _start_next(self) -> bool:
        """Claims a run and starts it; False when there is none, or no place for it."""
        if self._stopping.is_set() or self._draining or not self._free.acquire(blocking=False):
            return False
        run = self._claim()
        if run is None:
            self._free.release()
            return False
        threading.Thread(target=self._execute, args=(run,), daemon=True).start()
        return True

    def _claim(self) -> Run | None:
        self._number += 1
        try:
            return claim_next(f"{self.name}/{self._number}", _lease())
        except DatabaseError as error:
            log.warning("claiming: %s", error)
            connections.close_all()
            return None

    def _execute(self, run: Run) -> None:
        claim = Claim(run.pk, str(run.worker_id), run.attempt)
        log.info("run %s, attempt %d: started", run.pk, claim.attempt)
        try:
            slot = Slot(claim, self._launcher.start())
            with self._lock:
                self._slots.add(slot)
            if self._stopping.is_set():
                slot.end(RELEASE)
            self._carry_through(run, slot)
        except JobLost as error:
            log.error("run %s: no process for it: %s", run.pk, error)
            self._end(claim, RELEASE)
            self._stopping.wait(1)
        finally:
            connections.close_all()
            self._free.release()
            self._wake.set()

    def _carry_through(self, run: Run, slot: Slot) -> None:
        try:
            execute(run, slot.claim, slot.job, progress=lambda: _note_progress(slot))
            log.info("run %s, attempt %d: ended", run.pk, slot.claim.attempt)
        except JobLost:
            self._end(slot.claim, slot.why)
        except LeaseLost:
            self._note_fenced(slot.claim)
        except DatabaseError as error:
            log.warning("run %s, attempt %d: the database failed: %s", run.pk, slot.claim.attempt, error)
            if is_passing(error):
                self._give_back_later(slot.claim)
            else:
                self._end(slot.claim, REFUSED, f"PostgreSQL refused what was found out: {error}")
        except Exception:
            log.exception("run %s, attempt %d", run.pk, slot.claim.attempt)
            self._end(slot.claim, BUG)
        finally:
            with self._lock:
                self._slots.discard(slot)
                self._record.finished += 1

    def _end(self, claim: Claim, why: str, reason: str = "") -> None:
        """Ends a run whose process was ended, unless it has ended otherwise meanwhile."""
        try:
            if why == CANCEL:
                claim.acknowledge_cancel()
            elif why == OVERDUE:
                claim.fail(DEADLINE)
            elif why == RELEASE:
                claim.release()
            elif why == BUG:
                claim.fail("an error in Runfolio itself; the worker's log has it")
            elif why == REFUSED:
                claim.crash(reason, settings.RUN_MAX_ATTEMPTS)
            elif why == LOST:
                self._note_fenced(claim)
        except LeaseLost:
            self._note_fenced(claim)
        except DatabaseError as error:
            log.warning("run %s comes back when its lease expires: %s", claim.run_id, error)

    def _give_back_later(self, claim: Claim) -> None:
        """After a failure of the database: the attempt is not spent on it, once it answers again."""
        until = time.monotonic() + settings.WORKER_LEASE
        while time.monotonic() < until and not self._stopping.wait(0.2):
            connections.close_all()
            try:
                claim.release()
            except LeaseLost:  # so it ends who was paused inside a transaction
                self._note_fenced(claim)
            except DatabaseError:
                continue
            return

    def _keep_leases(self) -> None:
        """Beats, sweeps, and looks for cancels and deadlines in between. No database error ends it."""
        pause = min(settings.WORKER_HEARTBEAT, settings.WORKER_POLL)
        beat = swept = float("-inf")
        while not self._stopping.is_set():
            now = time.monotonic()
            try:
                if now - beat >= settings.WORKER_HEARTBEAT:
                    beat = now
                    self._watch(_lease())
                    self._draining = self._record.beat()
                else:
                    self._watch(None)
                if now - swept >= settings.WORKER_POLL:
                    swept = now
                    sweep(settings.RUN_MAX_ATTEMPTS)
            except DatabaseError as error:
                log.warning("heartbeat: %s", error)
                connections.close_all()
            self._look.wait(pause)
            self._look.clear()
        connections.close_all()

    def _watch(self, lease: timedelta | None) -> None:
        """What has become of our runs; with `lease` they stay ours that long."""
        with self._lock:
            slots = list(self._slots)
        if not slots:
            return
        seen = watch([slot.claim for slot in slots], lease)
        now = time.monotonic()
        for slot in slots:
            if slot.why:
                if now - slot.asked > _STUBBORN:  # its thread hangs
                    self._end(slot.claim, slot.why)
                    slot.asked = float("inf")
            elif slot.claim.run_id not in seen.held:
                slot.end(LOST)
            elif slot.claim.run_id in seen.asked:
                slot.end(CANCEL)
            elif now - slot.since > settings.RUN_DEADLINE:
                slot.end(OVERDUE)

    def _give_back(self) -> None:
        """At once: others may take the runs while our processes are being ended."""
        with self._lock:
            slots = list(self._slots)
        for slot in slots:
            if not slot.why:
                slot.why = RELEASED
                self._end(slot.claim, RELEASE)
                slot.job.close(keep=False)
        connections.close_all()

    def _sign_off(self) -> None:
        try:
            Worker.objects.filter(pk=self.name).delete()
        except DatabaseError as error:
            log.warning("signing off: %s", error)
        connections.close_all()

    def _note_fenced(self, claim: Claim) -> None:
        with self._lock:
            self._record.fenced += 1
        log.warning("run %s, attempt %d: no longer ours, nothing was written", claim.run_id, claim.attempt)


def _note_progress(slot: Slot) -> None:
    """Of a run that judges many others, the deadline counts for each."""
    slot.since = time.monotonic()


def _lease() -> timedelta:
    return timedelta(seconds=settings.WORKER_LEASE)


def _is_installed() -> bool:
    try:
        importlib.metadata.version("runfolio")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _abilities() -> list[str]:
    """What this worker can evaluate with, beside what is built in."""
    can = ["code"] if settings.EVALUATOR_FOLDERS else []
    version = agentevals_engine.available(settings.AGENTEVALS_PYTHON)
    return [*can, f"agentevals {version}"] if version else can

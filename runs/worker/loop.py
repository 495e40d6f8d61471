"""The loop: it only waits, starts threads, keeps leases, and listens for signals."""

import logging
import secrets
import socket
import threading
import time
from collections.abc import Callable
from datetime import timedelta

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connections

from runs.models import Claim, LeaseLost, Run, claim_next
from runs.models.queue import DEADLINE, cancels_asked
from runs.worker.execute import execute
from runs.worker.upkeep import keep_up

log = logging.getLogger(__name__)

_PATIENCE = 5.0  # seconds that a stopping worker waits for the upkeep's last step


class Worker:
    """Executes up to WORKER_CONCURRENCY runs at a time, each in a thread of its own.

    A stopping worker gives its runs back to the queue; a dead one loses them when its leases expire.
    """

    def __init__(self) -> None:
        self.name = f"{socket.gethostname()}/{secrets.token_hex(4)}"
        self.fenced = 0  # writes that came too late and were turned away
        self._claims: dict[Claim, float] = {}  # and when each was made, by this machine's clock
        self._lock = threading.Lock()
        self._free = threading.Semaphore(settings.WORKER_CONCURRENCY)
        self._stopping = threading.Event()
        self._number = 0

    def run(self) -> None:
        """Works until `stop`; then gives back what is unfinished."""
        log.info("worker %s started", self.name)
        keeper = threading.Thread(target=self._keep_leases, daemon=True)
        upkeep = threading.Thread(target=keep_up, args=(self._stopping,), daemon=True)
        keeper.start()
        upkeep.start()
        while not self._stopping.is_set():
            if not self._start_next():
                self._stopping.wait(settings.WORKER_POLL)
        keeper.join()
        self._give_back()
        upkeep.join(_PATIENCE)  # what it is at then ends with us, and PostgreSQL takes it back
        log.info("worker %s stopped, %d late writes were turned away", self.name, self.fenced)

    def stop(self) -> None:
        """Safe to call from a signal handler."""
        self._stopping.set()

    def _start_next(self) -> bool:
        """Claims a run and starts it; False when there is none, or no thread for it."""
        if not self._free.acquire(blocking=False):
            return False
        run = self._claim()
        if run is None:
            self._free.release()
            return False
        claim = Claim(run.pk, str(run.worker_id), run.attempt)
        with self._lock:
            self._claims[claim] = time.monotonic()
        threading.Thread(target=self._execute, args=(run, claim), daemon=True).start()
        return True

    def _claim(self) -> Run | None:
        self._number += 1
        try:
            return claim_next(f"{self.name}/{self._number}", _lease(), settings.RUN_MAX_ATTEMPTS)
        except DatabaseError as error:
            log.warning("claiming: %s", error)
            connections.close_all()
            return None

    def _execute(self, run: Run, claim: Claim) -> None:
        log.info("run %s, attempt %d: started", run.pk, claim.attempt)
        try:
            execute(run, claim)
            log.info("run %s, attempt %d: ended", run.pk, claim.attempt)
        except LeaseLost:
            self._note_fenced(claim)
        except DatabaseError as error:
            log.warning("run %s, attempt %d: the database failed: %s", run.pk, claim.attempt, error)
        finally:
            connections.close_all()
            with self._lock:
                self._claims.pop(claim, None)
            self._free.release()

    def _keep_leases(self) -> None:
        """Beats, and looks for cancels and deadlines in between. No database error ends it."""
        pause = min(settings.WORKER_HEARTBEAT, settings.WORKER_POLL)
        beat = time.monotonic()
        while not self._stopping.wait(pause):
            with self._lock:
                claims = dict(self._claims)
            due = time.monotonic() - beat >= settings.WORKER_HEARTBEAT
            try:
                self._end_overdue(claims)
                if due:
                    beat = time.monotonic()
                    self._beat(claims)
            except DatabaseError as error:
                log.warning("heartbeat: %s", error)
                connections.close_all()
        connections.close_all()

    def _end_overdue(self, claims: dict[Claim, float]) -> None:
        """Ends runs whose cancel was asked for or whose time is up, even while their thread hangs."""
        if not claims:
            return
        asked = cancels_asked(claims)
        for claim, since in claims.items():
            if claim.run_id in asked:
                self._end(claim, Claim.acknowledge_cancel)
            elif time.monotonic() - since > settings.RUN_DEADLINE:
                self._end(claim, lambda late: late.fail(DEADLINE))

    def _end(self, claim: Claim, how: Callable[[Claim], None]) -> None:
        try:
            how(claim)
        except LeaseLost:
            self._note_fenced(claim)
        self._forget(claim)

    def _beat(self, claims: dict[Claim, float]) -> None:
        for claim in claims:
            if not claim.extend(_lease()):
                self._forget(claim)

    def _give_back(self) -> None:
        with self._lock:
            claims = list(self._claims)
        for claim in claims:
            try:
                self._end(claim, Claim.release)
            except DatabaseError as error:
                log.warning("run %s comes back when its lease expires: %s", claim.run_id, error)

    def _forget(self, claim: Claim) -> None:
        with self._lock:
            self._claims.pop(claim, None)

    def _note_fenced(self, claim: Claim) -> None:
        self.fenced += 1
        log.warning("run %s, attempt %d: no longer ours, nothing was written", claim.run_id, claim.attempt)


def _lease() -> timedelta:
    return timedelta(seconds=settings.WORKER_LEASE)

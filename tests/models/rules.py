"""The rules of a run's life in plain Python, to compare the store with (DESIGN.md 2 and 3; issue 3, point 3).

Written from the documents and not from the code: no database in here. Each method does what a verb does
to one run and gives what the verb answers, or the name of what it raises.
"""

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

FINAL = {"succeeded", "failed", "cancelled"}
LOST = "LeaseLost"


@dataclass
class Ran:
    """A run as it ought to be."""

    kind: str
    title: str = ""
    agent: str = ""
    status: str = "queued"
    raw_status: str = ""
    metadata: dict[str, int] = field(default_factory=dict)
    events: list[tuple[str, str | None, Any]] = field(default_factory=list)  # kind, event id, payload
    input_tokens: int | None = None
    artifacts: dict[str, tuple[list[Any], bool]] = field(default_factory=dict)  # parts, complete
    results: dict[str, str] = field(default_factory=dict)  # evaluator: status
    ratings: dict[str, int | None] = field(default_factory=dict)  # author: rating, None when withdrawn
    asked_by: str = ""
    acknowledged: bool = False
    attempt: int = 0
    crashes: int = 0
    waits: bool = False  # for the end of the pause before its next attempt
    tries: list[str] = field(default_factory=list)  # how each attempt ended, "" for the one under way
    worker: str | None = None
    silent: bool = False  # its lease has run out
    deleted: bool = False

    @property
    def final(self) -> bool:
        return self.status in FINAL

    # ── What anybody reports ───────────────────────────────────────────────
    def append(self, batch: list[tuple[str, str | None, Any, int | None]], title: str) -> int:
        """How many are new: an event id is kept once."""
        known = {event_id for _, event_id, _ in self.events if event_id}
        number = 0
        for kind, event_id, payload, tokens in batch:
            if event_id in known:
                continue
            known |= {event_id} if event_id else set()
            number += 1
            if self.final:
                self._late(kind, payload, event_id)
                continue
            self.events.append((kind, event_id, payload))
            self.input_tokens = self.input_tokens if tokens is None else (self.input_tokens or 0) + tokens
            if kind == "message":
                self.title = self.title or title
        return number

    def transition(self, to: str, only_from: str | None, raw: str) -> bool | str:
        if self.kind == "evaluation":
            return "ValueError"
        if only_from is not None and self.status != only_from:
            return False
        if self.final:
            if only_from is None:
                self._late("state", _told(to=to, raw=raw))
            return False
        if (self.status, self.raw_status) != (to, raw):
            self.events.append(("state", None, _told(**{"from": self.status}, to=to, raw=raw)))
        self.status, self.raw_status = to, raw
        return True

    def merge_metadata(self, patch: dict[str, int]) -> bool:
        if self.final:
            self._late("state", {"metadata": patch})
            return False
        self.metadata |= patch
        return True

    def put_artifact(self, name: str, parts: list[Any], append: bool, last: bool) -> bool:
        if self.final:
            self._late("artifact", {"artifact_id": name, "name": "", "parts": parts})
            return False
        before = self.artifacts[name][0] if append and name in self.artifacts else []
        self.artifacts[name] = ([*before, *parts], last)
        return True

    def _late(self, kind: str, payload: Any, event_id: str | None = None) -> None:
        self.events.append(("late_write", event_id, {"kind": kind, "payload": payload}))

    # ── What people do ─────────────────────────────────────────────────────
    def request_cancel(self, by: str) -> None:
        if not self.final:
            self.asked_by = self.asked_by or by
            if self.status == "queued":
                self.status, self.waits = "cancelled", False

    def _ended(self, outcome: str) -> None:
        """Of the attempt under way, if there is one."""
        self.tries = [each or outcome for each in self.tries]

    def acknowledge_cancel(self) -> bool:
        if self.final or not self.asked_by:
            return False
        self.acknowledged = True
        return True

    def force_cancel(self, by: str) -> bool:
        self.request_cancel(by)
        if not self.final:
            self.status = "cancelled"
            self._ended("cancelled")
        return self.status == "cancelled"

    def rate(self, author: str, rating: int) -> None:
        self.ratings[author] = rating

    def withdraw(self, author: str) -> bool:
        if self.ratings.get(author) is None:
            return False
        self.ratings[author] = None
        return True

    def correct(self, to: str) -> bool:
        if not self.final:
            return False
        self.status = to
        return True

    def delete(self) -> int:
        """How many are put away by it."""
        if self.deleted:
            return 0
        self.request_cancel("ann")
        self.deleted = True
        return 1

    def restore(self) -> int:
        was, self.deleted = self.deleted, False
        return int(was)

    # ── What a worker does, with a claim that may be stale ─────────────────
    def claimed(self, worker: str) -> None:
        self.status, self.worker, self.attempt = "running", worker, self.attempt + 1
        self.silent = False
        self.tries = [*self.tries, ""]

    def fall_silent(self) -> None:
        self.silent = self.silent or self.status == "running"

    def extend(self) -> None:
        self.silent = False

    def held_by(self, worker: str, attempt: int) -> bool:
        return (self.status, self.worker, self.attempt) == ("running", worker, attempt)

    def record(self, evaluator: str, status: str) -> None:
        self.results[evaluator] = status

    def end(self, status: str) -> None:
        """A cancel that was asked for wins."""
        if self.asked_by:
            self.stop()
        else:
            self._leave(status, status)

    def stop(self) -> None:
        self.acknowledged = True
        self._leave("cancelled", "cancelled")

    def release(self) -> None:
        """Back to the queue, and the attempt is not spent."""
        if self.asked_by:
            self.stop()
        else:
            self._leave("queued", "released")
            self.attempt -= 1

    def retry_later(self) -> None:
        if self.asked_by:
            self.stop()
        else:
            self._leave("queued", "retried")
            self.waits = True

    def crash(self, most: int) -> None:
        if self.asked_by:
            self.stop()
            return
        self.crashes += 1
        last = self.crashes >= most
        self._leave("failed" if last else "queued", "crashed")
        self.waits = not last and self.crashes > 1

    def try_now(self) -> bool:
        was, self.waits = self.waits, False
        return was

    def requeue(self) -> bool:
        """A person takes it from its worker."""
        if self.deleted or self.asked_by or self.status != "running" or self.kind == "task":
            return False
        self._leave("queued", "released")
        return True

    def _leave(self, status: str, outcome: str) -> None:
        """Whoever ends an attempt gives the run out of hand."""
        self.status, self.worker, self.silent = status, None, False
        self._ended(outcome)

    def sweep(self, most: int) -> None:
        """Takes it back if its worker fell silent; who that was stays in the row of one that ends."""
        if not (self.kind == "evaluation" and self.status == "running" and self.silent):
            return
        self.crashes += 1
        if self.asked_by:
            self.status, self.acknowledged = "cancelled", True
        elif self.crashes >= most:
            self.status = "failed"
        else:
            self.status, self.worker, self.silent, self.waits = "queued", None, False, self.crashes > 1
        self._ended("lost")

    @property
    def may_be_claimed(self) -> bool:
        return self.kind == "evaluation" and self.status == "queued" and not (self.waits or self.deleted)


class Seen:
    """What each connection sees: what is committed, and its own changes of the transaction it is in."""

    def __init__(self) -> None:
        self.committed: dict[int, Ran] = {}
        self.own: dict[str, dict[int, Ran]] = {}  # by connection; only of those in a transaction

    def run(self, name: str, slot: int) -> Ran | None:
        """A copy to change, and to `keep` if the store did so too."""
        return deepcopy(self.own.get(name, {}).get(slot, self.committed.get(slot)))

    def runs(self, name: str) -> dict[int, Ran]:
        return {**self.committed, **self.own.get(name, {})}

    def keep(self, name: str, slot: int, ran: Ran) -> None:
        if ran != self.runs(name).get(slot):
            self.own.get(name, self.committed)[slot] = ran

    def others_are_inside(self, name: str) -> bool:
        """Whether another connection is in a transaction, so that this one may have to wait."""
        return any(other != name for other in self.own)


def _told(**step: str) -> dict[str, str]:
    return {key: value for key, value in step.items() if value}

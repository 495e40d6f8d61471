"""Evaluators that mostly wait, several at once, in threads.

Threads only judge. What they say comes back through the thread that asks for it, so that whoever records
it needs no locks and no second database connection.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from typing import Any

MAX_THREADS = 64  # whatever a spec asks for


@dataclass(frozen=True, slots=True)
class Job[T]:
    """One evaluator on one group. `begins` is called in the asking thread, `judge` in any."""

    group: int
    begins: Callable[[], None]
    judge: Callable[[], T]


class Waiting[T]:
    """At most `groups` groups at once, and at most `each` jobs of a group."""

    def __init__(self, groups: int, each: int) -> None:
        self._each = min(each, MAX_THREADS)
        self.groups = max(1, min(groups, MAX_THREADS // self._each))
        self._said: SimpleQueue[tuple[Job[T], T | None] | BaseException] = SimpleQueue()
        self._unfinished: Counter[int] = Counter()
        self._queues: list[deque[Job[T]]] = []

    def begin(self, jobs: Sequence[Job[T]]) -> None:
        """Starts the jobs of one group. To be called when fewer than `groups` are unfinished."""
        queue = deque(jobs)
        self._queues = [queue, *(other for other in self._queues if other)]
        self._unfinished.update(job.group for job in jobs)
        for _ in range(min(self._each, len(jobs))):
            # Daemons: the end of the process need not wait for answers that nobody will read.
            Thread(target=self._work, args=(queue,), daemon=True).start()

    def results(self, at_most: int) -> Iterator[T]:
        """What has been said by now; waits until at most `at_most` groups are unfinished."""
        while len(self._unfinished) > at_most or not self._said.empty():
            said = self._said.get()
            if isinstance(said, BaseException):
                raise said
            job, result = said
            if result is None:
                job.begins()
                continue
            self._unfinished -= Counter([job.group])
            yield result

    def stop(self) -> None:
        """No job begins any more; those that have begun are left alone, and nobody hears of them."""
        for queue in self._queues:
            queue.clear()

    def _work(self, queue: deque[Job[T]]) -> None:
        try:
            while job := _next(queue):
                self._said.put((job, None))
                self._said.put((job, job.judge()))
        except BaseException as error:  # else the asking thread would wait for ever
            self._said.put(error)


def _next(queue: deque[Any]) -> Any:
    """Several threads take from the queue, so that asking first whether it is empty proves nothing."""
    try:
        return queue.popleft()
    except IndexError:
        return None

"""What happens to the workers and to PostgreSQL, at random moments."""

import random
import time
from collections import Counter

from tests.chaos.fleet import LEASE, Fleet
from tests.chaos.load import Load
from tests.chaos.server import Scratch

_ODDS = {"kill": 30, "stop": 25, "terminate": 20, "cancel": 25}
_PAUSES = (0.2, 1.2)  # seconds between two disturbances
_AT_MOST_STOPPED = 2  # somebody has to take the runs over


class Disturber:
    """Draws what happens next, and does it."""

    def __init__(self, chance: random.Random, fleet: Fleet, postgres: Scratch, load: Load) -> None:
        self._chance = chance
        self._fleet = fleet
        self._postgres = postgres
        self._load = load
        self.done: Counter[str] = Counter()

    def disturb(self, number: int, restarts: int, until: float) -> None:
        """`number` disturbances and some restarts between them, as long as there is time."""
        moments = {round((each + 1) * number / (restarts + 1)) for each in range(restarts)}
        for n in range(number):
            if time.monotonic() > until:
                print(f"time is up after {n} of {number} disturbances", flush=True)
                return
            self._wait(self._chance.uniform(*_PAUSES))
            self._do(self._chance.choices(list(_ODDS), list(_ODDS.values()))[0])
            if n in moments:
                self._postgres.crash()
                self.done["PostgreSQL crashed"] += 1

    def _do(self, what: str) -> None:
        if what == "stop" and len(self._fleet.stopped) >= _AT_MOST_STOPPED:
            what = "kill"
        worker = self._chance.choice(self._fleet.awake)
        if what == "kill":
            self._fleet.kill(worker)
        elif what == "stop":
            self._fleet.pause(worker, LEASE + self._chance.uniform(0.6, 2.5))
        elif what == "terminate":
            self._fleet.terminate(worker)
        elif not self._load.cancel_one(self._chance):
            return self._do("kill")
        self.done[what] += 1
        return None

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._fleet.look_after()
            time.sleep(0.05)

    def report(self) -> str:
        did = ", ".join(f"{name} {number}" for name, number in sorted(self.done.items()))
        told = f"{self._fleet.count('no longer ours')} attempts found that their run was not theirs any more"
        return f"{sum(self.done.values())} disturbances: {did}\n{self._load.report()}\n{told}"

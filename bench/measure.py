"""Interleaved rounds, medians, ratios."""

import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import psycopg

type Step = Callable[[], object]


@dataclass
class Measured:
    """Of one step: seconds of each call, and bytes of WAL a call, by round."""

    seconds: list[float] = field(default_factory=list)
    answer: object = None  # of the last call
    wal: list[float] = field(default_factory=list)

    @property
    def milliseconds(self) -> float:
        return statistics.median(self.seconds) * 1000

    @property
    def wal_bytes(self) -> float:
        return statistics.median(self.wal)


def interleaved(steps: Mapping[str, Step], rounds: int, calls: int) -> dict[str, Measured]:
    """Each step `calls` times in a row, all of them in turn, so that a slow minute slows all alike."""
    measured = {name: Measured() for name in steps}
    with psycopg.connect(os.environ["BENCH_SUPERUSER"], autocommit=True) as superuser:
        for _ in range(rounds):
            for name, step in steps.items():
                before = _wal(superuser)
                for _ in range(calls):
                    began = time.perf_counter()
                    measured[name].answer = step()
                    measured[name].seconds.append(time.perf_counter() - began)
                measured[name].wal.append((_wal(superuser) - before) / calls)
    return measured


def checkpoint() -> None:
    with psycopg.connect(os.environ["BENCH_SUPERUSER"], autocommit=True) as superuser:
        superuser.execute("CHECKPOINT")


def report(measured: Mapping[str, Measured], baseline: str, limits: Mapping[str, str] | None = None) -> None:
    """One line a step: what it took, and how many times the baseline that is."""
    base = measured[baseline]
    for name, one in measured.items():
        time_ratio = one.milliseconds / base.milliseconds
        wal = f"{one.wal_bytes:10,.0f} B WAL {_times(one.wal_bytes, base.wal_bytes)}"
        limit = (limits or {}).get(name, "")
        print(f"{name:58} {one.milliseconds:9.3f} ms {time_ratio:7.2f} x {wal}  {limit}", flush=True)


def _times(number: float, base: float) -> str:
    return f"{number / base:7.2f} x" if base >= 1 else ""


def _wal(superuser: psycopg.Connection) -> int:
    row = superuser.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchone()
    assert row is not None
    return int(row[0])

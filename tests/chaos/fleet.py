"""Four workers, and others in the place of those that are ended."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

from runs.worker.descendants import descendants
from tests.chaos.server import ROOT
from tests.worker.specs import is_gone

WORKERS = 4
LEASE = 1.5  # seconds
LEAVES_WITHIN = 15.0  # seconds for a worker that was told to stop, on two busy processors
OUTLIVES = 5.0  # seconds that what a worker started may live longer than it (issue 4, point 3)
_SETTINGS = {
    "WORKER_CONCURRENCY": "3",
    "WORKER_HEARTBEAT": "0.4",
    "WORKER_LEASE": str(LEASE),
    "WORKER_POLL": "0.4",
    "RUN_MAX_ATTEMPTS": "1000",  # every run must get through, however unlucky
    "OUTGOING_ALLOW": "127.0.0.1",
    "LOG_LEVEL": "INFO",
}


class Fleet:
    """Keeps WORKERS alive. Each writes a log of its own."""

    def __init__(self, folder: Path, *, fenced: bool) -> None:
        self._command = ["manage.py", "worker"] if fenced else ["-m", "tests.chaos.unfenced"]
        self._environment = {**os.environ, **_SETTINGS, "EVALUATOR_FOLDERS": str(folder / "evaluators")}
        self._logs = folder / ("logs" if fenced else "logs-without-fence")
        self.workers: list[subprocess.Popen[bytes]] = []
        self.stopped: dict[subprocess.Popen[bytes], float] = {}  # until when
        self._leaving: dict[subprocess.Popen[bytes], float] = {}  # since when
        self._bereaved: dict[int, float] = {}  # processes of a worker that was killed, since when
        self._damage: list[str] = []
        (folder / "evaluators").mkdir(exist_ok=True)
        self._logs.mkdir(exist_ok=True)

    def __enter__(self) -> Self:
        for _ in range(WORKERS):
            self._start()
        return self

    def __exit__(self, *_: object) -> None:
        for worker in [*self.workers, *self._leaving]:
            worker.kill()
            worker.wait()

    def _start(self) -> None:
        number = len(list(self._logs.iterdir()))
        with (self._logs / f"{number}.log").open("wb") as log:
            self.workers.append(
                subprocess.Popen(
                    [sys.executable, *self._command], cwd=ROOT, env=self._environment, stderr=log, stdout=log
                )
            )

    @property
    def awake(self) -> list[subprocess.Popen[bytes]]:
        return [worker for worker in self.workers if worker not in self.stopped]

    def kill(self, worker: subprocess.Popen[bytes]) -> None:
        below = list(descendants(worker.pid))
        worker.kill()
        worker.wait()
        self._bereaved |= dict.fromkeys(below, time.monotonic())
        self._replace(worker)

    def terminate(self, worker: subprocess.Popen[bytes]) -> None:
        worker.terminate()
        self._leaving[worker] = time.monotonic()
        self._replace(worker)

    def pause(self, worker: subprocess.Popen[bytes], seconds: float) -> None:
        worker.send_signal(signal.SIGSTOP)
        self.stopped[worker] = time.monotonic() + seconds

    def _replace(self, worker: subprocess.Popen[bytes]) -> None:
        self.workers.remove(worker)
        self._start()

    def look_after(self) -> None:
        """Wakes who has been stopped long enough, and notes who should be gone and is not."""
        now = time.monotonic()
        for worker, until in list(self.stopped.items()):
            if now >= until:
                worker.send_signal(signal.SIGCONT)
                del self.stopped[worker]
        for worker, since in list(self._leaving.items()):
            if worker.poll() is not None:
                del self._leaving[worker]
            elif now - since > LEAVES_WITHIN:
                self._damage.append(f"worker {worker.pid} does not stop")
                worker.kill()
        for pid, since in list(self._bereaved.items()):
            if is_gone(pid):
                del self._bereaved[pid]
            elif now - since > OUTLIVES:
                self._damage.append(f"process {pid} outlived its worker by {OUTLIVES:g} s")
                del self._bereaved[pid]
        for worker in list(self.awake):
            if worker.poll() is not None:
                self._damage.append(f"worker {worker.pid} ended by itself with code {worker.returncode}")
                self._replace(worker)

    def stop(self) -> list[str]:
        """Tells all to stop, and looks for what they have left; gives the damage of the whole time."""
        for worker in list(self.stopped):
            self.stopped[worker] = 0.0
        self.look_after()
        mine = {pid for worker in self.workers for pid in descendants(worker.pid)}
        for worker in self.workers:
            worker.terminate()
            self._leaving[worker] = time.monotonic()
        self.workers = []
        until = time.monotonic() + LEAVES_WITHIN + OUTLIVES
        while (self._leaving or self._bereaved) and time.monotonic() < until:
            self.look_after()
            time.sleep(0.1)
        time.sleep(1)
        left = [pid for pid in mine | set(self._below_us()) if not is_gone(pid)]
        self._damage += [f"process {pid} is left: {_command_of(pid)}" for pid in left]
        return self._damage

    @staticmethod
    def _below_us() -> list[int]:
        """Whatever came of a worker of ours, wherever it has gone."""
        found = [pid for pid in descendants(os.getpid()) if not is_gone(pid)]
        return [pid for pid in found if b"postgres" not in _command_of(pid)]

    def count(self, text: str) -> int:
        """How often the workers have said it."""
        return sum(log.read_text(errors="replace").count(text) for log in self._logs.iterdir())


def _command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
    except OSError:
        return b""

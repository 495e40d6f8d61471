"""`manage.py up` as people use it: real processes, real signals."""

import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

ROOT = Path(__file__).resolve().parent.parent
SERVES = 30  # seconds; far more than it takes, for machines that are busy

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")


class Up:
    """One `manage.py up` in a session of its own, as if in a terminal."""

    def __init__(self, data: Path, port: int | None = None, **settings: str) -> None:
        self.data, self.port, self.mark = data, port or free_port(), f"UP-{uuid4()}"
        given = ("DATABASE_URL", "DATABASE_MIGRATE_URL", "SECRET_KEY")
        inherited = {name: value for name, value in os.environ.items() if name not in given}
        environment = {"RUNFOLIO_DATA": str(data), "PORT": str(self.port), "MARK": self.mark, **settings}
        self.output = tempfile.TemporaryFile("w+")  # noqa: SIM115  lives as long as this
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "up"],
            cwd=ROOT,
            env=inherited | environment,
            stdout=self.output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def said(self) -> str:
        self.output.seek(0)
        return self.output.read()

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + SERVES
        while not condition():
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.05)

    def until_it_serves(self) -> "Up":
        self.until(lambda: self.process.poll() is not None or "Ctrl-C stops it all" in self.said())
        assert self.process.poll() is None, self.said()
        return self

    def get(self, path: str, token: str = "") -> int:
        """The status of the answer, 0 for none."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}")
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return int(error.code)
        except OSError:
            return 0

    def token(self) -> str:
        return (self.data / "token").read_text().strip()

    def ours(self) -> dict[int, str]:
        """Every process of this start, with its command."""
        found = {}
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if folder.name.isdigit() and self._is_ours(folder):
                    found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
        return found

    def _is_ours(self, folder: Path) -> bool:
        inside = str((folder / "cwd").readlink()).startswith(str(self.data))
        return inside or self.mark.encode() in (folder / "environ").read_bytes()

    def find(self, words: str) -> int:
        """The oldest of its processes with these words in the command."""
        return min((pid for pid, command in self.ours().items() if words in command), default=0)

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        code = self.process.wait(40)
        assert self.ours() == {}, self.said()
        return code


@pytest.fixture
def data() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="rf-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder) / "data"


@pytest.fixture(scope="module")
def serving() -> Iterator[Up]:
    """One that runs, for tests that leave it running."""
    with tempfile.TemporaryDirectory(prefix="rf-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        up = Up(Path(folder) / "data")
        yield up.until_it_serves()
        up.end()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listening(pids: list[int]) -> set[str]:
    """The TCP addresses that these processes listen on, as /proc writes them."""
    sockets = {target[8:-1] for pid in pids for target in descriptors(pid) if target.startswith("socket:")}
    tables = [Path(f"/proc/net/{kind}").read_text() for kind in ("tcp", "tcp6")]
    rows = [line.split() for table in tables for line in table.splitlines()]
    return {row[1] for row in rows if row[3] == "0A" and row[9] in sockets}


def descriptors(pid: int) -> Iterator[str]:
    """What a process has open; some of it may be closed while we look, or the process have ended."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                yield str(link.readlink())


class TestRunning:
    def test_it_works(self, serving: Up) -> None:
        assert serving.get("/healthz") == serving.get("/readyz") == 200

    def test_it_says_where_it_is_and_how_to_sign_in(self, serving: Up) -> None:
        address = f"http://127.0.0.1:{serving.port}"
        assert f"Runfolio is at     {address}\n" in serving.said()
        link = re.search(rf"{address}(/sign-in/link/\S+)", serving.said())
        assert link is not None
        assert serving.get(link[1]) == 200

    def test_the_line_it_prints_submits_the_sample_run(self, serving: Up, tmp_path: Path) -> None:
        line = re.search("^curl .*$", serving.said(), re.MULTILINE)
        assert line is not None
        done = subprocess.run(["sh", "-c", line[0]], cwd=tmp_path, capture_output=True, text=True)
        assert json.loads(done.stdout)["error"] is None, done.stdout + done.stderr

    def test_only_the_web_server_listens_and_only_on_loopback(self, serving: Up) -> None:
        assert listening(list(serving.ours())) == {f"0100007F:{serving.port:04X}"}

    def test_files_with_secrets_are_for_their_owner_alone(self, serving: Up) -> None:
        for name in ("token", "secret_key", "postgres.json", "postgres.log"):
            assert (serving.data / name).stat().st_mode & 0o777 == 0o600

    def test_a_command_in_another_terminal_finds_the_database(self, serving: Up) -> None:
        given = ("DATABASE_URL", "DATABASE_MIGRATE_URL")
        environment = {name: value for name, value in os.environ.items() if name not in given}
        environment["RUNFOLIO_DATA"] = str(serving.data)
        command = [sys.executable, "manage.py", "create_token"]
        made = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert serving.get("/api/runs", made.stdout.strip()) == 200, made.stderr

    def test_a_second_start_says_that_it_runs_and_where(self, serving: Up) -> None:
        second = Up(serving.data)
        assert second.process.wait(SERVES) == 1
        assert second.said() == (
            f"runfolio: Runfolio already runs on {serving.data}: "
            f"process {serving.process.pid} at http://127.0.0.1:{serving.port}.\n"
        )

    def test_a_taken_port_gets_one_line(self, serving: Up, data: Path) -> None:
        other = Up(data, port=serving.port)
        assert other.process.wait(SERVES) == 1
        taken = f"runfolio: Port {serving.port} on 127.0.0.1 is taken by another program."
        assert other.said() == f"{taken} Stop that, or set another PORT.\n"
        assert other.ours() == {}

    def test_a_wrong_setting_gets_one_line(self, data: Path) -> None:
        wrong = Up(data, STORAGE_TYPE="sqlite")
        assert wrong.process.wait(SERVES) == 2
        assert wrong.said().startswith("runfolio: STORAGE_TYPE=sqlite is not known.")
        assert wrong.said().count("\n") == 1


class TestSupervising:
    @pytest.mark.parametrize("words", ["postgres -D", "-m gunicorn", "manage.py worker"])
    def test_what_dies_is_started_again(self, serving: Up, words: str) -> None:
        token = serving.token()
        dead = serving.find(words)
        os.kill(dead, signal.SIGKILL)
        serving.until(lambda: serving.find(words) not in (0, dead))
        serving.until(lambda: serving.get("/api/runs", token) == 200)

    def test_it_gives_up_on_a_child_that_keeps_dying(self, data: Path) -> None:
        script = f"""
import sys
from pathlib import Path
from project import up
up._TRIES = 3
failing = up.Child("worker", [sys.executable, "-c", "raise SystemExit(3)"])
lasting = up.Child("web server", ["sleep", "60"])
sys.exit(up.run(up.Plan(Path({str(data)!r}), "127.0.0.1", {free_port()}, "", None, [lasting, failing])))
"""
        done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 1
        assert "The worker ended 3 times in a row (last with 3). Giving up." in done.stderr


class TestStopping:
    def test_it_stops_everything_and_starts_again_with_its_data(self, data: Path) -> None:
        first = Up(data).until_it_serves()
        token = first.token()
        assert first.end(signal.SIGINT) == 0
        again = Up(data, first.port).until_it_serves()
        assert again.get("/api/runs", token) == 200
        assert again.token() == token
        assert again.end(signal.SIGHUP) == 0

    def test_a_signal_at_any_moment_leaves_nothing(self, data: Path) -> None:
        for _ in range(5):
            up = Up(data.with_name(uuid4().hex))
            time.sleep(random.uniform(0, 3.5))
            up.end(random.choice([signal.SIGINT, signal.SIGTERM]))

    def test_a_second_signal_leaves_nothing(self, data: Path) -> None:
        up = Up(data).until_it_serves()
        up.process.send_signal(signal.SIGINT)
        time.sleep(0.1)
        up.end(signal.SIGINT)

    def test_after_a_kill_the_next_start_serves_every_acknowledged_write(self, data: Path) -> None:
        first = Up(data).until_it_serves()
        token = first.token()
        first.process.kill()
        again = Up(data, first.port).until_it_serves()
        assert again.get("/api/runs", token) == 200
        assert first.find(first.mark) == 0
        again.end()
        first.until(lambda: first.ours() == {})

    def test_a_kill_of_every_process_at_once_is_survived_too(self, data: Path) -> None:
        first = Up(data).until_it_serves()
        token = first.token()
        for pid in first.ours():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        again = Up(data, first.port).until_it_serves()
        assert again.get("/api/runs", token) == 200
        again.end()


class TestOtherDatabases:
    def test_memory_goes_when_it_stops(self, data: Path) -> None:
        up = Up(data, STORAGE_TYPE="memory").until_it_serves()
        assert up.get("/readyz") == 200
        up.end()
        assert [path.name for path in data.rglob("*") if path.is_file()] == ["up.lock"]

    def test_a_given_database_is_used(self, data: Path, committed_db: dict[str, str]) -> None:
        given = {name: committed_db[name] for name in ("DATABASE_URL", "DATABASE_MIGRATE_URL")}
        up = Up(data, **given).until_it_serves()
        assert up.get("/api/runs", up.token()) == 200
        assert not (data / "postgres").exists()
        up.end()

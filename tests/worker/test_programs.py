"""Programs of users are bounded in every way, and nothing of them outlives its call."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runs.evaluators.base import Ran
from runs.evaluators.tool_errors import ProgramError
from runs.worker import programs
from runs.worker.programs import Limits, run_program

ROOT = Path(__file__).parents[2]
linux = pytest.mark.skipif(sys.platform != "linux", reason="what programs use is counted on Linux only")
node = pytest.mark.skipif(shutil.which("node") is None, reason="there is no node here")

Run = Callable[..., Ran]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs source code as a program of an allowed folder."""
    (tmp_path / "scratch").mkdir()

    def run(source: str, stdin: bytes = b"", *, name: str = "evaluator.py", **more: Any) -> Ran:
        folder = tmp_path / "allowed"
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(source)
        given = {"timeout": 20.0, "limits": Limits(), "scratch": str(tmp_path / "scratch"), **more}
        return run_program(name, stdin, folders=[str(folder)], **given)

    return run


def gone(pid: int) -> bool:
    """A zombie counts as gone: it has nothing left but its number."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (ProcessLookupError, FileNotFoundError):
        return True


def test_it_works(run: Run) -> None:
    ran = run("import sys; print(sys.stdin.read().upper()); sys.stderr.write('oh')", b"hello")
    assert ran == Ran(0, b"HELLO\n", b"oh")


def test_more_goes_in_and_comes_out_than_a_pipe_holds(run: Run) -> None:
    ran = run("import sys; sys.stdout.write(sys.stdin.read())", b"x" * 3_000_000)
    assert len(ran.stdout) == 3_000_000


def test_a_program_need_not_read_its_input(run: Run) -> None:
    assert run("print(1)", b"x" * 3_000_000).stdout == b"1\n"


def test_what_lies_beside_a_program_can_be_imported(run: Run, tmp_path: Path) -> None:
    (tmp_path / "allowed").mkdir()
    (tmp_path / "allowed" / "beside.py").write_text("answer = 42")
    assert run("import beside; print(beside.answer)").stdout == b"42\n"


# What it learns of us


def test_its_environment_is_its_own(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "s3cret")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    found = json.loads(run("import json, os; print(json.dumps(dict(os.environ)))").stdout)
    assert set(found) - {"LC_CTYPE", "PWD", "OLDPWD", "SHLVL", "_"} == {
        *("PATH", "LANG", "LC_ALL", "HOME", "TMPDIR"),
    }


def test_its_folder_is_its_own_and_goes_with_it(run: Run, tmp_path: Path) -> None:
    ran = run("import os; open('left behind', 'w'); print(os.getcwd(), os.environ['HOME'])")
    here, home = ran.stdout.decode().split()
    assert here == home
    assert Path(here).parent == tmp_path / "scratch"
    assert not Path(here).exists()


# Which programs run


def refusal(path: str, *folders: Path) -> str:
    with pytest.raises(ProgramError) as refused:
        run_program(path, b"", 10, Limits(), [str(folder) for folder in folders])
    return str(refused.value)


def test_without_a_folder_no_program_runs(tmp_path: Path) -> None:
    program = tmp_path / "a.py"
    program.write_text("print(1)")
    assert "EVALUATOR_FOLDERS is empty" in refusal(str(program))


@pytest.mark.parametrize("path", ["../outside.py", "link.py", "{outside}", "{missing}", "a\0.py"])
def test_what_lies_outside_the_folders_is_refused_whether_it_exists_or_not(tmp_path: Path, path: str) -> None:
    allowed, outside = tmp_path / "allowed", tmp_path / "outside.py"
    allowed.mkdir()
    outside.write_text("print(1)")
    (allowed / "link.py").symlink_to(outside)
    path = path.format(outside=outside, missing=tmp_path / "missing.py")
    assert refusal(path, allowed).endswith("it does not lie in a folder that EVALUATOR_FOLDERS names")


def test_a_folder_whose_name_only_begins_alike_is_outside(tmp_path: Path) -> None:
    (tmp_path / "allowed").mkdir()
    (tmp_path / "allowed-not").mkdir()
    program = tmp_path / "allowed-not" / "a.py"
    program.write_text("print(1)")
    assert "does not lie in" in refusal(str(program), tmp_path / "allowed")


@pytest.mark.parametrize("name", ["missing.py", "folder.py", "pipe.py"])
def test_what_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.py").mkdir()
    os.mkfifo(tmp_path / "pipe.py")
    assert "there is no such file" in refusal(name, tmp_path)


def test_a_link_within_the_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real.py").write_text("print(1)")
    (tmp_path / "link.py").symlink_to(tmp_path / "real.py")
    assert run_program("link.py", b"", 10, Limits(), [str(tmp_path)]).stdout == b"1\n"


def test_the_environment_beside_a_program_is_used(run: Run, tmp_path: Path) -> None:
    own = tmp_path / "allowed" / ".venv" / "bin" / "python"
    own.parent.mkdir(parents=True)
    own.write_text("#!/bin/sh\necho own")
    own.chmod(0o755)
    assert run("print(1)").stdout == b"own\n"


def test_requirements_that_are_not_installed_are_told_of(run: Run, tmp_path: Path) -> None:
    (tmp_path / "allowed").mkdir()
    (tmp_path / "allowed" / "requirements.txt").write_text("numpy")
    with pytest.raises(ProgramError, match=r"python -m venv \.venv"):
        run("print(1)")


@node
@pytest.mark.parametrize("name", ["evaluator.js", "evaluator.ts"])
def test_node_runs_javascript(run: Run, name: str) -> None:
    source = "let s = ''; process.stdin.on('data', d => s += d).on('end', () => console.log(s.length))"
    assert run(source, b"x" * 100_000, name=name).stdout == b"100000\n"


def test_a_missing_node_is_told_of(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProgramError, match=r"no node on the worker's PATH"):
        run("1", name="evaluator.js")


# What it may use


def test_one_that_takes_too_long_is_ended(run: Run) -> None:
    began = time.monotonic()
    with pytest.raises(ProgramError, match=r"^timed out after 1s$"):
        run("import time; time.sleep(60)", timeout=1)
    assert time.monotonic() - began < 2


def test_one_that_ignores_sigterm_is_killed_a_second_later(run: Run) -> None:
    began = time.monotonic()
    with pytest.raises(ProgramError, match=r"timed out"):
        run("import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)", timeout=0.5)
    assert 1.5 <= time.monotonic() - began < 3


def test_one_that_has_closed_its_outputs_still_has_to_end(run: Run) -> None:
    with pytest.raises(ProgramError, match=r"timed out"):
        run("import os, time\nfor fd in range(3): os.close(fd)\ntime.sleep(60)", timeout=0.5)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_one_that_writes_without_end_is_ended(run: Run, stream: str) -> None:
    with pytest.raises(ProgramError, match=rf"^wrote more than 10 MB to {stream}$"):
        run(f"import sys\nwhile True: sys.{stream}.write('x' * 65536)")


def test_of_stderr_the_end_is_kept(run: Run) -> None:
    ran = run("import sys; sys.stderr.write('x' * 200_000 + 'the end')")
    assert len(ran.stderr) == 64 * 1024
    assert ran.stderr.endswith(b"the end")


@linux
def test_it_gets_no_more_memory_than_allowed(run: Run) -> None:
    ran = run("x = bytearray(200 * 2**20)", limits=Limits(memory_mb=100))
    assert (ran.exit_code, b"MemoryError" in ran.stderr) == (1, True)


@linux
def test_its_processes_together_get_no_more_memory_than_allowed(run: Run) -> None:
    source = "import os, time\nfor _ in range(2): os.fork()\nx = bytearray(60 * 2**20); time.sleep(60)"
    with pytest.raises(ProgramError, match=r"used more than 100 MB of memory"):
        run(source, limits=Limits(memory_mb=100))


@linux
@node
def test_node_lives_within_the_memory_allowed(run: Run) -> None:
    source = "const all = []; while (true) all.push(new Array(100000).fill(1))"
    ran = run(source, name="evaluator.js", limits=Limits(memory_mb=256))
    assert ran.exit_code != 0
    assert b"heap out of memory" in ran.stderr


def test_it_gets_no_more_processor_time_than_allowed(run: Run) -> None:
    with pytest.raises(ProgramError, match=r"used more than 1 seconds of processor time"):
        run("while True: pass", limits=Limits(cpu_seconds=1))


def test_it_may_not_fill_the_disk_with_one_file(run: Run) -> None:
    ran = run("open('big', 'wb').write(bytes(3 * 2**20))", limits=Limits(file_mb=2))
    assert b"File too large" in ran.stderr


@linux
def test_a_fork_bomb_is_ended(run: Run) -> None:
    source = "import os, time\nfor _ in range(8): os.fork()\ntime.sleep(60)"
    with pytest.raises(ProgramError, match=r"had more than 16 processes"):
        run(source, limits=Limits(processes=16))


LEAVES_ONE_BEHIND = """
import os, signal, time
if not (child := os.fork()):
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)
time.sleep(0.2)
os.write(1, str(child).encode())
os._exit(0)
"""

RUNS_IT = """
import sys
from runs.worker.descendants import become_subreaper
from runs.worker.programs import Limits, run_program
become_subreaper()
print(run_program("leaves.py", b"", 20, Limits(), sys.argv[1:]).stdout.decode(), flush=True)
sys.stdin.read()
"""


@linux
def test_processes_that_it_leaves_behind_are_ended(tmp_path: Path) -> None:
    """At once, not only when the process that ran it ends."""
    (tmp_path / "leaves.py").write_text(LEAVES_ONE_BEHIND)
    command = [sys.executable, "-c", RUNS_IT, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert gone(int(process.stdout.readline()))


# Being ended from outside

ENDED = """
import os, signal, sys, threading
from runs.worker import programs
from runs.worker.descendants import become_subreaper, end_descendants

def end(*_):
    programs.no_more()
    end_descendants(1.0)
    os._exit(0)

def run(name):
    programs.run_program(name, b"", 60, programs.Limits(), sys.argv[1:2], scratch=sys.argv[1])

become_subreaper()
signal.signal(signal.SIGTERM, end)
if sys.argv[2] == "thread":
    threads = [threading.Thread(target=run, args=["stubborn.py"]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
else:
    run("stubborn.py")
"""

STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if not os.fork():
    os.setsid()
    if os.fork():
        os._exit(0)
with open(os.path.join(os.path.dirname(__file__), "pids"), "a") as file:
    print(os.getpid(), file=file)
time.sleep(60)
"""


@linux
@pytest.mark.parametrize(("where", "started"), [("main", 2), ("thread", 4)])
def test_sigterm_ends_a_program_that_ignores_it_within_four_seconds(
    tmp_path: Path, where: str, started: int
) -> None:
    """Cancel, deadline and shutdown of issue 4: the evaluators' process is told and ends all it started."""
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    pids = tmp_path / "pids"
    process = subprocess.Popen([sys.executable, "-c", ENDED, str(tmp_path), where], cwd=ROOT)
    until = time.monotonic() + 20
    while not pids.exists() or len(pids.read_text().split()) < started:
        assert time.monotonic() < until
        time.sleep(0.05)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert time.monotonic() - began < 4
    assert all(gone(int(pid)) for pid in pids.read_text().split())


def test_after_no_more_none_is_started(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "_no_more", False)
    programs.no_more()
    with pytest.raises(ProgramError, match=r"the run is being ended"):
        run("print(1)")


def test_several_run_at_once(run: Run) -> None:
    found: list[Ran] = []
    threads = [
        threading.Thread(target=lambda: found.append(run("import time; time.sleep(0.5)"))) for _ in range(4)
    ]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [ran.exit_code for ran in found] == [0, 0, 0, 0]
    assert time.monotonic() - began < 1.9

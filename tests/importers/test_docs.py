"""docs/import.md: its commands work, on databases and folders like those that it names."""

import io
import re
import shlex
from pathlib import Path

import pytest
from django.core.management import call_command

from runs.models import FileNamespace, Owner, Run
from tests.conftest import ROOT
from tests.importers.sources import AGENTEVALS, BINDU, a_database
from tests.importers.test_agentevals import add_run
from tests.importers.test_bindu import DID, add_task
from tests.importers.test_openhands import write_conversation
from tests.transfer.files import a_file

PAGE = (ROOT / "docs" / "import.md").read_text()
COMMANDS = [shlex.split(line) for line in re.findall(r"^python manage\.py (import .*)$", PAGE, re.MULTILINE)]


def command_for(system: str) -> list[str]:
    (found,) = [command for command in COMMANDS if command[1] == system]
    return found


def run_it(system: str, instead: str | None = None) -> str:
    """The command as it stands on the page, with what it reads put `instead` of the example."""
    command = command_for(system)
    out = io.StringIO()
    call_command(*command[:-1], instead or command[-1], stdout=out)
    return out.getvalue()


def test_every_system_has_a_command_on_the_page() -> None:
    assert sorted(command[1] for command in COMMANDS) == [
        *("agentevals", "bindu", "openhands", "runs", "traces")
    ]


def test_bindus_works(owner: Owner) -> None:
    with a_database() as source:
        source.execute(BINDU.format(schema=DID))
        add_task(source)
        run_it("bindu", source.url)
    assert Run.objects.get().kind == "task"


def test_agentevals_works(owner: Owner) -> None:
    with a_database() as source:
        source.execute(AGENTEVALS.format(schema="agentevals"))
        add_run(source)
        run_it("agentevals", source.url)
    assert Run.objects.get().is_evaluation


def test_openhands_works(owner: Owner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_conversation(tmp_path / ".openhands" / "conversations")
    run_it("openhands")
    assert FileNamespace.objects.count() == 1


def test_traces_work(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    run_it("traces")
    assert Run.objects.exists()


def test_runs_work(owner: Owner, tmp_path: Path) -> None:
    (tmp_path / "june.jsonl").write_bytes(a_file())
    run_it("runs", str(tmp_path / "june.jsonl"))
    assert Run.objects.count() == 1

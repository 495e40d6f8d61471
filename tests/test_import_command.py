"""`manage.py import runs`: for files that are too large for the page, and for scripts."""

import gzip
import io

import pytest
from django.core.management import CommandError, call_command

from runs.models import Owner, Run
from tests.transfer.files import OTHER, RUN, a_file, an_event


def run_it(*arguments: str) -> str:
    out = io.StringIO()
    call_command("import", "runs", *arguments, stdout=out)
    return out.getvalue()


def test_it_works(owner, tmp_path):
    (tmp_path / "a.jsonl").write_bytes(a_file(an_event()))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(a_file(run={"id": OTHER})))
    said = run_it(str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl.gz"))
    assert said.count("1 runs taken") == 2
    assert set(map(str, Run.objects.values_list("pk", flat=True))) == {RUN, OTHER}


def test_of_several_owners_one_must_be_named(owner, tmp_path):
    Owner.objects.create(name="second")
    (tmp_path / "a.jsonl").write_bytes(a_file())
    with pytest.raises(CommandError, match="name the owner with --owner"):
        run_it(str(tmp_path / "a.jsonl"))
    run_it(str(tmp_path / "a.jsonl"), "--owner", "second")
    assert Run.objects.get().owner.name == "second"


def test_a_file_that_is_not_whole_is_taken_and_is_an_error(owner, tmp_path, capsys):
    (tmp_path / "a.jsonl").write_bytes(b"".join(a_file(an_event()).splitlines(keepends=True)[:-1]))
    out = io.StringIO()
    with pytest.raises(CommandError, match="Not all of it is here"):
        call_command("import", "runs", str(tmp_path / "a.jsonl"), stdout=out)
    assert "THE FILE IS NOT WHOLE" in out.getvalue()
    assert Run.objects.count() == 1


def test_a_file_that_is_not_there_is_named(owner):
    with pytest.raises(CommandError, match=r"nothing\.jsonl cannot be read"):
        run_it("nothing.jsonl")

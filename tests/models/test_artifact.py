"""Keeping what a run produced (CONTRACTS.md 2.2 and 4.2; A2A's append and last_chunk)."""

from typing import Any

import pytest

from runs.models import Artifact, Run, finish, put_artifact

ONE, TWO = {"kind": "text", "text": "one"}, {"kind": "text", "text": "two"}


@pytest.fixture
def task(owner) -> Run:
    return Run.objects.open_task(owner)


def sizes(run: Run) -> tuple[int, int]:
    run.refresh_from_db()
    return run.artifact_count, run.size


def test_an_artifact_is_kept_and_counted(task):
    artifact = put_artifact(task, "a", "report", [ONE], media_type="text/plain")

    assert artifact == Artifact.objects.get()
    assert (artifact.name, artifact.parts, artifact.complete) == ("report", [ONE], True)
    assert sizes(task) == (1, artifact.size)


def test_one_of_the_same_id_takes_its_place(task):
    put_artifact(task, "a", parts=[ONE, ONE])
    artifact = put_artifact(task, "a", parts=[TWO])

    assert Artifact.objects.get().parts == [TWO]
    assert sizes(task) == (1, artifact.size)


def test_chunks_come_behind_each_other_until_the_last(task):
    put_artifact(task, "a", "report", [ONE], last_chunk=False)
    assert not Artifact.objects.get().complete
    put_artifact(task, "a", parts=[TWO], append=True)

    artifact = Artifact.objects.get()
    assert (artifact.name, artifact.parts, artifact.complete) == ("report", [ONE, TWO], True)
    assert sizes(task) == (1, artifact.size)


def test_the_first_chunk_may_be_one_to_append(task):
    put_artifact(task, "a", parts=[ONE], append=True, last_chunk=False)

    assert Artifact.objects.get().parts == [ONE]


def test_bytes_come_back_as_they_were(task):
    content = bytes(range(256))
    put_artifact(task, "a", content=content)

    assert bytes(Artifact.objects.get().content) == content
    assert sizes(task) == (1, 256)


def test_no_part_is_changed(task):
    parts: list[dict[str, Any]] = [{"text": "a\x00b\ud800"}]
    put_artifact(task, "a", parts=parts)
    put_artifact(task, "a", parts=[ONE], append=True)

    assert Artifact.objects.get().full_parts == [*parts, ONE]


def test_what_comes_after_the_end_is_noted_and_changes_nothing(task):
    put_artifact(task, "a", parts=[ONE])
    finish(task, "succeeded")

    assert put_artifact(task, "a", "late\x00", [TWO], content=b"x", media_type="text/plain") is None
    assert Artifact.objects.get().parts == [ONE]
    file = {"kind": "file", "file": {"name": "late\x00", "mimeType": "text/plain", "bytes": "eA=="}}
    assert task.events.get(kind="late_write").full_payload == {
        "kind": "artifact",
        "payload": {"artifact_id": "a", "name": "late\x00", "parts": [TWO, file]},
    }


def test_the_past_is_told_after_its_end(task):
    finish(task, "succeeded")

    assert put_artifact(task, "a", parts=[ONE], past=True)
    assert sizes(task)[0] == 1

"""`manage.py import openhands`: folders of conversations (CONTRACTS.md 3.2)."""

import io
import json
import os
import time
import tracemalloc
import zipfile
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from django.core.management import CommandError, call_command

from runs.importers.openhands import Archive, Folder, Unreadable, take
from runs.models import File, FileNamespace, Owner

ID = UUID("5cfa8749-8cce-4ada-a0bc-c2bbe1086685")


def write_conversation(folder: Path, number: int = 3, conversation_id: UUID = ID) -> Path:
    """A conversation of so many events, in a folder that is called as OpenHands does."""
    root = folder / conversation_id.hex
    (root / "events").mkdir(parents=True)
    (root / "base_state.json").write_text(
        json.dumps({"id": str(conversation_id), "execution_status": "idle"})
    )
    for index in range(number):
        add_event(root, index)
    (root / "events" / ".eventlog.lock").write_text("")
    (root / "events" / f".eventlog-len-{number}.marker").write_text("")
    return root


def add_event(root: Path, index: int) -> Path:
    event_id = uuid4()
    path = root / "events" / f"event-{index:05}-{event_id}.json"
    path.write_text(
        f'{{"id": "{event_id}", "text": "\\u0000 \N{PILE OF POO}", "n": 1e5, "kind": "PauseEvent"}}'
    )
    return path


def run_it(*folders: Path) -> str:
    out = io.StringIO()
    call_command("import", "openhands", *map(str, folders), stdout=out)
    return out.getvalue()


def files_of(conversation_id: UUID = ID) -> dict[str, bytes]:
    found = File.objects.filter(namespace__name=str(conversation_id))
    return {path: bytes(content) for path, content in found.values_list("path", "content")}


def test_it_works(owner: Owner, tmp_path: Path) -> None:
    root = write_conversation(tmp_path)
    assert "Taken: 1 conversations, 4 files." in run_it(root)
    there = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.json")}
    assert files_of() == there
    assert FileNamespace.objects.get().unread


def test_a_folder_of_many_is_searched_for_them(owner: Owner, tmp_path: Path) -> None:
    for _ in range(3):
        write_conversation(tmp_path / "deep" / "conversations", conversation_id=uuid4())
    (tmp_path / "notes.txt").write_text("mine")
    said = run_it(tmp_path)
    assert "Taken: 3 conversations, 12 files." in said
    assert "1 files that belong to no conversation" in said


def test_done_again_it_changes_nothing(owner: Owner, tmp_path: Path) -> None:
    write_conversation(tmp_path)
    run_it(tmp_path)
    before = FileNamespace.objects.get().version
    assert "There already: 1 conversations." in run_it(tmp_path)
    assert FileNamespace.objects.get().version == before


def test_what_was_appended_since_comes(owner: Owner, tmp_path: Path) -> None:
    root = write_conversation(tmp_path)
    run_it(root)
    new = add_event(root, 3)
    assert "Brought up to date: 1 conversations, 1 files." in run_it(root)
    assert files_of()[f"events/{new.name}"] == new.read_bytes()


def test_a_conversation_that_went_on_here_stays_as_it_is(owner: Owner, tmp_path: Path) -> None:
    root = write_conversation(tmp_path)
    run_it(root)
    File.objects.create(
        namespace=FileNamespace.objects.get(), path=f"events/event-00003-{uuid4()}.json", content=b"{}"
    )
    (root / "base_state.json").write_text(json.dumps({"id": str(ID), "execution_status": "finished"}))
    assert "went on here" in run_it(root)
    assert b"idle" in files_of()["base_state.json"]


def test_a_gap_is_told_and_the_rest_kept(owner: Owner, tmp_path: Path) -> None:
    root = write_conversation(tmp_path)
    add_event(root, 5)
    out = io.StringIO()
    with pytest.raises(CommandError):
        call_command("import", "openhands", str(root), stdout=out)
    assert "event 3 is missing" in out.getvalue()
    assert len(files_of()) == 5


def test_a_broken_state_is_kept_under_the_folders_name(owner: Owner, tmp_path: Path) -> None:
    root = write_conversation(tmp_path)
    (root / "base_state.json").write_bytes(b"{broken")
    with pytest.raises(CommandError):
        run_it(root)
    assert files_of()["base_state.json"] == b"{broken"


def test_links_are_not_followed(owner: Owner, tmp_path: Path) -> None:
    root = write_conversation(tmp_path)
    (root / "secret.json").symlink_to("/etc/hostname")
    run_it(root)
    assert "secret.json" not in files_of()


def test_what_is_no_file_is_passed_over(owner: Owner, tmp_path: Path) -> None:
    root = write_conversation(tmp_path)
    os.mkfifo(root / "pipe")  # whoever reads it waits for a writer
    assert len(Folder(root).paths()) == 6


def test_names_that_are_no_utf_8_are_told(owner: Owner, tmp_path: Path) -> None:
    root = write_conversation(tmp_path)
    (root / os.fsdecode(b"odd\xff")).write_text("x")
    out = io.StringIO()
    with pytest.raises(CommandError, match="Not all of it is here"):
        call_command("import", "openhands", str(root), stdout=out)
    assert "is left out: its path is no UTF-8" in out.getvalue()
    assert len(files_of()) == 4


def test_a_file_that_is_too_large_leaves_its_conversation_out(
    owner: Owner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runs.importers.openhands._LARGEST", 1000)
    root, _ = write_conversation(tmp_path), write_conversation(tmp_path, conversation_id=uuid4())
    (root / "core").write_bytes(b" " * 1001)
    out = io.StringIO()
    with pytest.raises(CommandError, match="Not all of it is here"):
        call_command("import", "openhands", str(tmp_path), stdout=out)
    assert "core has 1,001 bytes, and a file may have 1,000" in out.getvalue()
    assert FileNamespace.objects.count() == 1


def test_a_folder_that_cannot_be_listed_is_an_error(
    owner: Owner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_conversation(tmp_path)
    listed = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("events"):
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr("os.scandir", scandir)
    with pytest.raises(CommandError, match=r"events cannot be read: Permission denied\."):
        run_it(root)
    assert not FileNamespace.objects.exists()


def test_a_folder_without_a_conversation_is_an_error(owner: Owner, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    out = io.StringIO()
    with pytest.raises(CommandError):
        call_command("import", "openhands", str(tmp_path), stdout=out)
    assert "there is no conversation in it" in out.getvalue()


def test_a_folder_that_is_not_there_is_an_error(owner: Owner) -> None:
    with pytest.raises(CommandError, match="nowhere is no folder"):
        run_it(Path("nowhere"))


# ── Archives ───────────────────────────────────────────────────────────────
def zipped(root: Path) -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(root.rglob("*")):
            archive.write(path, path.relative_to(root).as_posix())
    return file


def test_an_archive_is_read_like_its_folder(owner: Owner, tmp_path: Path) -> None:
    write_conversation(tmp_path)
    report = list(take(Archive(zipped(tmp_path), 10_000), owner, "a.zip"))[-1]
    assert report.taken == {"conversations": 1, "files": 4}
    assert len(files_of()) == 4


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    (tmp_path / "base_state.json").write_bytes(b" " * 20_000)
    with pytest.raises(Unreadable, match="20,000 bytes, and may hold 10,000"):
        Archive(zipped(tmp_path), 10_000)


def test_an_archive_that_lies_about_its_size_is_told(owner: Owner, tmp_path: Path) -> None:
    (tmp_path / "base_state.json").write_bytes(b" " * 20_000)
    data = bytearray(zipped(tmp_path).getvalue())
    size = (20_000).to_bytes(4, "little")
    assert data.count(size) == 2
    lying = data.replace(size, (200).to_bytes(4, "little"))
    report = list(take(Archive(io.BytesIO(lying), 10_000), owner, "a.zip"))[-1]
    assert "cannot be unpacked" in report.problems[0][1]
    assert not FileNamespace.objects.exists()


def test_an_archive_that_lies_about_its_size_is_not_unpacked(tmp_path: Path) -> None:
    (tmp_path / "base_state.json").write_bytes(b" " * 2**25)
    lying = zipped(tmp_path).getvalue().replace((2**25).to_bytes(4, "little"), (200).to_bytes(4, "little"))
    archive = Archive(io.BytesIO(lying), 10_000)
    tracemalloc.start()
    with pytest.raises(Unreadable, match="cannot be unpacked"):
        archive.read("base_state.json")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2**22


@pytest.mark.parametrize("packed", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_archive_that_is_packed_otherwise_is_told(owner: Owner, packed: int) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", packed) as archive:
        archive.writestr("base_state.json", "{}")
    report = list(take(Archive(file, 10_000), owner, "a.zip"))[-1]
    assert "neither deflated nor stored" in report.problems[0][1]


def test_an_archive_with_a_damaged_file_is_told(owner: Owner, tmp_path: Path) -> None:
    write_conversation(tmp_path)
    data = bytearray(zipped(tmp_path).getvalue())
    begins = data.index(b"base_state.json") + len(b"base_state.json")
    data[begins : begins + 2] = b"\xff\xff"
    report = list(take(Archive(io.BytesIO(data), 10_000), owner, "a.zip"))[-1]
    assert "cannot be unpacked" in report.problems[0][1]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_of_a_file_that_an_archive_has_twice_the_last_counts(owner: Owner) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for status in ("idle", "finished"):
            archive.writestr("base_state.json", json.dumps({"id": str(ID), "execution_status": status}))
    assert list(take(Archive(file, 10_000), owner, "a.zip"))[-1].taken == {"conversations": 1, "files": 1}
    assert b"finished" in files_of()["base_state.json"]


@pytest.mark.parametrize("path", ["../../etc/passwd", "a//b", "./b"])
def test_paths_that_lead_elsewhere_are_left_out(owner: Owner, path: str) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x/base_state.json", json.dumps({"id": str(ID)}))
        archive.writestr(f"x/{path}", "x")
    report = list(take(Archive(file, 10_000), owner, "a.zip"))[-1]
    assert report.problems == [("x", f"{path} is left out: its path leads elsewhere")]
    assert list(files_of()) == ["base_state.json"]


def test_paths_that_no_folder_could_have_take_no_time(owner: Owner) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x/base_state.json", json.dumps({"id": str(ID)}))
        for number in range(20):
            archive.writestr("/" * 65_000 + str(number), "")
    began = time.process_time()
    report = list(take(Archive(file, 10_000), owner, "a.zip"))[-1]
    assert time.process_time() - began < 2
    assert report.skipped["files that belong to no conversation"] == 20

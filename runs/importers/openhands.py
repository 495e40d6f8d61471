"""Folders of OpenHands conversations, into the files that agents keep here (CONTRACTS.md 3.2).

What reads those files makes sessions, runs and events of them, whoever wrote them.
"""

import json
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Protocol
from uuid import UUID

from django.db import connection, transaction

from runs.exact import clean_text
from runs.importers.report import Report
from runs.models import File, FileNamespace, Owner
from runs.models.file import NAMESPACE_LENGTH, is_too_long, leads_elsewhere

_STATE = "base_state.json"
_EVENT = re.compile(r"events/event-(\d{5,})-[0-9a-fA-F-]{8,}\.json")
# What the log of events keeps for itself: who holds it, and how long it is. Without them it counts again.
_OF_THE_LOG = re.compile(r"(.*/)?\.eventlog(\.lock|-len-\d+\.marker)")
_BYTES, _FILES = 2**22, 500  # that are written at a time
_LARGEST = 2**26  # bytes of one file: it is in memory a few times over, on both sides
_PIECE = 2**16
_LONGEST_PATH = 4096  # as Linux has it; an archive may name paths of 65,535, of slashes alone
_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # of the others, zipfile unpacks a piece to any size


class Unreadable(Exception):
    """The folder or archive cannot be read; the text says why."""


class Tree(Protocol):
    """Files by their paths, with slashes between."""

    def paths(self) -> list[str]: ...
    def read(self, path: str) -> bytes: ...


class Folder:
    """A folder on this machine. Links are not followed: what they lead to is no part of it. Nor are pipes."""

    def __init__(self, path: Path) -> None:
        self._root = path

    def paths(self) -> list[str]:
        if not self._root.is_dir():
            raise Unreadable(f"{self._root} is no folder")
        return [
            (Path(folder) / name).relative_to(self._root).as_posix()
            for folder, _, names in os.walk(self._root, onerror=_unreadable)
            for name in names
            if stat.S_ISREG((Path(folder) / name).lstat().st_mode)
        ]

    def read(self, path: str) -> bytes:
        try:
            _check_size(path, (self._root / path).stat().st_size)
            return (self._root / path).read_bytes()
        except OSError as error:
            raise Unreadable(f"{path} cannot be read: {error.strerror}") from None


class Archive:
    """A .zip of such a folder, of at most `most` bytes when it is unpacked."""

    def __init__(self, file: IO[bytes], most: int) -> None:
        try:
            self._zip = zipfile.ZipFile(file)
        except _BROKEN as error:
            raise Unreadable(f"it is no .zip file that can be read: {error}") from None
        if (size := sum(one.file_size for one in self._zip.infolist())) > most:
            raise Unreadable(f"it holds {size:,} bytes, and may hold {most:,}")

    def paths(self) -> list[str]:
        """Each once: of those that are there twice the last counts, as for whoever unpacks it."""
        return list(dict.fromkeys(one.filename for one in self._zip.infolist() if not one.is_dir()))

    def read(self, path: str) -> bytes:
        """No more than the archive says of it; by pieces, since zipfile unpacks all before it cuts."""
        info = self._zip.getinfo(path)
        if info.compress_type not in _PACKED:
            raise Unreadable(f"{path} cannot be unpacked: it is neither deflated nor stored")
        _check_size(path, info.file_size)
        try:
            with self._zip.open(info) as file:
                return b"".join(iter(lambda: file.read(_PIECE), b""))
        except _BROKEN as error:
            raise Unreadable(f"{path} cannot be unpacked: {error}") from None


# What zipfile raises for what is broken, encrypted or too new.
_BROKEN = (
    *(zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError),
    *(RuntimeError, NotImplementedError),
)


def _unreadable(error: OSError) -> None:
    raise Unreadable(f"{error.filename} cannot be read: {error.strerror}")


def _check_size(path: str, size: int) -> None:
    if size > _LARGEST:
        raise Unreadable(f"{path} has {size:,} bytes, and a file may have {_LARGEST:,}")


def take(tree: Tree, owner: Owner, name: str) -> Iterator[Report]:
    """Takes in each conversation of a folder of one or of many, wholly or not at all, and gives the report
    so far after each; `name` is what the folder is called. Raises Unreadable for the folder itself.

    May be done again: what is there stays, and what was appended since comes.
    """
    paths = tree.paths()
    conversations = _conversations(paths)
    report = Report("conversations", expected=len(conversations))
    others = len(paths) - sum(len(files) for files in conversations.values())
    if others:
        report.skipped["files that belong to no conversation"] += others
    if not conversations:
        report.note(name, "there is no conversation in it: no base_state.json and no events/event-….json")
    yield report
    for root, files in conversations.items():
        try:
            _Conversation(tree, owner, root, files, name, report).take()
        except Unreadable as error:
            report.note(root or name, f"it is left out: {error}")
        report.read += 1
        yield report


def _conversations(paths: Sequence[str]) -> dict[str, list[str]]:
    """The paths within each conversation, by its folder."""
    roots = {path[: -len(_STATE)] for path in paths if path.endswith(f"/{_STATE}") or path == _STATE}
    roots |= {path[: found.start()] for path in paths if (found := _event_in(path))}
    files: dict[str, list[str]] = {root: [] for root in sorted(roots)}
    for path in paths:
        folders = _folders_of(path) if len(path) <= _LONGEST_PATH else ()
        root = next((part for part in folders if part in files), None)
        if root is not None:
            files[root].append(path[len(root) :])
    return files


def _event_in(path: str) -> re.Match[str] | None:
    return re.search(r"(?:^|(?<=/))" + _EVENT.pattern + "$", path)


def _folders_of(path: str) -> Iterator[str]:
    """From the outermost, which is "", to the one that it is in."""
    yield ""
    for slash in re.finditer("/", path):
        yield path[: slash.end()]


class _Conversation:
    def __init__(
        self, tree: Tree, owner: Owner, root: str, files: list[str], name: str, report: Report
    ) -> None:
        self.tree, self.owner, self.root, self.name, self.report = tree, owner, root, name, report
        self.files = sorted(one for one in files if not _OF_THE_LOG.fullmatch(one))

    def take(self) -> None:
        self._check()
        with transaction.atomic():
            room, made = FileNamespace.objects.get_or_create(owner=self.owner, name=self._id())
            here = set(
                File.objects.filter(namespace=room, path__startswith="events/").values_list("path", flat=True)
            )
            if {path for path in here if _EVENT.fullmatch(path)} - set(self.files):
                self.report.skipped["conversations that went on here: they stay as they are"] += 1
                return
            written = self._write(room)
            if written and not made:
                # They told how many events there were.
                File.objects.filter(namespace=room, path__regex=r"(^|/)\.eventlog-len-\d+\.marker$").delete()
        if made:
            self.report.taken["conversations"] += 1
            self.report.taken["files"] += written
        elif written:
            self.report.changed["conversations"] += 1
            self.report.changed["files"] += written
        else:
            self.report.there += 1

    def _check(self) -> None:
        """What is wrong with it, but stays as it is: pages say so as well."""
        numbers = sorted(int(found[1]) for path in self.files if (found := _EVENT.fullmatch(path)))
        missing = next((place for place, number in enumerate(numbers) if place != number), None)
        if missing is not None:
            self.report.note(
                self._where,
                f"event {missing} is missing or there twice: OpenHands reads no further than that",
            )
        wrong = {path: reason for path in self.files if (reason := _wrong_with(path))}
        for path, reason in wrong.items():
            self.report.note(self._where, f"{_shortened(path)} is left out: {reason}")
        self.files = [path for path in self.files if path not in wrong]

    @property
    def _where(self) -> str:
        return self.root.rstrip("/") or self.name

    def _id(self) -> str:
        """As its state says, and else as its folder is called."""
        given = None
        if _STATE in self.files:
            try:
                state = json.loads(self.tree.read(self.root + _STATE))
                given = state.get("id") if isinstance(state, dict) else None
            except (ValueError, RecursionError):
                self.report.note(self._where, "base_state.json is no JSON; it is kept as it is")
        folder = self._where.rpartition("/")[2]
        for spelling in (given, folder):
            try:
                return str(UUID(spelling))
            except (ValueError, TypeError, AttributeError):
                continue
        return clean_text(folder)[:NAMESPACE_LENGTH]

    def _write(self, room: FileNamespace) -> int:
        """How many files are new or have changed."""
        written, waiting, size = 0, list[tuple[str, bytes]](), 0
        for path in self.files:
            waiting.append((path, self.tree.read(self.root + path)))
            size += len(waiting[-1][1])
            if size >= _BYTES or len(waiting) >= _FILES:
                written += _put(room, waiting)
                waiting, size = [], 0
        return written + _put(room, waiting)


def _wrong_with(path: str) -> str:
    """Why it cannot be kept here, as whoever writes files here is told."""
    if clean_text(path) != path:
        return "its path is no UTF-8"
    if is_too_long(path):
        return "its path is too long"
    return "its path leads elsewhere" if leads_elsewhere(path) else ""


def _shortened(path: str) -> str:
    return path if len(path) <= 100 else f"{path[:100]}…"


def _put(room: FileNamespace, files: Sequence[tuple[str, bytes]]) -> int:
    with connection.cursor() as cursor:
        paths, contents = [path for path, _ in files], [content for _, content in files]
        cursor.execute(_PUT, {"room": room.pk, "paths": paths, "contents": contents})
        return int(cursor.rowcount)


_PUT = """
    INSERT INTO file (namespace_id, path, content)
    SELECT %(room)s, path, content
    FROM unnest(%(paths)s::text[], %(contents)s::bytea[]) AS given (path, content)
    ON CONFLICT (namespace_id, path) DO UPDATE
    SET content = excluded.content, updated_at = statement_timestamp()
    WHERE file.content IS DISTINCT FROM excluded.content
"""

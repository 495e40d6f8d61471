"""Files of agents in the database: what plain SQL finds there, and who learns that something was written."""

import hashlib
import threading
from io import StringIO
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import IntegrityError, connection, connections, transaction

from runs.models import File, FileLock, FileNamespace, Owner
from runs.models.file import Lease, delete_files, take_lease, write_file

LOCK = "events/.eventlog.lock"


@pytest.fixture
def room(owner: Owner) -> FileNamespace:
    """A namespace that was read to its end."""
    write_file(owner, "talk", "base_state.json", b"{}")
    FileNamespace.objects.update(read_version=1)
    return FileNamespace.objects.get()


def is_unread() -> bool:
    return FileNamespace.objects.unread().exists()


def test_a_new_room_is_unread(owner: Owner) -> None:
    write_file(owner, "talk", "a", b"")
    assert is_unread()


# Rows of one transaction raise the version once, and a test is one transaction, but for its own database.
@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO file (namespace_id, path, content) SELECT id, 'x', '' FROM file_namespace",
        "UPDATE file SET content = 'x'",
        "UPDATE file SET path = 'y'",
        "DELETE FROM file",
    ],
)
def test_whatever_plain_sql_writes_makes_the_room_unread(
    committed_db: Any, room: FileNamespace, statement: str
) -> None:
    assert not is_unread()
    with connection.cursor() as cursor:
        cursor.execute(statement)
    assert is_unread()


def test_many_files_of_one_transaction_raise_the_version_once(
    committed_db: Any, owner: Owner, room: FileNamespace
) -> None:
    with transaction.atomic():
        for number in range(50):
            write_file(owner, "talk", f"{number}.json", b"")
    room.refresh_from_db()
    assert room.version == 2
    delete_files(owner, "talk", "")
    room.refresh_from_db()
    assert room.version == 3


def test_a_marker_is_no_news(committed_db: Any, owner: Owner, room: FileNamespace) -> None:
    write_file(owner, "talk", "events/.eventlog-len-3.marker", b"")
    delete_files(owner, "talk", "events")
    assert not is_unread()


def test_a_room_is_updated_on_its_page(committed_db: Any, owner: Owner, room: FileNamespace) -> None:
    write_file(owner, "talk", "first", b"")  # from read to unread is a change of the index
    with connection.cursor() as cursor:
        updates = "SELECT pg_stat_get_xact_tuples_hot_updated('file_namespace'::regclass)"
        with transaction.atomic():
            write_file(owner, "talk", "second", b"")
            cursor.execute(updates)
            assert cursor.fetchone()[0] == 1


def test_files_are_in_the_order_of_their_bytes(owner: Owner) -> None:
    for path in ("b", "B", "a-", "a0", "é"):
        write_file(owner, "talk", path, b"")
    paths = list(File.objects.order_by("path").values_list("path", flat=True))
    assert paths == sorted(paths, key=str.encode)


def test_a_file_has_a_path(owner: Owner, room: FileNamespace) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        File.objects.create(namespace=room, path="", content=b"")


def test_the_number_of_a_lock_is_as_agreed(db: None) -> None:
    for room, path in (("talk", LOCK), ("\U0001f600", "é")):
        with connection.cursor() as cursor:
            cursor.execute("SELECT file_lock_number(%s, %s)", [room, path])
            digest = hashlib.sha256(f"{room}\x00{path}".encode()).digest()
            assert cursor.fetchone()[0] == int.from_bytes(digest[:8], "big", signed=True)


def test_two_make_one_room_together(committed_db: Any, owner: Owner) -> None:
    barrier = threading.Barrier(4)

    def write(path: str) -> None:
        barrier.wait()
        write_file(owner, "talk", path, b"")
        connections.close_all()

    threads = [threading.Thread(target=write, args=[str(number)]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert FileNamespace.objects.count() == 1
    assert File.objects.count() == 4


def test_a_lease_waits_for_an_advisory_lock(committed_db: Any, owner: Owner) -> None:
    with connections["owner"].cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(file_lock_number('talk', %s))", [LOCK])
        assert take_lease(owner, "talk", Lease(LOCK, uuid4())) is None
        cursor.execute("SELECT pg_advisory_unlock_all()")
    assert take_lease(owner, "talk", Lease(LOCK, uuid4())) == []


def test_an_advisory_lock_waits_for_a_lease(committed_db: Any, owner: Owner) -> None:
    lease = Lease(LOCK, uuid4())
    take_lease(owner, "talk", lease)
    with connections["owner"].cursor() as cursor:
        cursor.execute("SELECT answer FROM file_try_lock(%s, 'talk', %s, 1)", [owner.pk, LOCK])
        assert cursor.fetchone()[0] == "leased"
        FileLock.objects.update(until="2000-01-01T00:00:00Z")
        cursor.execute("SELECT file_is_leased(%s, 'talk', %s)", [owner.pk, LOCK])
        assert cursor.fetchone()[0] is False
        cursor.execute("SELECT pg_advisory_unlock_all()")
    assert write_file(owner, "talk", "events/a", b"", lease) == "lock lost"


def test_the_address_is_printed_for_clients(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.EMBEDDED = False
    monkeypatch.setenv("DATABASE_URL", "postgresql://runfolio_app@db/runfolio")
    printed = StringIO()
    call_command("database_url", stdout=printed)
    assert printed.getvalue() == "postgresql://runfolio_app@db/runfolio\n"


def test_there_is_no_address_of_a_server_that_does_not_run(settings: Any, tmp_path: Any) -> None:
    settings.EMBEDDED, settings.RUNFOLIO_DATA = True, tmp_path
    with pytest.raises(CommandError, match="make up"):
        call_command("database_url")

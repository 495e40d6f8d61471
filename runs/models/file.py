"""Files that agents keep here: OpenHands' conversations, byte for byte (issue 6, point 3; CONTRACTS.md 3)."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal
from uuid import UUID

import pgtrigger
from django.core.checks import CheckMessage
from django.db import connection, models
from django.db.models import Case, F, Func, Q, Value, When
from django.db.models.functions import Concat, Now

from runs.models.access import Caller, OwnedQuerySet
from runs.models.owner import Owner

NAMESPACE_LENGTH = 500  # characters; an index entry of PostgreSQL has a limit
PATH_LENGTH = 1000  # characters
PATH_BYTES = 2500  # of UTF-8, for the same limit
LEASE = 1.5  # seconds; whoever holds it renews it, so that one who died delays others by no more
LONGEST_LEASE = 60.0

type Written = Literal["written", "lock lost", "out of step", "is a directory", "not a directory"]
type Removed = Literal["deleted", "lock lost"]


def note_files() -> pgtrigger.Trigger:
    """Raises the namespace's version with every transaction that writes or deletes a file of it, however.

    It is raised once in a transaction, since others see all of it or nothing. OpenHands' length markers are
    left out: they say nothing that the events do not.
    """
    return pgtrigger.Trigger(
        name="note_files",
        operation=pgtrigger.Insert | pgtrigger.Update | pgtrigger.Delete,
        when=pgtrigger.After,
        func=r"""
            IF coalesce(NEW.path, OLD.path) ~ '(^|/)\.eventlog-len-\d+\.marker$' THEN
                RETURN NULL;
            END IF;
            UPDATE file_namespace SET version = version + 1, updated_at = statement_timestamp()
            WHERE id IN (OLD.namespace_id, NEW.namespace_id) AND xmin <> pg_current_xact_id()::xid;
            RETURN NULL;
        """,
    )


class NamespaceQuerySet(OwnedQuerySet["FileNamespace"]):
    def unread(self) -> "NamespaceQuerySet":
        """Those of which something was written since they were last read."""
        return self.filter(unread=True)


class FileNamespace(models.Model):
    """One room of files, such as one OpenHands conversation.

    Whoever reads what changed sets `read_version` to the `version` that it began with. A new room is unread.
    """

    id = models.BigAutoField(primary_key=True)
    owner = models.ForeignKey(Owner, on_delete=models.PROTECT, related_name="file_namespaces", db_index=False)
    name = models.CharField(max_length=NAMESPACE_LENGTH)
    version = models.BigIntegerField(default=1, db_default=1, editable=False)
    read_version = models.BigIntegerField(default=0, db_default=0, editable=False)
    # A column, so that an index over it leaves the updates of `version` on their page (HOT).
    unread = models.GeneratedField(
        expression=Q(version__gt=F("read_version")),  # type: ignore[arg-type]  # the stubs know no Q here
        output_field=models.BooleanField(),
        db_persist=True,
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)

    objects: ClassVar = NamespaceQuerySet.as_manager()

    class Meta:
        db_table = "file_namespace"
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["owner", "name"], name="file_namespace_once")]
        indexes = [
            models.Index(  # the worker that shows conversations
                fields=["id"], name="file_namespace_unread", condition=Q(unread=True)
            )
        ]

    def __str__(self) -> str:
        return self.name

    @classmethod
    def check(cls, **kwargs: Any) -> list[CheckMessage]:
        """Asks no database whether it has generated columns, so that `manage.py check` needs none."""
        return super().check(**{**kwargs, "databases": []})


@dataclass(frozen=True, slots=True)
class Lease:
    """The lock of a path, as its holder knows it: by a key of its own making."""

    path: str
    key: UUID


class FileQuerySet(OwnedQuerySet["File"]):
    owner_path = "namespace__owner"

    def of(self, caller: Caller, namespace: str) -> "FileQuerySet":
        return self.visible_to(caller).filter(namespace__name=namespace)

    def at(self, path: str) -> "FileQuerySet":
        """The file of that path, or all that is in the folder; an empty path is everything."""
        return self.filter(Q(path=path) | Q(path__gte=f"{path}/", path__lt=f"{path}0")) if path else self

    def names_in(self, path: str) -> list[str]:
        """What is in a folder, by name; folders with a slash at the end. Of a file there is nothing."""
        text = models.TextField()
        rest = Func(F("path"), Value(len(path) + 2 if path else 1), function="substr", output_field=text)
        first = Func(rest, Value("/"), Value(1), function="split_part", output_field=text)
        folder = Concat("first", Value("/"), output_field=text)
        name = Case(When(rest__contains="/", then=folder), default="first", output_field=text)
        below = self.filter(path__gte=f"{path}/", path__lt=f"{path}0") if path else self
        return list(below.annotate(rest=rest, first=first).order_by().values_list(name, flat=True).distinct())


class File(models.Model):
    """A file by its path, such as `events/event-00000-….json`; the bytes come back as they were written."""

    id = models.BigAutoField(primary_key=True)
    namespace = models.ForeignKey(
        FileNamespace, on_delete=models.CASCADE, related_name="files", db_index=False
    )
    path = models.CharField(max_length=PATH_LENGTH, db_collation="C", help_text="Without a slash in front.")
    content = models.BinaryField()
    size = models.GeneratedField(
        expression=Func(F("content"), function="octet_length"),
        output_field=models.IntegerField(),
        db_persist=True,
    )
    updated_at = models.DateTimeField(db_default=Now(), editable=False)

    objects: ClassVar = FileQuerySet.as_manager()

    class Meta:
        db_table = "file"
        ordering = ["namespace", "path"]
        constraints = [
            models.UniqueConstraint(fields=["namespace", "path"], name="file_once"),
            models.CheckConstraint(condition=~Q(path=""), name="file_has_a_path"),
        ]
        triggers = [note_files()]

    def __str__(self) -> str:
        return self.path

    @classmethod
    def check(cls, **kwargs: Any) -> list[CheckMessage]:
        """Asks no database whether it has generated columns, so that `manage.py check` needs none."""
        return super().check(**{**kwargs, "databases": []})


class FileLock(models.Model):
    """Who may write beside a path just now, of those who come over HTTP: a lease under a key.

    Without a key nobody holds it. Who waits for it has the next turn, as long as they ask again and again.
    Those who come with a DSN hold an advisory lock instead, and wait for this.
    """

    id = models.BigAutoField(primary_key=True)
    namespace = models.ForeignKey(
        FileNamespace, on_delete=models.CASCADE, related_name="locks", db_index=False
    )
    path = models.CharField(max_length=PATH_LENGTH, db_collation="C")
    key = models.UUIDField(null=True)
    until = models.DateTimeField()
    next_key = models.UUIDField(null=True)
    next_until = models.DateTimeField(null=True)

    class Meta:
        db_table = "file_lock"
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["namespace", "path"], name="file_lock_once")]

    def __str__(self) -> str:
        return self.path


def is_too_long(path: str) -> bool:
    return len(path) > PATH_LENGTH or len(path.encode(errors="replace")) > PATH_BYTES


def leads_elsewhere(path: str) -> bool:
    """Whether it has '.', '..', or slashes at its ends or in a row."""
    return bool({"", ".", ".."} & set(path.split("/")))


def write_file(
    owner: Owner,
    namespace: str,
    path: str,
    content: bytes,
    lease: Lease | None = None,
    event: int | None = None,
) -> Written:
    """Writes a file in one transaction, or says why not; `lock lost` where `lease` is another's by now.

    With `event` it is OpenHands' event of that number, and the marker of the log's length moves with it;
    `out of step` where that marker is not there. Safe to repeat.
    """
    at, key = (lease.path, lease.key) if lease else (None, None)
    statement = "SELECT file_write(%s, %s, %s, %s, %s, %s, %s)"
    answer: Written = _asked(statement, owner.pk, namespace, path, content, at, key, event)
    if answer == "out of step" and event is not None and _is_logged(owner, namespace, path, content, event):
        return "written"
    return answer


def delete_files(owner: Owner, namespace: str, path: str, lease: Lease | None = None) -> Removed:
    """Deletes a file, or a folder with all that is in it; an empty path is everything."""
    at, key = (lease.path, lease.key) if lease else (None, None)
    answer: Removed = _asked("SELECT file_delete(%s, %s, %s, %s, %s)", owner.pk, namespace, path, at, key)
    return answer


def take_lease(
    owner: Owner, namespace: str, lease: Lease, seconds: float = LEASE, instead_of: UUID | None = None
) -> list[int] | None:
    """Takes the lock of a path for so long; None where somebody else has it or is next. Safe to repeat.

    Gives the lengths of OpenHands' markers beside the path: while the lock is held, nobody moves them. The
    lock that is held with the key `instead_of` is given back, whatever comes of it.
    """
    statement = "SELECT file_take_lease(%s, %s, %s, %s, %s, %s)"
    values = (owner.pk, namespace, lease.path, lease.key, seconds, instead_of)
    marks: list[int] | None = _asked(statement, *values)
    return marks


def keep_lease(owner: Owner, namespace: str, lease: Lease, seconds: float = LEASE) -> bool:
    """Goes on with a lock for so long; False where it may be another's by now."""
    statement = "SELECT file_keep_lease(%s, %s, %s, %s, %s)"
    return bool(_asked(statement, owner.pk, namespace, lease.path, lease.key, seconds))


def give_lease_back(owner: Owner, namespace: str, lease: Lease) -> None:
    """What is not held any more is passed over."""
    _asked("SELECT file_give_lease_back(%s, %s, %s, %s)", owner.pk, namespace, lease.path, lease.key)


def _is_logged(owner: Owner, namespace: str, path: str, content: bytes, event: int) -> bool:
    """Whether that event was written and the marker moved: its writer asks again, as no answer came."""
    folder, slash, _ = path.rpartition("/")
    there = File.objects.filter(namespace__owner=owner, namespace__name=namespace)
    marker = there.filter(path=f"{folder}{slash}.eventlog-len-{event + 1}.marker")
    return marker.exists() and there.filter(path=path, content=content).exists()


def _asked(statement: str, *values: str | int | float | bytes | UUID | None) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchone()[0]

"""Sessions: conversations."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Self
from uuid import UUID

from django.contrib.postgres.fields import DateTimeRangeField, RangeBoundary
from django.contrib.postgres.indexes import GinIndex, GistIndex
from django.db import connection, models
from django.db.models import Func, Q
from django.db.models.functions import Greatest, Least, Now, TruncSecond

from runs.models import triggers
from runs.models.access import OwnedQuerySet
from runs.models.ids import uuid7
from runs.models.owner import Owner

KEY_LENGTH = 500  # characters; an index entry of PostgreSQL has a limit

# From when to when a conversation went on; never the wrong way around, whatever its clients' clocks said.
LASTED = Func(
    Least("created_at", "started_at"),
    Greatest("created_at", "started_at", "last_activity_at", "completed_at"),
    RangeBoundary(inclusive_lower=True, inclusive_upper=True),
    function="TSTZRANGE",
    output_field=DateTimeRangeField(),
)


class SessionQuerySet(OwnedQuerySet["Session"]):
    deleted_path = "deleted_at"

    def lasting_into(self, since: datetime | None, until: datetime | None) -> Self:
        """Those that were going on at some time from `since` on and before `until`, whenever they began."""
        if since is None and until is None:
            return self
        return self.alias(lasted=LASTED).filter(lasted__overlap=(since, until))

    def named(self, words: str) -> Self:
        """Those that have each of the words in their title or key."""
        found = self
        for word in words.split():
            found = found.filter(Q(title__icontains=word) | Q(key__icontains=word))
        return found

    def open(self, owner: Owner, source: str, key: str, agent: str = "", namespace: str = "") -> "Session":
        """The session that its client calls `key` (at most KEY_LENGTH characters), made if it is new.

        Clients with a `namespace` of their own may use the same keys.

        One that was deleted is there again, without its deleted runs: what is new must not be hidden.
        """
        session, _ = self.get_or_create(
            owner=owner, source=source, namespace=namespace, key=key, defaults={"agent": agent}
        )
        if session.deleted_at is not None:
            self.filter(pk=session.pk).update(deleted_at=None, deleted_by="")
            session.deleted_at = None
        return session


class Session(models.Model):
    """A conversation: A2A's context, OpenTelemetry's `gen_ai.conversation.id`, OpenHands' conversation."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    key = models.CharField(max_length=KEY_LENGTH, help_text="Its name in the system that it comes from.")
    owner = models.ForeignKey(Owner, on_delete=models.PROTECT, related_name="sessions", db_index=False)
    namespace = models.CharField(
        max_length=255,
        blank=True,
        default="",
        db_default="",
        help_text="Whose key it is, of several clients.",
    )
    agent = models.TextField(blank=True, default="")
    source = models.CharField(max_length=50, help_text="The system that it comes from.")
    title = models.TextField(blank=True, default="")
    metadata = models.JSONField(blank=True, default=dict)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    started_at = models.DateTimeField(null=True, blank=True)
    completed_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_activity_at = models.DateTimeField(
        db_default=TruncSecond(Now()), editable=False, help_text="To the second."
    )
    deleted_at = models.DateTimeField(null=True, blank=True, editable=False)
    deleted_by = models.TextField(blank=True, default="", editable=False)
    emptied_at = models.DateTimeField(
        null=True, editable=False, help_text="When the last of its runs so far was deleted for good."
    )
    run_count = models.PositiveIntegerField(default=0, editable=False)

    objects: ClassVar = SessionQuerySet.as_manager()

    class Meta:
        db_table = "session"
        constraints = [
            models.UniqueConstraint(fields=["owner", "source", "namespace", "key"], name="session_key")
        ]
        indexes = [
            # The sessions page, of one owner and of several.
            models.Index(
                fields=["owner", "-created_at", "-id"],
                name="session_list",
                condition=Q(deleted_at__isnull=True),
            ),
            models.Index(  # retention
                fields=["expires_at", "id"], name="session_expiry", condition=Q(expires_at__isnull=False)
            ),
            models.Index(fields=["-created_at", "-id"], name="session_newest"),
            GinIndex(fields=["metadata"], name="session_metadata"),
            # lasting_into. With the deleted ones: of a partial index PostgreSQL keeps no figures.
            GistIndex(LASTED, name="session_lasted"),
            # What is to be purged: models.retention.
            models.Index(
                fields=["deleted_at", "id"], name="session_deleted", condition=Q(deleted_at__isnull=False)
            ),
            models.Index(
                fields=["owner", "emptied_at"], name="session_emptied", condition=Q(emptied_at__isnull=False)
            ),
        ]
        triggers = [
            triggers.note_choices("source"),
            triggers.tell_context(),
            triggers.alterations(
                "alterations", ["owner_id", "source", "key", "title", "agent", "created_at"]
            ),
            triggers.corrections(
                "corrections", ["metadata", "started_at", "completed_at", "expires_at", "deleted_at"]
            ),
        ]

    def __str__(self) -> str:
        return self.title or self.key


@dataclass(frozen=True, slots=True)
class Latest:
    """What a session's newest runs say of it: how the last one stands, and how they are rated.

    `rating_average` is over all `rating_count` ratings of the newest LOOKED_AT runs.
    """

    status: str
    rating_average: float | None
    rating_count: int


LOOKED_AT = 50  # runs of each session


def latest_runs(sessions: Collection[Session]) -> dict[UUID, Latest]:
    """In one statement, however many runs the sessions have; one without runs has none."""
    with connection.cursor() as cursor:
        owners = sorted({session.owner_id for session in sessions})
        cursor.execute(_LATEST, {"sessions": [session.pk for session in sessions], "owners": owners})
        return {session: Latest(*said) for session, *said in cursor.fetchall()}


_LATEST = f"""
    SELECT chosen.id, (array_agg(newest.status ORDER BY newest.created_at DESC, newest.id DESC))[1],
        sum(rating_average * rating_count) / nullif(sum(rating_count), 0), sum(rating_count)
    FROM unnest(%(sessions)s::uuid[]) AS chosen (id) CROSS JOIN LATERAL (
        SELECT id, created_at, status, rating_average, rating_count FROM run
        WHERE session_id = chosen.id AND owner_id = ANY(%(owners)s) AND deleted_at IS NULL
        ORDER BY created_at DESC, id DESC LIMIT {LOOKED_AT}
    ) AS newest GROUP BY chosen.id
"""

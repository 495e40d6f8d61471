"""Sessions: conversations."""

from typing import ClassVar

from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models.functions import Now

from runs.models import triggers
from runs.models.access import OwnedQuerySet
from runs.models.ids import uuid7
from runs.models.owner import Owner

KEY_LENGTH = 500  # characters; an index entry of PostgreSQL has a limit


class SessionQuerySet(OwnedQuerySet["Session"]):
    def open(self, owner: Owner, source: str, key: str, agent: str = "") -> "Session":
        """The session that its client calls `key` (at most KEY_LENGTH characters), made if it is new."""
        session, _ = self.get_or_create(owner=owner, source=source, key=key, defaults={"agent": agent})
        return session


class Session(models.Model):
    """A conversation: A2A's context, OpenTelemetry's `gen_ai.conversation.id`, OpenHands' conversation."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    key = models.CharField(max_length=KEY_LENGTH, help_text="Its name in the system that it comes from.")
    owner = models.ForeignKey(Owner, on_delete=models.PROTECT, related_name="sessions", db_index=False)
    agent = models.TextField(blank=True, default="")
    source = models.CharField(max_length=50, help_text="The system that it comes from.")
    title = models.TextField(blank=True, default="")
    metadata = models.JSONField(blank=True, default=dict)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    started_at = models.DateTimeField(null=True, blank=True)
    completed_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_activity_at = models.DateTimeField(db_default=Now(), editable=False)
    run_count = models.PositiveIntegerField(default=0, editable=False)

    objects: ClassVar = SessionQuerySet.as_manager()

    class Meta:
        db_table = "session"
        constraints = [models.UniqueConstraint(fields=["owner", "source", "key"], name="session_key")]
        indexes = [
            # The sessions page, of one owner and of several.
            models.Index(fields=["owner", "-created_at", "-id"], name="session_list"),
            models.Index(fields=["-created_at", "-id"], name="session_newest"),
            GinIndex(fields=["metadata"], name="session_metadata"),
        ]
        triggers = [
            triggers.alterations(
                "alterations", ["owner_id", "source", "key", "title", "agent", "created_at"]
            ),
            triggers.corrections("corrections", ["metadata", "started_at", "completed_at", "expires_at"]),
        ]

    def __str__(self) -> str:
        return self.title or self.key

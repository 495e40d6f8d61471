"""OpenHands conversations: how far the files of each are read, and where that went (issue 6, point 4)."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import ClassVar

from django.db import connection, models, transaction
from django.db.models import F
from django.db.models.functions import Now

from runs.models.access import OwnedQuerySet
from runs.models.file import FileNamespace
from runs.models.run import Run
from runs.models.session import Session

PAUSE = timedelta(milliseconds=120)  # between two looks at a conversation that is being written
ADOPTED_AT_ONCE = 1000
LONGEST_PAUSE = timedelta(minutes=5)  # after failures; doubled until then
_BRIEF = "SET LOCAL idle_in_transaction_session_timeout = '30s'; SET LOCAL lock_timeout = '2s'"


class ConversationQuerySet(OwnedQuerySet["Conversation"]):
    owner_path = "namespace__owner"


class Conversation(models.Model):
    """How far a namespace of files has been read. Without a session it has shown no conversation so far.

    `outcome` is what the last events say of how the current run goes: see runs.openhands.events.Outcome.
    """

    namespace = models.OneToOneField(
        FileNamespace, on_delete=models.CASCADE, primary_key=True, related_name="conversation"
    )
    key = models.TextField(blank=True, default="", help_text="Its id, as base_state.json has it.")
    # No foreign keys: what is deleted for good need not be looked for here.
    session_id = models.UUIDField(null=True)
    run_id = models.UUIDField(null=True, help_text="The burst of work that its last events belong to.")
    next_index = models.PositiveBigIntegerField(default=0, help_text="Of the event that is read next.")
    last_path = models.TextField(blank=True, default="", help_text="Of the event that was read last.")
    read_count = models.PositiveBigIntegerField(default=0, help_text="Event files that were read.")
    replaying = models.BooleanField(
        default=False, help_text="It is read once more from its beginning, past what is known."
    )
    damaged = models.JSONField(default=dict, help_text="Paths that could not be read, with their MD5.")
    has_acted = models.BooleanField(default=False, help_text="The agent has, in the current run.")
    outcome = models.CharField(max_length=20, blank=True, default="")
    run_began_at = models.DateTimeField(null=True)
    last_event_at = models.DateTimeField(null=True)
    response_id = models.TextField(blank=True, default="", help_text="Of the last answer of a model.")
    input_tokens = models.PositiveBigIntegerField(default=0, help_text="That its runs have been given.")
    output_tokens = models.PositiveBigIntegerField(default=0)
    cost = models.DecimalField(max_digits=14, decimal_places=6, default=0)
    looked_at = models.DateTimeField(null=True)
    due_at = models.DateTimeField(db_default=Now(), help_text="It is not looked at before.")
    failures = models.PositiveIntegerField(default=0, help_text="In a row.")
    error = models.TextField(blank=True, default="", help_text="Why the last look failed.")

    objects: ClassVar = ConversationQuerySet.as_manager()

    class Meta:
        db_table = "conversation"
        indexes = [  # whether a session is another one's already
            models.Index(fields=["session_id"], name="conversation_session")
        ]

    def __str__(self) -> str:
        return self.key or f"namespace {self.namespace_id}"

    @property
    def session(self) -> Session | None:
        if self.session_id is None:
            return None
        return Session.objects.select_related("owner").filter(pk=self.session_id).first()

    @property
    def run(self) -> Run | None:
        """As it is now: people may have cancelled or deleted it."""
        return None if self.run_id is None else Run.objects.filter(pk=self.run_id).first()


def adopt_namespaces() -> int:
    """Begins to follow the namespaces that are new; gives how many were."""
    new = FileNamespace.objects.unread().filter(conversation=None).values_list("pk", flat=True)
    rows = [Conversation(namespace_id=pk) for pk in new[:ADOPTED_AT_ONCE]]
    Conversation.objects.bulk_create(rows, ignore_conflicts=True)
    return len(rows)


@contextmanager
def next_conversation(*, newest: bool) -> Iterator[Conversation | None]:
    """A transaction that holds a conversation of which something is unread and which nobody else holds.

    The one that was written to last where `newest`, else the one that was looked at least recently: whoever
    takes them in turn neither keeps a live conversation waiting for a store that was filled long ago, nor
    the store for ever. A killed worker's is free again at once.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(_BRIEF)
        order = F("namespace__updated_at").desc() if newest else F("looked_at").asc(nulls_first=True)
        unread = Conversation.objects.filter(namespace__unread=True, due_at__lte=Now())
        held = unread.select_for_update(skip_locked=True, of=("self",)).select_related("namespace__owner")
        yield held.order_by(order, "pk").first()


def looked_at(conversation: Conversation, version: int | None) -> None:
    """Notes what was done, as part of its transaction; with `version`, that all of that version is read.

    Last of all, since whoever writes a file waits for the namespace's row.
    """
    conversation.failures, conversation.error = 0, ""
    columns = {
        field.attname: getattr(conversation, field.attname)
        for field in Conversation._meta.concrete_fields
        if field.attname not in ("namespace_id", "looked_at", "due_at")
    }
    due = Now() if version is None else Now() + PAUSE
    Conversation.objects.filter(pk=conversation.pk).update(**columns, looked_at=Now(), due_at=due)
    if version is not None:
        FileNamespace.objects.filter(pk=conversation.pk, read_version__lt=version).update(
            read_version=version
        )


def put_off(conversation: Conversation, error: str, *, is_its_fault: bool = True) -> None:
    """After a look that failed: the others go first, and it is tried again later."""
    pause = min(LONGEST_PAUSE, PAUSE * 2 ** min(conversation.failures, 20))
    failures = F("failures") + (1 if is_its_fault else 0)
    Conversation.objects.filter(pk=conversation.pk).update(
        failures=failures, error=error[:2000], looked_at=Now(), due_at=Now() + pause
    )

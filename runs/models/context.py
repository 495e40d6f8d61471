"""Contexts: what A2A agents call a session, and keep with it (issue 6, point 1; CONTRACTS.md 2.3)."""

from collections.abc import Sequence
from typing import Any, ClassVar, Self
from uuid import UUID

from django.db import IntegrityError, models, transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from runs.exact import Json, clean_text, join_exact, split_exact
from runs.models import triggers
from runs.models.access import OwnedQuerySet
from runs.models.deletion import delete_session, take_turn
from runs.models.owner import Owner
from runs.models.run import AGENT_LENGTH, Run
from runs.models.session import Session
from runs.models.status import OPEN, Status, moved

SOURCE = "a2a"
NAMESPACE_LENGTH, CALLER_LENGTH = 255, 255  # characters


class ContextQuerySet(OwnedQuerySet["Context"]):
    def current(self, namespace: str | None = None) -> Self:
        """Those that are not cleared: of one agent, or of all."""
        there = self.filter(cleared_at=None)
        return there if namespace is None else there.filter(namespace=namespace)

    def of_caller(self, caller: str | None) -> Self:
        """The caller's own; None asks for no caller."""
        return self if caller is None else self.filter(caller=caller)


class Context(models.Model):
    """What an agent calls a context: its id there, whose it is, and what the agent keeps with it."""

    session = models.OneToOneField(
        Session, on_delete=models.CASCADE, primary_key=True, related_name="context"
    )
    owner = models.ForeignKey(Owner, on_delete=models.PROTECT, related_name="contexts", db_index=False)
    namespace = models.CharField(max_length=NAMESPACE_LENGTH, blank=True, default="")
    context_id = models.UUIDField()
    caller = models.CharField(  # noqa: DJ001  None: nobody's
        max_length=CALLER_LENGTH, null=True, blank=True, help_text="Who began it, as the agent knows them."
    )
    data = models.JSONField(blank=True, default=dict)
    data_exact = models.TextField(null=True, editable=False)  # noqa: DJ001  None: data is exact
    opened_at = models.DateTimeField(
        db_default=Now(), editable=False, help_text="Since when it is there; a cleared one may come again."
    )
    cleared_at = models.DateTimeField(null=True, blank=True, editable=False)  # by a trigger of the session

    objects: ClassVar = ContextQuerySet.as_manager()

    class Meta:
        db_table = "context"
        constraints = [
            models.UniqueConstraint(fields=["owner", "namespace", "context_id"], name="context_once")
        ]
        indexes = [
            models.Index(
                fields=["owner", "namespace", "-opened_at", "-session"],
                name="context_list",
                condition=Q(cleared_at=None),
            ),
            models.Index(
                fields=["owner", "namespace", "caller", "-opened_at", "-session"],
                name="context_caller_list",
                condition=Q(cleared_at=None, caller__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"context {self.context_id}"

    @property
    def full_data(self) -> Json:
        """The data exactly as it came."""
        return join_exact(self.data, self.data_exact)


class ContextMessage(models.Model):
    """One message that an agent put into a context itself, beside those of its tasks."""

    context = models.ForeignKey(
        Context, on_delete=models.CASCADE, related_name="own_messages", db_index=False
    )
    payload = models.JSONField()
    payload_exact = models.TextField(null=True, editable=False)  # noqa: DJ001  None: payload is exact
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "context_message"
        ordering = ["context", "id"]
        indexes = [models.Index(fields=["context", "id"], name="context_message_list")]
        triggers = [triggers.append_only()]

    def __str__(self) -> str:
        return f"message {self.pk} of {self.context_id}"

    @property
    def full_payload(self) -> Json:
        return join_exact(self.payload, self.payload_exact)


def open_context(
    owner: Owner, context_id: UUID, namespace: str = "", caller: str | None = None, agent: str = ""
) -> Context:
    """The context of this id, made if it is new; whose it is stays as it began.

    One that was cleared begins anew, with its session.
    """
    found = find_context(owner, namespace, context_id)
    if found is None or found.cleared_at is not None:
        try:
            with transaction.atomic():
                return begin_context(found, owner, namespace, context_id, caller, agent)
        except IntegrityError:  # somebody else made it just now
            found = find_context(owner, namespace, context_id)
    if found is None:
        raise Context.DoesNotExist(context_id)
    return found


def find_context(owner: Owner, namespace: str, context_id: UUID) -> Context | None:
    """Also one that is cleared."""
    contexts = Context.objects.filter(owner=owner, namespace=namespace, context_id=context_id)
    return contexts.select_related("session").first()


def begin_context(
    found: Context | None, owner: Owner, namespace: str, context_id: UUID, caller: str | None, agent: str
) -> Context:
    """The context that was found, begun anew if it is cleared; or a new one. Raises IntegrityError where
    somebody else makes it at the same time."""
    if found is not None and found.cleared_at is None:
        return found
    if found is not None:  # before its session, whose trigger would say that it is there again
        anew: dict[str, Any] = {
            "cleared_at": None,
            "caller": caller,
            "data": {},
            "data_exact": None,
            "opened_at": Now(),
        }
        Context.objects.filter(pk=found.pk, cleared_at__isnull=False).update(**anew)
    session = Session.objects.open(
        owner, SOURCE, str(context_id), clean_text(agent)[:AGENT_LENGTH], namespace
    )
    if found is not None:
        found.refresh_from_db()
        return found
    return Context.objects.create(
        session=session, owner=owner, namespace=namespace, context_id=context_id, caller=caller
    )


def put_context_data(context: Context, data: dict[str, Json]) -> None:
    held, exact = split_exact(data)
    Context.objects.filter(pk=context.pk).update(data=held, data_exact=exact)


def append_context_messages(context: Context, messages: Sequence[Json]) -> None:
    """To the context's own history; those of its tasks are in theirs."""
    ContextMessage.objects.bulk_create(
        ContextMessage(context=context, payload=held, payload_exact=exact)
        for held, exact in map(split_exact, messages)
    )


def context_messages(context: Context) -> QuerySet[ContextMessage]:
    """Oldest first; not those from before it was cleared."""
    return ContextMessage.objects.filter(context=context, created_at__gte=context.opened_at).order_by("id")


def clear_context(context: Context, by: str, reason: str) -> int:
    """Puts a context away with its tasks, to be restored within the grace time; gives how many.

    Open ones end with it: what their agent still says is late. Raises ValueError without a reason.
    """
    with transaction.atomic():
        take_turn()
        # Before the session, as those do who append to them: else both would wait for each other.
        theirs = Run.objects.filter(session=context.session_id, deleted_at=None).order_by("pk")
        held = dict(theirs.select_for_update(of=("self",)).values_list("id", "status"))
        gone = delete_session(context.session, by, reason)
        still_open = [run_id for run_id, status in held.items() if status in OPEN]
        moved(Run.objects.filter(pk__in=still_open), Status.CANCELLED)
    return gone

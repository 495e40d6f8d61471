"""Where to tell about a run, and what is to be told there: the outbox (CONTRACTS.md 1.6, issue 4).

A delivery is written in the transaction that it reports: what a run's end is to tell, by a trigger, so that
no way of ending it can forget that.
"""

import json
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, ClassVar

from django.contrib.postgres.functions import RandomUUID
from django.db import connection, models
from django.db.models import Q
from django.db.models.functions import Now

from runs.exact import Json, clean_text
from runs.models.access import OfRunQuerySet
from runs.models.ids import uuid7
from runs.models.owner import Owner
from runs.models.run import Run
from runs.outgoing import host_of, same_host
from runs.redaction import redacted_url
from runs.sealing import open_sealed, seal
from runs.signing import new_secret

# What of a webhook's settings is given for one receiver.
SECRETS = ("secret", "token", "headers", "headers_from_env", "auth", "authentication")


class Webhook(models.Model):
    """One place that is told about one run. What is secret of it is sealed as a whole."""

    class Kind(models.TextChoices):
        STDOUT = "stdout"
        FILE = "file"
        HTTP = "http_webhook"
        A2A_PUSH = "a2a_push"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="webhooks", db_index=False)
    position = models.PositiveIntegerField(default=0, help_text="Its place among the spec's sinks.")
    external_id = models.TextField(blank=True, default="", help_text="By its client; empty for a sink.")
    kind = models.CharField(max_length=20, choices=Kind)
    shown = models.TextField(blank=True, default="", help_text="Where, without what is secret in it.")
    host = models.TextField(blank=True, default="", help_text="Whom a slow answer is counted against.")
    sealed = models.BinaryField(help_text="The sink: url, headers, secret and limits, encrypted.")
    partial = models.BooleanField(default=True, help_text="Results are told as they come, too.")
    told = models.PositiveBigIntegerField(
        default=0, db_default=0, editable=False, help_text="What an A2A client was told last: its sequence."
    )
    created_at = models.DateTimeField(db_default=Now())

    objects: ClassVar = OfRunQuerySet.as_manager()

    class Meta:
        db_table = "webhook"
        ordering = ["run", "position", "id"]
        constraints = [
            models.UniqueConstraint(fields=["run", "position", "external_id"], name="webhook_once"),
            models.CheckConstraint(
                condition=Q(kind__in=["stdout", "file", "http_webhook", "a2a_push"]), name="webhook_kind"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.shown}".strip()

    @property
    def settings(self) -> dict[str, Any]:
        """The sink, or the A2A client's configuration, as it was given. Raises runs.sealing.Unsealable."""
        settings: dict[str, Any] = open_sealed(bytes(self.sealed))
        return settings


# What a spec may name.
SINKS = (Webhook.Kind.STDOUT, Webhook.Kind.FILE, Webhook.Kind.HTTP)


class Delivery(models.Model):
    """One thing to be told to one webhook: at least once, in order, until its last try."""

    class State(models.TextChoices):
        WAITING = "waiting"
        DELIVERED = "delivered"
        DEAD = "dead", "Given up"

    # Ids follow the order in which things happened to a run: whoever writes one holds the run's row.
    message_id = models.UUIDField(db_default=RandomUUID(), help_text="Receivers deduplicate by it.")
    # Without constraints, whose checks cost more than the row: whoever writes one holds the run's row, and
    # purge_runs deletes them with their run.
    run = models.ForeignKey(
        Run, on_delete=models.CASCADE, related_name="deliveries", db_index=False, db_constraint=False
    )
    webhook = models.ForeignKey(
        Webhook, on_delete=models.CASCADE, related_name="deliveries", db_index=False, db_constraint=False
    )
    phase = models.CharField(max_length=20)
    body = models.TextField()
    state = models.CharField(max_length=20, choices=State, default=State.WAITING)
    tries = models.PositiveIntegerField(default=0)
    next_try_at = models.DateTimeField(db_default=Now())
    status_code = models.PositiveIntegerField(null=True)
    error = models.TextField(blank=True, default="")
    created_at = models.DateTimeField(db_default=Now())
    ended_at = models.DateTimeField(null=True)

    objects: ClassVar = OfRunQuerySet.as_manager()

    class Meta:
        db_table = "delivery"
        verbose_name_plural = "deliveries"
        ordering = ["run", "id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(state__in=["waiting", "delivered", "dead"]), name="delivery_state"
            ),
        ]
        indexes = [
            models.Index(fields=["run", "id"], name="delivery_list"),
            models.Index(fields=["next_try_at"], name="delivery_due", condition=Q(state="waiting")),
            models.Index(fields=["webhook", "id"], name="delivery_order", condition=Q(state="waiting")),
            models.Index(fields=["-id"], name="delivery_dead", condition=Q(state="dead")),
        ]

    def __str__(self) -> str:
        return f"{self.phase} to {self.webhook_id}"


# ── Recording what is to be told ───────────────────────────────────────────
def add_sinks(run: Run, sinks: Iterable[Json]) -> None:
    """The spec's sinks as webhooks of a new run; an unknown kind is passed over (CONTRACTS.md 1.6)."""
    known = [
        (place, sink)
        for place, sink in enumerate(sinks)
        if isinstance(sink, dict) and sink.get("kind") in SINKS
    ]
    Webhook.objects.bulk_create(_webhook(run, place, sink) for place, sink in known)


def _webhook(run: Run, position: int, sink: dict[str, Any]) -> Webhook:
    place = sink.get("url") if sink["kind"] == Webhook.Kind.HTTP else sink.get("path", "")
    where = place if isinstance(place, str) else ""
    is_http = sink["kind"] == Webhook.Kind.HTTP
    return Webhook(
        run=run,
        position=position,
        kind=sink["kind"],
        shown=clean_text(redacted_url(where) if is_http else where),
        host=clean_text(host_of(where)) if is_http else sink["kind"],
        sealed=seal(sink),
    )


def has_webhooks(run: Run) -> bool:
    return Webhook.objects.filter(run=run, partial=True).exists()


def tell_results(run: Run, attempt: int, results: list[Json]) -> None:
    """Records that these results are to be told; the caller holds the run's row."""
    body = {"phase": "partial", "run_id": str(run.pk), "attempt": attempt, "results": results}
    Delivery.objects.bulk_create(
        Delivery(run=run, webhook=webhook, phase="partial", body=json.dumps(body))
        for webhook in Webhook.objects.filter(run=run, partial=True).order_by("position", "id")
    )


# ── Delivering it ──────────────────────────────────────────────────────────
def claim_delivery(busy: Iterable[str], lease: timedelta) -> Delivery | None:
    """The delivery whose turn it is: due, the first of its webhook, and to nobody in `busy`.

    Nobody else takes it for `lease`; whoever dies with it has it tried again after that.
    """
    with connection.cursor() as cursor:
        cursor.execute(_CLAIM, {"busy": list(busy), "seconds": lease.total_seconds()})
        row = cursor.fetchone()
    if row is None:
        return None
    return Delivery.objects.select_related("webhook", "run__owner").get(pk=row[0])


# Later ones of a webhook that is being retried come after its pause as well: `put_off` moves them along.
_CLAIM = """
    UPDATE delivery
    SET tries = tries + 1, next_try_at = statement_timestamp() + make_interval(secs => %(seconds)s)
    WHERE id = (
        SELECT due.id FROM delivery AS due JOIN webhook ON webhook.id = due.webhook_id
        WHERE due.state = 'waiting' AND due.next_try_at <= statement_timestamp()
        AND NOT EXISTS (
            SELECT FROM delivery AS earlier
            WHERE earlier.webhook_id = due.webhook_id AND earlier.state = 'waiting' AND earlier.id < due.id
        )
        AND webhook.host <> ALL(%(busy)s)
        ORDER BY due.next_try_at LIMIT 1 FOR UPDATE OF due SKIP LOCKED
    )
    RETURNING id
"""


def delivered(delivery: Delivery, status_code: int | None = None) -> None:
    """It was taken; a reply that comes late, after another try, is as good."""
    Delivery.objects.filter(pk=delivery.pk, state=Delivery.State.WAITING).update(
        state=Delivery.State.DELIVERED, status_code=status_code, error="", ended_at=Now()
    )


def give_up(delivery: Delivery, error: str, status_code: int | None = None) -> None:
    """It is dead: people see it and may send it again. What comes after it goes on."""
    mine = Delivery.objects.filter(pk=delivery.pk, state=Delivery.State.WAITING)
    mine.update(state=Delivery.State.DEAD, status_code=status_code, error=clean_text(error), ended_at=Now())


def put_off(delivery: Delivery, pause: float, error: str, status_code: int | None = None) -> None:
    """It is tried again after `pause` seconds, and before it nothing else goes to its webhook."""
    later = Now() + timedelta(seconds=pause)
    waiting = Delivery.objects.filter(webhook=delivery.webhook_id, state=Delivery.State.WAITING)
    waiting.filter(pk=delivery.pk).update(next_try_at=later, status_code=status_code, error=clean_text(error))
    waiting.filter(pk__gt=delivery.pk).update(next_try_at=later)


def resend(delivery: Delivery) -> bool:
    """Tries a dead or delivered one again, from the first try on. False: it waits already."""
    ended = Delivery.objects.filter(pk=delivery.pk).exclude(state=Delivery.State.WAITING)
    return bool(
        ended.update(state=Delivery.State.WAITING, tries=0, next_try_at=Now(), ended_at=None, error="")
    )


def change_webhook(webhook: Webhook, settings: dict[str, Any]) -> Webhook:
    """New settings for a webhook. What is secret does not go along to another host unless given anew."""
    before = webhook.settings
    if not same_host(str(before.get("url")), str(settings.get("url"))):
        kept = {name: value for name, value in before.items() if name not in SECRETS}
    else:
        kept = before
    changed = _webhook(webhook.run, webhook.position, {**kept, **settings, "kind": webhook.kind})
    for name in ("shown", "host", "sealed"):
        setattr(webhook, name, getattr(changed, name))
    webhook.save(update_fields=["shown", "host", "sealed"])
    return webhook


def signing_secret(owner: Owner) -> str:
    """What the owner's deliveries are signed with; made when it is first needed."""
    for _ in range(2):
        sealed = Owner.objects.filter(pk=owner.pk).values_list("signing_secret", flat=True).get()
        if sealed is not None:
            return str(open_sealed(bytes(sealed)))
        Owner.objects.filter(pk=owner.pk, signing_secret=None).update(signing_secret=seal(new_secret()))
    raise RuntimeError("the signing secret was taken away while it was made")


def new_signing_secret(owner: Owner) -> str:
    """Replaces it; what is sent from now on is signed with the new one."""
    secret = new_secret()
    Owner.objects.filter(pk=owner.pk).update(signing_secret=seal(secret))
    return secret

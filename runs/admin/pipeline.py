"""The pipeline's record, to be looked at: the workers page acts on it."""

from django.contrib import admin
from django.db.models import Q

from runs.admin.corrections import ReadOnlyAdmin
from runs.admin.lists import uuid_starts
from runs.models import Attempt, Delivery, Queue, Webhook, Worker


@admin.register(Attempt)
class AttemptAdmin(ReadOnlyAdmin):
    list_display = ("id", "run", "number", "worker_id", "started_at", "ended_at", "outcome")
    list_select_related = ("run",)
    search_help_text = "Its number, or the whole id of its run."
    shown = ("run", "number", "worker_id", "started_at", "ended_at", "outcome", "reason", "doing")

    def find(self, term: str) -> Q | None:
        return super().find(term) or uuid_starts("run_id", term)


@admin.register(Webhook)
class WebhookAdmin(ReadOnlyAdmin):
    """What is secret of it stays sealed."""

    list_display = ("id", "run", "kind", "place", "created_at")
    list_select_related = ("run",)
    search_help_text = "The beginning of its id."
    payloads = ("sealed",)
    shown = ("run", "position", "external_id", "kind", "place", "host", "partial", "told", "created_at")

    @admin.display(description="where")
    def place(self, webhook: Webhook) -> str:
        return webhook.shown

    def find(self, term: str) -> Q | None:
        return uuid_starts("id", term)


@admin.register(Delivery)
class DeliveryAdmin(ReadOnlyAdmin):
    list_display = ("id", "run", "phase", "state", "tries", "next_try_at", "status_code")
    list_select_related = ("run",)
    search_help_text = "Its number."
    payloads = ("body",)
    shown = (
        *("run", "webhook", "message_id", "phase", "state", "tries", "next_try_at"),
        *("status_code", "error", "created_at", "ended_at", "body"),
    )


@admin.register(Worker)
class WorkerAdmin(ReadOnlyAdmin):
    ordering = ("name",)
    list_display = ("name", "seen_at", "places", "draining", "finished", "fenced")
    search_fields = ("name",)
    search_help_text = "Its whole name."
    shown = (
        *("name", "version", "pid", "places", "can", "started_at", "seen_at", "heartbeat"),
        *("draining", "finished", "fenced"),
    )

    def find(self, term: str) -> Q | None:
        return Q(name=term)


@admin.register(Queue)
class QueueAdmin(ReadOnlyAdmin):
    list_display = ("id", "paused_at", "paused_by", "reason")
    search_help_text = "Its number."
    shown = ("paused_at", "paused_by", "reason")

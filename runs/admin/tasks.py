"""What agents call their tasks and contexts, and the answers that are kept for them, to be looked at."""

from django.contrib import admin
from django.db.models import Q

from runs.admin.corrections import ReadOnlyAdmin
from runs.admin.lists import uuid_starts
from runs.models import Context, ContextMessage, KeptAnswer, Task


@admin.register(Task)
class TaskAdmin(ReadOnlyAdmin):
    ordering = ordering_in_run = ("-run",)
    list_display = ("task_id", "owner", "namespace", "state", "state_at", "caller", "cleared_at")
    list_select_related = ("owner",)
    search_help_text = "The beginning of its run's id."
    shown = (
        *("run", "owner", "namespace", "task_id", "context", "caller", "state", "state_at"),
        *("created_at", "cleared_at", "has_push_config"),
    )

    def find(self, term: str) -> Q | None:
        return uuid_starts("run", term)

    @admin.display(description="push configuration", boolean=True)
    def has_push_config(self, task: Task) -> bool:
        return task.push_config is not None


@admin.register(Context)
class ContextAdmin(ReadOnlyAdmin):
    ordering = ("-session",)
    list_display = ("context_id", "owner", "namespace", "caller", "opened_at", "cleared_at")
    list_select_related = ("owner",)
    search_help_text = "The beginning of its session's id."
    shown = ("session", "owner", "namespace", "context_id", "caller", "data", "opened_at", "cleared_at")

    def find(self, term: str) -> Q | None:
        return uuid_starts("session", term)


@admin.register(ContextMessage)
class ContextMessageAdmin(ReadOnlyAdmin):
    list_display = ("id", "context", "created_at")
    list_select_related = ("context",)
    search_help_text = "Its number."
    shown = ("context", "payload", "created_at")


@admin.register(KeptAnswer)
class KeptAnswerAdmin(ReadOnlyAdmin):
    list_display = ("id", "owner", "key", "status", "created_at")
    list_select_related = ("owner",)
    search_help_text = "Its number."
    shown = ("owner", "key", "status", "run", "created_at")

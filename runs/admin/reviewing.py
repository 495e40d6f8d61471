"""What people set up on the pages: views, criteria, review queues and bulk jobs."""

from django.contrib import admin
from django.db.models import Q

from runs.admin.corrections import ReadOnlyAdmin
from runs.admin.lists import BigTableAdmin, uuid_starts
from runs.models import BulkJob, Criterion, ReviewItem, ReviewQueue, SavedView


@admin.register(SavedView)
class SavedViewAdmin(BigTableAdmin):
    ordering = ("name",)
    list_display = ("name", "owner", "author", "query")
    list_select_related = ("owner", "author")
    raw_id_fields = ("owner", "author")
    search_help_text = "Its number, or its whole name."

    def find(self, term: str) -> Q | None:
        number = super().find(term)
        return Q(name=term) if number is None else Q(name=term) | number


@admin.register(Criterion)
class CriterionAdmin(BigTableAdmin):
    """Its key is in the feedback that was given on it, so it stays as it was."""

    ordering = ("owner", "position")
    list_display = ("label", "key", "owner", "position", "retired_at")
    list_select_related = ("owner",)
    raw_id_fields = ("owner",)
    search_help_text = "Its number, or its whole key."

    def find(self, term: str) -> Q | None:
        number = super().find(term)
        return Q(key=term) if number is None else Q(key=term) | number

    def get_readonly_fields(self, request: object, obj: Criterion | None = None) -> tuple[str, ...]:
        return ("owner", "key") if obj else ()


@admin.register(ReviewQueue)
class ReviewQueueAdmin(ReadOnlyAdmin):
    list_display = ("id", "name", "owner", "created_at", "closed_at")
    list_select_related = ("owner",)
    search_help_text = "Its number."
    shown = ("name", "owner", "instructions", "query", "criteria", "created_by", "created_at", "closed_at")


@admin.register(ReviewItem)
class ReviewItemAdmin(ReadOnlyAdmin):
    list_display = ("id", "queue", "run", "state", "reserved_by", "ended_by", "ended_at")
    list_select_related = ("queue", "run", "reserved_by")
    search_help_text = "Its number, or the whole id of its run."
    shown = ("queue", "run", "state", "reserved_by", "reserved_until", "ended_by", "ended_at")

    def find(self, term: str) -> Q | None:
        return super().find(term) or uuid_starts("run_id", term)


@admin.register(BulkJob)
class BulkJobAdmin(ReadOnlyAdmin):
    list_display = ("id", "action", "by", "counted", "done_count", "skipped_count", "state", "created_at")
    search_help_text = "The beginning of its id."
    shown = (
        *("action", "by", "actor", "query", "owners", "until", "reason", "options", "counted", "state"),
        *("done_count", "skipped_count", "skipped", "error", "worker_id"),
        *("created_at", "started_at", "finished_at"),
    )

    def find(self, term: str) -> Q | None:
        return uuid_starts("id", term)

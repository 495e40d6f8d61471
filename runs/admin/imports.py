"""What importers remember, to be looked at."""

from django.contrib import admin
from django.db.models import Q

from runs.admin.corrections import ReadOnlyAdmin
from runs.admin.lists import uuid_starts
from runs.models import Imported, ImportPosition


@admin.register(ImportPosition)
class ImportPositionAdmin(ReadOnlyAdmin):
    list_display = ("id", "owner", "system", "place", "part", "at", "read_count", "updated_at")
    list_select_related = ("owner",)
    search_help_text = "Its number."
    shown = ("owner", "system", "place", "part", "at", "read_count", "updated_at")


@admin.register(Imported)
class ImportedAdmin(ReadOnlyAdmin):
    ordering = ("-run_id",)
    ordering_in_run = ("-run_id",)
    list_display = ("run", "state", "messages", "artifacts", "changed_at")
    list_select_related = ("run",)
    search_help_text = "The beginning of its run's id."
    shown = ("run", "state", "messages", "artifacts", "changed_at")

    def find(self, term: str) -> Q | None:
        return uuid_starts("run_id", term)

"""What came by OpenTelemetry, to be looked at. The spans themselves are too many to be listed."""

from django.contrib import admin
from django.db.models import Q

from runs.admin.corrections import ReadOnlyAdmin
from runs.admin.lists import uuid_starts
from runs.models import Trace


@admin.register(Trace)
class TraceAdmin(ReadOnlyAdmin):
    ordering = ("-id",)
    ordering_in_run = ("-id",)
    list_display = ("trace_id", "owner", "state", "span_count", "first_span_at", "last_span_at")
    list_select_related = ("owner",)
    search_help_text = "Its run's id, or the beginning of it."
    shown = ("trace_id", "id", "owner", "state", "span_count", "rooted_at", "first_span_at", "last_span_at")

    def find(self, term: str) -> Q | None:
        return uuid_starts("id", term)

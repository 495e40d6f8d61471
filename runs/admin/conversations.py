"""How far the worker has read OpenHands' conversations, to be looked at."""

from django.contrib import admin

from runs.admin.corrections import ReadOnlyAdmin
from runs.models import Conversation


@admin.register(Conversation)
class ConversationAdmin(ReadOnlyAdmin):
    ordering = ("-namespace_id",)
    list_display = ("namespace", "key", "session_id", "next_index", "looked_at", "failures")
    list_select_related = ("namespace",)
    search_help_text = "Its number."
    shown = (
        *("namespace", "key", "session_id", "run_id", "next_index", "last_path", "read_count", "replaying"),
        *("damaged", "has_acted", "outcome", "run_began_at", "last_event_at", "response_id"),
        *("input_tokens", "output_tokens", "cost", "looked_at", "due_at", "failures", "error"),
    )

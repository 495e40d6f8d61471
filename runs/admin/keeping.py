"""What is kept, and how long: retention policies with what they would delete, and what went for good."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone

from runs.admin.corrections import ReadOnlyAdmin, names_of
from runs.admin.lists import BigTableAdmin
from runs.models import Deletion, RetentionPolicy, retention

LIMITS = ("max_age_days", "max_runs", "keep_rated")


@admin.register(RetentionPolicy)
class RetentionPolicyAdmin(BigTableAdmin):
    """A policy acts only after somebody saw what it deletes: whoever changes its limits enables it again."""

    change_form_template = "admin/retention_policy_form.html"
    ordering = ("owner", "agent")
    list_display = ("owner", "shown_agent", "limits", "enabled")
    list_select_related = ("owner",)
    raw_id_fields = ("owner",)
    search_help_text = "Its number, or the whole name of an agent or owner."

    @admin.display(description="agent")
    def shown_agent(self, policy: RetentionPolicy) -> str:
        return policy.agent or "all agents"

    def find(self, term: str) -> Q | None:
        number = super().find(term)
        named = Q(agent=term) | Q(owner__name=term)
        return named if number is None else named | number

    def get_fields(self, request: HttpRequest, obj: RetentionPolicy | None = None) -> Any:
        return ("owner", "agent", *LIMITS) if obj is None else ("owner", "agent", *LIMITS, "enabled")

    def get_readonly_fields(self, request: HttpRequest, obj: RetentionPolicy | None = None) -> Any:
        return () if obj is None else ("owner", "agent")

    def save_model(self, request: HttpRequest, obj: RetentionPolicy, form: Any, change: bool) -> None:
        if set(LIMITS) & set(form.changed_data) or not change:
            obj.enabled = False
            note = "It is not enabled yet: below is what it would delete."
            self.message_user(request, note, messages.WARNING)
        super().save_model(request, obj, form, change)

    def response_add(
        self, request: HttpRequest, obj: RetentionPolicy, post_url_continue: Any = None
    ) -> HttpResponse:
        super().response_add(request, obj, post_url_continue)  # tells that it was added
        return redirect(change_url(obj))

    def response_change(self, request: HttpRequest, obj: RetentionPolicy) -> HttpResponse:
        to_list = super().response_change(request, obj)
        return to_list if obj.enabled else redirect(change_url(obj))

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        policy = kwargs.get("obj")
        if policy is not None:
            context["due"] = retention.preview(policy, timezone.now())
        return super().render_change_form(request, context, *args, **kwargs)


@admin.register(Deletion)
class DeletionAdmin(ReadOnlyAdmin):
    list_display = ("id", "at", "owner", "actor", "reason", "runs", "sessions", "bytes")
    list_select_related = ("owner",)
    search_help_text = "Its number."
    shown = ("at", "owner", "who", "runs", "sessions", "bytes", "reason")

    @admin.display(description="by")
    def who(self, deletion: Deletion) -> str:
        return names_of({deletion.actor}).get(deletion.actor, deletion.actor)


def change_url(policy: RetentionPolicy) -> str:
    return reverse("admin:runs_retentionpolicy_change", args=[policy.pk])

"""What was recorded: sessions, runs, and what belongs to them. Corrected and deleted with a reason."""

import json
from typing import Any

from django.contrib import admin
from django.db.models import Q
from django.db.models.functions import Now
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from runs.admin.actions import RunActions, SessionActions
from runs.admin.corrections import CorrectionAdmin, CorrectionForm, ReadOnlyAdmin, names_of
from runs.admin.lists import (
    BigTableAdmin,
    DeletedFilter,
    OfOwnerAdmin,
    change_link,
    list_link,
    number_is,
    uuid_starts,
)
from runs.models import (
    FINAL,
    Artifact,
    Change,
    Event,
    Feedback,
    FeedbackVersion,
    Result,
    Run,
    Session,
    Status,
)
from runs.models.feedback import count_ratings
from runs.models.reindex import reindex_run
from runs.models.result import count_results
from runs.models.run import index_run

TITLE_SHOWN = 80  # characters


class OfRun(BigTableAdmin):
    """Tables whose rows belong to a run."""

    @admin.display(description="run")
    def run_link(self, row: Any) -> SafeString:
        return change_link(Run, row.run_id, str(row.run_id))

    def find(self, term: str) -> Q | None:
        """By its own id, or by the beginning of its run's."""
        whole, of_run = number_is("id", term), uuid_starts("run", term)
        return whole if of_run is None else of_run if whole is None else whole | of_run


class SessionForm(CorrectionForm):
    def follow_up(self) -> None:
        """A session's runs have its owner (DESIGN.md 3.12), and are found by whoever sees them."""
        runs = Run.objects.filter(session=self.instance)
        if "owner" in self.corrected:
            runs.update(owner=self.cleaned_data["owner"])
        if {"owner", "source"} & {*self.corrected}:
            for run_id in runs.values_list("pk", flat=True):
                reindex_run(run_id)


@admin.register(Session)
class SessionAdmin(SessionActions, OfOwnerAdmin, CorrectionAdmin):
    form = SessionForm
    payloads = ("metadata",)
    list_display = ("shown_title", "owner", "source", "agent", "run_count", "created_at")
    list_select_related = ("owner",)
    list_filter = (DeletedFilter, "owner")
    search_help_text = "The beginning of an id, or a whole key."
    editable = (
        *("title", "key", "source", "agent", "owner", "metadata"),
        *("started_at", "completed_at", "expires_at"),
    )
    shown = ("id", "run_count", "created_at", "last_activity_at", "deleted_at", "deleted_by", "related")

    @admin.display(description="title")
    def shown_title(self, session: Session) -> str:
        return _short(session)

    @admin.display(description="more")
    def related(self, session: Session) -> SafeString:
        return list_link(Run, "runs", session=session.pk)

    def find(self, term: str) -> Q | None:
        begins = uuid_starts("id", term)
        if begins is not None and Session.objects.filter(begins).exists():
            return begins
        return Q(key=term)

    def view_on_site(self, session: Session) -> str | None:
        return _page("session", session.pk)


class RunForm(CorrectionForm):
    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        if "status" in cleaned and "finished_at" in cleaned:
            self._check_end(cleaned)
        if "status" in self.corrected and self.instance.is_evaluation:
            self._check_queue(cleaned.get("status"))
        for name in ("session", "judged", "retried"):
            self._check_owner(name, cleaned.get(name))
        return cleaned

    def consequences(self) -> dict[str, Any]:
        """Whoever was at the run is not any more once its status was corrected."""
        columns: dict[str, Any] = {"updated_at": Now()}
        if "status" in self.corrected and self.instance.is_evaluation:
            columns.update(worker_id=None, claimed_at=None, lease_expires_at=None)
        return columns

    def follow_up(self) -> None:
        """A run is found by what is recorded now."""
        if {"title", "error", "metadata", "spec", "model", "session"} & {*self.corrected}:
            index_run(Run.objects.select_related("session").get(pk=self.instance.pk))

    def _check_end(self, cleaned: dict[str, Any]) -> None:
        status, started, finished = cleaned["status"], cleaned.get("started_at"), cleaned["finished_at"]
        final = status in FINAL
        if final and finished is None:
            self.add_error("finished_at", f"A run that is {status} needs the time it finished at.")
        elif not final and finished is not None:
            self.add_error("finished_at", f"A run that is {status} has not finished: leave this empty.")
        elif started and finished and finished < started:
            self.add_error("finished_at", "It cannot have finished before it started.")

    def _check_queue(self, status: str | None) -> None:
        if status == Status.RUNNING:
            self.add_error("status", "Only a worker makes an evaluation run: choose queued.")
        elif status == Status.QUEUED and self.instance.cancel_requested_at:
            self.add_error("status", "Its cancel was asked for: a worker would cancel it again.")

    def _check_owner(self, name: str, related: Session | Run | None) -> None:
        """A run of one owner that points at another's would show it to people who may not see it."""
        if name in self.corrected and related is not None:
            owner_id = type(related)._base_manager.values_list("owner_id", flat=True).get(pk=related.pk)
            if owner_id != self.instance.owner_id:
                self.add_error(name, "It belongs to another owner.")


@admin.register(Run)
class RunAdmin(RunActions, OfOwnerAdmin, CorrectionAdmin):
    form = RunForm
    payloads = ("spec", "spec_exact", "metadata", "summary", "error")
    list_display = ("shown_title", "status", "kind", "agent", "owner", "created_at", "score")
    list_select_related = ("owner",)
    list_filter = (DeletedFilter, "status", "kind", "owner")
    lookups = ("id__exact", "session__id__exact", "session__exact", "judged__id__exact", "retried__id__exact")
    search_help_text = "The beginning of an id, or the whole key of a session."
    editable = (
        *("title", "agent", "model", "status", "raw_status", "error", "started_at", "finished_at"),
        *("session", "judged", "retried", "summary", "metadata", "spec"),
    )
    shown = (
        *("id", "owner", "kind", "created_at", "updated_at", "attempt", "worker_id", "lease_expires_at"),
        *("cancel_requested_at", "cancel_requested_by", "cancel_reason", "cancel_acknowledged_at"),
        *("passed_count", "failed_count", "errored_count", "skipped_count", "score"),
        *("rating_average", "rating_count", "input_tokens", "output_tokens", "cost", "size"),
        *("expires_at", "deleted_at", "deleted_by", "related"),
    )

    @admin.display(description="title")
    def shown_title(self, run: Run) -> str:
        return _short(run)

    @admin.display(description="more")
    def related(self, run: Run) -> SafeString:
        counted = ((Event, f"{run.event_count} events"), (Artifact, f"{run.artifact_count} artifacts"))
        plain = ((Result, "results"), (Feedback, "feedback"), (Change, "changes"))
        links = [list_link(model, text, run=run.pk) for model, text in (*counted, *plain)]
        return format_html_join(" · ", "{}", ((link,) for link in links))

    def find(self, term: str) -> Q | None:
        begins = uuid_starts("id", term)
        if begins is not None and Run.objects.filter(begins).exists():
            return begins
        return Q(session__in=Session.objects.filter(key=term))

    def view_on_site(self, run: Run) -> str | None:
        return _page("run", run.pk)


@admin.register(Event)
class EventAdmin(OfRun, ReadOnlyAdmin):
    payloads = ("payload", "payload_exact")
    ordering_in_run = ("seq",)
    list_display = ("id", "run_link", "seq", "kind", "role", "size", "occurred_at", "created_at")
    search_help_text = "Its number, or the beginning of its run's id."
    shown = ("run_link", "seq", "kind", "role", "event_id", "size", "occurred_at", "created_at", "payload")


class ArtifactForm(CorrectionForm):
    def consequences(self) -> dict[str, Any]:
        if "parts" not in self.corrected or self.instance.content is not None:
            return {}
        return {"size": len(json.dumps(self.cleaned_data["parts"]).encode())}


@admin.register(Artifact)
class ArtifactAdmin(OfRun, CorrectionAdmin):
    form = ArtifactForm
    payloads = ("parts", "parts_exact", "content")
    list_display = ("id", "name", "artifact_id", "run_link", "media_type", "size", "created_at")
    search_help_text = "Its number, or the beginning of its run's id."
    editable = ("name", "media_type", "parts")
    shown = ("run_link", "artifact_id", "size", "created_at")


class ResultForm(CorrectionForm):
    def follow_up(self) -> None:
        count_results(self.instance.run)


@admin.register(Result)
class ResultAdmin(OfRun, CorrectionAdmin):
    form = ResultForm
    payloads = ("details", "details_exact", "question", "error")
    ordering = ("id",)  # of all runs, the only order with an index; one run's are in the order of its page
    ordering_in_run = ("created_at", "position", "id")
    list_display = ("short_id", "evaluator_name", "item_name", "run_link", "status", "score", "created_at")
    search_help_text = "The beginning of its run's id, or its own whole id."
    editable = (
        *("status", "score", "threshold", "per_invocation_scores", "error", "details"),
        *("item_name", "case_id", "question", "trace_id", "span_id", "tokens", "latency_ms"),
    )
    shown = ("id", "run_link", "item_id", "evaluator_name", "evaluator_type", "position", "created_at")

    @admin.display(description="id")
    def short_id(self, result: Result) -> str:
        return result.pk[:12]

    def find(self, term: str) -> Q | None:
        return Q(pk=term.lower()) if len(term) == 64 else uuid_starts("run", term)


class FeedbackForm(CorrectionForm):
    """Corrects what is shown; the versions stay what their author sent."""

    def consequences(self) -> dict[str, Any]:
        return {"updated_at": Now()}

    def follow_up(self) -> None:
        count_ratings(self.instance.run)


@admin.register(Feedback)
class FeedbackAdmin(OfRun, CorrectionAdmin):
    form = FeedbackForm
    payloads = ("metadata", "raw")
    list_display = ("id", "author_name", "criterion", "rating", "shown_comment", "run_link", "updated_at")
    search_help_text = "Its number, or the beginning of its run's id."
    editable = ("rating", "comment", "metadata")
    shown = ("run_link", "author", "author_name", "criterion", "raw", "created_at", "updated_at")

    @admin.display(description="comment")
    def shown_comment(self, feedback: Feedback) -> str:
        return Truncator(feedback.comment).chars(TITLE_SHOWN)


@admin.register(FeedbackVersion)
class FeedbackVersionAdmin(ReadOnlyAdmin):
    payloads = ("metadata", "raw")
    lookups = ("id__exact", "feedback__id__exact", "feedback__exact")
    list_display = ("id", "feedback_link", "rating", "created_at")
    search_help_text = "Its number."
    shown = ("feedback_link", "rating", "comment", "metadata", "raw", "created_at")

    @admin.display(description="feedback")
    def feedback_link(self, version: FeedbackVersion) -> SafeString:
        return change_link(Feedback, version.feedback_id, f"feedback {version.feedback_id}")


@admin.register(Change)
class ChangeAdmin(ReadOnlyAdmin):
    payloads = ("old", "new")
    list_display = ("id", "at", "who", "object_type", "object_id", "field", "shown_reason")
    search_help_text = "The whole id of what was corrected."
    shown = (
        *("at", "who", "reason", "object_type", "object_id", "run_id", "field", "old", "new"),
        "request_id",
    )

    @admin.display(description="by")
    def who(self, change: Change) -> str:
        return names_of({change.actor}).get(change.actor, change.actor)

    @admin.display(description="reason")
    def shown_reason(self, change: Change) -> str:
        return Truncator(change.reason).chars(TITLE_SHOWN)

    def find(self, term: str) -> Q | None:
        """By the object: its type is named too, since the index begins with it."""
        tables = [model._meta.db_table for model in (Session, Run, Artifact, Result, Feedback)]
        return Q(object_type__in=tables, object_id=term.lower())


def _short(row: Session | Run) -> str:
    return Truncator(str(row)).chars(TITLE_SHOWN)


def _page(name: str, pk: object) -> str | None:
    try:
        return reverse(name, args=[pk])
    except NoReverseMatch:
        return None

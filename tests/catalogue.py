"""Every page there is, with something on it: what the walks, axe and `make screenshots` open."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from io import StringIO

from django.core.management import call_command
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import BrowserContext, Page

from runs.models import (
    BulkJob,
    Criterion,
    Membership,
    Owner,
    ReviewQueue,
    Run,
    SavedView,
    Session,
    User,
    delete_runs,
)
from tests.serving import PASSWORD, served, sign_in


class Picks:
    """Rows of the demo that show something; the same in every month that is told with one seed."""

    @cached_property
    def task(self) -> Run:
        return Run.objects.filter(kind="task", status="succeeded", event_count__gt=3).newest_first()[0]

    @cached_property
    def long(self) -> Run:
        return Run.objects.order_by("-event_count")[0]

    @cached_property
    def judged(self) -> Run:
        return Run.objects.filter(kind="evaluation", failed_count__gt=0).newest_first()[0]

    @cached_property
    def failed(self) -> Run:
        return Run.objects.filter(kind="task", status="failed").newest_first()[0]

    @cached_property
    def cancelled(self) -> Run:
        return Run.objects.filter(status="cancelled").newest_first()[0]

    @cached_property
    def made(self) -> Run:
        return Run.objects.filter(artifact_count__gt=0).newest_first()[0]

    @cached_property
    def judged_before(self) -> Run:
        """Of the same suite."""
        same = Run.objects.filter(kind="evaluation", title=self.judged.title, passed_count__gt=0)
        return same.older_than(self.judged.created_at, self.judged.pk).newest_first()[0]

    @cached_property
    def running(self) -> Run:
        return Run.objects.filter(status="running").newest_first()[0]

    @cached_property
    def queue(self) -> ReviewQueue:
        return ReviewQueue.objects.order_by("pk")[0]

    @cached_property
    def criterion(self) -> Criterion:
        return Criterion.objects.order_by("pk")[0]

    @cached_property
    def view(self) -> SavedView:
        return SavedView.objects.order_by("pk")[0]

    @cached_property
    def job(self) -> BulkJob:
        return BulkJob.objects.order_by("pk")[0]

    @cached_property
    def session(self) -> Session:
        return Session.objects.order_by("-run_count")[0]


def _compared(of: Picks) -> str:
    return f"/compare?runs={of.judged_before.pk},{of.judged.pk}"


# The name is that of its screenshot.
PAGES: dict[str, Callable[[Picks], str]] = {
    "runs": lambda _: "/",
    "runs-filtered": lambda _: "/?q=status:failed+-kind:evaluation",
    "runs-search": lambda _: "/?q=rollback",
    "runs-nothing": lambda _: "/?q=agent:nobody",
    "runs-mistake": lambda _: "/?q=sttaus:failed+rating:9",
    "runs-peek": lambda of: f"/?peek={of.judged.pk}",
    "runs-columns": lambda _: "/?columns=run&columns=model&columns=cost&columns=created",
    "runs-export": lambda _: "/export/choose?q=status:failed",
    "runs-import": lambda _: "/import",
    "view-new": lambda _: "/views/new?q=status:failed",
    "view-change": lambda of: f"/views/{of.view.pk}",
    "bulk": lambda _: "/bulk",
    "bulk-job": lambda of: f"/bulk/{of.job.pk}",
    "deleted": lambda _: "/deleted",
    "run": lambda of: f"/runs/{of.task.pk}",
    "run-find": lambda of: f"/runs/{of.long.pk}?find=the",
    "run-metadata": lambda of: f"/runs/{of.task.pk}?tab=metadata",
    "run-cancel": lambda of: f"/runs/{of.running.pk}/cancel",
    "run-retry": lambda of: f"/runs/{of.judged.pk}/retry",
    "run-delete": lambda of: f"/runs/{of.task.pk}/delete",
    "run-long": lambda of: f"/runs/{of.long.pk}",
    "run-failed": lambda of: f"/runs/{of.failed.pk}",
    "run-cancelled": lambda of: f"/runs/{of.cancelled.pk}",
    "run-results": lambda of: f"/runs/{of.judged.pk}?tab=results",
    "run-artifacts": lambda of: f"/runs/{of.made.pk}?tab=artifacts",
    "run-spec": lambda of: f"/runs/{of.judged.pk}?tab=spec",
    "run-raw": lambda of: f"/runs/{of.task.pk}?tab=raw",
    "run-attempts": lambda of: f"/runs/{of.judged.pk}?tab=attempts",
    "run-timeline": lambda of: f"/runs/{of.judged.pk}?tab=timeline",
    "run-event": lambda of: f"/runs/{of.task.pk}/events/1",
    "run-evaluate": lambda of: f"/runs/{of.task.pk}/evaluate",
    "sessions": lambda _: "/sessions",
    "session": lambda of: f"/sessions/{of.session.pk}",
    "session-runs": lambda of: f"/sessions/{of.session.pk}?tab=runs",
    "review": lambda _: "/review",
    "review-item": lambda of: f"/review/{of.queue.pk}",
    "review-new": lambda _: "/review/new",
    "review-change": lambda of: f"/review/{of.queue.pk}/change",
    "criteria": lambda _: "/criteria",
    "criterion": lambda of: f"/criteria/{of.criterion.pk}",
    "session-evaluate": lambda of: f"/sessions/{of.session.pk}/evaluate",
    "submit": lambda _: "/submit",
    "submit-again": lambda of: f"/submit?from={of.judged.pk}",
    "submit-spec": lambda _: "/submit/spec",
    "compare": lambda of: _compared(of),
    "compare-evaluators": lambda of: f"{_compared(of)}&by=evaluator&show=all",
    "compare-answers": lambda of: f"{_compared(of)}&by=text&show=all",
    "compare-tasks": lambda of: f"/compare?runs={of.task.pk},{of.failed.pk},{of.cancelled.pk}",
    "compare-sets": lambda _: "/compare?a=before:15d&b=after:15d",
    "compare-ask": lambda _: "/compare",
    "compare-mistake": lambda _: "/compare?runs=0123,zz",
    "trends": lambda _: "/trends",
    "trends-long": lambda _: "/trends?span=90",
    "trends-nothing": lambda _: "/trends?kind=task&agent=nobody",
    "workers": lambda _: "/workers",
    "workers-pause": lambda _: "/workers/pause",
    "system": lambda _: "/system",
    "people": lambda _: "/people",
    "help": lambda _: "/help",
    "help-guide": lambda _: "/help/operate",
    "account": lambda _: "/account",
    "not-found": lambda _: "/no-such-page",
}
ADMIN: dict[str, Callable[[Picks], str]] = {
    "admin": lambda _: reverse("admin:index"),
    "admin-runs": lambda _: reverse("admin:runs_run_changelist"),
    "admin-run": lambda of: reverse("admin:runs_run_change", args=[of.task.pk]),
    "admin-owner": lambda _: reverse("admin:runs_owner_add"),
    "admin-policy": lambda _: reverse("admin:runs_retentionpolicy_add"),
}


# Nobody has signed in yet.
OUTSIDE: dict[str, Callable[[Picks], str]] = {
    "sign-in": lambda _: "/sign-in",
}


@dataclass(frozen=True)
class Scene:
    """Something that a page shows once one does something there."""

    page: str
    act: Callable[[Page], None]


SCENES: dict[str, Scene] = {
    "runs-completing": Scene("runs", lambda page: page.locator("#q").press_sequentially("status:fa")),
    "runs-chosen": Scene("runs", lambda page: page.locator("#rows [name=id]").first.check()),
    "run-delete-asked": Scene("run", lambda page: page.locator("#act-delete").click()),
    "keys": Scene("runs", lambda page: page.keyboard.press("?")),
    "more": Scene("sessions", lambda page: page.get_by_role("button", name="More", exact=True).click()),
}


@dataclass(frozen=True)
class Catalogue:
    """A furnished instance that serves at `url`."""

    url: str
    picks: Picks

    def address(self, name: str) -> str:
        return f"{self.url}{(PAGES | ADMIN | OUTSIDE)[name](self.picks)}"

    def sign_in(self, context: BrowserContext) -> None:
        page = context.new_page()
        sign_in(page, self.url, "ada")
        page.close()


@contextmanager
def furnished() -> Iterator[Catalogue]:
    """Fills the database that the settings name, and serves it from a thread of this process."""
    furnish()
    with served() as url:
        yield Catalogue(url, Picks())


def furnish() -> None:
    """A month of demo history, and Ada, who may do everything with it."""
    owner = Owner.objects.create(name="platform")
    ada = User.objects.create_superuser("ada", password=PASSWORD, first_name="Ada", last_name="Nwosu")
    Membership.objects.create(user=ada, owner=owner, role=Membership.Role.ADMIN)
    call_command("load_demo", owner="platform", rater="ada", verbosity=0, stdout=StringIO())
    _act(ada, owner)


def _act(ada: User, owner: Owner) -> None:
    """Two runs that she deleted, and how that went."""
    oldest = Run.objects.filter(rating_count=0, kind="task").order_by("created_at")[:2]
    now = timezone.now()
    gone = delete_runs(Run.objects.filter(pk__in=[run.pk for run in oldest]), ada.actor, "noise")
    BulkJob.objects.create(
        person=ada,
        actor=ada.actor,
        by=ada.display_name,
        action=BulkJob.Action.DELETE,
        query="agent:k8s-agent before:2026-10-30",
        owners=[owner.pk],
        until=now,
        reason="noise",
        counted=gone,
        done_count=gone,
        skipped={"rated": 3},
        state=BulkJob.State.DONE,
        started_at=now,
        finished_at=now,
    )

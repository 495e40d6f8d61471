"""Every page there is, with something on it: what the walks, axe and `make screenshots` open."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.management import call_command
from django.test.testcases import LiveServerThread
from django.urls import reverse
from playwright.sync_api import BrowserContext, Page

from runs.models import Membership, Owner, Run, Session, User

PASSWORD = "correct horse"


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
    def session(self) -> Session:
        return Session.objects.order_by("-run_count")[0]


# The name is that of its screenshot.
PAGES: dict[str, Callable[[Picks], str]] = {
    "runs": lambda _: "/",
    "runs-filtered": lambda _: "/?q=status:failed+-kind:evaluation",
    "runs-search": lambda _: "/?q=rollback",
    "runs-nothing": lambda _: "/?q=agent:nobody",
    "runs-mistake": lambda _: "/?q=sttaus:failed+rating:9",
    "run": lambda of: f"/runs/{of.task.pk}",
    "run-long": lambda of: f"/runs/{of.long.pk}",
    "run-failed": lambda of: f"/runs/{of.failed.pk}",
    "run-cancelled": lambda of: f"/runs/{of.cancelled.pk}",
    "run-results": lambda of: f"/runs/{of.judged.pk}?tab=results",
    "run-artifacts": lambda of: f"/runs/{of.made.pk}?tab=artifacts",
    "run-spec": lambda of: f"/runs/{of.judged.pk}?tab=spec",
    "run-raw": lambda of: f"/runs/{of.task.pk}?tab=raw",
    "run-attempts": lambda of: f"/runs/{of.judged.pk}?tab=attempts",
    "run-changes": lambda of: f"/runs/{of.judged.pk}?tab=changes",
    "run-event": lambda of: f"/runs/{of.task.pk}/events/1",
    "run-evaluate": lambda of: f"/runs/{of.task.pk}/evaluate",
    "sessions": lambda _: "/sessions",
    "session": lambda of: f"/sessions/{of.session.pk}",
    "session-evaluate": lambda of: f"/sessions/{of.session.pk}/evaluate",
    "submit": lambda _: "/submit",
    "workers": lambda _: "/workers",
    "workers-pause": lambda _: "/workers/pause",
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


@dataclass(frozen=True)
class Scene:
    """Something that a page shows once one does something there."""

    page: str
    act: Callable[[Page], None]


SCENES: dict[str, Scene] = {
    "keys": Scene("runs", lambda page: page.keyboard.press("?")),
}


@dataclass(frozen=True)
class Catalogue:
    """A furnished instance that serves at `url`."""

    url: str
    picks: Picks

    def address(self, name: str) -> str:
        return f"{self.url}{(PAGES | ADMIN)[name](self.picks)}"

    def sign_in(self, context: BrowserContext) -> None:
        page = context.new_page()
        page.goto(f"{self.url}/sign-in")
        page.get_by_label("Name").fill("ada")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(f"{self.url}/")
        page.close()


@contextmanager
def furnished() -> Iterator[Catalogue]:
    """Fills the database that the settings name, and serves it from a thread of this process."""
    furnish()
    thread = LiveServerThread("127.0.0.1", StaticFilesHandler)
    thread.daemon = True
    thread.start()
    thread.is_ready.wait()
    if thread.error:
        raise thread.error
    try:
        yield Catalogue(f"http://127.0.0.1:{thread.port}", Picks())
    finally:
        thread.terminate()


def furnish() -> None:
    """A month of demo history, and Ada, who may do everything with it."""
    owner = Owner.objects.create(name="platform")
    ada = User.objects.create_superuser("ada", password=PASSWORD, first_name="Ada", last_name="Nwosu")
    Membership.objects.create(user=ada, owner=owner, role=Membership.Role.ADMIN)
    call_command("load_demo", owner="platform", rater="ada", verbosity=0)

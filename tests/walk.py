"""Every route, called by everybody: what test_access and test_owner_condition walk."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import UUID, uuid4

from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import transaction
from django.http import HttpResponse
from django.test import Client
from django.urls import get_resolver
from django.utils import timezone

from runs.api import following
from runs.api.following import Progress
from runs.checks import views
from runs.ingest import spans_in, take_in
from runs.models import (
    OPEN,
    Artifact,
    BulkJob,
    Context,
    ContextMessage,
    Delivery,
    Event,
    Membership,
    NewEvent,
    Owner,
    Result,
    Run,
    SavedView,
    Session,
    SignInLink,
    Task,
    Token,
    User,
    Webhook,
    Worker,
    append_events,
    give_feedback,
)
from runs.models.bulk import start, undo
from runs.models.criterion import add_criterion
from runs.models.file import write_file
from runs.models.paging import Cursor
from runs.models.review import add_items, open_queue
from runs.models.task import put_push_config
from runs.query import Query
from runs.sealing import seal
from tests.api.rest import message, submission
from tests.pages.helpers import make_task, png, said
from tests.traces.spans import agent, assistant, chat, export, user
from tests.transfer.files import a_file, an_event

CANARY = "canary"  # in every text of the owner's data
_TRACE = Path(__file__).resolve().parent.parent / "samples" / "trace.json"
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
BY_TOKEN = ("/api/", "/v1/", "/a2a")  # what takes tokens, and JSON
SPEC = {
    "target": {"kind": "inline", "inline": {"data": [{"traceID": "1", "spans": []}]}},
    "evalConfig": {"evaluators": [{"type": "builtin", "name": "tool_trajectory_avg_score"}]},
}
MEMBERS = ("viewer", "reviewer", "operator", "admin")

TABS = (
    *("transcript", "results", "artifacts", "attempts", "deliveries", "timeline", "spec", "metadata", "raw"),
    *("transcript&find=canary", "transcript&before=2", "transcript&after=0", "results&view=list"),
    "timeline&before=4102444800.000000_run-1",
)

_FILE = "namespace=theirs&path=their/file"  # which errors repeat

# What else there is to see at an address.
QUERIES = {
    "/compare": ["runs={run_id},{task_id}", "a=&b=agent:x", "of={run_id}&before=eval_set"],
    "/trends": ["span=all", "owner={owner}&agent=x"],
    "/": [
        "status=queued",
        "owner={owner}",
        "not=agent&agent=x",
        "session=their-key",
        "run={run_id}",
        "q=kind:task+after:30d&columns=cost&strip=1",
        "peek={run_id}",
        "view={view_id}",
        "q=-model:x",
    ],
    "/runs/<uuid:run_id>": [f"tab={tab}" for tab in TABS],
    "/runs/<uuid:run_id>/json/<slug:part>": ["path=/spec"],
    "/runs/<uuid:run_id>/tree/<slug:part>": ["path=/spec"],
    "/runs/<uuid:run_id>/artifacts/<int:number>": ["inline"],
    "/runs/<uuid:run_id>/events/<int:seq>/files/<int:number>": ["inline"],
    "/runs/<uuid:run_id>/events/<int:seq>/body": ["result=1", "part=0"],
    "/system": [f"part={part}" for part in ("space", "due")],
    "/strip": ["q=status:failed", "q=after:30d", "q=events:>0", "q=words"],
    "/completion": ["q=agent:", "q=session:their", "q=owner:", "q=metadata.", "q=stat"],
    "/live": ["live={run_id.hex}.0&picks=1"],
    "/newer": ["after={cursor}", "after={cursor}&q=status:queued"],
    "/views/new": ["q=kind:task"],
    "/views/<int:view_id>": ["q=kind:task&columns=cost"],
    "/export": ["format=csv&columns=all", "format=jsonl", "format=jsonl&id={run_id}"],
    "/sessions": ["since=7d&before=2100-01-01&q=their&agent=x&source=api&owner=x"],
    "/sessions/<uuid:session_id>": ["tab=runs", "from=start"],
    "/submit": ["from={run_id}"],
    "/submit/spec": ["from={run_id}"],
    "/review": ["closed", "before=1000000"],
    "/review/new": ["q=kind:task"],
    "/api/tasks": ["state=submitted&limit=1", "context_id={context_id}&length=1", "caller=canary"],
    "/api/tasks/<task_id>": ["history_length=1"],
    "/api/files/content": [_FILE],
    "/api/files/names": ["namespace=theirs&path=their"],
    "/api/files/exists": [_FILE],
    "/api/files/lock": [f"{_FILE}&key={uuid4()}"],
    "/api/contexts": ["limit=1&caller=canary", "length=1"],
    "/a2a": ["namespace="],
    "/api/runs": ["status=queued&limit=1", "before=2100-01-01T00:00:00Z"],
}


@dataclass
class Visitor:
    """Somebody or something that calls: its cookies, or its token."""

    name: str
    cookies: str = ""
    secret: str = ""
    user: User | None = None

    def call(self, method: str, address: str, body: dict[str, Any] | None = None) -> HttpResponse:
        """The answer, with all that the call wrote taken back."""
        client = Client(raise_request_exception=False)
        client.cookies = SimpleCookie(self.cookies)
        headers = {"Authorization": f"Bearer {self.secret}"} if self.secret else {}
        sent: dict[str, Any] = {}
        if method in ("POST", "PUT") and address.startswith(BY_TOKEN) and not _has_file(body):
            sent = {"data": json.dumps(body), "content_type": "application/json"}
        elif method == "POST":
            sent = {"data": body or {}}
        # An export reads on the walk's own connection, which alone sees what the walk has made.
        here = mock.patch("runs.pages.export.in_one_snapshot", lambda chunks: chunks)
        # Nobody evaluates what a request would wait for, and nobody listens for ever.
        ended = mock.patch("runs.api.evaluate.follow", _ended)
        once = mock.patch("runs.api.live.looks", lambda: iter([None]))
        with transaction.atomic(), here, ended, once:
            response = getattr(client, method.lower())(address, **sent, headers=headers)
            if response.streaming:
                response = HttpResponse(response.getvalue(), status=response.status_code)
            transaction.set_rollback(True)
        return response


class World:
    """An owner with a run that has everything, and all who may call."""

    def __init__(self) -> None:
        self.owner = Owner.objects.create(name=f"{CANARY} works")
        self.elsewhere = Owner.objects.create(name="elsewhere")
        self.visitors = {one.name: one for one in (*self._people(), *self._tokens())}
        self.session = Session.objects.open(self.owner, "api", "their-key", agent=CANARY)
        self.run = self._run()
        self.task = make_task(self.owner, said(CANARY), title=CANARY, session=self.session)
        self.context = self._task_of_an_agent()
        for path in ("their/file", f"their/{CANARY}"):
            write_file(self.owner, "theirs", path, CANARY.encode())
        self._hold()
        link = SignInLink.objects.issue(User.objects.create_user("newcomer"))
        self.ids = {
            "run_id": self.run.pk,
            "task_id": self.task.pk,
            "context_id": self.context.context_id,
            "delivery_id": self._given_up().pk,
            "worker": "there/1",
            "session_id": self.session.pk,
            "job_id": self._job().pk,
            "token_id": Token.objects.get(owner=self.owner, name="canary read").pk,
            "owner_id": self.owner.pk,
            "member_id": Membership.objects.get(user=self.visitors["viewer"].user).pk,
            "slug": "search",
            "view_id": self._view().pk,
            "cursor": Cursor(timezone.now() - timedelta(days=1), self.run.pk),
            "seq": 1,
            "criterion_id": add_criterion(self.owner, CANARY, CANARY).pk,
            **self._review(),
            "number": 1,
            "part": "run",
            "secret": link,
            **self._live(),
        }
        missing = {name: uuid4() for name in ("run_id", "task_id", "context_id", "session_id", "job_id")}
        self.missing = {**self.ids, **missing, "token_id": 10**9, "worker": "nowhere/1"}
        self.missing |= {"owner_id": 10**9, "member_id": 10**9, "slug": "nowhere"}
        self.missing["delivery_id"] = 10**9
        self.missing |= {"live_key": "nowhere", "filename": "agentevals_bm93aGVyZQ.json"}
        self.missing |= dict.fromkeys(("criterion_id", "queue_id", "item_id", "view_id"), 10**9)

    def addresses(self, route: str) -> list[str]:
        """The address of the owner's own things there, alone and with each query that it understands."""
        address = fill(route, self.ids)
        queries = [query.format(owner=self.owner.pk, **self.ids) for query in QUERIES.get(route, [])]
        return [address, *(f"{address}?{query}" for query in queries)]

    def body(self, route: str) -> dict[str, Any]:
        """A form, or JSON, that the route takes where it is posted."""
        trace = SimpleUploadedFile("trace.json", _TRACE.read_bytes())
        return {
            "/api/tasks": submission(),
            "/api/tasks/bulk": {"op": "update", "task_id": str(self.ids["task_id"]), "state": "working"},
            "/api/tasks/<task_id>/updates": {"state": "working", "messages": [message()]},
            "/api/tasks/<task_id>/transition": {"from": "submitted", "to": "working"},
            "/api/contexts/<context_id>": {"data": {}},
            "/api/contexts/<context_id>/messages": {"messages": [message()]},
            "/api/runs": {"runId": str(self.missing["run_id"]), "spec": SPEC},
            "/a2a": {"jsonrpc": "2.0", "id": 1, "method": "tasks/list"},
            "/a2a/": {"jsonrpc": "2.0", "id": 1, "method": "contexts/list"},
            "/api/push": {
                "event_id": str(uuid4()), "kind": "status-update", "status": {"state": "working"},
                "task_id": str(self.missing["task_id"]), "context_id": str(self.missing["context_id"]),
            },
            "/api/evaluate": {"trace_files": trace, "config": "{}"},
            "/api/evaluate/stream": {"trace_files": trace, "config": "{}"},
            "/api/evaluate/json": {"traces": json.loads(_TRACE.read_bytes())},
            "/api/evaluate/json/stream": {"traces": json.loads(_TRACE.read_bytes())},
            "/api/convert": {"trace_files": trace},
            "/api/validate/eval-set": {"eval_set_file": trace},
            "/api/streaming/get-trace": self._of_live(),
            "/api/streaming/create-eval-set": self._of_live(eval_set_id="mine"),
            "/api/streaming/evaluate-sessions": {"golden_session_id": CANARY, "eval_set_id": "mine"},
            "/api/streaming/prepare-evaluation": {"golden_session_id": CANARY, "session_ids": [CANARY]},
            "/api/sinks/agentevals": {
                "phase": "final", "run_id": str(self.missing["run_id"]), "summary": {"agents": ["helper"]}
            },
            "/v1/traces": export(agent(1), chat(2, 1, asked=[user("hello")], said=[assistant("hello")])),
            "/v1/logs": {"resourceLogs": []},
            "/runs/<uuid:run_id>/cancel": {"reason": "why"},
            "/runs/<uuid:run_id>/force": {"reason": "why"},
            "/runs/<uuid:run_id>/retry": {"key": uuid4()},
            "/bulk/ask": {"action": "cancel", "q": "", "all": "1"},
            "/bulk/start": self._confirmed(),
            "/runs/<uuid:run_id>/feedback": {"rating": "4"},
            "/runs/<uuid:task_id>/evaluate": {"use-tool_error_rate": "on"},
            "/sessions/<uuid:session_id>/evaluate": {"use-tool_error_rate": "on"},
            "/workers/pause": {"reason": "why"},
            "/workers/<path:worker>/release": {"reason": "why"},
            "/views/new": {"name": "mine", "q": "kind:task"},
            "/views/<int:view_id>": {"name": "ours", "owner": self.owner.pk, "replace": "on"},
            "/import": {"file": SimpleUploadedFile("runs.jsonl", a_file(an_event())), "owner": self.owner.pk},
            "/submit": {"traces": trace, "owner": self.owner.pk, "use-response_match_score": "on"},
            "/submit/spec": {"spec": json.dumps(SPEC), "owner": self.owner.pk},
            "/review/new": {"owner": self.owner.pk, "name": "mine"},
            "/review/<int:queue_id>/change": {"name": "theirs"},
            "/review/<int:queue_id>/stop": {"item": self.ids["item_id"], "rating": "3"},
            "/review/<int:queue_id>/<int:item_id>": {"rating": "4", "rating-canary": "2"},
            "/criteria": {"owner": self.owner.pk, "label": "Tone"},
            "/criteria/<int:criterion_id>": {"label": "Tone"},
            "/criteria/<int:criterion_id>/move": {"to": "later"},
            "/account/password": {"new_password1": "battery-9-st", "new_password2": "battery-9-st"},
            "/account/tokens": {"name": "ci", "owner": self.owner.pk},
            "/people/<int:owner_id>/add": {
                f"add-{self.owner.pk}-username": "carol",
                f"add-{self.owner.pk}-role": "viewer",
            },
            "/people/<int:owner_id>/name": {f"name-{self.owner.pk}-name": "renamed"},
            "/people/members/<int:member_id>/role": {"role": "operator"},
        }.get(route, {})  # fmt: skip

    def _people(self) -> Iterator[Visitor]:
        yield Visitor("nobody")
        yield self._person("stranger", self.elsewhere, "admin")
        for role in MEMBERS:
            yield self._person(role, self.owner, role)
        yield self._person("superuser", is_staff=True, is_superuser=True)

    def _person(self, name: str, owner: Owner | None = None, role: str = "", **rights: bool) -> Visitor:
        user = User.objects.create_user(name, **rights)
        if owner:
            Membership.objects.create(user=user, owner=owner, role=role)
        client = Client()
        client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
        return Visitor(name, cookies=client.cookies.output(header="", sep=";"), user=user)

    def _tokens(self) -> Iterator[Visitor]:
        past = timezone.now() - timedelta(minutes=1)
        for name in ("read", "write"):
            yield Visitor(name, secret=Token.objects.issue(self.owner, f"canary {name}", [name])[1])
        yield Visitor("foreign", secret=Token.objects.issue(self.elsewhere, "foreign")[1])
        yield Visitor("expired", secret=Token.objects.issue(self.owner, "canary 3", expires_at=past)[1])
        revoked, secret = Token.objects.issue(self.owner, "canary 4")
        Token.objects.filter(pk=revoked.pk).update(revoked_at=past)
        yield Visitor("revoked", secret=secret)

    def _run(self) -> Run:
        run = Run.objects.submit(self.owner, {**SPEC, "note": CANARY}, title=CANARY, session=self.session)
        Run.objects.filter(pk=run.pk).update(agent=CANARY, model=CANARY)
        file = {"name": f"{CANARY}.png", "mimeType": "image/png", "bytes": base64.b64encode(png()).decode()}
        parts = [{"kind": "text", "text": CANARY}, {"kind": "file", "file": file}]
        append_events(run, [NewEvent(Event.Kind.MESSAGE, {"parts": parts}, role="agent")])
        Artifact.objects.create(
            id=1,
            run=run,
            artifact_id="1",
            name=CANARY,
            content=CANARY.encode(),
            media_type="text/plain",
            size=len(CANARY),
        )
        Result.objects.create(
            id="0" * 64,
            run=run,
            item_id="1",
            item_name=CANARY,
            question=CANARY,
            evaluator_name=CANARY,
            evaluator_type="builtin",
            status="errored",
            error=CANARY,
        )
        author = self.visitors["admin"].user
        assert author
        for rating in (2, 3):
            give_feedback(run, author, rating, CANARY)
        return run

    def _task_of_an_agent(self) -> Context:
        """Makes the task one that its agent knows by the same id."""
        about = {"owner": self.owner, "caller": CANARY}
        context = Context.objects.create(
            session=self.session, context_id=uuid4(), data={CANARY: CANARY}, **about
        )
        ContextMessage.objects.create(context=context, payload={"said": CANARY})
        task = Task.objects.create(run=self.task, context=context, task_id=self.task.pk, **about)
        give_feedback(
            self.task, Token.objects.get(owner=self.owner, name="canary write"), 4, raw={"f": CANARY}
        )
        put_push_config(task, {"url": CANARY})
        return context

    def _live(self) -> dict[str, str]:
        """A session of spans, and the file that is prepared of it."""
        spans = [agent(1), chat(2, 1, asked=[user("hello")], said=[assistant("hello")])]
        take_in(self.owner, spans_in(export(*spans, resource={"agentevals.session_name": CANARY})))
        return {"live_key": CANARY, "filename": "agentevals_Y2FuYXJ5.json"}

    def _of_live(self, **more: str) -> dict[str, str]:
        return {"session_id": CANARY, **more}

    def _hold(self) -> None:
        """A run whose worker fell silent."""
        past = timezone.now() - timedelta(minutes=1)
        Worker.objects.create(name="there/1", pid=1, places=1, heartbeat=1, seen_at=past)
        run = Run.objects.submit(self.owner, SPEC, title=CANARY)
        claim = {"worker_id": "there/1/1", "attempt": 1, "claimed_at": past, "lease_expires_at": past}
        Run.objects.filter(pk=run.pk).update(status="running", **claim)

    def _job(self) -> BulkJob:
        """A deletion that is done, and has its undoing."""
        person = self.visitors["admin"].user
        assert person
        about = {"until": timezone.now(), "owners": [self.owner.pk], "counted": 1, "reason": CANARY}
        job = start(person, BulkJob.Action.DELETE, Query(), **about)
        now = {"started_at": timezone.now(), "finished_at": timezone.now()}
        BulkJob.objects.filter(pk=job.pk).update(state="done", done_count=1, **now)
        undo(job)
        return job

    def _confirmed(self) -> dict[str, Any]:
        """The sheet of a cancellation of all that can be cancelled."""
        can = Run.objects.filter(owner=self.owner, status__in=OPEN, cancel_requested_at=None, deleted_at=None)
        return {
            "action": "cancel",
            "q": "",
            "until": timezone.now().isoformat(),
            "job": uuid4(),
            "counted": can.count(),
            "exact": "on",
            "reason": "why",
        }

    def _review(self) -> dict[str, int]:
        """A queue of both runs."""
        told = {"instructions": CANARY, "criteria": [CANARY]}
        queue = open_queue(self.owner, CANARY, "user:1", **told)
        add_items(queue, [self.run.pk, self.task.pk])
        return {"queue_id": queue.pk, "item_id": queue.items.get(run=self.run).pk}

    def _view(self) -> SavedView:
        author = self.visitors["admin"].user
        return SavedView.objects.create(author=author, owner=self.owner, name=CANARY, query="agent:canary")

    def _given_up(self) -> Delivery:
        """A delivery of the run."""
        hook = Webhook.objects.create(run=self.run, kind="file", shown=CANARY, sealed=seal({}))
        about = {"run": self.run, "webhook": hook, "phase": "final", "body": CANARY, "error": CANARY}
        return Delivery.objects.create(**about, state="dead", ended_at=timezone.now())


def _has_file(body: dict[str, Any] | None) -> bool:
    return any(isinstance(value, SimpleUploadedFile) for value in (body or {}).values())


def _ended(run_id: UUID, caller: Token) -> Iterator[Progress]:
    """The run as if somebody had cancelled it."""
    for progress in following.follow(run_id, caller):
        assert progress
        progress.run.status = Run.Status.CANCELLED
        yield progress


def fill(route: str, ids: dict[str, Any]) -> str:
    """The address of a route as the URLconf writes it: `<uuid:run_id>` becomes the id of that name."""
    pieces = route.split("<")
    named = (piece.partition(">") for piece in pieces[1:])
    return pieces[0] + "".join(f"{ids[name.rpartition(':')[2]]}{rest}" for name, _, rest in named)


def routes() -> list[str]:
    """Every route outside the admin."""
    return list(dict.fromkeys(f"/{route}" for route, _ in views(get_resolver())))


def taken(world: World) -> set[str]:
    """Every method that some route takes, as "GET /runs"; an admin asks, and where tokens are needed one."""
    found = set()
    for route in routes():
        visitor = world.visitors["write" if route.startswith(BY_TOKEN) else "admin"]
        for method in METHODS:
            if visitor.call(method, fill(route, world.ids), {}).status_code != 405:
                found.add(f"{method} {route}")
    return found

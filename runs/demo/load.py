"""Writes the demo's history: the same for the same seed, owner and time."""

import random
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Coalesce

from runs.demo import calendar, habits, opinions
from runs.demo.agents import AGENTS, helm, helpdesk, research, revenue
from runs.demo.agents import coding as coding_agent
from runs.demo.evaluations import Night, Suite, break_suite, run_suite, suites
from runs.demo.story import Agent, Chance, Step, Told, asks, breaks, says, told, uses
from runs.exact import Json
from runs.models import NewEvent, Owner, Run, Session, Status, Usage, User, append_events, put_artifact

TASKS = 190  # spread over the month; with the special ones and the evaluations they make about 300 runs
MARK = "demo"  # in a session's metadata: whose owner has the demo already

_HOW_BUSY = (26, 24, 30, 64, 22, 24)  # the agents' shares, in the order of AGENTS
_CHANNELS = {
    "helm-agent": "Platform releases",
    "k8s-agent": "Platform on-call",
    "research-assistant": "Research desk",
    "revenue-analyst": "Finance questions",
}
_OUTAGES = (
    ("the model's provider answered 529 overloaded five times", "overloaded"),
    ("gateway.internal did not answer within 30 s", "timeout"),
    ("the model's provider closed the stream after 0 tokens", "stream_closed"),
)


def load(owner: Owner, seed: int, now: datetime, rater: User | None = None) -> int:
    """Gives how many runs were written: 0 where the owner has the demo already.

    `rater` is somebody who wants to find some ratings of their own.
    """
    with transaction.atomic():
        # Held, so that of two loads at once the second finds what the first wrote.
        Owner.objects.select_for_update().get(pk=owner.pk)
        if Session.objects.filter(owner=owner, metadata__has_key=MARK).exists():
            return 0
        loader = _Loader(owner, seed, now, rater)
        runs = list(loader.runs())
        habits.settle(owner, loader.people, random.Random(f"{seed}/habits"), now)
        ids = [run.pk for run in runs]
        ended = Run.objects.filter(pk__in=ids, finished_at__isnull=False)
        ended.update(updated_at=Coalesce(F("finished_at"), F("created_at")))
    return len(runs)


class _Loader:
    def __init__(self, owner: Owner, seed: int, now: datetime, rater: User | None) -> None:
        self.owner, self.seed, self.now, self.rater = owner, seed, now, rater
        self.chance: Chance = random.Random(seed)
        self.ids: Chance = random.Random(f"{seed}/{owner.pk}")  # of this owner alone
        self.people = opinions.people(owner)
        self.latest: dict[str, tuple[Session, datetime]] = {}
        self.decks: dict[str, list[int]] = {}
        self.good: list[tuple[Agent, Told, Run]] = []

    def runs(self) -> Iterator[Run]:
        for part in (self._month(), self._incident(), self._conversation(), self._special(), self._nights()):
            for run in part:
                opinions.rate(run, self.people, self.chance)
                if self.rater:
                    opinions.rate_as(self.rater, run, self.ids)
                yield run
        yield from self._open()

    # ── The parts ──────────────────────────────────────────────────────────
    def _month(self) -> Iterator[Run]:
        for at in calendar.moments(self.chance, self.now, TASKS):
            agent = self.chance.choices(AGENTS, _HOW_BUSY)[0]
            story = self._tell(agent)
            run = self._task(agent, story, at)
            if story.status == Status.SUCCEEDED:
                self.good.append((agent, story, run))
            yield run

    def _incident(self) -> Iterator[Run]:
        """An afternoon on which most runs failed; some were tried again and went well."""
        began = calendar.incident(self.now)
        for number in range(24):
            agent = self.chance.choice(AGENTS)
            story = self._tell(agent)
            at = began + timedelta(minutes=7 * number + self.chance.uniform(0, 5))
            if self.chance.random() > 0.72:
                yield self._task(agent, story, at)
                continue
            failed = self._task(agent, self._cut_short(story), at)
            yield failed
            if number % 5 == 0:
                again = began + timedelta(hours=4, minutes=number)
                yield self._task(agent, story, again, session=failed.session, retried=failed)

    def _conversation(self) -> Iterator[Run]:
        """One session of many turns."""
        at = calendar.incident(self.now) - timedelta(days=1, hours=3)
        session = self._session(helpdesk.AGENT, "From the old laptop to the new one", at)
        for number in range(len(helpdesk.CONVERSATION)):
            yield self._task(helpdesk.AGENT, self._lived(helpdesk.turn(number)), at, session=session)
            at += timedelta(minutes=self.chance.uniform(3, 22))

    def _special(self) -> Iterator[Run]:
        day = calendar.incident(self.now) - timedelta(days=2, hours=4)
        yield self._task(research.AGENT, self._lived(research.survey(self.chance)), day)
        yield self._cancelled(self.now - timedelta(hours=26))

    def _cancelled(self, at: datetime) -> Run:
        question = "Rewrite every report since 2019 with the new template"
        steps = [
            asks(f"{question}, and send each to its author."),
            *uses("list_documents", {"folder": "reports", "since": 2019}, {"documents": 4_812}, 2.0),
            says(
                "These are 4,812 reports by 316 authors. I begin with the oldest and send each when it "
                "is done."
            ),
            *uses(
                "rewrite_document", {"id": "R-2019-0001", "template": "2026"}, {"ok": True, "seconds": 41}, 41
            ),
            *uses("send_mail", {"to": "author of R-2019-0001"}, {"queued": True}, 0.6),
            *uses(
                "rewrite_document", {"id": "R-2019-0002", "template": "2026"}, {"ok": True, "seconds": 44}, 44
            ),
            Step("state", "", {"to": "cancelled", "from": "running", "by": "Tomás Almeida"}, 0.2),
        ]
        story = Told(question, steps, status=Status.CANCELLED)
        asked = at + timedelta(seconds=story.seconds - 12)
        cancel: dict[str, Json] = {
            "cancel_requested_at": asked,
            "cancel_requested_by": "Tomás Almeida",
            "cancel_reason": "It mails 316 people. Only this year's reports were meant.",
            "cancel_acknowledged_at": asked + timedelta(seconds=11),
        }
        return self._task(research.AGENT, story, at, **cancel)

    def _open(self) -> Iterator[Run]:
        """What waits, runs, asks and rests while somebody looks."""
        ago = timedelta(minutes=1)
        yield self._unfinished(_WAITING, research.AGENT, Status.QUEUED, self.now - 2 * ago)
        yield self._unfinished(_RUNNING, coding_agent.AGENT, Status.RUNNING, self.now - 4 * ago)
        yield self._unfinished(_ASKING, helm.AGENT, Status.INPUT_REQUIRED, self.now - 17 * ago)
        yield self._unfinished(_PAUSED, revenue.AGENT, Status.PAUSED, self.now - 51 * ago)

    def _nights(self) -> Iterator[Run]:
        """Each night two agents' suites; in between, those that somebody started by hand."""
        chance = random.Random(f"{self.seed}/suites")
        tests = suites(AGENTS, chance)
        for number, at in enumerate(calendar.nights(self.now)):
            for offset in range(2):
                suite = tests[(2 * number + offset) % len(tests)]
                better = 0.62 + 0.012 * number  # the agents learn
                night = self._night(
                    at + timedelta(minutes=4 * offset), better, "nightly", strays=number % 4 == 0
                )
                yield run_suite(self.owner, suite, night, self.chance)
        for number, at in enumerate(calendar.moments(self.chance, self.now, 10)):
            night = self._night(at, 0.8, "pull request", judged=number % 3 == 0)
            yield run_suite(self.owner, self.chance.choice(tests), night, self.chance)
        for agent, story, judged in self.chance.sample(self.good, 6):
            at = (judged.finished_at or judged.created_at) + timedelta(minutes=self.chance.uniform(1, 6))
            night = replace(self._night(at, 0.7, "by hand"), of=judged)
            yield run_suite(self.owner, Suite(story.title, agent, [story]), night, self.chance)
        broken = ("no traces", "deadline", "lost", "cancelled", "no traces")
        moments = calendar.moments(self.chance, self.now, len(broken))
        for how, at in zip(broken, moments, strict=True):
            night = self._night(at, 0.8, "pull request")
            yield break_suite(self.owner, self.chance.choice(tests), night, how, self.chance)

    # ── Their pieces ───────────────────────────────────────────────────────
    def _night(
        self, at: datetime, quality: float, why: str, judged: bool = False, strays: bool = False
    ) -> Night:
        metadata = {"trigger": why, "commit": f"{self.chance.getrandbits(28):07x}"}
        return Night(self._id(at), at, quality, judged, int(strays), metadata)

    def _tell(self, agent: Agent) -> Told:
        """The agent's scenarios in shuffled order, each once before any comes again."""
        deck = self.decks.setdefault(agent.name, [])
        if not deck:
            deck.extend(self.chance.sample(range(len(agent.scenarios)), len(agent.scenarios)))
        return self._lived(agent.scenarios[deck.pop()](self.chance))

    def _cut_short(self, story: Told) -> Told:
        """The run as it went when its model or its tools did not answer."""
        message, code = self.chance.choice(_OUTAGES)
        done = story.steps[: 1 + 2 * self.chance.randrange(2)]
        waited = replace(breaks(message, code), seconds=self.chance.uniform(28, 95))
        return replace(story, steps=[*done, waited], made=(), status=Status.FAILED, error=message)

    def _task(
        self, agent: Agent, story: Told, at: datetime, session: Session | None = None, **columns: Json
    ) -> Run:
        started = at + timedelta(seconds=self.chance.uniform(0.1, 4))
        columns = {
            "started_at": started,
            # Added step by step, as the events are: rounded otherwise, the last would come after the end.
            "finished_at": sum((timedelta(seconds=step.seconds) for step in story.steps), started),
            **columns,
        }
        session = session or self._session_for(agent, story, at)
        run = self._keep(agent, story, at, session, columns)
        for number, made in enumerate(story.made, 1):
            name = f"artifact-{number}"
            put_artifact(
                run,
                name,
                made.name,
                made.parts,
                content=made.content,
                media_type=made.media_type,
                past=True,
            )
        return run

    def _lived(self, story: Told) -> Told:
        """No two steps take the same time, as told by its scenario."""
        steps = [replace(step, seconds=step.seconds * self.chance.uniform(0.6, 1.7)) for step in story.steps]
        return replace(story, steps=steps)

    def _unfinished(self, story: Told, agent: Agent, status: Status, at: datetime) -> Run:
        started = None if status == Status.QUEUED else at + timedelta(seconds=2)
        session = self._session(agent, self._session_title(agent, story, at), at)
        return self._keep(agent, replace(story, status=status), at, session, {"started_at": started})

    def _keep(
        self, agent: Agent, story: Told, at: datetime, session: Session, columns: dict[str, Json]
    ) -> Run:
        run = Run.objects.record_past(
            self.owner,
            story.status,
            at,
            id=self._id(at),
            kind=Run.Kind.TASK,
            session=session,
            agent=agent.name,
            model=agent.model,
            title=story.title,
            raw_status=agent.raw.get(story.status, ""),
            error=story.error,
            metadata=story.metadata,
            **columns,
        )
        events = self._events(agent, story.steps, columns.get("started_at") or at)
        append_events(run, list(events), past=True)
        run.refresh_from_db(fields=["event_count"])
        return run

    def _events(self, agent: Agent, steps: Iterable[Step], at: datetime) -> Iterator[NewEvent]:
        call_id, said = "", 0
        for step in steps:
            about: dict[str, Json] = (
                {"duration_ms": round(step.seconds * 1000)} if step.role != "user" else {}
            )
            if step.kind == "tool_call":
                call_id = f"call_{self.chance.getrandbits(40):010x}"
            if step.kind in ("tool_call", "tool_result"):
                about["call_id"] = call_id
            if step.role == "agent" and step.kind != "error":
                about |= {"model": agent.model, "tokens": 180 + len(str(step.payload)) // 3}
            at += timedelta(seconds=step.seconds)
            payload = {**step.payload, **about}
            yield NewEvent(step.kind, payload, step.role, occurred_at=at, usage=_usage(step, said))
            said += len(str(step.payload))

    def _session_for(self, agent: Agent, story: Told, at: datetime) -> Session:
        """Some runs go on where the one before stopped; a ticket is a session of its own."""
        session, before = self.latest.get(agent.name, (None, at))
        soon = timedelta(0) <= at - before < timedelta(hours=5)
        if session is None or agent is helpdesk.AGENT or not soon or self.chance.random() < 0.55:
            session = self._session(agent, self._session_title(agent, story, at), at)
        self.latest[agent.name] = (session, at)
        return session

    def _session_title(self, agent: Agent, story: Told, at: datetime) -> str:
        """What its system would call it: a ticket, an issue, a channel."""
        if "ticket" in story.metadata:
            return f"Ticket {story.metadata['ticket']}"
        if "repository" in story.metadata:
            return f"{story.metadata['repository']} #{self.chance.randint(180, 990)}"
        return f"{_CHANNELS.get(agent.name, agent.name)}, {at:%a} {at.day} {at:%b}"

    def _session(self, agent: Agent, title: str, at: datetime) -> Session:
        number = self._id(at)
        key = {"otlp": f"conv-{number.hex[-8:]}", "api": f"desk-{number.hex[-6:]}"}.get(
            agent.source, str(number)
        )
        return Session.objects.create(
            id=number,
            key=key,
            owner=self.owner,
            agent=agent.name,
            source=agent.source,
            title=title,
            metadata={MARK: self.seed},
            created_at=at,
            started_at=at,
            last_activity_at=at,
        )

    def _id(self, at: datetime) -> UUID:
        """An id as `uuid7` makes it, of its own time."""
        number = (int(at.timestamp() * 1000) << 80) | self.ids.getrandbits(80)
        number = number & ~(0xF << 76) | (0x7 << 76)
        return UUID(int=number & ~(0x3 << 62) | (0x2 << 62))


def _usage(step: Step, said: int) -> Usage:
    """What a step of the agent would cost: all that was said, of that many characters, goes in again."""
    if step.role != "agent":
        return Usage()
    tokens_in, tokens_out = 420 + said // 4, len(str(step.payload)) // 4
    return Usage(tokens_in, tokens_out, Decimal(tokens_in * 3 + tokens_out * 15) / 1_000_000)


_WAITING = told(
    "Read the 340 answers of the staff survey and group what people ask for",
    asks("Read the answers to question 7 of the survey and group what people ask for. Quote nobody by name."),
)
_RUNNING = told(
    "Move the session store of web-shop from files to PostgreSQL",
    asks("Move the session store to PostgreSQL. Nobody must be signed out by it."),
    uses(
        "grep",
        {"pattern": "SessionStore", "path": "."},
        "shop/sessions.py:12: class FileSessionStore(Store):",
    ),
    says(
        "One class implements it, and two tests use it. I add the new one beside it and read from both "
        "at first."
    ),
    uses(
        "apply_patch",
        {"files": ["shop/sessions.py", "migrations/0042_session.sql"]},
        {"files": 2, "added": 87},
    ),
    Step("tool_call", "agent", {"name": "run", "arguments": {"command": "make test"}}, 0.7),
    metadata={"repository": "web-shop", "branch": "session-store"},
)
_ASKING = told(
    "Upgrade opensearch in search to 2.31.0",
    asks("Upgrade opensearch in search to 2.31.0, please."),
    uses(
        "helm_diff_upgrade",
        {"name": "opensearch", "version": "2.31.0"},
        "+ persistence.size: 200Gi\n- persistence.size: 100Gi",
    ),
    says(
        "This upgrade doubles the volumes and cannot be undone by a rollback. Shall I go on, or keep "
        "them at 100 GiB?"
    ),
)
_PAUSED = told(
    "Recalculate the VAT of all invoices since January",
    asks("Recalculate the VAT of all invoices since January with the corrected rates, in batches."),
    uses("run_sql", {"sql": "SELECT count(*) FROM invoice WHERE year = 2026"}, {"rows": [[48_211]]}, 1.2),
    uses("recalculate", {"batch": 1, "size": 5_000}, {"changed": 112, "difference_eur": "-418.20"}, 48.0),
    says(
        "The first of ten batches changed 112 invoices by −418.20 € in all. I pause here, as agreed, "
        "until you have looked."
    ),
)

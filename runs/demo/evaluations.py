"""Evaluations of the demo's agents, judged by the real evaluators on traces of their own."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from runs.demo import traces
from runs.demo.story import Agent, Chance, Told
from runs.evaluators import Evaluation, parse_eval_set, validate_eval_config
from runs.exact import Json
from runs.models import Attempt, Owner, Run, Status, append_events
from runs.models.queue import CANCELLED, DEADLINE, LAST_LEASE_LOST
from runs.models.result import record_results
from runs.submission import normalised_spec
from runs.traces import Group, TraceError, read_traces
from runs.worker.execute import new_event, result_of
from runs.worker.history import events_of

_TRAJECTORY: dict[str, Json] = {"type": "builtin", "name": "tool_trajectory_avg_score", "threshold": 1.0}
_WORDS: dict[str, Json] = {"type": "builtin", "name": "response_match_score", "threshold": 0.7}
_JUDGE: dict[str, Json] = {"type": "builtin", "name": "hallucinations_v1", "threshold": 0.8}


@dataclass(frozen=True, slots=True)
class Suite:
    """What an agent is tested with: cases of its own scenarios, the same every night."""

    name: str
    agent: Agent
    cases: Sequence[Told]
    loose: bool = False
    """Other calls may come in between."""

    def evaluators(self, judged: bool) -> list[dict[str, Json]]:
        trajectory = {**_TRAJECTORY, "trajectoryMatchType": "IN_ORDER" if self.loose else "EXACT"}
        return [trajectory, _WORDS, *([_JUDGE] if judged else [])]


def suites(agents: Sequence[Agent], chance: Chance) -> list[Suite]:
    """One for each agent; its cases are those that end well."""
    found = []
    for agent in agents:
        told = [scenario(chance) for scenario in agent.scenarios]
        cases = [run for run in told if run.status == Status.SUCCEEDED][:8]
        found.append(Suite(f"{agent.name} regression", agent, cases, loose=agent.source == "openhands"))
    return found


@dataclass(frozen=True, slots=True)
class Night:
    """One run of a suite: when, how good the agent was, and what else is to be known."""

    run_id: UUID
    at: datetime
    quality: float
    """The share of cases that go as they should."""
    judged: bool = False
    strays: int = 0
    """Traces that no case is about."""
    metadata: dict[str, Json] | None = None
    of: Run | None = None
    """The one run that is judged, where it is no suite."""


def run_suite(owner: Owner, suite: Suite, night: Night, chance: Chance) -> Run:
    """Executes the suite and keeps it as it would have been kept that night."""
    spec = _spec(suite, night, chance)
    groups, evaluation = _evaluation(night.run_id, spec)
    outcomes = [replace(one, latency_ms=chance.randint(2, 48)) for one in evaluation.results(groups)]
    run = _keep(owner, suite, night, spec, chance, status=Status.SUCCEEDED, summary=evaluation.summary())
    _describe(run, groups)
    results = [result_of(run.pk, outcome) for outcome in outcomes]
    for number, result in enumerate(results):
        result.created_at = night.at + timedelta(seconds=2, milliseconds=40 * number)
    record_results(run, results)
    return run


def break_suite(owner: Owner, suite: Suite, night: Night, how: str, chance: Chance) -> Run:
    """Keeps an evaluation that came to nothing: `how` is "no traces", "deadline", "lost" or "cancelled"."""
    spec = _spec(suite, night, chance)
    if how == "no traces":
        spec["target"]["inline"] = {"error": "trace not found", "status": 404}
        return _keep(owner, suite, night, spec, chance, status=Status.FAILED, error=_complaint(spec))
    if how == "deadline":
        return _keep(owner, suite, night, spec, chance, status=Status.FAILED, error=DEADLINE, took=300.0)
    if how == "lost":
        lost = {"attempt": 3, "worker_id": "worker-2/9f31c07a/4"}
        return _keep(
            owner, suite, night, spec, chance, status=Status.FAILED, error=LAST_LEASE_LOST, took=94.0, **lost
        )
    asked = {
        "cancel_requested_at": night.at + timedelta(seconds=9),
        "cancel_requested_by": "Olena Kovalenko",
        "cancel_reason": "Started with last week's eval set by mistake",
        "cancel_acknowledged_at": night.at + timedelta(seconds=10),
    }
    return _keep(
        owner, suite, night, spec, chance, status=Status.CANCELLED, error=CANCELLED, took=10.0, **asked
    )


def _spec(suite: Suite, night: Night, chance: Chance) -> dict[str, Json]:
    went = [run if chance.random() < night.quality else traces.gone_wrong(run, chance) for run in suite.cases]
    strays = [suite.agent.scenarios[number](chance) for number in range(night.strays)]
    document = traces.document(suite.agent, [*went, *strays], night.at - timedelta(hours=1), chance)
    return normalised_spec(
        {
            "target": {"kind": "inline", "inline": document, "traceFormat": "otlp-json"},
            "evalSet": traces.eval_set(suite.name, suite.cases),
            "evalConfig": {"evaluators": suite.evaluators(night.judged)},
        }
    )


def _evaluation(run_id: UUID, spec: dict[str, Json]) -> tuple[list[Group], Evaluation]:
    params = validate_eval_config(spec["evalConfig"])
    evaluation = Evaluation(run_id, params, parse_eval_set(spec["evalSet"]))
    return evaluation.groups_of(read_traces(spec["target"]["inline"])), evaluation


def _complaint(spec: dict[str, Json]) -> str:
    """What the reader of traces says of this document."""
    try:
        read_traces(spec["target"]["inline"])
    except TraceError as error:
        return str(error)
    return "the document has no traces"


def _keep(
    owner: Owner,
    suite: Suite,
    night: Night,
    spec: dict[str, Json],
    chance: Chance,
    took: float = 0.0,
    **columns: Json,
) -> Run:
    started = night.at + timedelta(seconds=chance.uniform(0.2, 2.0))
    finished = started + timedelta(seconds=took or chance.uniform(2.5, 21))
    count = len(spec["evalConfig"]["evaluators"])
    run = Run.objects.record_past(
        owner,
        created_at=night.at,
        id=night.run_id,
        kind=Run.Kind.EVALUATION,
        agent=suite.agent.name,
        title=f"{suite.name} × {count} evaluators",
        spec=spec,
        metadata=night.metadata or {},
        judged=night.of,
        session=night.of and night.of.session,
        started_at=started,
        finished_at=finished,
        **{"attempt": 1, **columns},
    )
    Attempt.objects.bulk_create(_attempts(run, chance))
    return run


def _attempts(run: Run, chance: Chance) -> list[Attempt]:
    """One after the other, each by some worker; all but the last were lost."""
    began, ended_at = run.started_at, run.finished_at
    assert began is not None and ended_at is not None  # noqa: S101  it is made so above
    each = (ended_at - began) / run.attempt
    lost = (Attempt.Outcome.LOST, "no heartbeat until its lease expired")
    ended = lost if run.error == LAST_LEASE_LOST else (run.status, run.error or "")
    return [
        Attempt(
            run=run,
            owner_id=run.owner_id,
            number=number,
            worker_id=run.worker_id or f"worker-{chance.randint(1, 3)}/{chance.getrandbits(32):08x}/{number}",
            started_at=began + each * (number - 1),
            ended_at=began + each * number,
            outcome=(ended if number == run.attempt else lost)[0],
            reason=(ended if number == run.attempt else lost)[1],
        )
        for number in range(1, run.attempt + 1)
    ]


def _describe(run: Run, groups: Sequence[Group]) -> None:
    """What the worker tells of the traces: their history and their model."""
    append_events(run, [new_event(told) for told in events_of(groups)], past=True)
    models = dict.fromkeys(model for group in groups for turn in group.turns for model in turn.models)
    Run.objects.filter(pk=run.pk).update(model=", ".join(models))

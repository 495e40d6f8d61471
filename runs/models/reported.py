"""Evaluations that somebody else executes and reports as they go (issue 6, point 6).

They are history from elsewhere: no worker of ours claims them, retries them or sweeps them. What says so is
their worker, who keeps them for good; the lease that a running evaluation must have never ends.
"""

from collections.abc import Sequence
from datetime import timedelta
from uuid import NAMESPACE_URL, UUID, uuid5

from django.db import IntegrityError, transaction
from django.utils import timezone

from runs.exact import Json, clean_text, split_exact
from runs.models.event import Event, NewEvent, append_events
from runs.models.owner import Owner
from runs.models.result import Result, record_results
from runs.models.run import AGENT_LENGTH, Run, index_run
from runs.models.status import Status, moved

REPORTER = "agentevals"  # no worker of ours: their names have a host and a number
_FOR_EVER = timedelta(days=100 * 365)


class Gone(LookupError):
    """The run was deleted here; what is reported of it is not kept."""


def reported_run(owner: Owner, run_id: UUID, spec: dict[str, Json], attempt: int) -> Run:
    """The owner's run that is reported under this id, its row held; begun where it is new.

    It has the id itself, unless another run has that; then one that follows from both. Raises Gone.
    Call it in a transaction.
    """
    for candidate in (run_id, derived_id(owner, run_id)):
        run = _held(owner, candidate) or _begun(owner, candidate, spec, attempt)
        if run is None or not _is_reported(run):
            continue
        if run.deleted_at is not None:
            raise Gone(f"run {run_id} was deleted")
        return run
    raise Gone(f"the id {run_id} is taken")


def derived_id(owner: Owner, run_id: UUID) -> UUID:
    return uuid5(NAMESPACE_URL, f"runfolio:reported:{owner.pk}:{run_id}")


def take_results(run: Run, results: Sequence[Result], attempt: int) -> None:
    """Keeps results of a run whose row is held, each once; of one that is told twice, the last.

    What comes late (after the end, or of an attempt before the latest) adds what is missing and changes
    nothing that is there.
    """
    results = list({result.pk: result for result in results}.values())
    if run.is_final or attempt < run.attempt:
        known = set(Result.objects.filter(run=run).values_list("pk", flat=True))
        results = [result for result in results if result.pk not in known]
    elif attempt > run.attempt:
        Run.objects.filter(pk=run.pk).update(attempt=attempt)
    if results:
        record_results(run, results)


def end_reported(
    run: Run,
    status: Status,
    *,
    attempt: int,
    summary: dict[str, Json] | None = None,
    error: str | None = None,
    agent: str = "",
    model: str = "",
) -> bool:
    """Ends a run whose row is held. False: it had ended before; an end that differs is noted as late."""
    if run.is_final:
        if status != run.status:
            step = {"to": status.value, "error": error, "by": REPORTER}
            event = {key: value for key, value in step.items() if value}
            append_events(run, [NewEvent(Event.Kind.STATE, event, event_id=f"{REPORTER}:{attempt}:{status}")])
        return False
    moved(
        Run.objects.filter(pk=run.pk),
        status,
        attempt=max(attempt, run.attempt),
        summary=split_exact(summary)[0],
        error=None if error is None else clean_text(error),
        agent=clean_text(agent)[:AGENT_LENGTH],
        model=clean_text(model)[:AGENT_LENGTH],
        lease_expires_at=None,
    )
    run.refresh_from_db()
    index_run(run)
    return True


def _held(owner: Owner, run_id: UUID) -> Run | None:
    rows = Run.objects.filter(owner=owner, pk=run_id).select_for_update(of=("self",))
    return rows.defer("spec", "spec_exact", "secrets").first()


def _begun(owner: Owner, run_id: UUID, spec: dict[str, Json], attempt: int) -> Run | None:
    """None where the id is taken by another owner; one that began at the same moment is taken up."""
    now = timezone.now()
    try:
        with transaction.atomic():
            Run.objects.record_past(
                owner,
                Status.RUNNING,
                created_at=now,
                id=run_id,
                kind=Run.Kind.EVALUATION,
                spec=spec,
                title=f"Evaluated by {REPORTER}",
                attempt=attempt,
                worker_id=REPORTER,
                claimed_at=now,
                lease_expires_at=now + _FOR_EVER,
                started_at=now,
            )
    except IntegrityError:
        pass
    return _held(owner, run_id)


def _is_reported(run: Run) -> bool:
    return run.is_evaluation and run.worker_id == REPORTER

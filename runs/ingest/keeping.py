"""Keeping what came: new traces in bulk, those that are there already one by one.

One transaction for an export, few statements, and locks in one order: traces and their runs by their ids,
the sessions that these are in, then those that begin by their keys. Two exports that have traces of both
kinds may wait for each other in a circle all the same: one of them is tried again.
"""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import IntegrityError, OperationalError, connection, transaction
from django.db.models.functions import Now
from django.utils import timezone
from psycopg.errors import DeadlockDetected

from runs.ingest.arrivals import MOST_SPANS, TOO_MANY, Arrival, Export, joined, merged, without
from runs.ingest.retelling import retell
from runs.ingest.sessions import sessions_for
from runs.ingest.telling import Told, tell
from runs.ingest.writing import NewRun, block_for, write_docs, write_runs
from runs.models import Owner, Run
from runs.models.copying import copying
from runs.models.span import IDLE_AFTER, SpanBatch, Trace, id_of, read_batch

ID_TAKEN = "the id of its run is taken"
WAITING_FOR = timedelta(days=1)  # for an agent's span in a trace that has none so far
type Begun = dict[UUID, Arrival]  # what came of traces whose runs begin
_AT_ONCE = 100  # traces that upkeep closes in one transaction
_TRIES = 5  # of a transaction that met another one


class _Gone(Exception):
    """A trace that was there a moment ago is there no more: it was forgotten, or purged with its run."""


def take_in(owner: Owner, export: Export) -> None:
    """Keeps what an export has of each trace; what is refused here is added to `export.refused`.

    Spans that are there already are passed over, so that an export may be sent again.
    """
    arrivals = {id_of(owner, one.trace_id): one for one in export.arrivals}
    refused = dict(export.refused)
    for left in reversed(range(_TRIES)):
        try:
            _take_in(owner, arrivals, export)
            return
        except (IntegrityError, OperationalError, _Gone) as error:
            if not left or (isinstance(error, OperationalError) and not _is_deadlock(error)):
                raise
        export.refused = dict(refused)  # the next try refuses anew
        for pk in _taken(arrivals):
            export.refuse(ID_TAKEN, arrivals.pop(pk).number)
        refused = dict(export.refused)


def _is_deadlock(error: OperationalError) -> bool:
    return isinstance(error.__cause__, DeadlockDetected)


def _take_in(owner: Owner, arrivals: dict[UUID, Arrival], export: Export) -> None:
    if not arrivals:
        return
    with transaction.atomic():
        new = _note(owner, arrivals)
        begun = {pk: one for pk, one in arrivals.items() if one.is_agents and pk in new}
        _keep_batches((pk, 1, arrivals[pk]) for pk in new)
        if len(new) < len(arrivals):
            begun |= _merge(owner, {pk: one for pk, one in arrivals.items() if pk not in new}, export)
        if begun:
            _begin(owner, begun)


def close_idle(owner: Owner) -> int:
    """Ends runs of the owner whose traces got no span for 30 s; gives how many, 0 when there are no more."""
    with transaction.atomic():
        idle = Trace.objects.select_for_update(skip_locked=True).filter(
            owner=owner, state=Trace.State.OPEN, last_span_at__lt=Now() - IDLE_AFTER
        )
        traces = list(idle.order_by("last_span_at")[:_AT_ONCE])
        for trace in traces:
            told = tell(_known(owner, trace), timezone.now())
            _house(owner, trace.pk, told)
            retell(owner, trace, told, ended=True, idle=True)
        Trace.objects.filter(owner=owner, pk__in=[trace.pk for trace in traces]).update(
            state=Trace.State.CLOSED
        )
    return len(traces)


def forget_waiting(owner: Owner) -> int:
    """Drops traces of the owner that have had nothing of an agent for a day; gives how many."""
    with transaction.atomic():
        old = Trace.objects.select_for_update(skip_locked=True).filter(
            owner=owner, state=Trace.State.WAITING, last_span_at__lt=Now() - WAITING_FOR
        )
        doomed = list(old.order_by("last_span_at").values_list("pk", flat=True)[: _AT_ONCE * 10])
        SpanBatch.objects.filter(trace__owner=owner, trace__in=doomed).delete()
        Trace.objects.filter(owner=owner, pk__in=doomed).delete()
    return len(doomed)


# ── New traces ─────────────────────────────────────────────────────────────
def _note(owner: Owner, arrivals: dict[UUID, Arrival]) -> set[UUID]:
    """Makes the rows of traces that are not there; gives which these are."""
    ordered = sorted(arrivals.items())
    parameters: dict[str, Any] = {
        "owner": owner.pk,
        "ids": _array(pk.hex for pk, _ in ordered),
        "traces": _array(one.trace_id for _, one in ordered),
        "states": _array(_state(one) for _, one in ordered),
        "counts": _array(len(one.spans) for _, one in ordered),
        "rooted": _array(one.has_root for _, one in ordered),
    }
    with connection.cursor() as cursor:
        cursor.execute(_NOTE, parameters)
        return {pk for (pk,) in cursor.fetchall()}


_NOTE = """
    INSERT INTO trace (id, owner_id, trace_id, state, span_count, rooted_at)
    SELECT id, %(owner)s, trace_id, state, span_count, CASE WHEN rooted THEN statement_timestamp() END
    FROM unnest(
        %(ids)s::uuid[], %(traces)s::text[], %(states)s::text[], %(counts)s::integer[], %(rooted)s::boolean[]
    ) AS told (id, trace_id, state, span_count, rooted)
    ON CONFLICT (id) DO NOTHING RETURNING id
"""


def _array(values: Iterable[object]) -> str:
    """As PostgreSQL writes an array of plain words: psycopg takes longer over hundreds of values."""
    return f"{{{','.join(map(str, values))}}}"


def _state(arrival: Arrival) -> str:
    if not arrival.is_agents:
        return Trace.State.WAITING
    return Trace.State.CLOSED if arrival.has_root else Trace.State.OPEN


def _keep_batches(batches: Iterable[tuple[UUID, int, Arrival]]) -> None:
    with copying(_BATCHES) as copy:
        for pk, number, arrival in batches:
            copy.write_row((pk.hex, number, arrival.is_protobuf, arrival.document))


_BATCHES = "COPY span_batch (trace_id, number, is_protobuf, document) FROM STDIN"


def _begin(owner: Owner, begun: Begun) -> None:
    """Runs for these traces. Those that began first come first, as the turns of one session do."""
    now, block = timezone.now(), block_for(owner, len(begun))
    told = (NewRun(pk, tell(one, now), one.has_root) for pk, one in begun.items())
    runs = write_docs(owner, block, told)
    runs.sort(key=lambda run: (run.told.started_at or now, run.pk))
    housed = [run for run in runs if run.is_housed]
    for run, session in zip(housed, sessions_for(owner, [run.told for run in housed]), strict=True):
        run.session = session
    write_runs(owner, block, runs, now)


def _taken(arrivals: dict[UUID, Arrival]) -> set[UUID]:
    """Ids of runs that somebody else chose, against all odds: no trace of ours has them."""
    ours = Trace.objects.filter(pk__in=list(arrivals)).values_list("pk", flat=True)
    runs = Run.objects.filter(pk__in=list(arrivals)).values_list("pk", flat=True)
    return set(runs) - set(ours)


# ── Traces that are there ──────────────────────────────────────────────────
def _merge(owner: Owner, arrivals: dict[UUID, Arrival], export: Export) -> Begun:
    """Adds what is new to these traces, and tells their runs anew; gives those whose runs begin only now."""
    held = list(Trace.objects.select_for_update().filter(owner=owner, pk__in=list(arrivals)).order_by("pk"))
    if len(held) < len(arrivals):
        raise _Gone
    with connection.cursor() as cursor:
        cursor.execute(_HOLD, [owner.pk, list(arrivals), owner.pk])
    begun: Begun = {}
    batches: list[tuple[UUID, int, Arrival]] = []
    for trace in held:
        before = _known(owner, trace)
        fresh = without(arrivals[trace.pk], before)
        if not fresh.number:
            continue
        whole = merged(before, fresh)
        if max(len(whole.spans), len(whole.logs)) > MOST_SPANS:
            export.refuse(TOO_MANY, fresh.number)
            continue
        batches.append((trace.pk, before.batches + 1, fresh))
        if _go_on(owner, trace, whole):
            begun[trace.pk] = whole
    _keep_batches(batches)
    return begun


# The runs of traces, and then the sessions, which are active as soon as one of these is told anew.
_HOLD = """
    WITH held AS (
        SELECT session_id FROM run WHERE owner_id = %s AND id = ANY(%s) ORDER BY id FOR UPDATE
    )
    SELECT FROM session WHERE owner_id = %s AND id IN (SELECT session_id FROM held)
    ORDER BY id FOR NO KEY UPDATE
"""


def _known(owner: Owner, trace: Trace) -> Arrival:
    """What came of a trace before: of one at a time, since each may be large. Its row is held meanwhile."""
    with connection.cursor() as cursor:
        cursor.execute(_KNOWN, [owner.pk, trace.pk])
        documents = [read_batch(bytes(document), is_protobuf) for document, is_protobuf in cursor.fetchall()]
    return joined(trace.trace_id, documents)


_KNOWN = """
    SELECT document, is_protobuf FROM span_batch JOIN trace ON trace.id = span_batch.trace_id
    WHERE trace.owner_id = %s AND trace.id = %s ORDER BY number
"""


def _go_on(owner: Owner, trace: Trace, whole: Arrival) -> bool:
    """Brings a trace up to date, and its run if it has one; whether a run is to begin."""
    begins = trace.state == Trace.State.WAITING and whole.is_agents
    was_closed = trace.state == Trace.State.CLOSED
    state = Trace.State.CLOSED if was_closed else _state(whole)
    rooted = {"rooted_at": Now()} if whole.has_root and trace.rooted_at is None else {}
    Trace.objects.filter(owner=owner, pk=trace.pk).update(
        state=state, span_count=len(whole.spans), last_span_at=Now(), **rooted
    )
    if not begins and trace.state != Trace.State.WAITING:
        told = tell(whole, timezone.now())
        if told.key or whole.has_root:
            _house(owner, trace.pk, told)
        retell(owner, trace, told, ended=whole.has_root, idle=False)
    return begins


def _house(owner: Owner, run_id: UUID, told: Told) -> None:
    """Puts a run into its session, unless it is in one."""
    runs = Run.objects.filter(owner=owner, pk=run_id, session=None)
    if runs.exists():
        (session,) = sessions_for(owner, [told])
        runs.update(session=session)

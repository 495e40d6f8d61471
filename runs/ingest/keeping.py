"""Keeping what came: new traces in bulk, those that are there already one by one.

One transaction for an export, few statements, and locks in one order: traces by their ids, then sessions by
their keys. So two exports never wait for each other in a circle.
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import IntegrityError, connection, transaction
from django.db.models.functions import Now
from django.utils import timezone

from runs.ingest.arrivals import MOST_SPANS, TOO_MANY, Arrival, Export, joined, merged, without
from runs.ingest.retelling import retell
from runs.ingest.sessions import sessions_for
from runs.ingest.telling import Told, tell
from runs.ingest.writing import NewRun, write_events, write_runs
from runs.models import Owner, Run
from runs.models.copying import copying
from runs.models.span import IDLE_AFTER, SpanBatch, Trace, id_of, read_batch

type Json = Any

ID_TAKEN = "the id of its run is taken"
WAITING_FOR = timedelta(days=1)  # for an agent's span in a trace that has none so far
type Begun = dict[UUID, Arrival]  # what came of traces whose runs begin
_AT_ONCE = 100  # traces that upkeep closes in one transaction


def take_in(owner: Owner, export: Export) -> None:
    """Keeps what an export has of each trace; what is refused here is added to `export.refused`.

    Spans that are there already are passed over, so that an export may be sent again.
    """
    arrivals = {id_of(owner, one.trace_id): one for one in export.arrivals}
    try:
        _take_in(owner, arrivals, export)
    except IntegrityError:
        for pk in _taken(arrivals):
            export.refuse(ID_TAKEN, len(arrivals.pop(pk).spans))
        _take_in(owner, arrivals, export)


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
        known = _known(owner, [trace.pk for trace in traces])
        for trace in traces:
            told = tell(known.get(trace.pk, Arrival(trace.trace_id)), timezone.now())
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
    now = timezone.now()
    # PostgreSQL takes in what one tells while we read the next.
    stories = write_events((pk, tell(one, now)) for pk, one in begun.items())
    ordered = sorted(stories, key=lambda pk: (stories[pk].started_at or now, pk))
    housed = [pk for pk in ordered if stories[pk].key or begun[pk].has_root]
    sessions = dict(zip(housed, sessions_for(owner, [stories[pk] for pk in housed]), strict=True))
    runs = [NewRun(pk, stories[pk], sessions.get(pk), begun[pk].has_root) for pk in ordered]
    write_runs(owner, runs, now)


def _taken(arrivals: dict[UUID, Arrival]) -> set[UUID]:
    """Ids of runs that somebody else chose, against all odds: no trace of ours has them."""
    ours = Trace.objects.filter(pk__in=list(arrivals)).values_list("pk", flat=True)
    runs = Run.objects.filter(pk__in=list(arrivals)).values_list("pk", flat=True)
    return set(runs) - set(ours)


# ── Traces that are there ──────────────────────────────────────────────────
def _merge(owner: Owner, arrivals: dict[UUID, Arrival], export: Export) -> Begun:
    """Adds what is new to these traces, and tells their runs anew; gives those whose runs begin only now."""
    held = list(Trace.objects.select_for_update().filter(owner=owner, pk__in=list(arrivals)).order_by("pk"))
    begun: Begun = {}
    batches: list[tuple[UUID, int, Arrival]] = []
    known = _known(owner, list(arrivals))
    for trace in held:
        before = known.get(trace.pk, Arrival(trace.trace_id))
        fresh = without(arrivals[trace.pk], before)
        if len(before.spans) + len(fresh.spans) > MOST_SPANS:
            export.refuse(TOO_MANY, len(fresh.spans))
        elif fresh.spans or fresh.logs:
            batches.append((trace.pk, before.batches + 1, fresh))
            whole = merged(before, fresh)
            if _go_on(owner, trace, whole):
                begun[trace.pk] = whole
    _keep_batches(batches)
    return begun


def _known(owner: Owner, ids: Sequence[UUID]) -> dict[UUID, Arrival]:
    """What came of these traces before. To be read while their rows are held."""
    documents: dict[UUID, list[Json]] = {}
    with connection.cursor() as cursor:
        cursor.execute(_KNOWN, [owner.pk, list(ids)])
        trace_ids = {}
        for pk, trace_id, document, is_protobuf in cursor.fetchall():
            documents.setdefault(pk, []).append(read_batch(bytes(document), is_protobuf))
            trace_ids[pk] = trace_id
    return {pk: joined(trace_ids[pk], found) for pk, found in documents.items()}


_KNOWN = """
    SELECT trace.id, trace.trace_id, document, is_protobuf
    FROM span_batch JOIN trace ON trace.id = span_batch.trace_id
    WHERE trace.owner_id = %s AND trace.id = ANY(%s) ORDER BY trace.id, number
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

"""Which session a trace belongs to, by the keys and the rules of agentevals (CONTRACTS.md 1.10)."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Count, Max, Q
from django.utils import timezone

from runs.ingest.telling import Told
from runs.models import Owner, Run, Session
from runs.models.ids import uuid7
from runs.models.span import INSTANCE, RUN_OF_SESSION, SOURCE, Trace, is_complete, provisional_key

type Json = Any

LATEST = "agentevals.latest_session"  # in the metadata of the first session of a name: the latest one's key


def sessions_for(owner: Owner, stories: Sequence[Told]) -> list[UUID]:
    """The ids of the sessions of these traces, which are made where they are new.

    One that was deleted is there again, as Session.objects.open has it.
    """
    keys = [told.key or provisional_key(told.trace_id) for told in stories]
    latest: dict[tuple[str, Json, Json], str] = {}
    for number, told in enumerate(stories):
        if told.is_name:
            said = told.session_metadata
            which = (told.key, said.get(RUN_OF_SESSION), said.get(INSTANCE))
            if which not in latest:
                latest[which] = _named(owner, told, timezone.now())
            keys[number] = latest[which]
    firsts = dict(zip(reversed(keys), reversed(stories), strict=True))
    found = _open(owner, firsts)
    return [found[key] for key in keys]


def _open(owner: Owner, firsts: dict[str, Told]) -> dict[str, UUID]:
    """The sessions of these keys; in one order, so that two who make the same do not wait for each other."""
    told = sorted(firsts.items())
    parameters: dict[str, Any] = {
        "owner": owner.pk,
        "source": SOURCE,
        "ids": [uuid7() for _ in told],
        "keys": [key for key, _ in told],
        "agents": [one.agent or one.service for _, one in told],
        "metadata": [json.dumps(one.session_metadata) for _, one in told],
        "starts": [one.started_at for _, one in told],
    }
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, parameters)
        cursor.execute(_SELECT, parameters)
        rows = cursor.fetchall()
    gone = [pk for pk, _, deleted in rows if deleted]
    if gone:
        Session.objects.filter(owner=owner, pk__in=gone).update(deleted_at=None, deleted_by="")
    return {key: pk for pk, key, _ in rows}


_INSERT = """
    INSERT INTO session (id, key, owner_id, agent, source, title, metadata, started_at, deleted_by, run_count)
    SELECT id, key, %(owner)s, agent, %(source)s, '', metadata, started_at, '', 0
    FROM unnest(
        %(ids)s::uuid[], %(keys)s::text[], %(agents)s::text[], %(metadata)s::jsonb[],
        %(starts)s::timestamptz[]
    ) AS told (id, key, agent, metadata, started_at)
    ON CONFLICT (owner_id, source, namespace, key) DO NOTHING
"""
_SELECT = """
    SELECT id, key, deleted_at IS NOT NULL FROM session
    WHERE owner_id = %(owner)s AND source = %(source)s AND namespace = '' AND key = ANY(%(keys)s)
"""


# ── Names that come again ──────────────────────────────────────────────────
def _named(owner: Owner, told: Told, now: datetime) -> str:
    """The key of the session of this name: the name, or `name-2` where the agent ran again since."""
    theirs = Session.objects.filter(owner=owner, source=SOURCE, namespace="")
    first = theirs.filter(key=told.key).first()
    if first is None:
        return told.key
    latest = theirs.filter(key=first.metadata.get(LATEST) or told.key).first() or first
    if not _is_rerun(latest, told, now):
        return latest.key
    number = 2 if latest == first else int(latest.key.removeprefix(f"{told.key}-")) + 1
    while theirs.filter(key=f"{told.key}-{number}").exists():
        number += 1
    key = f"{told.key}-{number}"
    theirs.filter(pk=first.pk).update(metadata={**first.metadata, LATEST: key})
    if latest.completed_at is None:
        theirs.filter(pk=latest.pk).update(completed_at=latest.last_activity_at)
    return key


def _is_rerun(session: Session, told: Told, now: datetime) -> bool:
    """Another run of the agent says so itself; else it is one if the session has come to its end, and not
    of the process that wrote it."""
    before, after = session.metadata.get(RUN_OF_SESSION), told.session_metadata.get(RUN_OF_SESSION)
    if after and after != before:
        return True
    instances = session.metadata.get(INSTANCE), told.session_metadata.get(INSTANCE)
    if all(instances) and instances[0] == instances[1]:
        return False
    runs = Run.objects.filter(session=session, owner=session.owner_id)
    traces = Trace.objects.filter(owner=session.owner_id, pk__in=runs.values("pk"))
    # Counted by the database: a name that is never finished may have ten thousands.
    known = traces.aggregate(latest=Max("last_span_at"), rootless=Count("pk", filter=Q(rooted_at=None)))
    return known["latest"] is not None and is_complete(known["latest"], not known["rootless"], now)

"""A session's runs in their order, as its thread reads them (issue 5, point 6)."""

from typing import Any

from django.db import connection

from runs.models.paging import Cursor
from runs.models.ranges import LIST_COLUMNS, run_of
from runs.models.run import Run
from runs.models.session import Session


def runs_from(session: Session, place: Cursor | None, *, newest: bool, size: int) -> list[Run]:
    """The run at `place` and those that were made after it, or before it where `newest` come first.

    Without a place it begins at that end. The caller has made sure that the session may be seen.
    """
    order, comparison = ("DESC", "<=") if newest else ("ASC", ">=")
    beyond = f"AND (created_at, id) {comparison} (%(at)s, %(id)s)" if place else ""
    at: dict[str, Any] = {"at": place.created_at, "id": place.id} if place else {}
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {LIST_COLUMNS} FROM run WHERE session_id = %(session)s AND deleted_at IS NULL {beyond} "
            f"ORDER BY created_at {order}, id {order} LIMIT {size:d}",
            {"session": session.pk, **at},
        )
        return [run_of(row) for row in cursor.fetchall()]

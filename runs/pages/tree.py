"""The JSON of a run and of its events as a tree that opens by piece: PostgreSQL cuts what is large, so that
nothing reads 50 MB for one branch (DESIGN.md 3.5; issue 5, point 3)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import connection
from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.utils.safestring import SafeString
from django.views.decorators.http import require_safe

from runs import access
from runs.access import SignedInRequest
from runs.api.schemas import present_run
from runs.exact import Json, join_exact
from runs.models import Run
from runs.pages import files, json_view
from runs.pages.jinja import draw
from runs.pages.json_view import Branch
from runs.pages.parts import find_run, is_htmx

SMALL = 256_000  # bytes; what is larger is cut by PostgreSQL
COLUMNS = ("spec", "metadata", "summary")

_TITLES = {"run": "The run", "spec": "Spec", "metadata": "Metadata", "summary": "Summary"}


@access.signed_in
@require_safe
def run_tree(request: SignedInRequest, run_id: UUID, part: str) -> HttpResponse:
    """One branch of the tree: when it is opened, or a page of its own without script."""
    found = find_run(request, run_id)
    path = request.GET.get("path", "")
    drawn = draw_branch(found, part, path, number(request.GET.get("from")))
    if is_htmx(request):
        return HttpResponse(drawn)
    context = {"place": "runs", "run": found, "tree": drawn, "part": part, "path": path}
    return render(request, "runs/tree_page.html", {**context, "title": title_of(part)})


@access.signed_in
@require_safe
def run_json(request: SignedInRequest, run_id: UUID, part: str) -> HttpResponse:
    """A value whole, as a file; with `?path=` what is there, a text as plain text."""
    found = find_run(request, run_id)
    path = request.GET.get("path", "")
    name = f"run-{found.short_id}-{part}{path.replace('/', '-')[:60]}"
    words, is_json = _download(found, part, path)
    if is_json:
        return files.send(words, f"{name}.json", "application/json")
    return files.send(words, f"{name}.txt", "text/plain")


def draw_branch(run: Run, part: str, path: str = "", start: int = 0) -> SafeString:
    """The entries at a JSON pointer of one of the run's values, from the `start`-th on. Raises Http404."""
    branch = _branch(run, part, path, start)
    return draw(
        "runs/tree", branch=branch, base=f"/runs/{run.pk}", part=part, path=path, inner=bool(path or start)
    )


def title_of(part: str) -> str:
    return _TITLES.get(part) or (part.replace("event-", "Event ") if part.startswith("event-") else "Details")


def number(digits: str | None) -> int:
    """A number of an address; 0 for what is none."""
    return int(digits) if digits and digits.isascii() and digits.isdigit() and len(digits) < 10 else 0


# ── Where a value is kept ──────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class _Place:
    """A JSONB column of one row of this run: `where` is SQL about `given`."""

    column: str
    table: str
    where: str
    given: dict[str, Any]

    @property
    def exact(self) -> str:
        """Where the text is kept that JSONB cannot hold; metadata and summary have none."""
        exact = {"payload": "payload_exact", "spec": "spec_exact", "details": "details_exact"}
        return exact.get(self.column, "NULL::text")

    @property
    def size(self) -> str:
        """Bytes, found without reading the value: of a column those that it takes, compressed."""
        return "size" if self.table == "event" else f"4 * pg_column_size({self.column})"

    def fill(self, statement: str) -> str:
        """A statement about it; nothing in it comes from a caller."""
        names = ("column", "table", "where", "exact", "size")
        return statement.format(**{name: getattr(self, name) for name in names})


_SMALL = """SELECT CASE WHEN {size} <= %(small)s THEN {column}::text END,
        CASE WHEN {size} <= %(small)s THEN {exact} END, {size} > %(small)s
    FROM {table} WHERE {where}
"""


def _place(run: Run, part: str) -> _Place:
    if part.startswith("event-") and (seq := number(part.removeprefix("event-"))):
        return _Place("payload", "event", "run_id = %(run)s AND seq = %(seq)s", {"run": run.pk, "seq": seq})
    if part.startswith("result-"):
        given = {"run": run.pk, "result": part.removeprefix("result-")}
        return _Place("details", "result", "run_id = %(run)s AND id = %(result)s", given)
    if part in COLUMNS and (part != "spec" or run.is_evaluation):
        return _Place(part, "run", "id = %(run)s", {"run": run.pk})
    raise Http404


def _branch(run: Run, part: str, path: str, start: int) -> Branch:
    if part == "run":
        column, rest = _column_of(path)
        return _branch(run, column, rest, start).under(f"/{column}") if column else _of_run(run, path, start)
    place = _place(run, part)
    value, is_large = _small(place)
    if is_large:
        return _cut(place, path, start)
    return _python_branch(value, path, start)


def _python_branch(value: Json, path: str, start: int) -> Branch:
    try:
        inner = json_view.at(value, path)
    except json_view.NoSuchPath:
        raise Http404 from None
    if not isinstance(inner, dict | list):
        raise Http404
    return json_view.branch(inner, path, start)


def _small(place: _Place) -> tuple[Json, bool]:
    """The value as it came, and False; or None and True where it is large. Raises Http404."""
    words, exact, is_large = _row(place.fill(_SMALL), {**place.given, "small": SMALL})
    return join_exact(None if words is None else json.loads(words), exact), bool(is_large)


# ── Of the run ─────────────────────────────────────────────────────────────
def _column_of(path: str) -> tuple[str, str]:
    """The column that a path into the run leads to, and the rest of the path; "" for none."""
    _, _, inside = path.partition("/")
    first, slash, rest = inside.partition("/")
    return (first, f"{slash}{rest}") if first in COLUMNS else ("", path)


def _of_run(run: Run, path: str, start: int) -> Branch:
    return _python_branch(_run_as_json(run, _columns_in_short(run)), path, start)


def _columns_in_short(run: Run) -> dict[str, Json]:
    """The run's JSON columns, each whole where it is small, else a mark that it is large."""
    values = {}
    for column in COLUMNS:
        if column == "spec" and not run.is_evaluation:
            continue
        value, is_large = _small(_place(run, column))
        values[column] = json_view.LARGE if is_large else value
    return values


def _run_as_json(run: Run, columns: dict[str, Json]) -> dict[str, Json]:
    """As the API gives it; of a task all that there is."""
    shown = _present_evaluation(run) if run.is_evaluation else _present_task(run)
    return {**shown, **{name: value for name, value in columns.items() if name in shown}}


def _present_evaluation(run: Run) -> dict[str, Json]:
    """`present_run` of a copy without its columns: they are large, and are put in by the caller."""
    bare = Run(pk=run.pk)
    for field in ("status", "attempt", "worker_id", "error", "created_at", "started_at", "finished_at"):
        setattr(bare, field, getattr(run, field))
    bare.cancel_requested_at = run.cancel_requested_at
    return present_run(bare) | {"metadata": None}


def _present_task(run: Run) -> dict[str, Json]:
    return {
        "runId": str(run.pk),
        "kind": run.kind,
        "status": run.status,
        "rawStatus": run.raw_status,
        "agent": run.agent,
        "title": run.title,
        "error": run.error,
        "metadata": None,
        "summary": None,
        "createdAt": run.created_at.isoformat(),
        "startedAt": run.started_at and run.started_at.isoformat(),
        "finishedAt": run.finished_at and run.finished_at.isoformat(),
    }


# ── What PostgreSQL cuts ───────────────────────────────────────────────────
def _cut(place: _Place, path: str, start: int) -> Branch:
    given = {**place.given, "path": json_view.steps(path), "from": start, "window": json_view.WINDOW}
    rows = _rows(place.fill(_CUT), given)
    if not rows or rows[0][0] not in ("object", "array"):
        raise Http404
    count = rows[0][1]
    entries = [json_view.entry_of(path, *row[2:]) for row in rows if row[2] is not None]
    left = max(0, count - start - len(entries))
    return Branch(entries, start + json_view.WINDOW if left else None, left)


# OFFSET 0 keeps each subquery for itself: the value is read once, and each entry is taken out of it once.
_CUT = """SELECT jsonb_typeof(held),
        CASE jsonb_typeof(held)
            WHEN 'array' THEN jsonb_array_length(held)
            WHEN 'object' THEN (SELECT count(*) FROM jsonb_object_keys(held)) END,
        key, jsonb_typeof(item),
        CASE WHEN jsonb_typeof(item) = 'string' THEN length(item #>> '{{}}') ELSE pg_column_size(item) END,
        CASE WHEN jsonb_typeof(item) = 'array' THEN jsonb_array_length(item) END,
        CASE WHEN jsonb_typeof(item) = 'string' THEN left(item #>> '{{}}', 700)
            WHEN pg_column_size(item) <= 400 THEN item::text END
    FROM (SELECT {column} #> %(path)s::text[] AS held FROM {table} WHERE {where} OFFSET 0) AS source
    LEFT JOIN LATERAL (
        SELECT key,
            CASE jsonb_typeof(held) WHEN 'array' THEN held -> key::integer ELSE held -> key END AS item
        FROM (
            SELECT * FROM (
                SELECT place::text AS key FROM generate_series(0, CASE jsonb_typeof(held)
                    WHEN 'array' THEN jsonb_array_length(held) ELSE 0 END - 1) AS place
                UNION ALL
                SELECT jsonb_object_keys(CASE jsonb_typeof(held) WHEN 'object' THEN held END)
            ) AS named OFFSET %(from)s LIMIT %(window)s
        ) AS keys
        OFFSET 0
    ) AS entries ON true
"""


def _download(run: Run, part: str, path: str) -> tuple[bytes, bool]:
    """The bytes of what is at the path, and whether they are JSON; else they are a text."""
    if part == "run":
        column, rest = _column_of(path)
        if column:
            return _download(run, column, rest)
        # With the names of the API alone: a file is for programs.
        run.refresh_from_db(fields=["spec", "spec_exact", "metadata", "summary"])
        columns = {"metadata": run.metadata, "summary": run.summary}
        whole = present_run(run) if run.is_evaluation else _run_as_json(run, columns)
        return _python_bytes(whole, path)
    place = _place(run, part)
    value, is_large = _small(place)
    if not is_large:
        return _python_bytes(value, path)
    exact, words, is_text = _row(place.fill(_WHOLE), {**place.given, "path": json_view.steps(path)})
    if exact is not None:
        return (exact.encode(), True) if not path else _python_bytes(json.loads(exact), path)
    if words is None:
        raise Http404
    return words.encode(), not is_text


_WHOLE = """SELECT exact, CASE WHEN is_text THEN held #>> '{{}}' ELSE held::text END, is_text FROM (
        SELECT {exact} AS exact, {column} #> %(path)s::text[] AS held,
            jsonb_typeof({column} #> %(path)s::text[]) = 'string' AND %(path)s::text[] <> '{{}}' AS is_text
        FROM {table} WHERE {where} OFFSET 0
    ) AS source
"""


def _python_bytes(value: Json, path: str) -> tuple[bytes, bool]:
    try:
        inner = json_view.at(value, path)
    except json_view.NoSuchPath:
        raise Http404 from None
    if path and isinstance(inner, str):
        return inner.encode("utf-8", "replace"), False
    # ASCII, so that any text gets through exactly.
    return json.dumps(inner, indent=1).encode(), True


def _row(statement: str, given: dict[str, Any]) -> Sequence[Json]:
    rows = _rows(statement, given)
    if not rows:
        raise Http404
    return rows[0]


def _rows(statement: str, given: dict[str, Any]) -> list[Sequence[Json]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, given)
        return list(cursor.fetchall())

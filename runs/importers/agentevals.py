"""agentevals' database: its runs and their results (CONTRACTS.md 1.11), evaluations that ended elsewhere."""

import math
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.db import DataError, IntegrityError, transaction
from psycopg import sql

from runs.exact import Json, clean_text, split_exact
from runs.importers.database import Row, Source, SourceError
from runs.importers.json_text import read
from runs.importers.report import Report
from runs.models import FINAL, Owner, Result, Run
from runs.models.imports import Imported, ImportPosition
from runs.models.past import keep_results, one_of_many, settle
from runs.models.run import AGENT_LENGTH

SYSTEM = "agentevals"
SCHEMA = "agentevals"
TABLES = ("run", "result")

_AT_ONCE = 100  # runs in one transaction
_ROWS = 500  # results written at a time
_OVERLAP = timedelta(minutes=1)  # read again each time: who began earlier may have committed later
_NOT_ENDED = (
    "runs that have not ended: a worker here would begin them again. They come when they have, "
    "with --follow or when you import again"
)
_BEGINNING = datetime.fromisoformat("0001-01-02T00:00:00+00:00")


def take(source: Source, owner: Owner, schema: str = SCHEMA) -> Iterator[Report]:
    """Takes in what has ended since the last time, and gives the report so far after each batch.

    In the order in which runs ended, so that one that was still going on comes when it has. May be stopped
    and done again. Raises SourceError where the schema is none of agentevals'.
    """
    if schema not in source.schemas_with(*TABLES):
        there = ", ".join(source.schemas_with(*TABLES)) or "none"
        raise SourceError(f"no schema {schema!r} with agentevals' tables is there; --schema can be: {there}")
    taking = _Taking(source, owner, schema)
    yield from taking.all()


class _Taking:
    def __init__(self, source: Source, owner: Owner, schema: str) -> None:
        self.source, self.owner, self.schema = source, owner, schema
        self.position = ImportPosition.objects.of(owner, SYSTEM, source.place, f"{schema}.run")
        self.report = Report("runs")

    def all(self) -> Iterator[Report]:
        self._expect()
        yield self.report
        after = (self.position.at - _OVERLAP, "") if self.position.at else (_BEGINNING, "")
        while rows := self._page(after):
            self._take(rows)
            after = (rows[-1]["ended_at"], str(rows[-1]["run_id"]))
            yield self.report

    def _expect(self) -> None:
        query = "SELECT status, {ended} > %(at)s AS is_new, count(*) AS n FROM {run} GROUP BY 1, 2"
        for row in self.source.rows(self._sql(query), at=self.position.at or _BEGINNING):
            if row["status"] not in FINAL:
                self.report.skipped[_NOT_ENDED] += row["n"]
            elif row["is_new"]:
                self.report.expected += row["n"]

    def _page(self, after: tuple[datetime, str]) -> list[Row]:
        query = """
            SELECT run_id, status, approach, spec::text AS spec, attempt, worker_id, cancel_requested, error,
                summary::text AS summary, created_at, started_at, finished_at, {ended} AS ended_at
            FROM {run}
            WHERE status IN ('succeeded', 'failed', 'cancelled')
            AND ({ended}, run_id::text) > (%(at)s, %(key)s)
            ORDER BY {ended}, run_id::text LIMIT %(number)s
        """
        return self.source.rows(self._sql(query), at=after[0], key=after[1], number=_AT_ONCE)

    def _sql(self, query: str) -> sql.Composed:
        names = {table: sql.Identifier(self.schema, table) for table in TABLES}
        return sql.SQL(query).format(**names, ended=sql.SQL("coalesce(finished_at, created_at)"))

    def _take(self, rows: list[Row]) -> None:
        """A batch and how far that is, in one transaction."""
        with one_of_many():
            known = Run.objects.in_bulk([row["run_id"] for row in rows])
            for row in rows:
                if (there := known.get(row["run_id"])) is not None:
                    self._there(row, there)
                else:
                    self._take_run(row)
            last = rows[-1]
            new = sum(1 for row in rows if self.position.at is None or row["ended_at"] > self.position.at)
            self.position.move(last["ended_at"], new)
            self.report.read += new

    def _there(self, row: Row, run: Run) -> None:
        where = f"run {row['run_id']}"
        if run.owner_id != self.owner.pk or not run.is_evaluation:
            self.report.note(where, "its id is taken here; it is left out")
        elif run.deleted_at is not None:
            self.report.skipped["runs that were deleted here: restore them instead"] += 1
        elif run.status != row["status"]:
            self.report.note(where, f"it is {row['status']} there and {run.status} here, and stays so")
        else:
            self.report.there += 1

    def _take_run(self, row: Row) -> None:
        where = f"run {row['run_id']}"
        try:
            with transaction.atomic():
                run = self._record(row)
                number = self._results(run)
                settle(run, row["ended_at"])
                Imported.objects.create(run=run, state=row["status"], changed_at=row["ended_at"])
        except (IntegrityError, DataError, ValueError) as error:
            self.report.note(where, f"it is left out: {str(error).partition(chr(10))[0]}")
            return
        self.report.taken["runs"] += 1
        self.report.taken["results"] += number

    def _record(self, row: Row) -> Run:
        spec, summary = self._json(row, "spec"), self._json(row, "summary")
        if not isinstance(spec, dict):
            raise ValueError("its spec is no object")
        spec = _as_submitted(spec)
        about = summary if isinstance(summary, dict) else {}
        asked = {"cancel_requested_at": row["ended_at"], "cancel_requested_by": f"import:{SYSTEM}"}
        return Run.objects.record_past(
            self.owner,
            row["status"],
            row["created_at"],
            id=row["run_id"],
            kind=Run.Kind.EVALUATION,
            agent=_names(about.get("agents"))[:AGENT_LENGTH],
            model=_names(_at(about, "performance_metrics", "models"))[:AGENT_LENGTH],
            title=_title(spec),
            spec=spec,
            summary=split_exact(summary)[0],
            error=row["error"],
            attempt=row["attempt"],
            worker_id=row["worker_id"],
            started_at=row["started_at"],
            finished_at=row["ended_at"],
            metadata={"imported_from": SYSTEM},
            **(asked if row["cancel_requested"] else {}),
        )

    def _results(self, run: Run) -> int:
        """They come in order, some at a time, however many the run has."""
        query = """
            SELECT result_id, eval_set_item_id, eval_set_item_name, evaluator_name, evaluator_type, status,
                score, per_invocation_scores, trace_id, span_id, details::text AS details, error_text,
                tokens_used::text AS tokens_used, latency_ms, created_at
            FROM {result} WHERE run_id = %(run)s ORDER BY created_at, result_id
        """
        number, rows = 0, []
        for row in self.source.streamed(self._sql(query), _ROWS, run=run.pk):
            rows.append(self._result(run, row, number))
            number += 1
            if len(rows) == _ROWS:
                keep_results(run, rows)
                rows = []
        if rows:
            keep_results(run, rows)
        return number

    def _result(self, run: Run, row: Row, position: int) -> Result:
        details, exact = split_exact(self._json(row, "details"))
        return Result(
            id=row["result_id"],
            run=run,
            item_id=row["eval_set_item_id"],
            item_name=row["eval_set_item_name"],
            evaluator_name=row["evaluator_name"],
            evaluator_type=row["evaluator_type"][:20],
            status=row["status"],
            score=self._score(row, row["score"]),
            per_invocation_scores=[self._score(row, one) for one in row["per_invocation_scores"]],
            trace_id=row["trace_id"],
            span_id=row["span_id"],
            details=details,
            details_exact=exact,
            error=row["error_text"],
            tokens=self._json(row, "tokens_used"),
            latency_ms=max(row["latency_ms"], 0) if row["latency_ms"] is not None else None,
            position=position,
            created_at=row["created_at"],
        )

    def _score(self, row: Row, score: float | None) -> float | None:
        if score is None or math.isfinite(score):
            return score
        self.report.note(f"result {row['result_id']}", f"its score {score} is no number, and is left out")
        return None

    def _json(self, row: Row, column: str) -> Json:
        return None if row[column] is None else read(row[column]).value


# Its database has the names of Python; its API, and we, those of JSON (CONTRACTS.md 1.1). By these names
# secrets are found.
_NAMES = {
    "eval_set": "evalSet",
    "eval_config": "evalConfig",
    "credential_refs": "credentialRefs",
    "base_url": "baseUrl",
    "trace_id": "traceId",
    "trace_format": "traceFormat",
    "trace_count": "traceCount",
    "trace_files": "traceFiles",
}


def _as_submitted(spec: dict[str, Json]) -> dict[str, Json]:
    """The spec as its API shows it; what is free in it stays as it is."""
    named = {_NAMES.get(key, key): value for key, value in spec.items()}
    if isinstance(target := named.get("target"), dict):
        named["target"] = {_NAMES.get(key, key): value for key, value in target.items()}
    return named


def _title(spec: Json) -> str:
    """What a list calls the run: its eval set's name."""
    names = [_at(spec, "evalSet", key) for key in ("name", "eval_set_id", "evalSetId")]
    return clean_text(next((name for name in names if isinstance(name, str) and name.strip()), ""))[:200]


def _names(given: Json) -> str:
    names = given if isinstance(given, list) else []
    return clean_text(", ".join(name for name in names if isinstance(name, str)))


def _at(value: Json, *path: str) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value

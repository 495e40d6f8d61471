"""What must be true of every run, whatever happened to its workers."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from django.db import connection

from runs.models import Run, counters
from runs.models.status import FINAL
from tests.chaos.load import Load, outcome_of, results_of
from tests.chaos.receiver import Receiver


def damage_of(load: Load, receiver: Receiver) -> list[str]:
    """Each damage in a line."""
    found = [f"{pk} is lost" for pk in load.kind_of if not Run.objects.filter(pk=pk).exists()]
    told, history, strays = _told(receiver), _histories(), _strays()
    for run in Run.objects.filter(pk__in=load.kind_of).iterator():
        expected = load.expected[load.kind_of[run.pk]]
        wrong = [
            *_in_status(run, expected),
            *_in_history(history.get(run.pk, [])),
            *_in_results(run, expected),
            *_in_attempts(run),
            *strays.get(run.pk, []),
        ]
        if run.pk in load.with_sink:
            wrong += _in_deliveries(run, told.get(str(run.pk), []))
        found += [f"{run.pk} ({load.kind_of[run.pk]}, {run.status}): {what}" for what in wrong]
    return found + [f"counters: {difference}" for difference in counters.differences()]


def _in_status(run: Run, expected: dict[str, Any]) -> Iterator[str]:
    if run.cancel_requested_at is not None:
        if run.status != "cancelled":
            yield "its cancel was asked for"
    elif run.status != expected["status"]:
        yield f"it should be {expected['status']}: {run.error}"


def _in_history(steps: list[tuple[str | None, str]]) -> Iterator[str]:
    ends = [new for _, new in steps if new in FINAL]
    if len(ends) != 1:
        yield f"it ended {len(ends)} times: {ends}"
    if left := [step for step in steps if step[0] in FINAL and step[1] != step[0]]:
        yield f"it left a final status: {left}"


def _in_results(run: Run, expected: dict[str, Any]) -> Iterator[str]:
    if run.status != "cancelled":
        outcome = outcome_of(run)
        wrong = [name for name in expected if outcome[name] != expected[name]]
        if wrong:
            yield f"other than undisturbed: {wrong}"
    elif strange := [row for row in results_of(run) if row not in expected["results"]]:
        yield f"{len(strange)} results are other than undisturbed"


def _in_attempts(run: Run) -> Iterator[str]:
    rows = list(run.attempts.order_by("number").values_list("number", "outcome"))
    if [number for number, _ in rows] != list(range(1, len(rows) + 1)):
        yield f"its attempts are not numbered: {rows}"
    if open_ones := [number for number, outcome in rows if not outcome]:
        yield f"attempts have not ended: {open_ones}"
    ends = [outcome for _, outcome in rows if outcome in FINAL]
    if rows and run.started_at and run.status != "cancelled" and ends != [run.status]:
        yield f"its attempts ended as {[outcome for _, outcome in rows]}"


def _in_deliveries(run: Run, told: list[tuple[str, dict[str, Any]]]) -> Iterator[str]:
    phase = "final" if run.status == "succeeded" else "error"
    ends = [(message_id, body) for message_id, body in told if body["phase"] != "partial"]
    if not ends:
        yield "its end was not delivered"
    if len({message_id for message_id, _ in ends}) > 1:
        yield f"its end was told as {len(ends)} different messages"
    if wrong := {body["phase"] for _, body in ends} - {phase}:
        yield f"its end was told as {wrong}"
    first = list(dict.fromkeys(message_id for message_id, _ in told))
    if ends and first[-1] != ends[0][0]:
        yield "something came for the first time after its end"


def _told(receiver: Receiver) -> dict[str, list[tuple[str, dict[str, Any]]]]:
    found: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for message_id, body in receiver.told:
        found.setdefault(body["run_id"], []).append((message_id, body))
    return found


def _histories() -> dict[UUID, list[tuple[str | None, str]]]:
    found: dict[UUID, list[tuple[str | None, str]]] = {}
    for run_id, old, new in _rows("SELECT run_id, old, new FROM chaos_status ORDER BY number"):
        if old != new:
            found.setdefault(run_id, []).append((old, new))
    return found


def _strays() -> dict[UUID, list[str]]:
    grouped = "SELECT run_id, what, status, count(*) FROM chaos_stray GROUP BY 1, 2, 3"
    found: dict[UUID, list[str]] = {}
    for run_id, what, status, number in _rows(grouped):
        found.setdefault(run_id, []).append(f"{number} {what}s were written while it was {status}")
    return found


def _rows(statement: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall()

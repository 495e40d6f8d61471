"""Choices: the values that filters offer, kept apart so that nobody asks the big tables (DESIGN.md 3.4)."""

from django.db import connection, models

from runs.models.access import Caller, OwnedQuerySet, owners_seen
from runs.models.owner import Owner


class Choice(models.Model):
    """A value that some run of the owner has; written by triggers.note_choices, never by code.

    `field` is agent, model, source or evaluator, or metadata for the keys of runs' metadata. A value stays
    until `verify_counters --repair` finds that no run has it any more.
    """

    owner = models.ForeignKey(Owner, on_delete=models.CASCADE, related_name="choices", db_index=False)
    field = models.CharField(max_length=20)
    value = models.CharField(max_length=300)

    objects = OwnedQuerySet.as_manager()

    class Meta:
        db_table = "choice"
        constraints = [models.UniqueConstraint(fields=["owner", "field", "value"], name="choice_once")]

    def __str__(self) -> str:
        return f"{self.field}: {self.value}"


def session_keys(caller: Caller, beginning: str, most: int) -> list[str]:
    """Keys of sessions that begin so: by the index over owner, source and key, however many there are."""
    owners, end = sorted(owners_seen(caller)), f"{beginning}\U0010ffff"
    with connection.cursor() as cursor:
        cursor.execute(_SESSION_KEYS, {"owners": owners, "start": beginning, "end": end, "most": most})
        return [key for (key,) in cursor.fetchall()]


_SESSION_KEYS = """
    SELECT DISTINCT found.key FROM choice CROSS JOIN LATERAL (
        SELECT key FROM session
        WHERE session.owner_id = choice.owner_id AND source = choice.value AND deleted_at IS NULL
            AND key >= %(start)s AND key < %(end)s
        ORDER BY key LIMIT %(most)s
    ) AS found
    WHERE choice.owner_id = ANY(%(owners)s) AND choice.field = 'source' ORDER BY 1 LIMIT %(most)s
"""

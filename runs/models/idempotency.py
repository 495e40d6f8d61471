"""Answers that are kept for a day, so that a client may send a write again that it got no answer to.

The answer is written in the transaction of the write itself: either both are there or neither (issue 6,
point 1).
"""

from datetime import timedelta
from typing import ClassVar

from django.db import connection, models
from django.db.models.functions import Now

from runs.models.access import OwnedQuerySet
from runs.models.owner import Owner
from runs.models.run import Run

KEY_LENGTH = 255  # characters
KEPT_FOR = timedelta(hours=24)


class KeptAnswer(models.Model):
    """What was answered to a write with an `Idempotency-Key`.

    The history and the artifacts of a task are not in it: both only grow, so that how far they went says the
    same.
    """

    owner = models.ForeignKey(Owner, on_delete=models.CASCADE, related_name="kept_answers", db_index=False)
    key = models.CharField(max_length=KEY_LENGTH)
    request = models.CharField(max_length=64, help_text="SHA-256 of what was asked.")
    status = models.PositiveSmallIntegerField(null=True, help_text="None while it is being done.")
    body = models.TextField(blank=True, default="")
    run = models.ForeignKey(
        Run, on_delete=models.CASCADE, null=True, related_name="kept_answers", db_index=False
    )
    event_count = models.PositiveIntegerField(default=0)
    artifact_count = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(db_default=Now())

    objects: ClassVar = OwnedQuerySet.as_manager()

    class Meta:
        db_table = "kept_answer"
        constraints = [models.UniqueConstraint(fields=["owner", "key"], name="kept_answer_once")]
        indexes = [
            models.Index(fields=["created_at"], name="kept_answer_age"),  # forget_answers
            models.Index(  # before a run goes
                fields=["run"], name="kept_answer_run", condition=models.Q(run__isnull=False)
            ),
        ]

    def __str__(self) -> str:
        return f"answer to {self.key}"


def claim_key(owner: Owner, key: str, request: str) -> KeptAnswer | None:
    """Takes the key for this transaction: None. Else the answer that is kept for it.

    Whoever takes it at the same time waits until this transaction has ended.
    """
    with connection.cursor() as cursor:
        cursor.execute(_CLAIM, [owner.pk, key, request])
        if cursor.fetchone():
            return None
    kept: KeptAnswer = KeptAnswer.objects.get(owner=owner, key=key)
    return kept


# What is older than a day is as if it were not there, whether it was swept already or not.
_CLAIM = """
    INSERT INTO kept_answer (owner_id, key, request, body, event_count, artifact_count)
    VALUES (%s, %s, %s, '', 0, 0)
    ON CONFLICT (owner_id, key) DO UPDATE
    SET request = excluded.request, status = NULL, body = '', run_id = NULL, created_at = now()
    WHERE kept_answer.created_at < now() - interval '24 hours'
    RETURNING id
"""


def keep_answer(
    owner: Owner,
    key: str,
    status: int,
    body: str,
    run: Run | None = None,
    event_count: int = 0,
    artifact_count: int = 0,
) -> None:
    """Keeps the answer for a key that this transaction has claimed."""
    KeptAnswer.objects.filter(owner=owner, key=key).update(
        status=status, body=body, run=run, event_count=event_count, artifact_count=artifact_count
    )


def forget_answers() -> int:
    """Deletes those that are older than a day; gives how many."""
    return KeptAnswer.objects.filter(created_at__lt=Now() - KEPT_FOR).delete()[0]

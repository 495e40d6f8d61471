"""Workers that are alive, and the switch that stops all of them from taking runs."""

from typing import ClassVar

from django.db import models
from django.db.models import F
from django.db.models.expressions import CombinedExpression
from django.db.models.functions import Now

from runs.exact import clean_text


class Worker(models.Model):
    """A process that executes evaluations, as it says of itself with every heartbeat."""

    name = models.TextField(primary_key=True, help_text="host/hexadecimal digits")
    version = models.CharField(max_length=50, blank=True, default="")
    pid = models.PositiveIntegerField()
    places = models.PositiveIntegerField(help_text="Runs that it executes at a time.")
    can = models.JSONField(default=list, help_text="What it can evaluate with, beside what is built in.")
    started_at = models.DateTimeField(db_default=Now())
    seen_at = models.DateTimeField(db_default=Now())
    heartbeat = models.FloatField(help_text="Seconds between two signs of life.")
    draining = models.BooleanField(default=False, help_text="Takes no more runs, and ends those it has.")
    finished = models.PositiveBigIntegerField(default=0, help_text="Attempts since it started.")
    fenced = models.PositiveBigIntegerField(default=0, help_text="Writes that came too late.")

    objects: ClassVar = models.Manager()

    class Meta:
        db_table = "worker"
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def host(self) -> str:
        return self.name.split("/")[0]

    def beat(self) -> bool:
        """Says that it is alive, and what it has done; gives whether it is to drain."""
        told = {"seen_at": Now(), "finished": self.finished, "fenced": self.fenced}
        if not Worker.objects.filter(pk=self.pk).update(**told):
            Worker.objects.bulk_create([self], ignore_conflicts=True)  # new, or forgotten while it was away
        return bool(Worker.objects.filter(pk=self.pk).values_list("draining", flat=True).first())


class Queue(models.Model):
    """The one row that says whether workers take runs."""

    paused_at = models.DateTimeField(null=True)
    paused_by = models.TextField(blank=True, default="")
    reason = models.TextField(blank=True, default="")

    objects: ClassVar = models.Manager()

    class Meta:
        db_table = "queue"

    def __str__(self) -> str:
        return "paused" if self.paused_at else "open"


def queue_state() -> Queue:
    return Queue.objects.first() or Queue()


def pause_queue(by: str, reason: str) -> None:
    """Workers finish what they have and take no more. Safe to repeat: the first one's name stays."""
    Queue.objects.get_or_create(pk=1)
    Queue.objects.filter(pk=1, paused_at=None).update(
        paused_at=Now(), paused_by=clean_text(by), reason=clean_text(reason)
    )


def resume_queue() -> None:
    Queue.objects.filter(pk=1).update(paused_at=None, paused_by="", reason="")


def silent_after() -> CombinedExpression:
    """SQL for how long ago a worker's last sign of life may be."""
    return F("heartbeat") * 3


def drain(name: str, draining: bool = True) -> bool:
    """Tells a worker to take no more runs, or to take some again. False: there is none of this name."""
    return bool(Worker.objects.filter(pk=name).update(draining=draining))

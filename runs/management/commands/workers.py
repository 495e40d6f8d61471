import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from runs.models import Queue, Run, Status
from runs.models import queue_view as view
from runs.models.queue_view import Post, Pulse
from runs.models.workers import drain, pause_queue, queue_state, resume_queue
from runs.templatetags.look import duration, exact_time

_LINE = "{:44} {:9} {:>9} {:>7} {:>9} {:>6}  {}"
_MOST = 500  # runs that are at work


class Command(BaseCommand):
    help = (
        "Shows who is alive, what each worker runs and what waits; without an order it changes nothing. Exit"
        " code 1 when runs wait and no worker is alive."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="for programs")
        orders = parser.add_subparsers(dest="order", metavar="order")
        for name, about in (("drain", "takes no more runs"), ("resume", "takes runs again")):
            order = orders.add_parser(name, help=f"the worker {about}")
            order.add_argument("worker", help="its name, as it is shown")
        pause = orders.add_parser("pause", help="no worker takes runs")
        pause.add_argument("--reason", required=True, help="shown to everybody whose runs wait")
        orders.add_parser("unpause", help="workers take runs again")

    def handle(self, *args: Any, **options: Any) -> None:
        order = options["order"]
        if order in ("drain", "resume"):
            if not drain(options["worker"], draining=order == "drain"):
                raise CommandError(f"There is no worker {options['worker']}.")
        elif order == "pause":
            pause_queue("the command line", options["reason"])
        elif order == "unpause":
            resume_queue()
        else:
            self._show(options["json"])

    def _show(self, as_json: bool) -> None:
        now, queue, pulse, posts = timezone.now(), queue_state(), view.pulse(), view.posts()
        runs = _runs()
        if as_json:
            self.stdout.write(json.dumps(_document(now, queue, pulse, posts, runs), indent=1))
        else:
            for line in _lines(now, queue, pulse, posts, runs):
                self.stdout.write(line.rstrip())
        if pulse.waiting and all(post.silent for post in posts):
            raise CommandError(f"{pulse.waiting:,} wait, and no worker is alive.")


def _runs() -> dict[str, list[dict[str, Any]]]:
    """By worker: the runs that it holds, and what each is at."""
    held = Run.objects.filter(kind=Run.Kind.EVALUATION, status=Status.RUNNING)
    found = list(
        held.only("title", "worker_id", "claimed_at", "lease_expires_at").order_by("claimed_at")[:_MOST]
    )
    attempts = view.open_attempts(found)
    by_worker: dict[str, list[dict[str, Any]]] = {}
    for run in found:
        by_worker.setdefault(view.worker_of(run), []).append(
            {
                "run": str(run.pk),
                "title": run.title,
                "since": run.claimed_at,
                "leaseEnds": run.lease_expires_at,
                "doing": attempts[run.pk].doing if run.pk in attempts else "",
            }
        )
    return by_worker


def _document(
    now: datetime, queue: Queue, pulse: Pulse, posts: list[Post], runs: dict[str, list[dict[str, Any]]]
) -> dict[str, Any]:
    """Times are ISO 8601, ages and durations seconds."""
    return {
        "paused": {"by": queue.paused_by, "since": _iso(queue.paused_at), "reason": queue.reason}
        if queue.paused_at
        else None,
        "waiting": pulse.waiting,
        "waitingForRetry": pulse.paused,
        "oldest": _iso(pulse.oldest),
        "oldestSeconds": (now - pulse.oldest).total_seconds() if pulse.oldest else None,
        "running": pulse.running,
        "lastHour": {"attempts": dict(pulse.attempts), "meanSeconds": pulse.seconds},
        "deliveries": {"waiting": pulse.deliveries, "dead": pulse.dead},
        "workers": [
            {
                "name": post.worker.name,
                "state": _state(post),
                "heartbeatSeconds": post.age.total_seconds(),
                "places": post.worker.places,
                "running": post.running,
                "can": post.worker.can,
                "version": post.worker.version,
                "startedAt": _iso(post.worker.started_at),
                "finished": post.worker.finished,
                "fenced": post.worker.fenced,
                "runs": [
                    {**run, "since": _iso(run["since"]), "leaseEnds": _iso(run["leaseEnds"])}
                    for run in runs.get(post.worker.name, [])
                ],
            }
            for post in posts
        ],
    }


def _lines(
    now: datetime, queue: Queue, pulse: Pulse, posts: list[Post], runs: dict[str, list[dict[str, Any]]]
) -> Iterator[str]:
    if queue.paused_at:
        why = f": {queue.reason}" if queue.reason else ""
        yield f"Paused by {queue.paused_by} since {exact_time(queue.paused_at)}{why}"
    oldest = f", the oldest for {duration(now - pulse.oldest)}" if pulse.oldest else ""
    retried = f", {pulse.paused:,} of them until their next attempt" if pulse.paused else ""
    yield f"Waiting:    {pulse.waiting:,}{oldest}{retried}"
    yield f"Running:    {pulse.running:,} of {sum(p.worker.places for p in posts if not p.silent):,} places"
    each = f", {duration(timedelta(seconds=pulse.seconds))} each" if pulse.seconds is not None else ""
    yield f"Last hour:  {pulse.done:,} done{each}{_mishaps(pulse)}"
    yield f"Deliveries: {pulse.deliveries:,} waiting, {pulse.dead:,} given up"
    yield ""
    if not posts:
        yield "No worker. Start one with manage.py worker."
        return
    yield _LINE.format("worker", "state", "heartbeat", "runs", "finished", "fenced", "can")
    for post in posts:
        worker = post.worker
        yield _LINE.format(
            worker.name,
            _state(post),
            duration(post.age),
            f"{post.running}/{worker.places}",
            f"{worker.finished:,}",
            f"{worker.fenced:,}",
            ", ".join(["built in", *map(str, worker.can)]),
        )
        for run in runs.get(worker.name, []):
            doing = f", {run['doing']}" if run["doing"] else ""
            yield f"    {run['run']}  for {duration(now - run['since'])}{doing}  {run['title'][:80]}"


def _mishaps(pulse: Pulse) -> str:
    """What happened to attempts beside their coming to an end."""
    named = (
        ("lost", "lost"),
        ("crashed", "crashed"),
        ("retried", "to be tried again"),
        ("released", "given back"),
    )
    found = [f"{pulse.attempts[name]:,} {words}" for name, words in named if pulse.attempts[name]]
    return f"; {', '.join(found)}" if found else ""


def _state(post: Post) -> str:
    if post.silent:
        return "silent"
    if post.worker.draining:
        return "draining"
    return "working" if post.running else "idle"


def _iso(at: datetime | None) -> str | None:
    return at.isoformat() if at else None

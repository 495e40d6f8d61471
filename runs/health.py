"""For load balancers: alive says that this process answers, ready that it can serve. For Prometheus: how
the pipeline is, in numbers that name nobody."""

from collections.abc import Iterator

from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_safe

from runs.access import public
from runs.models.queue_view import Post, Pulse, posts, pulse
from runs.models.workers import queue_state


@public
@require_safe
def alive(request: HttpRequest) -> HttpResponse:
    return HttpResponse("alive\n", content_type="text/plain")


@public
@require_safe
def ready(request: HttpRequest) -> HttpResponse:
    """Asks the database; without an answer the middleware makes it 503."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return HttpResponse("ready\n", content_type="text/plain")


@public
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Prometheus' text format. Counts end at 100,000: what is more is not worth its reading."""
    paused = queue_state().paused_at is not None
    lines = "".join(_lines(pulse(), posts(), paused))
    return HttpResponse(lines, content_type="text/plain; version=0.0.4; charset=utf-8")


def _lines(now: Pulse, workers: list[Post], paused: bool) -> Iterator[str]:
    alive = [post for post in workers if not post.silent]
    age = (timezone.now() - now.oldest).total_seconds() if now.oldest else 0.0
    yield _metric("queue_waiting", "Evaluations that wait, up to 100,000.", now.waiting)
    yield _metric("queue_later", "Of these, those in the pause before another attempt.", now.paused)
    yield _metric("queue_oldest_seconds", "Age of the oldest that waits; 0 where none does.", max(age, 0.0))
    yield _metric("queue_paused", "1 while the queue is paused.", int(paused))
    yield _metric("runs_running", "Evaluations that workers are at.", now.running)
    yield _metric("workers_alive", "Workers that answer.", len(alive))
    yield _metric("workers_silent", "Workers that fell silent within a day.", len(workers) - len(alive))
    yield _metric("worker_places", "Runs that they execute at a time.", sum(w.worker.places for w in alive))
    yield _metric(
        "workers_fenced",
        "Writes of these workers that came too late and were turned away.",
        sum(post.worker.fenced for post in workers),
    )
    yield _head("attempts", "Attempts that began in the last hour, by how they ended.")
    for outcome, number in now.attempts.items():
        yield f'runfolio_attempts{{outcome="{outcome}"}} {number}\n'
    yield _metric("attempt_seconds", "Mean of these that came to a verdict.", now.seconds or 0.0)
    yield _metric("deliveries_waiting", "Deliveries that wait, up to 100,000.", now.deliveries)
    yield _metric("deliveries_dead", "Those given up, of the latest 50,000.", now.dead)


def _metric(name: str, about: str, value: float) -> str:
    return f"{_head(name, about)}runfolio_{name} {value}\n"


def _head(name: str, about: str) -> str:
    return f"# HELP runfolio_{name} {about}\n# TYPE runfolio_{name} gauge\n"

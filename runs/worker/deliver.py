"""The delivery loop: takes what the outbox holds to where it is to go (CONTRACTS.md 1.6, issue 4, point 9).

Beside the runs, on threads of its own, so that no receiver delays a run; of one host only a few at a time,
so that a slow one does not hold up the others. What was taken and not confirmed is tried again: at least
once, in the order of its webhook.
"""

import errno
import json
import logging
import os
import stat
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connections
from django.utils import timezone

from runs.models import Delivery, Webhook
from runs.models.push import push_headers
from runs.models.queue import jittered
from runs.models.webhook import claim_delivery, delivered, give_up, put_off, signing_secret
from runs.outgoing import Outgoing, OutgoingError
from runs.sealing import Unsealable
from runs.signing import signed_headers

log = logging.getLogger(__name__)

PER_HOST = 2  # deliveries to one host at a time
FIRST_PAUSE = 0.5  # seconds before the second try (CONTRACTS.md 1.6)
LONGEST_PAUSE = 3600.0  # seconds; doubled until then
LONGEST_TIMEOUT = 60.0  # seconds that a sink may ask us to wait for its answer
_WORTH_ANOTHER = {408, 425, 429}  # of the 4xx, those that say "later"
_ANSWER = 64 * 1024  # bytes that are read of an answer
_POLL = 0.5
# What a path says of itself, today and tomorrow: a link, a pipe, a folder, and so on.
_NEVER_A_FILE = {errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG}
_SPARE = 15.0  # seconds that a delivery stays ours beyond its timeout


class Refused(Exception):
    """It cannot be delivered, now or later; the text is shown to people."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Failed(Exception):
    """It could not be delivered this time."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Deliverer:
    """Delivers until `stopping`. No error ends it."""

    def __init__(self, stopping: threading.Event) -> None:
        self._stopping = stopping
        self._busy: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._places = threading.Semaphore(settings.DELIVERY_THREADS)

    def run(self) -> None:
        while not self._stopping.is_set():
            if not self._start_next():
                self._stopping.wait(_POLL)
        connections.close_all()

    def _start_next(self) -> bool:
        """A thread for each: one that waits for a receiver must not hold up a worker that is told to stop."""
        if not self._places.acquire(timeout=_POLL):
            return False
        delivery = self._claimed()
        if delivery is None:
            self._places.release()
            return False
        threading.Thread(target=self._deliver, args=(delivery,), daemon=True).start()
        return True

    def _claimed(self) -> Delivery | None:
        with self._lock:
            busy = [host for host, number in self._busy.items() if number >= PER_HOST]
        try:
            delivery = claim_delivery(busy, timedelta(seconds=LONGEST_TIMEOUT + _SPARE))
        except DatabaseError as error:
            log.warning("taking a delivery: %s", error)
            connections.close_all()
            return None
        if delivery is not None:
            with self._lock:
                self._busy[delivery.webhook.host] += 1
        return delivery

    def _deliver(self, delivery: Delivery) -> None:
        try:
            deliver(delivery)
        except DatabaseError as error:
            log.warning("delivery %s: %s", delivery.pk, error)
        except Exception:
            log.exception("delivery %s", delivery.pk)
        finally:
            with self._lock:
                self._busy[delivery.webhook.host] -= 1
            self._places.release()
            connections.close_all()


def deliver(delivery: Delivery) -> None:
    """One try, and what comes of it."""
    try:
        status = _SENDERS[delivery.webhook.kind](delivery, delivery.webhook.settings)
    except Unsealable as error:
        _give_up(delivery, str(error), None)
    except Refused as error:
        _give_up(delivery, str(error), error.status)
    except Failed as error:
        _try_later(delivery, error)
    else:
        delivered(delivery, status)


def _try_later(delivery: Delivery, error: Failed) -> None:
    """Until the sink's own limit of tries, or for a day (DELIVERY_FOR)."""
    most = delivery.webhook.settings.get("max_attempts")
    age = (timezone.now() - delivery.created_at).total_seconds()
    spent = isinstance(most, int) and delivery.tries >= most
    if spent or (age > settings.DELIVERY_FOR and delivery.tries > 1):
        _give_up(delivery, f"{error}; given up after {delivery.tries} tries", error.status)
    else:
        put_off(delivery, pause_before(delivery.tries), str(error), error.status)


def _give_up(delivery: Delivery, why: str, status: int | None) -> None:
    give_up(delivery, why, status)
    log.warning("run %s, delivery %s: given up: %s", delivery.run_id, delivery.pk, why)


def pause_before(number: int) -> float:
    """Seconds after try `number`."""
    return jittered(FIRST_PAUSE, number, LONGEST_PAUSE)


# ── Where it goes ──────────────────────────────────────────────────────────
def _to_http(delivery: Delivery, sink: Mapping[str, Any]) -> int:
    url = sink.get("url")
    if not isinstance(url, str) or not url:
        raise Refused("the sink has no url")
    body = delivery.body.encode()
    headers = {"Content-Type": "application/json", **_headers(sink)}
    secret = sink.get("secret") or signing_secret(delivery.run.owner)
    try:
        headers |= signed_headers(str(secret), str(delivery.message_id), timezone.now(), body)
        answer = Outgoing(settings.OUTGOING_ALLOW).post(
            url, body, headers, timeout=_timeout(sink), max_bytes=_ANSWER
        )
    except ValueError as error:
        raise Refused(f"the sink's secret cannot be used: {error}") from None
    except OutgoingError as error:
        raise Failed(str(error)) from None
    if 200 <= answer.status < 300:
        return answer.status
    if 400 <= answer.status < 500 and answer.status not in _WORTH_ANOTHER:
        raise Refused(f"the receiver answered {answer.status}, which repeating does not mend", answer.status)
    raise Failed(f"the receiver answered {answer.status}", answer.status)


def _to_a2a(delivery: Delivery, config: Mapping[str, Any]) -> int:
    """An A2A client's own configuration: it has nothing but an address and a token."""
    return _to_http(delivery, {"url": config.get("url"), "headers": push_headers(config)})


def _timeout(sink: Mapping[str, Any]) -> float:
    given = sink.get("timeout_s", 10)
    valid = isinstance(given, int | float) and not isinstance(given, bool) and given > 0
    return min(float(given), LONGEST_TIMEOUT) if valid else 10.0


def _headers(sink: Mapping[str, Any]) -> dict[str, str]:
    """Literal ones, and those from variables of the environment that the operator has listed."""
    named = {**_dict(sink.get("headers")), **_dict(sink.get("headers_from_env"))}
    auth = _dict(sink.get("auth"))
    references = {name: {"from_env": value} for name, value in _dict(sink.get("headers_from_env")).items()}
    if auth.get("kind") == "headers":
        references |= _dict(auth.get("headers"))
    found = {**named, **references}
    valued = {str(name): _header(str(name), value) for name, value in found.items()}
    return {name: value for name, value in valued.items() if value is not None}


def _header(name: str, value: Any) -> str | None:
    """None for an unset variable: its header is left out (CONTRACTS.md 1.6)."""
    if isinstance(value, dict) and isinstance(value.get("from_env"), str):
        variable = value["from_env"]
        if variable not in settings.SPEC_ENV_ALLOW:
            raise Refused(f"header {name}: the environment variable {variable!r} is not in SPEC_ENV_ALLOW")
        return os.environ.get(variable)
    return value if isinstance(value, str) else None


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _to_stdout(delivery: Delivery, sink: Mapping[str, Any]) -> None:
    sys.stdout.write(_lines(delivery))
    sys.stdout.flush()


def _to_file(delivery: Delivery, sink: Mapping[str, Any]) -> None:
    path = _allowed(sink.get("path"))
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        _check_inside(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, flags, 0o640), "ab") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise Refused("the sink's path is not a plain file")
            file.write(_lines(delivery).encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        kind = Refused if error.errno in _NEVER_A_FILE else Failed
        raise kind(f"writing the file: {error.strerror}") from None


def _allowed(given: Any) -> Path:
    """The file that is meant, inside a folder that the operator opened (RELIABILITY.md S7)."""
    folders = [Path(folder) for folder in settings.SINK_FOLDERS]
    if not folders:
        raise Refused("file sinks are switched off: SINK_FOLDERS names no folder")
    if not isinstance(given, str) or not given or "\x00" in given or len(given.encode()) > 4000:
        raise Refused("the sink has no path that can be used")
    path = Path(os.path.normpath(given if Path(given).is_absolute() else folders[0] / given))
    if not any(path.is_relative_to(folder) and path != folder for folder in folders):
        raise Refused("the sink's path is in none of SINK_FOLDERS")
    return path


def _check_inside(path: Path) -> None:
    """Links in its folders must not lead out."""
    real = path.parent.resolve()
    if not any(real.is_relative_to(folder) for folder in settings.SINK_FOLDERS):
        raise Refused("the sink's path leads out of SINK_FOLDERS")


def _lines(delivery: Delivery) -> str:
    """One line for each result, or for the end; without the attempt (CONTRACTS.md 1.6)."""
    body = json.loads(delivery.body)
    body.pop("attempt", None)
    results = body.pop("results", None)
    entries = [body] if results is None else [{**body, "result": result} for result in results]
    return "".join(json.dumps(entry) + "\n" for entry in entries)


_SENDERS: Mapping[str, Callable[[Delivery, Mapping[str, Any]], int | None]] = {
    Webhook.Kind.HTTP: _to_http,
    Webhook.Kind.A2A_PUSH: _to_a2a,
    Webhook.Kind.FILE: _to_file,
    Webhook.Kind.STDOUT: _to_stdout,
}

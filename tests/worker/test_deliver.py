"""Deliveries: what is told, when, how often, and to whom not (CONTRACTS.md 1.6; issue 4, point 9)."""

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from runs.models import Delivery, LeaseLost, Result, Run, Webhook, request_cancel
from runs.models.queue import sweep
from runs.models.webhook import (
    change_webhook,
    claim_delivery,
    delivered,
    new_signing_secret,
    put_off,
    resend,
    signing_secret,
    tell_results,
)
from runs.signing import verify
from runs.worker.deliver import Deliverer, deliver, pause_before
from runs.worker.execute import execute
from tests.conftest import eventually
from tests.local_server import LocalServer, Reply, local_server
from tests.worker.specs import BUILTIN, spec_of
from tests.worker.test_queue import expire, result_of

LEASE = timedelta(seconds=75)
OK, BROKEN = Reply(b"", 200), Reply(b"", 500)


@pytest.fixture
def receiver(settings: Any) -> Iterator[LocalServer]:
    """A receiver that takes everything."""
    settings.OUTGOING_ALLOW = ["127.0.0.1"]
    with local_server() as server:
        server.replies = [OK]
        yield server


@pytest.fixture
def ended(make_run: Callable[..., Run], claim: Any) -> Callable[..., Run]:
    """A run with these sinks that has ended, its end waiting to be told."""

    def make(*sinks: dict[str, Any], end: Callable[[Any], None] = lambda held: held.succeed({"n": 1})) -> Run:
        run = make_run(spec=spec_of(None, BUILTIN, sinks=list(sinks)))
        end(claim()[1])
        return run

    return make


def http(server: LocalServer, **more: Any) -> dict[str, Any]:
    return {"kind": "http_webhook", "url": f"{server.url}/hook", **more}


def deliver_all() -> list[Delivery]:
    """All that is due, one after the other."""
    while (delivery := claim_delivery([], LEASE)) is not None:
        deliver(delivery)
    return list(Delivery.objects.order_by("id"))


def due_now() -> None:
    Delivery.objects.filter(state="waiting").update(next_try_at=Now())


# ── What is told ───────────────────────────────────────────────────────────
def test_results_and_the_end_are_told_as_the_contract_says(make_run, claim, launcher, api, receiver):
    run = make_run(spec=spec_of(sinks=[http(receiver)]))
    execute(*claim(), launcher.start())

    assert {one.state for one in deliver_all()} == {"delivered"}

    *partials, final = [asked.json for asked in receiver.asked]
    shown = api.get(f"/{run.pk}/results")[1]["data"]
    assert [one["phase"] for one in partials] == ["partial"] * len(partials)
    assert {one["attempt"] for one in partials} == {1}
    assert [result for one in partials for result in one["results"]] == shown
    assert {result["runId"] for one in partials for result in one["results"]} == {str(run.pk)}
    run.refresh_from_db()
    assert final == {"phase": "final", "run_id": str(run.pk), "attempt": 1, "summary": run.summary}


@pytest.mark.parametrize(
    ("end", "error"),
    [
        (lambda held: held.fail("no trace"), "no trace"),
        (lambda held: held.acknowledge_cancel(), "cancelled by request"),
    ],
)
def test_a_run_that_did_not_succeed_is_told_of_as_an_error(ended, receiver, end, error):
    run = ended(http(receiver), end=end)

    deliver_all()

    (asked,) = receiver.asked
    assert asked.json == {"phase": "error", "run_id": str(run.pk), "attempt": 1, "error": error}
    assert (asked.method, asked.path, asked.headers["content-type"]) == ("POST", "/hook", "application/json")


def test_a_run_that_is_cancelled_in_the_queue_is_told_of(make_run, receiver):
    run = make_run(spec=spec_of(sinks=[http(receiver)]))
    request_cancel(run, by="alice")

    deliver_all()

    (asked,) = receiver.asked
    assert (asked.json["phase"], asked.json["error"]) == ("error", "cancelled by request")


def test_a_run_that_the_sweep_fails_is_told_of(make_run, claim, receiver):
    run = make_run(spec=spec_of(sinks=[http(receiver)]))
    claim()
    expire(run)
    sweep(1)

    deliver_all()

    assert receiver.asked[0].json["error"] == "worker lease expired on the last attempt"


def test_what_is_to_be_told_is_recorded_with_the_end_or_not_at_all(make_run, claim):
    make_run(spec=spec_of(sinks=[{"kind": "stdout"}]))
    _, held = claim()

    with pytest.raises(ZeroDivisionError), transaction.atomic():
        held.succeed({})
        assert Delivery.objects.count() == 1
        _ = 1 / 0

    assert not Delivery.objects.exists()


def test_a_stale_worker_tells_nobody(make_run, claim):
    run = make_run(spec=spec_of(sinks=[{"kind": "stdout"}]))
    _, stale = claim("first")
    expire(run)
    claim("second")

    with pytest.raises(LeaseLost):
        stale.succeed({})

    assert not Delivery.objects.exists()


@pytest.mark.parametrize("sink", [{"kind": "carrier_pigeon"}, {}, {"kind": ["stdout"]}, "stdout", None, 7])
def test_an_unknown_sink_is_passed_over(make_run, claim, sink):
    make_run(spec=spec_of(sinks=[sink, {"kind": "stdout"}]))
    claim()[1].succeed({})

    assert [webhook.kind for webhook in Webhook.objects.all()] == ["stdout"]
    assert Delivery.objects.count() == 1


# ── Headers ────────────────────────────────────────────────────────────────
def test_headers_are_literal_or_from_the_environment_that_the_operator_lists(
    ended, receiver, settings, monkeypatch
):
    settings.SPEC_ENV_ALLOW = ["RECEIVER_KEY", "RECEIVER_AUTH", "NOT_SET"]
    monkeypatch.setenv("RECEIVER_KEY", "key")
    monkeypatch.setenv("RECEIVER_AUTH", "Bearer abc")
    monkeypatch.delenv("NOT_SET", raising=False)
    auth = {"kind": "headers", "headers": {"Authorization": {"from_env": "RECEIVER_AUTH"}}}
    ended(
        http(
            receiver,
            headers={"X-Team": "blue"},
            headers_from_env={"X-Key": "RECEIVER_KEY", "X-None": "NOT_SET"},
        )
        | {"auth": auth}
    )

    deliver_all()

    headers = receiver.asked[0].headers
    assert (headers["x-team"], headers["x-key"], headers["authorization"]) == ("blue", "key", "Bearer abc")
    assert "x-none" not in headers


@pytest.mark.parametrize(
    "more",
    [
        {"headers_from_env": {"X-Key": "SECRET_KEY"}},
        {"auth": {"kind": "headers", "headers": {"X-Key": {"from_env": "SECRET_KEY"}}}},
        {"headers": {"X-Key": {"from_env": "SECRET_KEY"}}},
    ],
)
def test_no_other_variable_leaves_the_environment(ended, receiver, more):
    ended(http(receiver, **more))

    (delivery,) = deliver_all()

    assert delivery.state == "dead"
    assert "SPEC_ENV_ALLOW" in delivery.error
    assert not receiver.asked


# ── Signatures ─────────────────────────────────────────────────────────────
def test_each_is_signed_with_the_secret_of_its_owner(ended, owner, receiver):
    ended(http(receiver))

    (delivery,) = deliver_all()

    (asked,) = receiver.asked
    assert verify(signing_secret(owner), asked.headers, asked.body, timezone.now())
    assert not verify(signing_secret(owner), asked.headers, asked.body + b" ", timezone.now())
    assert asked.headers["webhook-id"] == str(delivery.message_id)


def test_a_new_secret_counts_from_the_next_delivery_on(ended, owner, receiver):
    old = signing_secret(owner)
    new = new_signing_secret(owner)
    ended(http(receiver))
    deliver_all()

    (asked,) = receiver.asked
    assert verify(new, asked.headers, asked.body, timezone.now())
    assert not verify(old, asked.headers, asked.body, timezone.now())


def test_a_sink_may_bring_its_own_secret(ended, receiver):
    own = "whsec_" + "QUJD" * 8
    ended(http(receiver, secret=own))
    deliver_all()

    (asked,) = receiver.asked
    assert verify(own, asked.headers, asked.body, timezone.now())


def test_a_secret_that_is_none_is_told_of(ended, receiver):
    ended(http(receiver, secret="abc"))

    (delivery,) = deliver_all()

    assert (delivery.state, receiver.asked) == ("dead", [])
    assert "secret cannot be used" in delivery.error


# ── Trying again ───────────────────────────────────────────────────────────
@pytest.mark.parametrize("status", [500, 502, 503, 408, 425, 429])
def test_what_may_pass_is_tried_again_under_the_same_id(ended, receiver, status):
    receiver.replies = [Reply(b"", status), OK]
    ended(http(receiver))

    (delivery,) = deliver_all()
    assert (delivery.state, delivery.tries, delivery.status_code) == ("waiting", 1, status)
    assert delivery.error == f"the receiver answered {status}"
    due_now()
    (delivery,) = deliver_all()

    assert (delivery.state, delivery.tries, delivery.status_code) == ("delivered", 2, 200)
    assert len({asked.headers["webhook-id"] for asked in receiver.asked}) == 1
    assert len({asked.body for asked in receiver.asked}) == 1


@pytest.mark.parametrize("status", [400, 401, 404, 410, 422])
def test_what_repeating_does_not_mend_is_dead_at_once(ended, receiver, status):
    receiver.replies = [Reply(b"", status)]
    ended(http(receiver))

    (delivery,) = deliver_all()

    assert (delivery.state, delivery.tries, delivery.status_code) == ("dead", 1, status)


def test_a_redirect_is_not_followed(ended, receiver):
    receiver.replies = [Reply(b"", 302, {"Location": f"{receiver.url}/elsewhere"}), OK]
    ended(http(receiver))

    (delivery,) = deliver_all()

    assert [asked.path for asked in receiver.asked] == ["/hook"]
    assert delivery.state == "waiting"
    assert delivery.error


def test_a_receiver_that_hangs_is_given_up_after_its_timeout_and_tried_again(ended, settings):
    settings.OUTGOING_ALLOW = ["127.0.0.1"]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        ended({"kind": "http_webhook", "url": url, "timeout_s": 0.3})
        began = time.monotonic()
        (delivery,) = deliver_all()

    assert time.monotonic() - began < 2
    assert (delivery.state, delivery.tries) == ("waiting", 1)


def test_the_sink_says_how_often_at_most(ended, receiver):
    receiver.replies = [BROKEN]
    ended(http(receiver, max_attempts=2))
    for _ in range(4):
        (delivery,) = deliver_all()
        due_now()

    assert (delivery.state, delivery.tries, len(receiver.asked)) == ("dead", 2, 2)
    assert "given up after 2 tries" in delivery.error


def test_after_a_day_it_is_given_up(ended, receiver, settings):
    receiver.replies = [BROKEN]
    ended(http(receiver))
    deliver_all()
    Delivery.objects.update(
        created_at=Now() - timedelta(seconds=settings.DELIVERY_FOR + 1), next_try_at=Now()
    )

    (delivery,) = deliver_all()

    assert delivery.state == "dead"


def test_a_dead_one_can_be_sent_again_from_the_first_try_on(ended, receiver):
    receiver.replies = [Reply(b"", 404), BROKEN, OK]
    ended(http(receiver))
    (dead,) = deliver_all()

    assert resend(dead)
    assert not resend(dead)

    (again,) = deliver_all()
    assert (again.state, again.tries) == ("waiting", 1)
    due_now()
    (again,) = deliver_all()
    assert (again.state, again.ended_at is not None) == ("delivered", True)
    assert len({asked.headers["webhook-id"] for asked in receiver.asked}) == 1


@pytest.mark.parametrize(("number", "least", "most"), [(1, 0.25, 0.5), (2, 0.5, 1.0), (30, 1350.0, 3600.0)])
def test_pauses_begin_with_half_a_second_and_grow_to_an_hour(number, least, most):
    drawn = [pause_before(number) for _ in range(200)]

    assert least <= min(drawn) <= max(drawn) <= most


def test_pauses_do_not_become_shorter():
    longest = [max(pause_before(number) for _ in range(300)) for number in range(1, 16)]

    assert all(after > before * 0.9 for before, after in pairwise(longest))


# ── Order, and others ──────────────────────────────────────────────────────
@pytest.fixture
def three(make_run: Any, claim: Any, receiver: LocalServer) -> Run:
    """A run with two partial results and an end to be told."""
    run: Run = make_run(spec=spec_of(sinks=[http(receiver)]))
    _, held = claim()
    for number in range(2):
        with held.together():
            held.record([result_of(held)])
            tell_results(run, held.attempt, [{"n": number}])
    held.succeed({})
    return run


def test_what_comes_later_waits_for_what_is_tried_again(three, receiver):
    receiver.replies = [OK, BROKEN, OK]

    deliver_all()
    assert [asked.json.get("results") for asked in receiver.asked] == [[{"n": 0}], [{"n": 1}]]
    due_now()
    deliver_all()

    phases = [(asked.json["phase"], asked.json.get("results")) for asked in receiver.asked]
    assert phases == [
        *[("partial", [{"n": 0}]), ("partial", [{"n": 1}]), ("partial", [{"n": 1}]), ("final", None)]
    ]


def test_what_comes_later_goes_on_behind_a_dead_one(three, receiver):
    receiver.replies = [Reply(b"", 400), OK]

    states = [delivery.state for delivery in deliver_all()]

    assert states == ["dead", "delivered", "delivered"]


def test_of_one_webhook_only_the_first_is_taken(three):
    first = claim_delivery([], LEASE)

    assert first is not None
    assert first.phase == "partial"
    assert claim_delivery([], LEASE) is None


def test_who_dies_with_a_delivery_has_it_tried_again_after_its_lease(three):
    first = claim_delivery([], LEASE)
    assert first is not None
    Delivery.objects.filter(pk=first.pk).update(next_try_at=Now())  # the lease is over

    again = claim_delivery([], LEASE)

    assert again is not None
    assert (again.pk, again.message_id, again.tries) == (first.pk, first.message_id, 2)


def test_an_answer_that_comes_late_counts(three):
    first = claim_delivery([], LEASE)
    assert first is not None
    put_off(first, 60, "no answer")

    delivered(first, 200)

    first.refresh_from_db()
    assert (first.state, first.error) == ("delivered", "")


def test_each_webhook_of_a_run_is_told_for_itself(ended, receiver):
    receiver.replies = [BROKEN]
    ended(http(receiver), {"kind": "stdout"})

    states = {delivery.webhook.kind: delivery.state for delivery in deliver_all()}

    assert states == {"http_webhook": "waiting", "stdout": "delivered"}


def test_a_host_that_is_busy_is_passed_over(ended, receiver):
    ended(http(receiver))
    ended({"kind": "stdout"})
    busy = Webhook.objects.get(kind="http_webhook").host

    taken = claim_delivery([busy], LEASE)

    assert taken is not None
    assert taken.webhook.kind == "stdout"
    assert claim_delivery([busy], LEASE) is None


def test_a_slow_host_does_not_hold_up_another(committed_db, ended, receiver, settings):
    """More slow deliveries than there are threads."""
    settings.DELIVERY_THREADS = 4
    settings.OUTGOING_ALLOW = ["127.0.0.1", "localhost"]
    slow = Slow()
    try:
        for _ in range(8):
            ended({"kind": "http_webhook", "url": slow.url, "timeout_s": 20})
        ended(http(receiver))
        stopping = threading.Event()
        loop = threading.Thread(target=Deliverer(stopping).run)
        loop.start()

        eventually(lambda: receiver.asked, 5)
        hanging = Delivery.objects.filter(webhook__host__startswith="localhost", tries=1, error="")
        assert hanging.count() == 2  # PER_HOST
    finally:
        slow.let_go()
        stopping.set()
        loop.join(15)


class Slow:
    """Takes connections under another name of this machine, and answers none until it is let go."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0), backlog=50)
        self.url = f"http://localhost:{self._server.getsockname()[1]}/"

    def let_go(self) -> None:
        """Connections that nobody took are reset."""
        self._server.close()


# ── Standard output and files ──────────────────────────────────────────────
@pytest.fixture
def told_to(make_run: Any, claim: Any) -> Callable[[dict[str, Any]], None]:
    """Tells two results and the end to this sink."""

    def tell(sink: dict[str, Any]) -> None:
        run = make_run(spec=spec_of(sinks=[sink]))
        _, held = claim()
        with held.together():
            tell_results(run, held.attempt, [{"n": 1}, {"n": 2}])
        held.succeed({"n": 3})
        deliver_all()

    return tell


def test_stdout_gets_a_line_for_each_result_and_the_end_without_the_attempt(told_to, capsys):
    told_to({"kind": "stdout"})

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    run_id = str(Run.objects.get().pk)
    assert lines == [
        {"phase": "partial", "run_id": run_id, "result": {"n": 1}},
        {"phase": "partial", "run_id": run_id, "result": {"n": 2}},
        {"phase": "final", "run_id": run_id, "summary": {"n": 3}},
    ]


@pytest.mark.parametrize("path", ["told.ndjson", "new/folder/told.ndjson"])
def test_a_file_gets_the_same_lines_appended(told_to, tmp_path, settings, path):
    settings.SINK_FOLDERS = [str(tmp_path)]
    (tmp_path / "told.ndjson").write_text('{"was": "there"}\n')
    told_to({"kind": "file", "path": path})

    lines = [json.loads(line) for line in (tmp_path / path).read_text().splitlines()]
    assert [line.get("phase") for line in lines[-3:]] == ["partial", "partial", "final"]
    assert (lines[0] == {"was": "there"}) == (path == "told.ndjson")


def test_an_absolute_path_inside_is_taken(told_to, tmp_path, settings):
    settings.SINK_FOLDERS = [str(tmp_path)]
    told_to({"kind": "file", "path": str(tmp_path / "a")})

    assert (tmp_path / "a").exists()


@pytest.fixture
def folders(tmp_path: Path, settings: Any) -> Path:
    """A folder that is open for files, beside one that is not, with a way out."""
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "folder").mkdir()
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / "file").write_text("as it was")
    (tmp_path / "open" / "way-out").symlink_to(tmp_path / "closed")
    (tmp_path / "open" / "link").symlink_to(tmp_path / "closed" / "file")
    os.mkfifo(tmp_path / "open" / "fifo")
    settings.SINK_FOLDERS = [str(tmp_path / "open")]
    return tmp_path


@pytest.mark.parametrize(
    "path",
    [
        *("../closed/file", "folder/../../closed/file", "{}/closed/new", "/etc/passwd", "/proc/self/environ"),
        *("way-out/file", "way-out/new", "link", "fifo", "folder", ".", "", "/dev/null", "{}/opening/file"),
        *("a\x00b", "x" * 300, "..", "%2e%2e/closed/file/../../.."),
    ],
)
def test_what_is_no_plain_file_inside_is_refused(ended, folders, path):
    before = contents(folders)
    ended({"kind": "file", "path": path.replace("{}", str(folders))})

    (delivery,) = deliver_all()

    assert delivery.state == "dead"
    assert delivery.error
    assert contents(folders) == before


@pytest.mark.parametrize("path", [None, 7, ["a"], {}])
def test_a_path_is_text(ended, folders, path):
    ended({"kind": "file", "path": path})

    assert [delivery.state for delivery in deliver_all()] == ["dead"]


def test_without_a_folder_there_are_no_file_sinks(ended, tmp_path, settings):
    settings.SINK_FOLDERS = []
    ended({"kind": "file", "path": str(tmp_path / "a")})

    (delivery,) = deliver_all()

    assert delivery.state == "dead"
    assert "SINK_FOLDERS" in delivery.error


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ── Webhooks that change ───────────────────────────────────────────────────
def test_another_host_does_not_get_the_secrets(ended, receiver):
    ended(http(receiver, headers={"X-Key": "canary"}, secret="whsec_" + "QUJD" * 8, timeout_s=3))
    webhook = Webhook.objects.get()

    changed = change_webhook(webhook, {"url": "http://elsewhere.example/"})

    assert changed.settings == {"kind": "http_webhook", "url": "http://elsewhere.example/", "timeout_s": 3}


def test_another_path_of_the_host_keeps_them(ended, receiver):
    ended(http(receiver, headers={"X-Key": "canary"}))
    webhook = Webhook.objects.get()

    changed = change_webhook(webhook, {"url": f"{receiver.url}/other"})

    assert changed.settings["headers"] == {"X-Key": "canary"}
    deliver_all()
    assert (receiver.asked[0].path, receiver.asked[0].headers["x-key"]) == ("/other", "canary")


def test_a_run_is_not_delayed_by_its_receiver(make_run, work, settings):
    settings.OUTGOING_ALLOW = ["127.0.0.1"]
    slow = Slow()
    try:
        sink = {"kind": "http_webhook", "url": slow.url.replace("localhost", "127.0.0.1"), "timeout_s": 20}
        runs = [make_run(spec=spec_of(None, BUILTIN, sinks=[sink])) for _ in range(6)]
        work()
        eventually(lambda: Run.objects.filter(status="succeeded").count() == len(runs), 8)
        assert not Delivery.objects.exclude(state="waiting").exists()
    finally:
        slow.let_go()


def test_a_run_without_results_of_its_own_tells_only_its_end(ended, receiver):
    ended(http(receiver))

    assert not Result.objects.exists()
    assert [delivery.phase for delivery in deliver_all()] == ["final"]


def test_a_killed_workers_delivery_is_repeated_under_the_same_id(make_run, start_worker):
    """RELIABILITY.md R11: it dies between asking and being answered."""
    with socket.create_server(("127.0.0.1", 0)) as receiver:
        url = f"http://127.0.0.1:{receiver.getsockname()[1]}/"
        run = make_run(spec=spec_of(None, BUILTIN, sinks=[{"kind": "http_webhook", "url": url}]))
        asked = []
        for _ in range(2):
            worker = start_worker(OUTGOING_ALLOW="127.0.0.1")
            receiver.settimeout(20)
            connection, _ = receiver.accept()
            with connection:
                asked.append(connection.recv(2**16).decode())
                worker.kill()
                worker.wait()
            due_now()  # as its lease would have it after a while

    run.refresh_from_db()
    first, again = (
        [line for line in request.split("\r\n") if line.lower().startswith("webhook-id")] for request in asked
    )
    assert first == again != []
    assert (run.status, Delivery.objects.order_by("id").first().tries) == ("succeeded", 2)

"""The list as a file: the same runs, order and columns as the screen, whole or loudly broken."""

import csv
import io
import json
import os
import socket
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from http.client import IncompleteRead
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from runs.models import Owner, Run, Session, User, append_events, give_feedback
from runs.transfer import everything
from runs.transfer.columns import NAMES
from tests.conftest import eventually
from tests.pages.helpers import make_task, said


@pytest.fixture(autouse=True)
def read_here(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports read on the test's own connection, which alone sees what it has made, unless that is kept."""
    if "committed_db" not in request.fixturenames:
        monkeypatch.setattr("runs.pages.export.in_one_snapshot", lambda chunks: chunks)


def rows_of(response: Any) -> list[list[str]]:
    return list(csv.reader(io.StringIO(response.getvalue().decode("utf-8-sig"))))


def records_of(response: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in response.getvalue().splitlines()]


# ── CSV ────────────────────────────────────────────────────────────────────
def test_it_works(signed_in, owner):
    make_task(owner, title="first")
    make_task(owner, title="second")
    response = signed_in.get("/export?format=csv")
    head, *rows, last = rows_of(response)
    assert head[:4] == ["id", "status", "raw_status", "title"]
    assert [row[3] for row in rows] == ["second", "first"]
    assert last == ["# complete: 2 runs"]
    assert response["Content-Disposition"].startswith('attachment; filename="runs-')
    assert response["Content-Type"] == "text/csv; charset=utf-8"


def test_it_has_the_runs_of_the_query_alone(signed_in, owner):
    make_task(owner, title="wanted", agent="helm")
    make_task(owner, title="other", agent="rook")
    _, row, last = rows_of(signed_in.get("/export?q=agent:helm"))
    assert "wanted" in row
    assert last == ["# complete: 1 run"]


def test_it_has_the_chosen_runs_alone(signed_in, owner):
    runs = [make_task(owner, title=f"{number}") for number in range(3)]
    _, *rows, _ = rows_of(signed_in.get("/export", {"id": [runs[0].pk, runs[2].pk]}))
    assert [row[3] for row in rows] == ["2", "0"]


def test_it_has_more_runs_than_one_page(signed_in, owner):
    Run.objects.bulk_create(Run(owner=owner, kind="task", title=f"{number}") for number in range(450))
    _, *rows, last = rows_of(signed_in.get("/export"))
    assert len({row[0] for row in rows}) == 450
    assert last == ["# complete: 450 runs"]


def test_the_columns_are_those_that_are_asked_for(signed_in, owner):
    make_task(owner)
    head, *_ = rows_of(signed_in.get("/export?columns=score,cost"))
    assert head[-2:] == ["score", "cost_usd"]
    assert "model" not in head


def test_all_columns_are_there_where_all_are_asked_for(signed_in, owner):
    make_task(owner)
    head, row, _ = rows_of(signed_in.get("/export?columns=all"))
    assert len(head) == len(row)
    assert {"source", "started_at", "artifacts"} <= set(head)


def test_the_columns_of_the_list_are_columns_here():
    from runs.pages.run_table import COLUMNS

    assert set(COLUMNS) <= set(NAMES)


def test_times_are_iso_and_utc_whatever_the_readers_zone(signed_in, alice, owner):
    User.objects.filter(pk=alice.pk).update(time_zone="Asia/Tokyo")
    at = datetime(2026, 11, 1, 9, 30, tzinfo=UTC)
    Run.objects.filter(pk=make_task(owner).pk).update(created_at=at)
    head, row, _ = rows_of(signed_in.get("/export?columns=created"))
    assert row[head.index("created_at")] == "2026-11-01T09:30:00+00:00"


def test_the_rating_is_the_readers_own(signed_in, alice, stranger, owner):
    run = make_task(owner)
    give_feedback(run, alice, 2)
    give_feedback(run, stranger, 5)
    head, row, _ = rows_of(signed_in.get("/export"))
    assert row[head.index("your_rating")] == "2"
    assert row[head.index("rating_average")] == "3.5"


FORMULAS = ['=HYPERLINK("http://x")', "+1+1", "-2+3", "@SUM(A1)", "|cmd", "%0A=1", "\t=1+1", "\r=1+1"]


@pytest.mark.parametrize("title", FORMULAS)
def test_a_title_is_no_formula(signed_in, owner, title):
    make_task(owner, title=title)
    head, row, _ = rows_of(signed_in.get("/export"))
    assert row[head.index("title")].startswith("'")


def test_what_is_in_many_languages_and_lines_comes_back(signed_in, owner):
    title = 'größer, "zitiert"\nzwei Zeilen 中文 مرحبا'
    make_task(owner, title=title)
    head, row, _ = rows_of(signed_in.get("/export"))
    assert row[head.index("title")] == title


def test_an_empty_list_has_a_header_and_a_count(signed_in):
    assert len(rows_of(signed_in.get("/export?q=nothing-like-it"))) == 2


# ── JSONL ──────────────────────────────────────────────────────────────────
def test_everything_is_there(signed_in, owner):
    session = Session.objects.open(owner, "a2a", "chat")
    make_task(owner, said("hello"), said("hi"), session=session)
    records = records_of(signed_in.get("/export?format=jsonl&q=hello"))
    kinds = [one["record"] for one in records]
    assert kinds == ["export", "session", "run", "event", "event", "run_end", "end"]
    assert records[0]["query"] == "hello"
    assert records[-1] == {"record": "end", "complete": True, "runs": 1, "lines": 7}


def test_the_query_in_it_means_the_same_tomorrow(signed_in, owner):
    first = records_of(signed_in.get("/export?format=jsonl&q=after:7d"))[0]
    assert first["query"].startswith("after:20")


def test_columns_alone_are_objects(signed_in, owner):
    make_task(owner, title="one")
    first, row, last = records_of(signed_in.get("/export?format=jsonl&parts=columns&columns=score"))
    assert first["columns"] == [name for name in row if name != "record"]
    assert (row["title"], row["score"]) == ("one", None)
    assert last["runs"] == 1


def test_an_artifact_of_several_megabytes_comes_whole(signed_in, owner):
    import base64

    from runs.models import put_artifact

    content = os.urandom(7 * 2**20 + 1)
    put_artifact(make_task(owner), "a", "big.bin", content=content)
    records = records_of(signed_in.get("/export?format=jsonl"))
    artifact = next(one for one in records if one["record"] == "artifact")
    assert base64.b64decode(artifact["content"]) == content


# ── What is refused ────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("q=rating:9", "rating"),
        ("q=%22...%22", "no letter or digit"),
        ("format=xls", "csv and jsonl"),
        ("columns=secrets", "There is no column secrets"),
        ("parts=some", "columns and everything"),
        ("format=csv&parts=everything", "JSONL".lower()),
        ("id=5", "id"),
    ],
)
def test_a_mistake_is_named_and_nothing_sent(signed_in, owner, query, word):
    response = signed_in.get(f"/export?{query}")
    assert response.status_code == 400
    assert word in response.content.decode()
    assert signed_in.get(f"/export/choose?{query}").status_code == 400


def test_others_runs_are_not_in_it(strangers_client, owner):
    run = make_task(owner, said("canary"), title="canary")
    for query in ("", "?format=jsonl", f"?id={run.pk}", f"?format=jsonl&id={run.pk}"):
        assert b"canary" not in strangers_client.get(f"/export{query}").getvalue()


def test_no_secret_of_a_spec_is_in_it(signed_in, owner, make_run, sample):
    spec = {**sample["spec"], "sinks": [{"kind": "http_webhook", "url": "https://x.example/s3cret"}]}
    make_run(spec)
    data = signed_in.get("/export?format=jsonl").getvalue()
    assert b"s3cret" not in data


def test_one_too_many_is_told_to_come_again(signed_in, settings, owner):
    settings.MAX_STREAMS = 1
    first = signed_in.get("/export")
    refused = signed_in.get("/export")
    assert (refused.status_code, refused["Retry-After"]) == (503, "5")
    first.getvalue()
    assert signed_in.get("/export").status_code == 200


def test_many_chosen_runs_are_posted(signed_in, owner):
    run = make_task(owner, title="one")
    ids = [str(run.pk), *["01a1fe67-788e-79fe-a92e-c53c6c600181"] * 899]
    _, row, _ = rows_of(signed_in.post("/export", {"id": ids}))
    assert "one" in row
    refused = signed_in.post("/export", {"id": [*ids, ids[1]]})
    assert (refused.status_code, b"900" in refused.content) == (400, True)


# ── The page without script ────────────────────────────────────────────────
def test_the_page_says_how_many(signed_in, owner):
    make_task(owner, agent="helm")
    make_task(owner, agent="rook")
    page = signed_in.get("/export/choose?q=agent:helm").content.decode()
    assert "1 run</b>" in page
    assert 'value="agent:helm"' in page


def test_the_page_says_that_nothing_matches(signed_in, owner):
    assert b"No run matches" in signed_in.get("/export/choose?q=agent:none").content


# ── Breaking off ───────────────────────────────────────────────────────────
def break_in_the_middle(monkeypatch):
    real = everything._events
    told = []

    def events(run):
        told.append(run)
        if len(told) == 2:
            raise RuntimeError("no more")
        return real(run)

    monkeypatch.setattr(everything, "_events", events)


def test_an_export_that_fails_says_so_in_its_last_line_and_breaks(signed_in, owner, monkeypatch):
    for number in range(3):
        make_task(owner, said(f"{number}"))
    break_in_the_middle(monkeypatch)
    lines: list[bytes] = []
    with pytest.raises(RuntimeError):
        for chunk in signed_in.get("/export?format=jsonl").streaming_content:
            lines.append(chunk)
    last = json.loads(b"".join(lines).splitlines()[-1])
    assert (last["record"], last["complete"]) == ("error", False)


def test_a_csv_that_fails_says_so_in_its_last_row(signed_in, owner, monkeypatch):
    make_task(owner)
    monkeypatch.setattr("runs.transfer.columns.rows_of", lambda *_: 1 / 0)
    lines: list[bytes] = []
    with pytest.raises(ZeroDivisionError):
        for chunk in signed_in.get("/export").streaming_content:
            lines.append(chunk)
    assert b"broken off, runs are missing" in b"".join(lines).splitlines()[-1]


# ── With a real server ─────────────────────────────────────────────────────
def cookies_of(user: User) -> str:
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return "; ".join(f"{name}={morsel.value}" for name, morsel in client.cookies.items())


def fetch(port: int, user: User, query: str = "") -> Any:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/export{query}", headers={"Cookie": cookies_of(user)}
    )
    return urllib.request.urlopen(request)


def heavy_task(owner: Owner, megabytes: int) -> Run:
    run = make_task(owner)
    for _ in range(megabytes):
        append_events(run, [said("x" * 2**20)], past=True)
    return run


def resident(pid: int) -> int:
    """Megabytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) // 1024


def workers_of(port: int) -> list[int]:
    """The processes that answer on this port, but for the one that started them."""
    children = []
    for folder in Path("/proc").iterdir():
        try:
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if folder.name.isdigit() and f"127.0.0.1:{port}".encode() in command:
            children.append(int(folder.name))
    return sorted(children)[1:]


def test_memory_does_not_grow_with_the_export(committed_db, alice, owner, gunicorn):
    heavy_task(owner, 20)
    Run.objects.bulk_create(Run(owner=owner, kind="task", title=f"{number}") for number in range(3000))
    fetch(gunicorn, alice, "?q=events:1").read()  # all that is loaded once
    (worker,) = workers_of(gunicorn)
    before, most, size = resident(worker), 0, 0
    with fetch(gunicorn, alice, "?format=jsonl") as response:
        while data := response.read(2**20):
            size += len(data)
            most = max(most, resident(worker))
    assert size > 21 * 2**20
    assert most - before < 30


def test_the_first_bytes_come_at_once(committed_db, alice, owner, gunicorn):
    heavy_task(owner, 20)
    fetch(gunicorn, alice, "?q=events:1").read()
    began = time.monotonic()
    with fetch(gunicorn, alice, "?format=jsonl") as response:
        assert response.read(20).startswith(b'{"record":"export"')
        assert time.monotonic() - began < 0.5


def test_a_client_that_goes_leaves_no_connection_behind(committed_db, alice, owner, gunicorn):
    heavy_task(owner, 20)
    with socket.create_connection(("127.0.0.1", gunicorn)) as client:
        head = (
            "GET /export?format=jsonl HTTP/1.1",
            "Host: 127.0.0.1",
            f"Cookie: {cookies_of(alice)}",
            "",
            "",
        )
        client.sendall("\r\n".join(head).encode())
        client.recv(1000)
        eventually(lambda: in_transaction() == 1)
    eventually(lambda: in_transaction() == 0)


def in_transaction() -> int:
    """Connections of others that hold a snapshot."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND state LIKE 'idle in transaction%' AND pid <> pg_backend_pid()"
        )
        return cursor.fetchone()[0]


def test_it_is_of_one_moment(committed_db, alice, owner, gunicorn):
    heavy_task(owner, 20)
    old = make_task(owner, title="old")
    Run.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(days=1))
    with fetch(gunicorn, alice, "?format=jsonl") as response:
        head = response.read(1000)
        Run.objects.filter(pk=old.pk).update(title="new")
        rest = response.read()
    assert b'"title":"old"' in head + rest
    assert b'"title":"new"' not in head + rest


def test_a_broken_transfer_is_not_taken_for_whole(committed_db, alice, owner, gunicorn):
    """As when PostgreSQL goes away in the middle."""
    heavy_task(owner, 20)
    with fetch(gunicorn, alice, "?format=jsonl") as response:
        response.read(1000)
        eventually(ended)
        with pytest.raises(IncompleteRead) as broken:
            response.read()
    assert b'"record":"end"' not in broken.value.partial[-300:]


def ended() -> int:
    """Ends the connections of others that hold a snapshot, and gives how many."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() "
            "AND state LIKE 'idle in transaction%'"
        )
        return cursor.fetchone()[0]

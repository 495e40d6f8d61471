"""Secrets of a spec: nowhere in clear at rest, redacted to callers, used by workers (RELIABILITY.md S8)."""

import json
import os
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from runs.models import Delivery, Run, Webhook
from runs.models.transition import retry
from runs.models.webhook import claim_delivery, new_signing_secret, signing_secret
from runs.worker.deliver import deliver
from runs.worker.execute import execute
from tests import environment
from tests.conftest import eventually
from tests.local_server import LocalServer, Reply, local_server
from tests.worker.conftest import has_ended
from tests.worker.specs import BUILTIN, sample_spec, spec_of
from tests.worker.test_deliver import LEASE

TRACE = "a" * 32
PLACES = (
    "header",
    "password",
    "sinkpath",
    "sinkquery",
    "sinkheader",
    "sinkauth",
    "sinkuser",
    "context",
    "own",
)
CANARY = {place: f"CANARY{place}{number:02}" for number, place in enumerate(PLACES)}
OWN_SECRET = "whsec_" + "Q0FOQVJZ" * 4  # CANARYCANARYCANARYCANARY


@pytest.fixture
def server(settings: Any) -> Iterator[LocalServer]:
    """Gives the sample's trace, and takes whatever it is told."""

    settings.OUTGOING_ALLOW = ["127.0.0.1"]
    with local_server() as server:
        server.replies = [Reply(b"", 200)]
        server.files[f"/traces/{TRACE}"] = json.dumps(sample_spec()["target"]["inline"]).encode()
        yield server


def spec(server: LocalServer) -> dict[str, Any]:
    """Secrets in every place that may hold one."""
    host = server.url.removeprefix("http://")
    return {
        "target": {
            "kind": "http",
            "traceId": TRACE,
            "baseUrl": f"http://reader:{CANARY['password']}@{host}/traces",
        },
        "context": {
            "headers": {"X-Reader": CANARY["header"]},
            "api_key": CANARY["context"],
        },
        "evalConfig": {"evaluators": [BUILTIN]},
        "sinks": [
            {
                "kind": "http_webhook",
                "url": f"http://u:{CANARY['sinkuser']}@{host}/{CANARY['sinkpath']}?key={CANARY['sinkquery']}",
                "headers": {"X-Key": CANARY["sinkheader"]},
                "auth": {"kind": "headers", "headers": {"X-Auth": CANARY["sinkauth"]}},
                "secret": OWN_SECRET,
                "token": CANARY["own"],
            }
        ],
    }


def where(database: str, needle: str) -> list[str]:
    """The columns of all tables that hold the text, in the eyes of the superuser."""
    found = []
    with psycopg.connect(environment.url(os.environ["TEST_SUPERUSER"], database)) as connection:
        columns = connection.execute(
            "SELECT table_name, column_name FROM information_schema.columns"
            " JOIN information_schema.tables USING (table_schema, table_name)"
            " WHERE table_schema = 'public' AND table_type = 'BASE TABLE'"
        ).fetchall()
        for table, column in columns:
            looked_for = sql.SQL("SELECT count(*) FROM {} WHERE {}::text ILIKE %s").format(
                sql.Identifier(table), sql.Identifier(column)
            )
            for pattern in (needle, needle.encode().hex()):  # bytea is shown in hexadecimal digits
                if connection.execute(looked_for, [f"%{pattern}%"]).fetchone() != (0,):
                    found.append(f"{table}.{column}")
    return found


def name_of(database: dict[str, str]) -> str:
    return database["DATABASE_URL"].split("@/")[1].split("?")[0]


@pytest.fixture
def told(committed_db: dict[str, str], api: Any, server: LocalServer, work: Any) -> Run:
    """A run of that spec that has been executed, whose webhook has been told, and that was retried."""
    status, answer = api.post(body={"spec": spec(server)})
    assert status == 202, answer
    run = Run.objects.get(pk=answer["data"]["runId"])
    work()
    eventually(lambda: has_ended(run))
    eventually(lambda: len(server.asked) >= 3)
    again = retry(run, "user:7")
    eventually(lambda: has_ended(again))
    return run


def test_the_worker_uses_them(told, server):
    assert told.status == "succeeded", told.error
    fetch = next(asked for asked in server.asked if asked.path == f"/traces/{TRACE}")
    told_of = next(asked for asked in server.asked if asked.method == "POST")

    assert fetch.headers["x-reader"] == CANARY["header"]
    assert fetch.headers["authorization"].startswith("Basic ")
    assert told_of.path == f"/{CANARY['sinkpath']}?key={CANARY['sinkquery']}"
    assert told_of.headers["x-key"] == CANARY["sinkheader"]


def test_no_table_holds_one_in_clear(told, committed_db):
    database = name_of(committed_db)
    encoded = OWN_SECRET.removeprefix("whsec_")

    assert where(database, "CANARY") == []  # all of them begin so
    assert where(database, encoded) == []


def test_the_search_for_them_finds_what_is_there(told, committed_db):
    """The control: a canary in a title is found, and so is one in bytes."""
    Run.objects.filter(pk=told.pk).update(title="CANARYtitle", secrets=b"CANARYbytes")

    assert "run.title" in where(name_of(committed_db), "CANARYtitle")
    assert "run.secrets" in where(name_of(committed_db), "CANARYbytes")


def test_the_api_gives_them_back_redacted(told, api):
    answers = [api.get(f"/{told.pk}"), api.get(""), api.get(f"/{told.pk}/results")]

    assert not [place for place, secret in CANARY.items() if secret in str(answers)]
    assert OWN_SECRET not in str(answers)
    shown = answers[0][1]["data"]["spec"]
    assert shown["context"]["headers"]["X-Reader"] == "REDACTED"
    assert shown["sinks"][0]["kind"] == "http_webhook"


def test_the_page_of_the_run_does_not_show_them(told, signed_in):
    page = signed_in.get(f"/runs/{told.pk}")

    assert page.status_code == 200
    assert not [place for place, secret in CANARY.items() if secret in page.content.decode()]


def test_the_same_spec_again_is_the_same_run_and_another_secret_is_not(api, server):
    body = {"runId": "0199a000-0000-7000-8000-000000000001", "spec": spec(server)}
    first, again = api.post(body=body), api.post(body=body)
    other = spec(server)
    other["sinks"][0]["headers"]["X-Key"] = "another"

    conflict = api.post(body={**body, "spec": other})

    assert (first[0], again[0], first[1]["data"]["runId"]) == (202, 202, again[1]["data"]["runId"])
    assert conflict[0] == 409
    assert not [place for place, secret in CANARY.items() if secret in str(conflict)]


def test_the_log_does_not_tell_them(told, caplog):
    assert not [place for place, secret in CANARY.items() if secret in caplog.text]


def test_a_refused_address_is_told_without_what_is_secret_in_it(api, claim, launcher, settings, server):

    settings.OUTGOING_ALLOW = []
    api.post(body={"spec": spec(server)})
    run, held = claim()
    execute(run, held, launcher.start())
    delivery = claim_delivery([], LEASE)
    assert delivery is not None
    deliver(delivery)

    run.refresh_from_db()
    said = f"{run.error} {Delivery.objects.get().error} {Webhook.objects.get().shown}"
    assert run.status == "failed"
    assert "OUTGOING_ALLOW" in said
    assert not [place for place, secret in CANARY.items() if secret in said]


def test_the_secret_that_an_owner_signs_with_is_sealed(committed_db, owner):
    first = signing_secret(owner)
    assert signing_secret(owner) == first != new_signing_secret(owner)

    body = first.removeprefix("whsec_")
    assert where(name_of(committed_db), body) == []


def test_without_the_key_nothing_is_delivered_and_it_is_said_why(make_run, claim, settings):

    make_run(spec=spec_of(sinks=[{"kind": "stdout"}]))
    claim()[1].succeed({})
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "another", []
    delivery = claim_delivery([], LEASE)
    assert delivery is not None

    deliver(delivery)

    delivery.refresh_from_db()
    assert delivery.state == "dead"
    assert "SECRET_KEY" in delivery.error

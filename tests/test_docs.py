"""docs/workers.md and docs/webhooks.md: their examples work, and what they name is there."""

import json
import re
from datetime import timedelta

import pytest
from django.conf import settings
from django.test import Client
from django.utils import timezone

from runs.models import Webhook
from runs.models.webhook import SINKS, add_sinks
from runs.signing import new_secret, signed_headers, verify
from runs.submission import RunSpec
from tests.conftest import ROOT

WORKERS = (ROOT / "docs" / "workers.md").read_text()
WEBHOOKS = (ROOT / "docs" / "webhooks.md").read_text()
SECRET = new_secret()
BODY = '{"phase": "final", "summary": "größer"}'.encode()


@pytest.fixture
def is_genuine():
    """The receiver's function that the page gives."""
    (code,) = re.findall(r"^```python\n(.*?)^```", WEBHOOKS, re.MULTILINE | re.DOTALL)
    names: dict = {}
    exec(code, names)
    return names["is_genuine"]


def test_the_example_takes_what_we_sign_as_our_own_check_does(is_genuine):
    headers = signed_headers(SECRET, "message-1", timezone.now(), BODY)
    assert is_genuine(SECRET, headers, BODY)
    assert verify(SECRET, headers, BODY, timezone.now())


@pytest.mark.parametrize(
    ("secret", "age", "body"),
    [
        (new_secret(), timedelta(), BODY),
        (SECRET, timedelta(minutes=6), BODY),
        (SECRET, timedelta(), BODY + b" "),
    ],
    ids=["another secret", "old", "changed"],
)
def test_the_example_refuses_what_our_own_check_refuses(is_genuine, secret, age, body):
    headers = signed_headers(SECRET, "message-1", timezone.now() - age, BODY)
    assert not is_genuine(secret, headers, body)
    assert not verify(secret, headers, body, timezone.now())


def test_the_sinks_of_the_example_are_all_known(make_run):
    sinks = json.loads(re.findall(r"^```json\n(.*?)^```", WEBHOOKS, re.MULTILINE | re.DOTALL)[0])["sinks"]
    add_sinks(make_run(), sinks)
    assert list(Webhook.objects.values_list("kind", flat=True)) == [sink["kind"] for sink in sinks]
    assert set(SINKS) == {sink["kind"] for sink in sinks}


def test_the_defaults_of_the_settings_are_those_of_the_page():
    source = (ROOT / "project" / "settings.py").read_text()
    rows = re.findall(r"^\| `([A-Z_]+)` \| (\d+) \|", WORKERS, re.MULTILINE)
    assert len(rows) == 8
    for name, default in rows:
        assert re.search(rf'^{name} = env\.\w+\("{name}", {default},', source, re.MULTILINE), name


def test_every_setting_of_workers_that_there_is_is_on_the_page():
    for name in dir(settings):
        if name.startswith(("WORKER_", "EVALUATOR_", "DELIVERY_", "RUN_MAX", "RUN_DEADLINE")):
            assert f"`{name}`" in WORKERS + WEBHOOKS, name


def test_every_metric_is_on_the_page_and_the_other_way_round(db):
    there = set(re.findall(r"^(runfolio_\w+)", Client().get("/metrics").content.decode(), re.MULTILINE))
    told = set(re.findall(r"`(runfolio_\w+)", WORKERS)) | {"runfolio_queue_later"}
    assert there == told
    assert "`_later`" in WORKERS


def test_the_bounds_of_the_priority_are_those_of_the_page():
    for number in (-1000, 1000):
        assert RunSpec(target={"kind": "inline"}, priority=number).priority == number
    with pytest.raises(ValueError, match="1000"):
        RunSpec(target={"kind": "inline"}, priority=1001)
    assert "(-1000 to 1000" in WORKERS

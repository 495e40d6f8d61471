"""docs/opentelemetry.md: its example works, and what it says of limits is so."""

import json
import re

from runs.api import otlp
from runs.ingest.arrivals import MOST_SPANS
from runs.limits import OTLP_BYTES
from runs.models import Run
from tests.api.otlp import Exporter
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "opentelemetry.md").read_text()


def test_the_example_is_a_run(token):
    (body,) = re.findall(r"<<'JSON'\n(.*?)\nJSON\n", PAGE, re.DOTALL)
    answer = Exporter(token).post(body)
    assert (answer.status_code, json.loads(answer.content)) == (200, {})
    run = Run.objects.get()
    assert (run.title, run.agent, run.session.key) == ("How many lamps?", "lamp-shop", "lamps-1")


def test_the_limits_are_those_of_the_page():
    said = f"{OTLP_BYTES // 2**20} MiB, compressed {otlp.COMPRESSED_BYTES // 2**20} MiB; {MOST_SPANS:,} spans"
    assert said in PAGE


def test_the_port_is_a_setting():
    assert "OTLP_PORT=4318" in PAGE
    assert "# OTLP_PORT=0" in (ROOT / ".env.example").read_text()

"""The OpenTelemetry SDK's own exporters, with traces as several instrumentations write them."""

import re
from collections.abc import Callable

import pytest

from runs.models import Run
from tests.clients.environments import run_script
from tests.conftest import ROOT

SAMPLES = ("conventions", "google_adk", "openinference", "openllmetry")
KINDS = ("protobuf", "json")
PAGE = (ROOT / "docs" / "opentelemetry.md").read_text()

type Export = Callable[..., Run]


@pytest.fixture
def export(committed_db: dict[str, str], gunicorn: int, token: str) -> Export:
    """Sends a sample in a process of its own; gives the run that it became."""

    def send(kind: str, sample: str, **variables: str) -> Run:
        where = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{gunicorn}",
            "OTEL_EXPORTER_OTLP_HEADERS": f"Authorization=Bearer%20{token}",
            **variables,
        }
        printed = run_script("otel", "otel_export", kind, sample, **where)
        assert "Failed" not in printed
        return Run.objects.newest_first().select_related("session")[0]

    return send


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sample", SAMPLES)
def test_what_the_sdk_sends_is_a_run_with_all_that_it_tells(export: Export, kind: str, sample: str) -> None:
    run = export(kind, sample)
    assert (run.status, run.title, run.agent) == ("succeeded", "How many lamps are there?", "keeper")
    assert (run.model, run.input_tokens, run.output_tokens) == ("m-1", 10, 2)
    assert run.session is not None
    assert (run.session.key, run.metadata["service.name"]) == ("lamps-1", "lamps")
    kinds = [event.kind for event in run.events.order_by("seq")]
    assert kinds == ["message", "tool_call", "tool_result", "message"]
    assert run.events.get(kind="tool_call").payload["arguments"] == {"kind": "all"}
    assert run.events.get(kind="tool_result").payload["result"] == {"lamps": 3}
    assert run.events.last().payload["parts"][0]["text"] == "There are three lamps."


@pytest.mark.parametrize("kind", KINDS)
def test_it_may_be_compressed(export: Export, kind: str) -> None:
    assert export(kind, "conventions", OTEL_EXPORTER_OTLP_COMPRESSION="gzip").event_count == 4


@pytest.mark.parametrize("kind", KINDS)
def test_a_failure_is_told_with_its_reason(export: Export, kind: str) -> None:
    run = export(kind, "failure")
    assert (run.status, run.error) == ("failed", "no lamp")


def test_the_pages_variables_are_those_that_the_sdk_reads(export: Export) -> None:
    """The lines of docs/opentelemetry.md, with this server and token in them."""
    told = dict(re.findall(r"^export (OTEL_\w+)=(\S+)$", PAGE, re.MULTILINE))
    assert set(told) == {"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_HEADERS"}
    assert told["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://127.0.0.1:8000"
    assert told["OTEL_EXPORTER_OTLP_HEADERS"].startswith("Authorization=Bearer%20")
    assert export("protobuf", "conventions").event_count == 4

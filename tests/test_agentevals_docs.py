"""docs/agentevals.md: its examples work, and what it names is there."""

import json
import re
import shlex
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.core.management import load_command_class
from django.urls import resolve

from runs.models import Run
from tests.api.agentevals import AgentEvals, file
from tests.api.conftest import agentevals, worker  # noqa: F401
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "agentevals.md").read_text()
BLOCKS = dict(re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[::-1])


def test_the_first_example_evaluates_the_sample(agentevals: AgentEvals, worker: Any) -> None:  # noqa: F811
    _, url, *options = shlex.split(BLOCKS["sh"].replace("\\\n", " "))
    fields = dict(option.split("=", 1) for option in options if "=" in option and option != "-F")
    sent = {
        name: file(value, (ROOT / value.removeprefix("@")).read_bytes()) if value.startswith("@") else value
        for name, value in fields.items()
    }

    status, answer = agentevals.form(urlsplit(url).path, **sent)

    assert (status, answer["data"]["errors"]) == (200, [])
    assert answer["data"]["traceResults"][0]["metricResults"][0]["evalStatus"] == "PASSED"
    assert Run.objects.get().status == "succeeded"


def test_the_sink_of_the_example_leads_to_us() -> None:
    (sink,) = json.loads(BLOCKS["json"])["sinks"]

    assert sink["kind"] == "http_webhook"
    assert resolve(urlsplit(sink["url"]).path).route == "api/sinks/agentevals"


@pytest.mark.parametrize("option", ["--otlp-port", "--url", "--port"])
def test_the_gateway_has_the_options_of_the_page(option: str) -> None:
    parser = load_command_class("runs", "agentevals_gateway").create_parser("manage.py", "agentevals_gateway")

    assert f"`{option}" in PAGE
    assert option in parser.format_help()


def test_the_defaults_of_the_settings_are_those_of_the_page() -> None:
    source = (ROOT / "project" / "settings.py").read_text()
    for name, default in re.findall(r"`([A-Z_]+)` (?:seconds )?\((\d+)", PAGE.replace("\n", " ")):
        assert re.search(rf'^{name} = env\.\w+\("{name}", {default},', source, re.MULTILINE), name

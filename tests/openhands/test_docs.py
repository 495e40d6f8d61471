"""docs/openhands.md says of the statuses what the code does."""

import re

import pytest

from runs.models import Status
from runs.openhands.state import run_status
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "openhands.md").read_text()
ROWS = [
    (raw, words)
    for said, words in re.findall(r"^\| (`.*?) \| ([a-z ]+) \|$", PAGE, re.MULTILINE)
    for raw in re.findall(r"`(\w+)`(?! after)", said)
]


@pytest.mark.parametrize(("raw", "words"), ROWS)
def test_its_table_is_true(raw, words):
    status = run_status(raw, has_acted=raw != "idle")
    assert status.label.lower() == words


def test_it_has_every_status_that_openhands_knows():
    known = "idle running waiting_for_confirmation paused finished error stuck deleting"
    assert {raw for raw, _ in ROWS} == set(known.split())
    assert run_status("idle", has_acted=True) == Status.PAUSED

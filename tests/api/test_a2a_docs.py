"""docs/a2a.md: its examples work, and its tables are those of the code."""

import json
import re
from typing import Any

import pytest
from django.test import Client

from runs.api.a2a.tasks import LARGEST, MOST
from runs.api.a2a.view import METHODS
from runs.models.access import scope_of
from tests.api.a2a import Rpc, completed, submitted
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "a2a.md").read_text()
CALLS = re.findall(r'^curl -s "?http://127\.0\.0\.1:8000(\S+?)"? \\\n.*?-d \'(.*?)\'$', PAGE, re.M | re.S)


def test_every_call_of_the_page_works(owner, token):
    completed(owner)
    task = submitted(owner)
    rpc = Rpc(token)
    rpc.result("tasks/list", limit=1)
    words = {"$TASK": str(task.task_id), "$CURSOR": rpc.next_cursor}
    assert len(CALLS) == 5
    for address, body in CALLS:
        for word, value in words.items():
            body = body.replace(word, str(value))
        answer = _post(address, body, token)
        assert answer.keys() & {"result", "data"}, answer


def test_the_methods_and_their_scopes_are_those_of_the_page():
    rows = re.findall(r"^\| `([a-zA-Z/]+)` \|.*\| (read|write) \|$", PAGE, re.MULTILINE)
    assert dict(rows) == {name: scope_of(method.action) for name, method in METHODS.items()}


def test_the_limits_are_those_of_the_page():
    assert f"at most {MOST:,}" in PAGE
    assert f"about {LARGEST // 2**20} MB" in PAGE


def test_bindu_finds_its_webhook_in_the_configuration(db):
    (block,) = re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    address = json.loads(block)["global_webhook_url"].removeprefix("http://127.0.0.1:8000")
    assert Client().post(address, "{}", content_type="application/json").status_code == 401


@pytest.mark.parametrize("address", ["/a2a/.well-known/agent.json", "/.well-known/agent.json"])
def test_the_card_is_where_the_page_says(db, address):
    assert f"`{address}`" in PAGE
    assert Client().get(address).status_code == 200


def _post(address: str, body: str, token: str) -> Any:
    headers = {"Authorization": f"Bearer {token}"}
    response = Client().post(address, body, content_type="application/json", headers=headers)
    return json.loads(response.content)

"""Every statement of every method of /a2a is bound to the token's owner (tests/test_owner_condition.py)."""

import json
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection

from runs.models.push import keep_push
from runs.models.task import Task
from tests.api.test_a2a import METHODS
from tests.test_owner_condition import Record
from tests.walk import World

CONFIG = {"id": str(uuid4()), "url": "https://93.184.216.34/hook"}


@pytest.fixture
def world(db: None) -> World:
    return World()


def bodies(world: World, method: str) -> list[dict[str, Any]]:
    """Of a task that its agent reports, of one that came by another way, and of none."""
    keep_push(world.task, CONFIG)
    ids = [(world.task.pk, world.context.context_id), (world.run.pk, world.session.pk), (uuid4(), uuid4())]
    return [
        {
            "taskId": str(task_id),
            "id": str(task_id),
            "contextId": str(context_id),
            "feedback": "x",
            "rating": 3,
            "historyLength": 1,
            "state": "working",
            "offset": 0,
            "pushNotificationConfig": CONFIG,
            "pushNotificationConfigId": CONFIG["id"],
        }
        for task_id, context_id in ids
    ]


@pytest.mark.parametrize("own", [True, False], ids=["of an agent", "of another way in"])
@pytest.mark.parametrize("method", METHODS)
def test_every_statement_is_bound_to_the_callers_owner(world, method, own):
    if not own:
        Task.objects.all().delete()
    for params in bodies(world, method):
        for address in ("/a2a", "/a2a?namespace="):
            record = Record(None, world.owner)
            with connection.execute_wrapper(record):
                body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
                answer = world.visitors[METHODS[method][0]].call("POST", address, body)
            assert record.unbound == [], f"{method} reads what is not bound to an owner"
            assert json.loads(answer.content)["jsonrpc"] == "2.0"

"""`tasks/pushNotificationConfig/*`: where a client wants to be told how a task goes on.

The configuration is the client's, and Runfolio itself delivers to it (runs.models.push). A task has one at a
time, as in Bindu; it is kept for good and deleted for good, whatever `longRunning` says.
"""

from uuid import UUID

from django.conf import settings

from runs.api.a2a.caller import Answer, Caller
from runs.api.a2a.params import Params
from runs.api.a2a.rpc import Code, RpcError
from runs.api.once import raw
from runs.exact import Json
from runs.models import Action
from runs.models.push import forget_push, keep_push, push_headers, push_of
from runs.models.task import Task
from runs.outgoing import Outgoing, OutgoingError
from runs.sealing import Unsealable

_NONE = "Push notification configuration not found for task."
_ANOTHER = "Push notification configuration identifier mismatch."
_LOOK_UP = 3.0  # seconds for the name in a URL


def set_(caller: Caller, params: Params) -> Answer:
    """What may not be delivered is refused now, by the rules of all that goes out (RELIABILITY.md S6)."""
    task_id, config = params.uuid("id"), _read(params.inner("push_notification_config"))
    task = caller.task(task_id, Action.SUBMIT)
    try:
        Outgoing(settings.OUTGOING_ALLOW).check(str(config["url"]), push_headers(config), timeout=_LOOK_UP)
    except OutgoingError as error:
        raise RpcError(Code.REFUSED, f"Invalid push notification configuration: {error}") from None
    keep_push(task.run, config)
    return _shown(task, config)


def get(caller: Caller, params: Params) -> Answer:
    return _shown(*_kept(caller, params.uuid("task_id")))


def list_(caller: Caller, params: Params) -> Answer:
    """One object and no list, as Bindu answers it."""
    return _shown(*_kept(caller, params.uuid("id")))


def delete(caller: Caller, params: Params) -> Answer:
    task_id, config_id = params.uuid("id"), params.uuid("push_notification_config_id")
    task, config = _kept(caller, task_id)
    if config["id"] != str(config_id):
        raise RpcError(Code.REFUSED, _ANOTHER)
    forget_push(task.run)
    return _shown(task, config)


def _read(params: Params) -> dict[str, Json]:
    """What Bindu keeps of it: whatever else stands there is dropped."""
    given = {
        "id": str(params.uuid("id")),
        "url": params.text("url"),
        "token": params.optional_text("token"),
        "authentication": params.optional_object("authentication"),
    }
    return {name: value for name, value in given.items() if value is not None}


def _kept(caller: Caller, task_id: UUID) -> tuple[Task, dict[str, Json]]:
    task = caller.find_task(task_id, Action.SUBMIT)
    try:
        config = None if task is None else push_of(task.run)
    except Unsealable as error:
        raise RpcError(Code.REFUSED, str(error)) from None
    if task is None or config is None:
        raise RpcError(Code.REFUSED, _NONE)
    return task, config


def _shown(task: Task, config: dict[str, Json]) -> Answer:
    return Answer({"id": str(task.task_id), "push_notification_config": raw(config)})

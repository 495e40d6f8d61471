"""The API of Runfolio in Python: `Client`, and `AsyncClient` for asyncio, with the same methods.

Each method is described once, as a request and how to read its answer, or as the steps of several; the two
clients differ in who sends and who sleeps.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Concatenate, Generic, ParamSpec, TypedDict, TypeVar, overload
from uuid import UUID, uuid4

import httpx2

from runfolio_client._http import Answer, Request, Send, Sleep, Steps, encoded, place, segment, tries
from runfolio_client.errors import OperationTimeout

T = TypeVar("T")
P = ParamSpec("P")

Message = dict[str, Any]
Artifact = dict[str, Any]
Run = dict[str, Any]
Id = UUID | str

FINAL_STATUSES = {"succeeded", "failed", "cancelled"}


class TaskStatus(TypedDict):
    state: str
    timestamp: str


class Task(TypedDict):
    """A task as A2A has it, in snake_case; ids are text."""

    id: str
    context_id: str
    kind: str
    status: TaskStatus
    history: list[Message]
    artifacts: list[Artifact]
    metadata: dict[str, Any]


class ListedContext(TypedDict):
    context_id: str
    task_count: int
    task_ids: list[str]


class Update(TypedDict, total=False):
    """One step of a task: what is appended, and the state after it."""

    state: str
    artifacts: list[Artifact]
    messages: list[Message]
    metadata: dict[str, Any]


class CancelRequest(TypedDict):
    """Somebody wants the task to stop: an agent that can, does, and moves it to `canceled`."""

    at: str
    by: str
    reason: str


@dataclass(frozen=True)
class Written:
    """What a write left behind."""

    task: Task
    cancel_requested: CancelRequest | None
    # The task had ended before: it is as it was, and what was sent is kept beside it.
    late: bool = False


class Page(list[T]):
    """Some of a list; the next ones follow `next_cursor`, None at the end."""

    def __init__(self, items: Iterable[T], next_cursor: str | None) -> None:
        super().__init__(items)
        self.next_cursor = next_cursor


class verb(Generic[P, T]):
    """A method of both clients: described once, done by whichever it is called on."""

    def __init__(self, describe: Callable[Concatenate[Any, P], Request[T] | Steps[T]]) -> None:
        self.describe = describe
        self.__doc__ = describe.__doc__
        # What help() shows is what callers get.
        returned = describe.__annotations__["return"]
        describe.__annotations__["return"] = re.sub(r"^(Request|Steps)\[(.+)\]$", r"\2", returned)

    @overload
    def __get__(self, client: None, kind: type) -> Callable[Concatenate[Any, P], Request[T] | Steps[T]]: ...
    @overload
    def __get__(self, client: Client, kind: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: AsyncClient, kind: type) -> Callable[P, Coroutine[Any, Any, T]]: ...

    def __get__(self, client: Any, kind: type) -> Any:
        if client is None:
            return self.describe

        def call(*args: P.args, **kwargs: P.kwargs) -> Any:
            return client.perform(self.describe(client, *args, **kwargs))

        call.__name__, call.__doc__ = self.describe.__name__, self.__doc__
        return call


class Verbs:
    """What Runfolio can be asked. Ids are UUIDs or their text.

    Anything but success raises AnswerError (NotFound for 404), and OperationTimeout where Runfolio did not
    answer in time. Writes carry an Idempotency-Key of their own: tried twice, they happen once.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        timeout: float = 30.0,
        namespace: str = "",
    ) -> None:
        """`timeout`: seconds for one call with all its tries. `namespace`: the room that tasks and contexts
        are in; agents that share a token but not their tasks have one each."""
        self.url, self._token = place(url, token)
        self.timeout = timeout
        self.namespace = namespace

    # ── Evaluation runs ────────────────────────────────────────────────────
    @verb
    def submit_run(self, spec: Mapping[str, Any], run_id: Id | None = None) -> Request[Run]:
        """Queues an evaluation. The same run id with an equal spec gives the run that is there."""
        # An id of our own, since this path knows no keys: tried twice, it is one run.
        body = {"runId": run_id or uuid4(), "spec": spec}
        return _post("submit_run", run_id or "", "/api/runs", body)

    @verb
    def get_run(self, run_id: Id) -> Request[Run]:
        """An evaluation run, without its results."""
        return _get("get_run", run_id, f"/api/runs/{segment(run_id)}")

    @verb
    def list_runs(
        self, q: str = "", *, status: Sequence[str] = (), limit: int = 100, cursor: str | None = None
    ) -> Request[Page[Run]]:
        """Evaluation runs, newest first. `q`: a search as on the runs page, such as `agent:helm timeout`."""
        query = _given(q=q or None, status=list(status) or None, limit=limit, cursor=cursor)
        return Request("list_runs", "", "GET", "/api/runs", _page_of_runs, query)

    @verb
    def run_results(self, run_id: Id) -> Request[list[dict[str, Any]]]:
        """What the evaluators said, oldest first."""
        return _get("run_results", run_id, f"/api/runs/{segment(run_id)}/results")

    @verb
    def cancel_run(self, run_id: Id) -> Request[Run]:
        """Ends a queued run at once and asks the worker of a running one to stop."""
        return _post("cancel_run", run_id, f"/api/runs/{segment(run_id)}/cancel", None)

    @verb
    def wait_for_run(self, run_id: Id, timeout: float = 300.0) -> Steps[Run]:
        """The run once it is final. Raises OperationTimeout after `timeout` seconds; the run goes on."""
        ends, pause = time.monotonic() + timeout, 0.1
        while True:
            left = ends - time.monotonic()
            asked = _get("wait_for_run", run_id, f"/api/runs/{segment(run_id)}")
            run: Run = yield from tries(asked, min(self.timeout, max(left, 1.0)), self.url)
            if run["status"] in FINAL_STATUSES:
                return run
            if left <= 0:
                raise OperationTimeout(f"wait_for_run of {run_id}: still {run['status']} after {timeout:g} s")
            yield Sleep(min(pause, left))
            pause = min(pause * 1.5, 2.0)

    # ── Tasks ──────────────────────────────────────────────────────────────
    @verb
    def submit_task(
        self,
        message: Message,
        *,
        task_id: Id | None = None,
        context_id: Id | None = None,
        caller: str | None = None,
        agent: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Request[Written]:
        """A new task with its first message, or one more message for a task that is open.

        The ids may be in the message. `caller`: who asks, as the agent knows them; `agent`: its name on the
        pages. AnswerError with the code task_final where the task has ended, owned_by_another where task or
        context are another caller's.
        """
        ids = _given(task_id=task_id, context_id=context_id, caller=caller, agent=agent, metadata=metadata)
        subject = task_id or message.get("task_id", "")
        return _write("submit_task", subject, "/api/tasks", {"message": message, **ids}, self._query())

    @verb
    def get_task(self, task_id: Id, *, history_length: int | None = None) -> Request[Task]:
        """`history_length`: only so many of its last messages; 0 and None ask for all."""
        return _get("get_task", task_id, _task(task_id), self._query(**_last(history_length)))

    @verb
    def update_task(
        self,
        task_id: Id,
        state: str,
        *,
        artifacts: Sequence[Artifact] = (),
        messages: Sequence[Message] = (),
        metadata: Mapping[str, Any] | None = None,
        minimal: bool = False,
    ) -> Request[Written]:
        """Appends messages and artifacts, adds metadata and moves the task to `state`, all at once.

        A task that has ended stays as it is, see Written.late. `minimal`: the answer has no history.
        """
        update = {"state": state, "artifacts": list(artifacts), "messages": list(messages)}
        return self._updated(task_id, {**update, "metadata": dict(metadata or {})}, minimal)

    @verb
    def update_task_often(
        self, task_id: Id, updates: Sequence[Update], *, minimal: bool = False
    ) -> Request[Written]:
        """Several updates in order, in one request and one transaction."""
        return self._updated(task_id, {"updates": list(updates)}, minimal)

    @verb
    def move_task(self, task_id: Id, from_state: str, to_state: str) -> Request[bool]:
        """Moves the task if it is in `from_state`, and whether it was: of several at once one wins."""
        body = {"from": from_state, "to": to_state}
        path = f"{_task(task_id)}/transition"
        return _post("move_task", task_id, path, body, self._query(), read=_moved)

    @verb
    def cancel_task(self, task_id: Id, reason: str = "") -> Request[Written]:
        """Asks the agent to stop: it is told with the answer to whatever it writes next."""
        return _write("cancel_task", task_id, f"{_task(task_id)}/cancel", {"reason": reason}, self._query())

    @verb
    def list_tasks(
        self,
        *,
        caller: str | None = None,
        context_id: Id | None = None,
        state: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        length: int | None = None,
        offset: int | None = None,
        oldest_first: bool = False,
        history_length: int | None = None,
    ) -> Request[Page[Task]]:
        """Tasks with their history, newest first. A page has `limit` of them at the most and is followed by
        its cursor; `length` and `offset` are for those who must count."""
        order = "oldest" if oldest_first else None
        asked = self._query(caller=caller, context_id=context_id, state=state, order=order)
        window = _given(limit=limit, cursor=cursor, length=length, offset=offset)
        return _list("list_tasks", "", "/api/tasks", {**asked, **window, **_last(history_length)})

    @verb
    def count_tasks(self, state: str | None = None) -> Request[int]:
        """How many tasks there are, in any dialect's `state` or in all."""
        return _get("count_tasks", "", "/api/tasks/count", self._query(state=state), read=_count)

    @verb
    def task_owner(self, task_id: Id) -> Request[str | None]:
        """The caller whose task it is; None where it is nobody's."""
        return _get("task_owner", task_id, f"{_task(task_id)}/owner", self._query(), read=_owner)

    @verb
    def give_task_feedback(self, task_id: Id, feedback: Mapping[str, Any]) -> Request[Any]:
        """Keeps the feedback as it is, such as {"rating": 5, "feedback": "Right."}; all of it stays."""
        return _post("give_task_feedback", task_id, f"{_task(task_id)}/feedback", feedback, self._query())

    @verb
    def task_feedback(self, task_id: Id) -> Request[list[dict[str, Any]]]:
        """All feedback of a task as it came, oldest first."""
        return _get("task_feedback", task_id, f"{_task(task_id)}/feedback", self._query())

    @verb
    def push_config(self, task_id: Id) -> Request[dict[str, Any]]:
        """Where the agent tells about a task, as it was put."""
        return _get("push_config", task_id, f"{_task(task_id)}/push-config", self._query())

    @verb
    def push_configs(self) -> Request[dict[str, dict[str, Any]]]:
        """The push configurations of all tasks, by task id."""
        return _get("push_configs", "", "/api/tasks/push-configs", self._query())

    @verb
    def put_push_config(self, task_id: Id, config: Mapping[str, Any]) -> Request[Any]:
        """Kept encrypted, for the agent: Runfolio itself sends nothing there."""
        return _post(
            "put_push_config", task_id, f"{_task(task_id)}/push-config", config, self._query(), "PUT"
        )

    @verb
    def delete_push_config(self, task_id: Id) -> Request[Any]:
        """Deletes it for good; no error where there is none."""
        return _delete("delete_push_config", task_id, f"{_task(task_id)}/push-config", self._query())

    @verb
    def clear_tasks(self) -> Request[Any]:
        """Clears all tasks and contexts of the namespace. People can restore them for some days."""
        return _delete("clear_tasks", self.namespace, "/api/tasks", self._query())

    @verb
    def bulk(self, operations: Iterable[Mapping[str, Any]]) -> Request[list[dict[str, Any]]]:
        """Many operations in one request, such as {"op": "update", "task_id": ..., "state": "working"}.

        The outcomes are in order, each with its `status` and `data` or `error`; a broken operation does not
        stop the rest. A few thousand at a time are a good measure.
        """
        lines = b"".join(encoded({"namespace": self.namespace, **one}) + b"\n" for one in operations)
        return Request(
            *("bulk", "", "POST", "/api/tasks/bulk", _lines),
            content=lines,
            media_type="application/x-ndjson",
        )

    # ── Contexts ───────────────────────────────────────────────────────────
    @verb
    def list_contexts(
        self,
        *,
        caller: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        length: int | None = None,
        offset: int | None = None,
    ) -> Request[Page[ListedContext]]:
        """Newest first, each with the ids of its tasks."""
        window = self._query(caller=caller, limit=limit, cursor=cursor, length=length, offset=offset)
        return _list("list_contexts", "", "/api/contexts", window)

    @verb
    def get_context(self, context_id: Id) -> Request[dict[str, Any]]:
        """A context, with what was put into it as `data`."""
        return _get("get_context", context_id, _context(context_id), self._query())

    @verb
    def put_context(self, context_id: Id, data: Mapping[str, Any]) -> Request[Any]:
        """Replaces what is kept with the context; makes the context if there is none."""
        return _post("put_context", context_id, _context(context_id), {"data": data}, self._query(), "PUT")

    @verb
    def append_to_context(self, context_id: Id, messages: Sequence[Message]) -> Request[Any]:
        """Appends to the messages of the context itself, beside those of its tasks."""
        body = {"messages": list(messages)}
        return _post("append_to_context", context_id, f"{_context(context_id)}/messages", body, self._query())

    @verb
    def context_owner(self, context_id: Id) -> Request[str | None]:
        """The caller whose context it is; None where it is nobody's."""
        return _get("context_owner", context_id, f"{_context(context_id)}/owner", self._query(), read=_owner)

    @verb
    def context_tasks(
        self,
        context_id: Id,
        *,
        caller: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        length: int | None = None,
        offset: int | None = None,
        history_length: int | None = None,
    ) -> Request[Page[Task]]:
        """The tasks of a context with their history, oldest first; else as list_tasks."""
        window = self._query(caller=caller, limit=limit, cursor=cursor, length=length, offset=offset)
        path = f"{_context(context_id)}/tasks"
        return _list("context_tasks", context_id, path, {**window, **_last(history_length)})

    @verb
    def clear_context(self, context_id: Id) -> Request[Any]:
        """Clears a context and all its tasks. People can restore them for some days."""
        return _delete("clear_context", context_id, _context(context_id), self._query())

    @property
    def _settings(self) -> dict[str, Any]:
        """Of the HTTP client. Redirects are not followed: the token would go along."""
        agent = {"Authorization": f"Bearer {self._token}", "User-Agent": "runfolio-client"}
        return {"base_url": self.url, "headers": agent, "follow_redirects": False}

    def _query(self, **more: Any) -> dict[str, Any]:
        return _given(namespace=self.namespace or None, **more)

    def _updated(self, task_id: Id, body: Any, minimal: bool) -> Request[Written]:
        query = self._query(**{"return": "minimal" if minimal else None})
        return _write("update_task", task_id, f"{_task(task_id)}/updates", body, query)


class Client(Verbs):
    """Calls Runfolio and waits for the answer. Threads may share one; close it, or use it in `with`."""

    def __init__(
        self, url: str | None = None, token: str | None = None, timeout: float = 30.0, namespace: str = ""
    ) -> None:
        super().__init__(url, token, timeout, namespace)
        self._http = httpx2.Client(**self._settings)

    def perform(self, asked: Request[T] | Steps[T], timeout: float | None = None) -> T:
        """Does what a verb describes, a single request in `timeout` seconds instead of the client's own."""
        steps = _steps(asked, self.timeout if timeout is None else timeout, self.url)
        outcome: Answer | httpx2.TransportError | None = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as done:
                return done.value
            outcome = self._done(step)

    def _done(self, step: Send | Sleep) -> Answer | httpx2.TransportError | None:
        if isinstance(step, Sleep):
            time.sleep(step.seconds)
            return None
        try:
            return _answer(self._http.request(**_arguments(step)))
        except httpx2.TransportError as error:
            return error

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient(Verbs):
    """The same for asyncio: every method is awaited. Close it with `aclose`, or use it in `async with`."""

    def __init__(
        self, url: str | None = None, token: str | None = None, timeout: float = 30.0, namespace: str = ""
    ) -> None:
        super().__init__(url, token, timeout, namespace)
        self._http: httpx2.AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def perform(self, asked: Request[T] | Steps[T], timeout: float | None = None) -> T:
        """Does what a verb describes, a single request in `timeout` seconds instead of the client's own."""
        steps = _steps(asked, self.timeout if timeout is None else timeout, self.url)
        outcome: Answer | httpx2.TransportError | None = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as done:
                return done.value
            outcome = await self._done(step)

    async def _done(self, step: Send | Sleep) -> Answer | httpx2.TransportError | None:
        if isinstance(step, Sleep):
            await asyncio.sleep(step.seconds)
            return None
        try:
            return _answer(await self._of_this_loop().request(**_arguments(step)))
        except httpx2.TransportError as error:
            return error

    def _of_this_loop(self) -> httpx2.AsyncClient:
        """Connections belong to the loop that opened them; those of a loop that ended are of no use."""
        loop = asyncio.get_running_loop()
        if self._http is None or self._loop is not loop:
            self._http, self._loop = httpx2.AsyncClient(**self._settings), loop
        return self._http

    async def aclose(self) -> None:
        """Closes the connections; the next call opens new ones."""
        if self._http is not None and self._loop is asyncio.get_running_loop():
            await self._http.aclose()
        self._http = None

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


# ── Descriptions ───────────────────────────────────────────────────────────
def _get(
    operation: str,
    subject: Id,
    path: str,
    query: Mapping[str, Any] | None = None,
    read: Callable[[Answer], Any] | None = None,
) -> Request[Any]:
    return Request(operation, str(subject), "GET", path, read or _data, query or {})


def _list(operation: str, subject: Id, path: str, query: Mapping[str, Any]) -> Request[Any]:
    return Request(operation, str(subject), "GET", path, _page, query)


def _post(
    operation: str,
    subject: Id,
    path: str,
    body: Any,
    query: Mapping[str, Any] | None = None,
    method: str = "POST",
    read: Callable[[Answer], Any] | None = None,
) -> Request[Any]:
    content = None if body is None else encoded(body)
    return Request(operation, str(subject), method, path, read or _data, query or {}, content)


def _write(
    operation: str, subject: Id, path: str, body: Any, query: Mapping[str, Any] | None = None
) -> Request[Written]:
    return _post(operation, subject, path, body, query, read=_written)


def _delete(operation: str, subject: Id, path: str, query: Mapping[str, Any]) -> Request[Any]:
    return Request(operation, str(subject), "DELETE", path, lambda answer: None, query)


def _given(**values: Any) -> dict[str, Any]:
    """Those that say something. UUIDs become text."""
    return {name: _text(value) for name, value in values.items() if value is not None}


def _last(history_length: int | None) -> dict[str, Any]:
    return _given(history_length=history_length or None)


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, UUID) else value


def _task(task_id: Id) -> str:
    return f"/api/tasks/{segment(task_id)}"


def _context(context_id: Id) -> str:
    return f"/api/contexts/{segment(context_id)}"


# ── Answers ────────────────────────────────────────────────────────────────
def _data(answer: Answer) -> Any:
    return answer.json()["data"]


def _written(answer: Answer) -> Written:
    body = answer.json()
    return Written(body["data"], body["cancel_requested"], body.get("late", False))


def _moved(answer: Answer) -> bool:
    return bool(_data(answer)["moved"])


def _count(answer: Answer) -> int:
    return int(_data(answer)["count"])


def _owner(answer: Answer) -> str | None:
    caller: str | None = _data(answer)["caller"]
    return caller


def _page(answer: Answer) -> Page[Any]:
    body = answer.json()
    return Page(body["data"], body.get("next_cursor"))


def _page_of_runs(answer: Answer) -> Page[Run]:
    return Page(_data(answer), answer.headers.get("x-next-cursor"))


def _lines(answer: Answer) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer.content.splitlines() if line.strip()]


# ── Sending ────────────────────────────────────────────────────────────────
def _steps(asked: Request[T] | Steps[T], timeout: float, url: str) -> Steps[T]:
    return tries(asked, timeout, url) if isinstance(asked, Request) else asked


def _arguments(step: Send) -> dict[str, Any]:
    asked = step.request
    return {
        "method": asked.method,
        "url": asked.path,
        "params": asked.query,
        "content": asked.content,
        "headers": asked.headers,
        "timeout": step.seconds,
    }


def _answer(response: httpx2.Response) -> Answer:
    return Answer(response.status_code, response.headers, response.content)

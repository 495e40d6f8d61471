"""Bindu itself on our Storage: its agent, its JSON-RPC, its worker (CONTRACTS.md 2; docs/bindu.md)."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from uuid import uuid4

import pytest

from runs.models import Artifact, Event, Owner, Run, Token
from runs.models.task import Task
from runs.models.transition import request_cancel
from tests.clients.environments import SCRIPTS, run_script, running
from tests.conftest import ROOT, answers, eventually, own_database
from tests.serving import served

pytestmark = pytest.mark.timeout(600)  # agents and servers start and are waited for

CHECKS = re.findall(r"^async def (test_\w+)", (SCRIPTS / "bindu_storage.py").read_text(), re.MULTILINE)
PAGE = (ROOT / "docs" / "bindu.md").read_text()


# ── The Storage by itself ──────────────────────────────────────────────────
@pytest.fixture(scope="module")
def outcomes(django_db_blocker: Any) -> Iterator[dict[str, str]]:
    """What each of scripts/bindu_storage.py came to, in one process of Bindu's environment."""
    with own_database(django_db_blocker), served() as url:
        printed = run_script("bindu", "bindu_storage", timeout=400, **access(url))
        yield json.loads(printed.splitlines()[-1])


@pytest.mark.parametrize("check", CHECKS)
def test_the_storage_does_as_bindus_do(outcomes: dict[str, str], check: str) -> None:
    assert outcomes[check] == "passed"


def test_bindus_own_storage_passes_those_that_are_not_ours_alone() -> None:
    printed = run_script("bindu", "bindu_storage", "memory", RUNFOLIO_TOKEN="unused")
    outcomes = json.loads(printed.splitlines()[-1])
    assert len(outcomes) > 30
    assert {name: outcome for name, outcome in outcomes.items() if outcome != "passed"} == {}


def test_appends_and_swaps_from_two_processes_all_stay_and_one_wins(site: str) -> None:
    task_id, settings = str(uuid4()), access(site)
    run_script("bindu", "bindu_writers", "submit", task_id, **settings)

    with ThreadPoolExecutor() as pool:
        both = [pool.submit(run_script, "bindu", "bindu_writers", "write", task_id, **settings) for _ in "12"]
    won = [json.loads(one.result().splitlines()[-1])["won"] for one in both]

    assert sum(won) == 1
    assert Event.objects.filter(run__task__task_id=task_id, kind="message").count() == 51
    assert Task.objects.get(task_id=task_id).state == "canceled"


# ── A real agent ───────────────────────────────────────────────────────────
class Agent:
    """A bindufied echo agent and its JSON-RPC."""

    def __init__(self, port: int, folder: Path) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.folder = folder

    def health(self) -> Any:
        return json.loads(urllib.request.urlopen(f"{self.url}/health", timeout=20).read())

    def call(self, method: str, **params: Any) -> Any:
        """The whole answer, an error's as well."""
        body = {"jsonrpc": "2.0", "id": str(uuid4()), "method": method, "params": params}
        asked = urllib.request.Request(
            self.url, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            return json.loads(urllib.request.urlopen(asked, timeout=60).read())
        except urllib.error.HTTPError as error:
            return json.loads(error.read())

    def send(self, text: str, task_id: str, context_id: str, parts: Any = None, **more: Any) -> Any:
        message = {
            "role": "user",
            "kind": "message",
            "parts": parts or [{"kind": "text", "text": text}],
            "messageId": str(uuid4()),
            "taskId": task_id,
            "contextId": context_id,
            **more,
        }
        configuration = {"acceptedOutputModes": ["application/json"]}
        return self.call("message/send", message=message, configuration=configuration)

    def task(self, task_id: str, **params: Any) -> Any:
        return self.call("tasks/get", taskId=task_id, **params)["result"]

    def ended(self, task_id: str, *states: str) -> Any:
        """The task once it is in one of these states."""
        states = states or ("completed",)
        eventually(lambda: self.task(task_id)["status"]["state"] in states, seconds=60)
        return self.task(task_id)

    def said(self, text: str, *states: str, **more: Any) -> Any:
        """The task of a message of its own, once it has ended."""
        task_id = str(uuid4())
        answer = self.send(text, task_id, str(uuid4()), **more)
        assert "result" in answer, answer
        return self.ended(task_id, *states)

    def go(self) -> None:
        """Lets a slow handler answer."""
        (self.folder / "go").touch()

    def started(self) -> None:
        eventually(lambda: (self.folder / "started").exists(), seconds=60)


@pytest.fixture
def start_agent(tmp_path: Path) -> Iterator[Callable[..., Agent]]:
    with ExitStack() as agents:

        def start(name: str = "helper", folder: Path | None = None, **settings: str) -> Agent:
            folder = folder or Path(mkdtemp(dir=tmp_path))  # with its keys
            port = free_port()
            agents.enter_context(running("bindu", "bindu_agent", str(port), str(folder), name, **settings))
            eventually(lambda: answers(port), seconds=90)
            return Agent(port, folder)

        yield start


@pytest.fixture
def agent(start_agent: Callable[..., Agent], site: str) -> Agent:
    return start_agent(**access(site))


def test_the_agent_says_that_it_keeps_its_tasks_here(agent: Agent) -> None:
    assert agent.health()["runtime"]["storage_backend"] == "RunfolioStorage"


def test_a_conversation_gives_the_same_json_as_in_memory(
    start_agent: Callable[..., Agent], site: str
) -> None:
    remembered, kept = start_agent(), start_agent(**access(site))

    in_memory, here = conversation(remembered), conversation(kept)

    for (step, wanted), (_, found) in zip(in_memory, here, strict=True):
        assert found == wanted, step


def conversation(agent: Agent) -> list[tuple[str, Any]]:
    """What an agent answers to all that one can ask, ids and times made equal."""
    first, second, third, many, context, other = (str(uuid4()) for _ in range(6))
    config = {"id": str(uuid4()), "url": "http://127.0.0.1:9/push", "token": "tok"}
    names = {first: "first", second: "second", third: "third", many: "many", context: "context"}
    plain = Plain({**names, other: "other", config["id"]: "config"})
    seen: list[tuple[str, Any]] = []

    def note(step: str, answer: Any) -> None:
        seen.append((step, plain(answer)))

    note("new", agent.send("hello\x00 😀", first, context, metadata={"from": "tests"}))
    note("completed", agent.ended(first))
    note("asks", agent.send("ask me", second, context))
    note("input-required", agent.ended(second, "input-required"))
    note("continued", agent.send("Paris", second, context))
    note("answered", agent.ended(second))
    note("its last message", agent.task(second, historyLength=1))
    note("refers", agent.send("and then?", third, context, referenceTaskIds=[first]))
    note("knows what it refers to", agent.ended(third))
    note("files", agent.send("", many, other, parts=FILES))
    agent.ended(many)
    long = str(uuid4())
    for number in range(30):
        agent.send(f"ask {number}", long, other)
        agent.ended(long, "input-required")
    agent.send("enough", long, other)
    note("long history", agent.ended(long))
    note("its end", agent.task(long, historyLength=5))
    note("fails", agent.said("fail", "failed"))
    note("to an ended one", agent.send("more", first, context))
    note("unknown", agent.call("tasks/get", taskId=str(uuid4())))
    note("cancel an ended one", agent.call("tasks/cancel", taskId=first))
    note(
        "feedback", agent.call("tasks/feedback", taskId=first, feedback="great", rating=5, metadata={"a": 1})
    )
    push = {"id": second, "pushNotificationConfig": config, "longRunning": True}
    note("push", agent.call("tasks/pushNotificationConfig/set", **push))
    note("its push", agent.call("tasks/pushNotificationConfig/get", taskId=second))
    gone = {"id": second, "pushNotificationConfigId": config["id"]}
    note("push deleted", agent.call("tasks/pushNotificationConfig/delete", **gone))
    note("all tasks", in_order(agent.call("tasks/list")["result"]))
    note("all contexts", in_order(agent.call("contexts/list")["result"]))
    note("cleared", agent.call("contexts/clear", contextId=context))
    note("gone", agent.call("tasks/get", taskId=first))
    note("cleared twice", agent.call("contexts/clear", contextId=context))
    note("what is left", in_order(agent.call("tasks/list")["result"]))
    return seen


FILES = [
    {"kind": "text", "text": "look at these"},
    {
        "kind": "file",
        "text": "a file",
        "file": {"bytes": "aGVsbG8=", "mimeType": "text/plain", "name": "a.txt"},
    },
    {"kind": "data", "text": "some data", "data": {"b": [1, 2.5, None], "a": {"deep": True}}},
]


def in_order(items: list[Any]) -> list[Any]:
    """Lists are the same but for order."""
    return sorted(items, key=lambda item: json.dumps(Plain({})(item), sort_keys=True))


class Plain:
    """Makes answers comparable: ids that were chosen get their names, others and times are all the same."""

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names

    def __call__(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: "…" if "signature" in key else self(one) for key, one in value.items()}
        if isinstance(value, list):
            return [self(one) for one in value]
        return self._text(value) if isinstance(value, str) else value

    def _text(self, value: str) -> str:
        value = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", self._named, value)
        return re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+(\+00:00)?", "a time", value)

    def _named(self, found: re.Match[str]) -> str:
        return self.names.get(found[0], "an id")


def test_the_run_is_on_the_pages_with_the_agents_name(agent: Agent) -> None:
    task = agent.said("hello")

    run = Run.objects.get(task__task_id=task["id"])
    assert (run.kind, run.agent, run.status, run.raw_status) == ("task", "helper", "succeeded", "completed")
    assert [event.role for event in run.events.filter(kind="message")] == ["user", "agent"]
    assert run.artifacts.count() == 1


def test_a_canceled_task_stays_canceled_and_the_agent_alive(agent: Agent) -> None:
    task_id = str(uuid4())
    agent.send("slow work", task_id, str(uuid4()))
    agent.started()

    answer = agent.call("tasks/cancel", taskId=task_id)
    agent.go()

    assert answer["result"]["status"]["state"] == "canceled"
    assert agent.said("hello")["status"]["state"] == "completed"
    task = agent.task(task_id)
    assert task["status"]["state"] == "canceled"
    assert [message["role"] for message in task["history"]] == ["user"]
    assert "artifacts" not in task
    assert Artifact.objects.filter(run__task__task_id=task_id).count() == 0


def test_clearing_a_context_under_a_handler_leaves_the_agent_alive(agent: Agent) -> None:
    task_id, context_id = str(uuid4()), str(uuid4())
    agent.send("slow work", task_id, context_id)
    agent.started()

    answer = agent.call("contexts/clear", contextId=context_id)
    agent.go()

    assert "cleared successfully" in answer["result"]["message"]
    assert agent.said("hello")["status"]["state"] == "completed"
    assert agent.call("tasks/get", taskId=task_id)["error"]["message"] == "Task not found"


def test_a_person_who_cancels_on_the_pages_is_heard_with_the_next_write(agent: Agent) -> None:
    task_id = str(uuid4())
    agent.send("slow ask", task_id, str(uuid4()))
    agent.started()
    request_cancel(Run.objects.get(task__task_id=task_id), by="alice", reason="Not needed")
    agent.go()

    assert agent.ended(task_id, "canceled", "input-required")["status"]["state"] == "canceled"
    run = Run.objects.get(task__task_id=task_id)
    assert run.status == "cancelled"
    assert run.cancel_acknowledged_at is not None
    assert agent.said("hello")["status"]["state"] == "completed"


def test_what_a_person_canceled_before_its_turn_is_not_begun(agent: Agent) -> None:
    task_id = str(uuid4())
    agent.send("slow first", str(uuid4()), str(uuid4()))
    agent.started()
    agent.send("second", task_id, str(uuid4()))
    request_cancel(Run.objects.get(task__task_id=task_id), by="alice", reason="Not needed")
    agent.go()

    assert agent.said("hello")["status"]["state"] == "completed"
    assert agent.task(task_id)["status"]["state"] == "canceled"
    assert len(agent.task(task_id)["history"]) == 1


def test_an_agent_survives_a_store_that_is_killed_and_comes_back(
    start_agent: Callable[..., Agent], committed_db: dict[str, str]
) -> None:
    port, task_id = free_port(), str(uuid4())
    with gunicorn(port, committed_db):
        agent = start_agent(**access(f"http://127.0.0.1:{port}"))
        before = agent.said("hello")
        agent.send("slow work", task_id, str(uuid4()))
        agent.started()
    agent.go()  # its answer finds nobody
    with gunicorn(port, committed_db):
        task = agent.ended(task_id)
        assert [message["role"] for message in task["history"]] == ["user", "agent"]
        assert len(task["artifacts"]) == 1
        assert agent.task(before["id"]) == before
        assert agent.said("hello again")["status"]["state"] == "completed"


def test_an_answer_that_runfolio_refuses_fails_its_task_and_leaves_the_agent_alive(
    start_agent: Callable[..., Agent], committed_db: dict[str, str]
) -> None:
    port = free_port()
    with gunicorn(port, {**committed_db, "MAX_BODY_BYTES": "65536"}):
        agent = start_agent(**access(f"http://127.0.0.1:{port}"))

        task = agent.said("much", "failed")

        told = task["history"][-1]["parts"][0]["text"]
        assert re.match(r"Task execution failed: update_task of .+(HTTP 413|too large)", told), told
        assert agent.said("hello")["status"]["state"] == "completed"


def test_a_restarted_agent_finds_what_it_had(start_agent: Callable[..., Agent], site: str) -> None:
    first = start_agent(**access(site))
    before = first.said("ask me", "input-required")
    config = {"id": str(uuid4()), "url": "http://127.0.0.1:9/push"}
    kept = {"id": before["id"], "pushNotificationConfig": config, "longRunning": True}
    first.call("tasks/pushNotificationConfig/set", **kept)

    second = start_agent(folder=first.folder, **access(site))
    assert second.health()["application"]["agent_did"] == first.health()["application"]["agent_did"]

    assert second.task(before["id"]) == before
    assert second.call("tasks/pushNotificationConfig/get", taskId=before["id"])["result"] == {
        "id": before["id"],
        "push_notification_config": config,
    }
    named = {"id": before["id"], "pushNotificationConfigId": config["id"]}
    assert "result" in second.call("tasks/pushNotificationConfig/delete", **named)
    second.send("Paris", before["id"], before["context_id"])
    assert len(second.ended(before["id"])["history"]) == 4


def test_two_agents_see_nothing_of_each_other(start_agent: Callable[..., Agent], site: str) -> None:
    settings = access(site)
    helper, writer = start_agent("helper", **settings), start_agent("writer", **settings)
    task = helper.said("hello")

    assert writer.call("tasks/get", taskId=task["id"])["error"]["message"] == "Task not found"
    assert writer.call("tasks/list")["result"] == writer.call("contexts/list")["result"] == []
    assert "error" in writer.call("contexts/clear", contextId=task["context_id"])
    writer.send("hello", task["id"], task["context_id"])
    assert len(writer.ended(task["id"])["history"]) == 2
    assert helper.task(task["id"]) == task


def test_a_stream_ends_with_what_the_task_came_to(agent: Agent) -> None:
    message = {
        "role": "user",
        "kind": "message",
        "parts": [{"kind": "text", "text": "hello"}],
        **{name: str(uuid4()) for name in ("messageId", "taskId", "contextId")},
    }
    params = {"message": message, "configuration": {"acceptedOutputModes": ["application/json"]}}
    body = {"jsonrpc": "2.0", "id": str(uuid4()), "method": "message/stream", "params": params}
    asked = urllib.request.Request(agent.url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    lines = urllib.request.urlopen(asked, timeout=60).read().decode().splitlines()

    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert events[0]["status"]["state"] == "submitted"
    assert [one["status"]["state"] for one in events if one.get("final")] == ["completed"]
    assert events[-1]["artifact"]["parts"][0]["text"] == "echo[1]: hello"


# ── docs/bindu.md ──────────────────────────────────────────────────────────
def test_the_example_of_the_page_is_an_agent_on_runfolio(tmp_path: Path, site: str) -> None:
    (code,) = re.findall(r"^```python\n(from runfolio_client.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    port = free_port()
    script = tmp_path / "agent.py"
    script.write_text(code.replace("3773", str(port)))
    with running("bindu", script, **access(site)):
        eventually(lambda: answers(port), seconds=90)
        agent = Agent(port, tmp_path)
        assert agent.health()["runtime"]["storage_backend"] == "RunfolioStorage"
        agent.said("hello")
        assert Run.objects.get().status == "succeeded"


# ── Around them ────────────────────────────────────────────────────────────
def access(url: str) -> dict[str, str]:
    """Where an agent writes, and as who."""
    owner, _ = Owner.objects.get_or_create(name="platform")
    return {"RUNFOLIO_URL": url, "RUNFOLIO_TOKEN": Token.objects.issue(owner, "tests")[1]}


@contextmanager
def gunicorn(port: int, database: dict[str, str]) -> Iterator[None]:
    """A server that ends by SIGKILL, with all its processes."""
    command = [sys.executable, "-m", "gunicorn", "project.wsgi", "--worker-class=gthread", "--threads=8"]
    process = subprocess.Popen(
        [*command, f"--bind=127.0.0.1:{port}", "--no-control-socket", "--log-level=warning"],
        cwd=ROOT,
        env={**os.environ, **database},
        start_new_session=True,
    )
    try:
        eventually(lambda: answers(port), seconds=60)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])

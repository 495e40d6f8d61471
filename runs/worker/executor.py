"""Inside the process of one evaluation: reads, evaluates, and tells its worker (runs.worker.execute).

It takes an order and answers with messages, a line of JSON each:

  about      what lists show of the run: agent, model, title, session, and how many items there are
  events     a part of the run's history
  start      item and evaluator that it begins with
  outcome    what an evaluator said of an item
  next       asks for the next recorded history to judge; the worker answers with it, or with null
  summary    the numbers of the whole, at the end
  failed     why nothing can be evaluated, instead of all that would follow
  idle       the order is carried out, and the process takes another one
"""

import json
import logging
import resource
import socket
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import batched
from typing import Any
from uuid import UUID

from runs.api.strict_json import JsonError, read_json
from runs.evaluators import (
    EvalSetError,
    Evaluation,
    EvaluationError,
    Kept,
    agentevals_engine,
    parse_eval_set,
    validate_eval_config,
)
from runs.exact import Json
from runs.outgoing import Outgoing, OutgoingError
from runs.traces import Group, TraceError, read_document, read_traces
from runs.traces.recorded import group_of
from runs.worker.history import events_of
from runs.worker.programs import Limits
from runs.worker.tools import EvaluatorTools

log = logging.getLogger(__name__)

FETCH_TIMEOUT = 30.0  # seconds (CONTRACTS.md 1.7)
FETCHED = 50 * 2**20  # bytes
_EVENTS_AT_ONCE = 200
_ORDERS = 200  # of one process
_MUCH_MEMORY = 400  # MB

type Order = Mapping[str, Any]


class _Failed(Exception):
    """Nothing can be evaluated; the text becomes the run's error."""


class Talk:
    """The pipe to the worker."""

    def __init__(self, pipe: socket.socket) -> None:
        self._pipe = pipe
        self._lines = pipe.makefile("rb")
        self._lock = threading.Lock()

    def say(self, **message: Any) -> None:
        line = json.dumps(message).encode() + b"\n"
        with self._lock:
            self._pipe.sendall(line)

    def hear(self) -> Any:
        """None: the worker has nothing more to say."""
        line = self._lines.readline()
        return json.loads(line) if line else None


def warm_up() -> None:
    """Imports what most evaluations need, before there is one."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    params = validate_eval_config({"evaluators": [{"type": "builtin", "name": "response_match_score"}]})
    case = {
        "invocation_id": "1",
        "user_content": {"parts": [{"text": "hello"}]},
        "final_response": {"parts": [{"text": "hello"}]},
    }
    eval_set = {"eval_set_id": "warm", "eval_cases": [{"eval_id": "1", "conversation": [case]}]}
    said = {"kind": "message", "role": "user", "payload": {"parts": [{"text": "hello"}]}}
    evaluation = Evaluation(UUID(int=0), params, parse_eval_set(eval_set))
    list(evaluation.results([group_of("warm", [said])], only_group=True))


def run_jobs(pipe: socket.socket, scratch: str) -> None:
    """Takes orders and carries them out, one after the other, until nobody has any more.

    What must be written to a disk is written to `scratch`. A process that may have kept something of an
    order (a thread, much memory) takes no other one.
    """
    talk = Talk(pipe)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for _ in range(_ORDERS):
        order = talk.hear()
        if order is None:
            return
        _take(order, talk, scratch)
        if threading.active_count() > 1 or _used_mb() > _MUCH_MEMORY:
            return
        talk.say(idle=True)


def _take(order: Order, talk: Talk, scratch: str) -> None:
    limit = order["memory_mb"] * 2**20
    resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    try:
        _carry_out(order, talk, scratch)
    except (_Failed, TraceError, EvalSetError, EvaluationError) as error:
        talk.say(failed=str(error))
    except MemoryError:
        talk.say(failed=f"the evaluation needs more than {order['memory_mb']} MB of memory")
    except Exception as error:
        log.exception("run %s", order["run_id"])
        talk.say(failed=f"{type(error).__name__}: {error}")


def _used_mb() -> float:
    """The most memory that this process has had."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (2**20 if sys.platform == "darwin" else 2**10)


def _carry_out(order: Order, talk: Talk, scratch: str) -> None:
    spec = order["spec"]
    given = order["tools"]
    tools = EvaluatorTools(**{**given, "limits": Limits(**given["limits"]), "scratch": scratch})
    evaluation = Evaluation(
        UUID(order["run_id"]),
        validate_eval_config(spec["evalConfig"]),
        parse_eval_set(spec["evalSet"]),
        tools,
    )
    if order["histories"] is not None:
        kept = [Kept(**one) for one in order["kept"]]
        _evaluate(evaluation, _recorded(talk), talk, only_group=order["histories"] == 1, kept=kept)
        return
    document = order["document"] if order["fetch"] is None else _fetched(tools, **order["fetch"])
    groups = evaluation.groups_of(read_traces(document, spec["target"].get("traceFormat")))
    talk.say(about=_about(groups))
    for events in batched(events_of(groups), _EVENTS_AT_ONCE):
        talk.say(events=events)
    if spec.get("engine") == "agentevals":
        _with_agentevals(order, talk, document, scratch)
    else:
        _evaluate(evaluation, groups, talk, only_group=len(groups) == 1)


def _evaluate(
    evaluation: Evaluation,
    groups: Iterable[Group],
    talk: Talk,
    *,
    only_group: bool,
    kept: Sequence[Kept] = (),
) -> None:
    def started(item: str, evaluator: str) -> None:
        talk.say(start=[item, evaluator])

    for outcome in evaluation.results(groups, only_group=only_group, on_start=started, kept=kept):
        talk.say(outcome=asdict(outcome))
    talk.say(summary=evaluation.summary())


def _about(groups: list[Group]) -> dict[str, Any]:
    turns = [turn for group in groups for turn in group.turns]
    sessions = {group.conversation_id for group in groups}
    return {
        "agent": _joined(group.agent_name or group.service_name for group in groups),
        "model": _joined(model for turn in turns for model in turn.models),
        "title": " ".join(turns[0].user_text.split())[:200] if turns else "",
        "session": sessions.pop() if len(sessions) == 1 else None,
        "items": len(groups),
    }


def _joined(names: Iterable[str | None]) -> str:
    return ", ".join(dict.fromkeys(name for name in names if name))


def _recorded(talk: Talk) -> Iterator[Group]:
    while True:
        talk.say(next=True)
        history = talk.hear()["history"]
        if history is None:
            return
        yield group_of(history["key"], history["events"], history["agent"], history["models"])


def _fetched(tools: EvaluatorTools, url: str, headers: dict[str, str], trace_id: str) -> Json:
    try:
        answer = Outgoing(tools.allow).get(url, headers, timeout=FETCH_TIMEOUT, max_bytes=FETCHED)
    except OutgoingError as error:
        raise _Failed(f"fetching trace {trace_id}: {error}") from None
    if not 200 <= answer.status < 300:
        raise _Failed(f"fetching trace {trace_id}: the server answered {answer.status}")
    try:
        return read_document(answer.body, read_json)
    except (JsonError, TraceError) as error:
        raise _Failed(f"trace {trace_id} is not JSON: {error}") from None


def _with_agentevals(order: Order, talk: Talk, document: Json, scratch: str) -> None:
    spec = order["spec"]
    talk.say(start=["all items", "agentevals"])
    # Where there is no engine the run fails with what to do about that, instead of seeming to succeed.
    outcomes, summary = agentevals_engine.evaluate(
        document,
        spec["target"].get("traceFormat"),
        spec["evalSet"],
        spec["evalConfig"],
        UUID(order["run_id"]),
        python=order["agentevals_python"],
        timeout=order["deadline"],
        credentials=order["tools"]["credentials"],
        network=order["agentevals_network"],
        scratch=scratch,
    )
    for outcome in outcomes:
        talk.say(outcome=outcome)
    talk.say(summary=summary)

"""A LocalConversation of OpenHands on one of our stores, with a model that follows a script.

`openhands_conversation.py STEP dsn|http ADDRESS TOKEN ID [ARGUMENT]`; it prints what it found out as JSON.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import uuid

os.environ.update(LITELLM_LOCAL_MODEL_COST_MAP="True", OPENHANDS_SUPPRESS_BANNER="1", LOG_LEVEL="ERROR")

import openhands.sdk.llm.llm as model
from litellm.types.utils import ModelResponse
from openhands.sdk import LLM, Agent, LocalConversation
from openhands.sdk.conversation.event_store import EventLog
from openhands.sdk.event import MessageEvent
from openhands.sdk.llm import Message, TextContent
from pydantic import SecretStr

from runfolio_client.openhands import HTTPFileStore, LockLost, PostgreSQLFileStore, fork_conversation

LOCK = "events/.eventlog.lock"
SCRIPT = [("think", {"thought": "A thought."}), ("nothing", {"x": 1}), ("finish", {"message": "Done."})]


def talk(store, name, text):
    """Says something and lets the agent work until it is done."""
    conversation = _conversation(store, name)
    conversation.send_message(text)
    conversation.run()
    return _told(conversation)


def hang(store, name, text):
    """The same with a model that never answers its second question."""
    conversation = _conversation(store, name, hangs=True)
    conversation.send_message(text)
    conversation.run()


def look(store, name):
    return _told(_conversation(store, name))


def fork(store, name):
    """Forks a conversation and goes on with the copy."""
    conversation = _conversation(store, name)
    before = len(conversation.state.events)
    copy = fork_conversation(conversation, store)
    copied = len(copy.state.events)
    copy.send_message("And now?")
    copy.run()
    return {"id": str(copy.id), "before": before, "copied": copied, "after": len(conversation.state.events)}


def append(store, name, count):
    log = EventLog(store)
    taken = []
    for _ in range(int(count)):
        began = time.perf_counter()
        log.append(_event("x" * 300))
        taken.append(time.perf_counter() - began)
    return {"longest": max(taken)}


def count(store, name):
    log = EventLog(store)
    return {"length": len(log), "ids": len({event.id for event in log})}


def hold(store, name):
    """Takes the lock and keeps it."""
    with store.lock(LOCK):
        print("held", flush=True)
        time.sleep(600)


def outlive(store, name):
    """Appends after another process was killed with the lock in its hands; says how long that took."""
    log = EventLog(store)
    other = subprocess.Popen([sys.executable, __file__, "hold", *sys.argv[2:6]], stdout=subprocess.PIPE)
    assert other.stdout.readline() == b"held\n"
    other.kill()
    other.wait()
    began = time.monotonic()
    log.append(_event("x"))
    return {"waited": time.monotonic() - began}


def lose(store, name):
    """Writes under a lock that was not renewed, as on a laptop that was shut, and that another has by now."""
    store._keeper.keep = lambda at, lease: None
    refused = []
    with store.lock(LOCK):
        with store.in_namespace(name).lock(LOCK):
            pass
        for step in (lambda: store.write("events/a", "x"), lambda: store.delete("events")):
            try:
                step()
            except LockLost as error:
                refused.append(str(error))
    return {"refused": refused, "there": store.list("")}


def _conversation(store, name, hangs=False):
    answers = iter([])

    def complete(**asked):
        nonlocal answers
        step = next(answers, None)
        if step is None:
            answers = iter(SCRIPT)
            step = next(answers)
        elif hangs:
            print("hanging", flush=True)
            time.sleep(600)
        return _answer(*step)

    model.litellm_completion = complete
    agent = Agent(llm=LLM(model="gpt-4o", api_key=SecretStr("none"), usage_id="agent"), tools=[])
    return LocalConversation(
        agent=agent,
        workspace=tempfile.mkdtemp(),
        conversation_id=uuid.UUID(name),
        file_store=store,
        visualizer=None,
    )


def _answer(tool, arguments):
    call = {"name": tool, "arguments": json.dumps(arguments)}
    calls = [{"id": f"call-{uuid.uuid4()}", "type": "function", "function": call}]
    message = {"role": "assistant", "content": "", "tool_calls": calls}
    return ModelResponse(
        id=str(uuid.uuid4()),
        model="gpt-4o",
        choices=[{"index": 0, "finish_reason": "tool_calls", "message": message}],
        usage={"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    )


def _told(conversation):
    state = conversation.state
    return {
        "status": state.execution_status.value,
        "kinds": [type(event).__name__ for event in state.events],
        "prompt_tokens": state.stats.get_combined_metrics().accumulated_token_usage.prompt_tokens,
    }


def _event(text):
    return MessageEvent(source="user", llm_message=Message(role="user", content=[TextContent(text=text)]))


def _main():
    step, kind, address, token, name, *more = sys.argv[1:]
    store = PostgreSQLFileStore(address, name) if kind == "dsn" else HTTPFileStore(address, token, name)
    print(json.dumps(globals()[step](store, name, *more)), flush=True)


if __name__ == "__main__":
    _main()

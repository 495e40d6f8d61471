"""What bench.files measures, in OpenHands' own environment: its EventLog on three stores, in turn.

Prints seconds of each call as JSON: of `append`, and of `append and save`, which writes the conversation's state
as well, as LocalConversation does.
"""

import json
import os
import sys
import tempfile
import time
import uuid

os.environ.update(LITELLM_LOCAL_MODEL_COST_MAP="True", OPENHANDS_SUPPRESS_BANNER="1", LOG_LEVEL="ERROR")

from openhands.sdk.conversation.event_store import EventLog
from openhands.sdk.event import MessageEvent
from openhands.sdk.io import LocalFileStore
from openhands.sdk.llm import Message, TextContent

from runfolio_client.openhands import HTTPFileStore, PostgreSQLFileStore

STATE = '{"stats": "' + "x" * 2000 + '"}'


def main(dsn: str, url: str, token: str, rounds: int, calls: int, folder: str) -> None:
    stores = {
        "Local": LocalFileStore(folder),
        "DSN": PostgreSQLFileStore(dsn, str(uuid.uuid4())),
        "HTTP": HTTPFileStore(url, token, str(uuid.uuid4())),
    }
    logs = {name: EventLog(store) for name, store in stores.items()}
    taken = {what: {name: [] for name in stores} for what in ("append", "append and save")}
    for _ in range(rounds):
        for what, measured in taken.items():
            for name, store in stores.items():
                for _ in range(calls):
                    event = message()
                    began = time.perf_counter()
                    logs[name].append(event)
                    if what == "append and save":
                        store.write("base_state.json", STATE)
                    measured[name].append(time.perf_counter() - began)
    print(json.dumps(taken))


def message() -> MessageEvent:
    said = Message(role="user", content=[TextContent(text="A message of a few words. " * 12)])
    return MessageEvent(source="user", llm_message=said)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        main(*sys.argv[1:4], *map(int, sys.argv[4:6]), place)

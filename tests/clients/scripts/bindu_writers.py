"""`bindu_writers.py submit TASK`, then two `write TASK` at once: 25 appends each, and 10 swaps.

Prints how many of its swaps won.
"""

import asyncio
import json
import sys
from uuid import uuid4

from runfolio_client.bindu import RunfolioStorage


def message(text):
    return {
        "role": "agent",
        "kind": "message",
        "message_id": uuid4(),
        "parts": [{"kind": "text", "text": text}],
    }


async def main(what, task_id):
    storage = RunfolioStorage()
    if what == "submit":
        await storage.submit_task(uuid4(), {**message("first"), "role": "user", "task_id": task_id})
        return
    appends = [storage.update_task(task_id, "working", new_messages=[message(str(i))]) for i in range(25)]
    await asyncio.gather(*appends)
    await everything(storage, task_id)
    swaps = [storage.update_task_state_if(task_id, "working", "canceled") for _ in range(10)]
    print(json.dumps({"won": sum(await asyncio.gather(*swaps))}))


async def everything(storage, task_id):
    """Waits for the other process's appends, which a canceled task would not take."""
    for _ in range(600):
        if len((await storage.load_task(task_id))["history"]) == 51:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("messages are missing")


asyncio.run(main(*sys.argv[1:]))

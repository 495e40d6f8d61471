"""A bindufied agent that says what it heard: `bindu_agent.py PORT FOLDER NAME`, in memory or on Runfolio.

On Runfolio with RUNFOLIO_URL in the environment; with PUSH_URL and PUSH_TOKEN it tells how its tasks go.
Of the words of a message `slow` waits until the file FOLDER/go is there, `ask` is answered by a question,
`much` by 5 MB, `fail` raises.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

from bindu.penguin.bindufy import bindufy

port, folder, name = sys.argv[1], Path(sys.argv[2]), sys.argv[3]


async def handler(messages):
    said = " ".join(part.get("text", "") for part in messages[-1]["parts"])
    if "slow" in said:
        (folder / "started").touch()
        while not (folder / "go").exists():
            await asyncio.sleep(0.02)
    if "fail" in said:
        raise ValueError("this handler fails")
    if "much" in said:
        return "x" * 5_000_000
    if "ask" in said:
        return json.dumps({"state": "input-required", "prompt": "Which city?"})
    return f"echo[{len(messages)}]: {said}"


if "RUNFOLIO_URL" in os.environ:
    from runfolio_client.bindu import install

    install()

told = {f"global_webhook_{name.lower()}": os.environ.get(f"PUSH_{name}") for name in ("URL", "TOKEN")}

bindufy(
    {
        **{key: value for key, value in told.items() if value},
        "author": "alice@example.com",
        "name": name,
        "description": "Says what it heard",
        "deployment": {"url": f"http://127.0.0.1:{port}", "expose": True},
        "capabilities": {"push_notifications": True},
        "skills": [],
        "telemetry": False,
        "enable_system_message": False,
        "enable_context_based_history": False,
    },
    handler,
    key_dir=str(folder),
)

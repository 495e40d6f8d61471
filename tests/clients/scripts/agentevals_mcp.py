"""Asks each tool of agentevals' own MCP server, started by its own command, and prints the answers as JSON.

Arguments: the address it is to ask, and the golden session.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

AGENTEVALS = str(Path(sys.executable).with_name("agentevals"))


async def main(url: str, golden: str) -> None:
    server = StdioServerParameters(
        command=AGENTEVALS, args=["mcp"], env={**os.environ, "AGENTEVALS_SERVER_URL": url}
    )
    async with stdio_client(server) as (read, write), ClientSession(read, write) as session:
        await session.initialize()
        answers = {
            "list_metrics": await ask(session, "list_metrics"),
            "list_sessions": await ask(session, "list_sessions"),
            "summarize_session": await ask(session, "summarize_session", session_id=golden),
            "evaluate_sessions": await ask(
                session,
                "evaluate_sessions",
                golden_session_id=golden,
                metrics=["tool_trajectory_avg_score", "response_match_score"],
            ),
        }
    print(json.dumps(answers))


async def ask(session: ClientSession, tool: str, **arguments: object) -> object:
    answer = await session.call_tool(tool, arguments)
    if answer.isError:
        sys.exit(f"{tool}: {answer.content}")
    found = answer.structuredContent or {}
    return found.get("result", found)


asyncio.run(main(*sys.argv[1:3]))

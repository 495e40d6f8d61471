"""Tells of a conversation through agentevals' own SDK, which sends no token. Argument: where to send it."""

import json
import sys

from agentevals import AgentEvals
from opentelemetry import trace


def said(role: str, text: str) -> str:
    return json.dumps([{"role": role, "parts": [{"type": "text", "content": text}]}])


def main(endpoint: str) -> None:
    app = AgentEvals(endpoint=endpoint, auto_instrument=False, eval_set_id="from-the-sdk")
    with app.session(session_name="sdk-session"):
        tracer = trace.get_tracer("an.agent")
        with tracer.start_as_current_span("invoke_agent helper") as agent:
            agent.set_attributes({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "helper"})
            with tracer.start_as_current_span("chat model-1") as call:
                call.set_attributes(
                    {
                        "gen_ai.operation.name": "chat",
                        "gen_ai.request.model": "model-1",
                        "gen_ai.input.messages": said("user", "where is it?"),
                        "gen_ai.output.messages": said("assistant", "At home."),
                    }
                )


main(sys.argv[1])

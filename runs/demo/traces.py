"""Told runs as an instrumented agent would send them (OTLP JSON), and as cases of an eval set."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from runs.demo.story import Agent, Chance, Step, Told, says, text_of
from runs.exact import Json

type Message = dict[str, Json]


def document(agent: Agent, told: Sequence[Told], at: datetime, chance: Chance) -> dict[str, Json]:
    """A trace for each of these runs, a few seconds apart."""
    spans: list[Json] = []
    for run in told:
        spans += _Trace(agent, run, at, chance).spans()
        at += timedelta(seconds=run.seconds + 2)
    resource = {"attributes": _attributes({"service.name": agent.name})}
    return {
        "resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": {"name": "demo"}, "spans": spans}]}]
    }


def eval_set(name: str, told: Sequence[Told]) -> dict[str, Json]:
    """These runs as they should go (CONTRACTS.md 1.4)."""
    slug = name.lower().replace(",", "").replace(" ", "_")
    cases = [_case(f"{slug}_{number}", run) for number, run in enumerate(told, 1)]
    return {"eval_set_id": slug, "name": name, "eval_cases": cases}


def gone_wrong(told: Told, chance: Chance) -> Told:
    """The same run, not quite as it should go."""
    how = chance.choice((_skips_a_call, _says_little, _asks_otherwise))
    return replace(told, steps=how(told.steps))


class _Trace:
    """One run as spans: model calls and tool uses below the agent's own."""

    def __init__(self, agent: Agent, told: Told, at: datetime, chance: Chance) -> None:
        self.agent, self.told, self.chance = agent, told, chance
        self.trace_id, self.root = chance.randbytes(16).hex(), chance.randbytes(8).hex()
        self.start = self.now = int(at.timestamp() * 1000) * 1_000_000

    def spans(self) -> list[Json]:
        inner = list(self._inner())
        about = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": self.agent.name}
        return [self._span(f"invoke_agent {self.agent.name}", about, self.start, self.root), *inner]

    def _inner(self) -> Iterator[Json]:
        said: list[Message] = [_message("user", {"type": "text", "content": self.told.question})]
        for number, step in enumerate(self.told.steps):
            if step.kind == "message" and step.role == "agent":
                yield self._chat(said, {"type": "text", "content": text_of(step)}, step)
            elif step.kind == "tool_call":
                call = {"type": "tool_call", "id": f"call_{number}", **step.payload}
                yield self._chat(said, call, step)
                yield self._tool(number, step, self.told.steps[number + 1])

    def _chat(self, said: list[Message], part: Json, step: Step) -> Json:
        answer = _message("assistant", part)
        about = {
            "gen_ai.operation.name": "chat",
            "gen_ai.agent.name": self.agent.name,
            "gen_ai.request.model": self.agent.model,
            "gen_ai.system_instructions": json.dumps([{"type": "text", "content": self.agent.instructions}]),
            "gen_ai.input.messages": json.dumps(said, ensure_ascii=False),
            "gen_ai.output.messages": json.dumps([answer], ensure_ascii=False),
            "gen_ai.usage.input_tokens": 240 + 60 * len(said) + self.chance.randrange(80),
            "gen_ai.usage.output_tokens": 20 + len(json.dumps(part)) // 4,
        }
        said.append(answer)
        return self._timed(f"chat {self.agent.model}", about, step.seconds)

    def _tool(self, number: int, call: Step, result: Step) -> Json:
        name = call.payload["name"]
        about = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": name,
            "gen_ai.tool.call.id": f"call_{number}",
            "gen_ai.tool.call.arguments": json.dumps(call.payload["arguments"], ensure_ascii=False),
        }
        failure = str(result.payload["result"]) if result.payload["is_error"] else ""
        if not failure:
            about["gen_ai.tool.call.result"] = json.dumps(result.payload["result"], ensure_ascii=False)
        return self._timed(f"execute_tool {name}", about, result.seconds, failure)

    def _timed(self, name: str, about: dict[str, Json], seconds: float, failure: str = "") -> Json:
        start = self.now
        self.now += int(seconds * 1000) * 1_000_000
        return self._span(name, about, start, self.chance.randbytes(8).hex(), failure)

    def _span(self, name: str, about: dict[str, Json], start: int, span_id: str, failure: str = "") -> Json:
        return {
            "traceId": self.trace_id,
            "spanId": span_id,
            "parentSpanId": "" if span_id == self.root else self.root,
            "name": name,
            "kind": 1,
            "startTimeUnixNano": str(start),
            "endTimeUnixNano": str(self.now),
            "attributes": _attributes(about),
            "status": {"code": 2, "message": failure} if failure else {},
        }


def _attributes(values: dict[str, Json]) -> list[Json]:
    return [
        {"key": key, "value": {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}}
        for key, value in values.items()
    ]


def _message(role: str, part: Json) -> Message:
    return {"role": role, "parts": [part]}


def _case(case_id: str, told: Told) -> dict[str, Json]:
    calls = [step.payload for step in told.steps if step.kind == "tool_call"]
    turn = {
        "invocation_id": f"{case_id}_turn",
        "user_content": {"role": "user", "parts": [{"text": told.question}]},
        "final_response": {"role": "model", "parts": [{"text": told.answer}]},
        "intermediate_data": {
            "tool_uses": [{"name": call["name"], "args": call["arguments"]} for call in calls],
            "tool_responses": [],
        },
    }
    return {"eval_id": case_id, "conversation": [turn]}


def _skips_a_call(steps: list[Step]) -> list[Step]:
    first = next((n for n, step in enumerate(steps) if step.kind == "tool_call"), None)
    return steps if first is None else [*steps[:first], *steps[first + 2 :]]


def _says_little(steps: list[Step]) -> list[Step]:
    return [*steps[:-1], says("It is done. Tell me if you want to know more.")]


def _asks_otherwise(steps: list[Step]) -> list[Step]:
    """A tool is called with an argument that nobody expects."""
    return [
        replace(step, payload={**step.payload, "arguments": {**step.payload["arguments"], "verbose": True}})
        if step.kind == "tool_call"
        else step
        for step in steps
    ]

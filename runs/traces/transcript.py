"""A turn told step by step, in order of time, for people to read."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TypedDict

from runs.traces.messages import has_text, text_of
from runs.traces.model import Json, Step
from runs.traces.tool_uses import ModelCall, ToolUse
from runs.traces.turns import Draft
from runs.traces.values import moment

Timed = tuple[int, Step]


class _About(TypedDict):
    """What all steps told by one span share."""

    name: str
    span_id: str
    at: datetime | None


def steps_of(draft: Draft) -> list[Step]:
    """System instructions and question first, the answer and the turn's own error last."""
    told = [step for _, step in sorted(_told(draft), key=lambda timed: timed[0])]
    return [*_opening(draft), *told, *_closing(draft, told)]


def as_object(value: Json, key: str) -> dict[str, Json]:
    """Tool arguments and results are objects; anything else is put under `key`."""
    if isinstance(value, dict):
        return value
    return {} if value is None else {key: value}


def _opening(draft: Draft) -> Iterator[Step]:
    at = moment(draft.start)
    system = next((call.system for call in draft.calls if call.system), [])
    instructions = "".join(part.data for part in system if part.kind == "text")
    if instructions:
        yield Step("message", "system", text=instructions, at=at, span_id=draft.span_id)
    if draft.question:
        yield Step("message", "user", text=draft.question, at=at, span_id=draft.span_id)


def _closing(draft: Draft, told: Sequence[Step]) -> Iterator[Step]:
    """What no model call has told already."""
    at = moment(draft.end)
    said = {step.text for step in told if step.kind == "message"}
    if draft.answer and draft.answer not in said:
        name = draft.agent_name
        yield Step("message", "agent", text=draft.answer, name=name, at=at, span_id=draft.span_id)
    if draft.error and all(step.text != draft.error for step in told if step.kind == "error"):
        yield Step("error", "agent", text=draft.error, name=draft.agent_name, at=at, span_id=draft.span_id)


def _told(draft: Draft) -> Iterator[Timed]:
    """Steps with their times. Those of one time stay in this order: said, called, answered."""
    starts = sorted(use.start for use in draft.tools if use.span_id)
    for call in draft.calls:
        yield from _call_steps(call, _spoken_at(call, starts))
    for use in draft.tools:
        yield from _tool_steps(use)


def _spoken_at(call: ModelCall, tool_starts: Sequence[int]) -> int:
    """When the model had answered: at the call's end, or before the first tool that ran inside the
    call (some frameworks end the model's span only after the tools it asked for)."""
    index = bisect_left(tool_starts, call.start)
    inside = index < len(tool_starts) and tool_starts[index] < call.end
    return tool_starts[index] if inside else call.end


def _call_steps(call: ModelCall, at: int) -> Iterator[Timed]:
    usage = call.usage
    about: _About = {"name": call.agent_name, "span_id": call.span_id, "at": moment(at)}
    if any(has_text(message) for message in call.outputs):
        said = Step(
            kind="message",
            role="agent",
            text=text_of(call.outputs),
            model=call.model,
            tokens=(usage.input or 0) + (usage.output or 0) if usage else None,
            input_tokens=usage.input if usage else None,
            output_tokens=usage.output if usage else None,
            duration_ms=max(0, call.end - call.start) / 1e6,
            **about,
        )
        yield at, said
    if call.error:
        yield at, Step("error", "agent", text=call.error, model=call.model, **about)


def _tool_steps(use: ToolUse) -> Iterator[Timed]:
    end = max(use.start, use.end)
    took = (end - use.start) / 1e6 if use.span_id else None
    about: _About = {"name": use.name, "span_id": use.span_id, "at": moment(use.start)}
    arguments = as_object(use.arguments, "value")
    yield use.start, Step("tool_call", "agent", data=arguments, call_id=use.call_id, **about)
    about["at"] = moment(end)
    if use.result is not None:
        result = as_object(use.result, "result")
        yield end, Step("tool_result", "tool", data=result, call_id=use.call_id, duration_ms=took, **about)
    if use.error:
        yield end, Step("error", "tool", text=use.error, call_id=use.call_id, duration_ms=took, **about)

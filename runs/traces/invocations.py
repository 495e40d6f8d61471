"""Turns as Google ADK writes them: what eval sets hold, and what agentevals converts traces to
(CONTRACTS.md 1.4 and 1.9). Keys are in snake_case; what is not known is left out."""

from collections.abc import Sequence
from typing import Any

from runs.traces.messages import has_text, text_of
from runs.traces.model import Json
from runs.traces.tool_uses import ToolUse
from runs.traces.transcript import as_object
from runs.traces.turns import Draft


def invocations_of(drafts: Sequence[Draft]) -> list[dict[str, Json]]:
    """Each turn as an invocation; `creation_timestamp` is in seconds since 1970."""
    return [_invocation(draft) for draft in drafts]


def eval_set_of(eval_set_id: str, drafts: Sequence[Draft]) -> dict[str, Json]:
    """An eval set that expects just these turns."""
    case = {"eval_id": "case_1", "conversation": invocations_of(drafts)}
    return {"eval_set_id": eval_set_id, "eval_cases": [case]}


def _invocation(draft: Draft) -> dict[str, Json]:
    invocation: dict[str, Json] = {
        "invocation_id": draft.span_id,
        "user_content": _content("user", draft.question or ""),
    }
    if draft.answer:
        invocation["final_response"] = _content("model", draft.answer)
    speaker = draft.agent_name or "agent"
    invocation["intermediate_data"] = {
        "tool_uses": [_use(use) for use in draft.tools],
        "tool_responses": [_response(use) for use in draft.tools if use.result is not None],
        "intermediate_responses": [[speaker, [{"text": text}]] for text in _said_before(draft)],
    }
    invocation["creation_timestamp"] = draft.start / 1e9
    return invocation


def _content(role: str, text: str) -> dict[str, Json]:
    return {"parts": [{"text": text}], "role": role}


def _use(use: ToolUse) -> dict[str, Any]:
    return _with_id(use, {"args": as_object(use.arguments, "value"), "name": use.name})


def _response(use: ToolUse) -> dict[str, Any]:
    return _with_id(use, {"name": use.name, "response": as_object(use.result, "result")})


def _with_id(use: ToolUse, told: dict[str, Any]) -> dict[str, Any]:
    return told if use.call_id is None else {"id": use.call_id, **told}


def _said_before(draft: Draft) -> list[str]:
    """What the agent itself said on the way to its answer."""
    own = [call for call in draft.calls if not call.delegated] or draft.calls
    in_order = sorted(own, key=lambda call: (call.end, call.start))
    said = [text_of([message]) for call in in_order for message in call.outputs if has_text(message)]
    return said[:-1] if said and said[-1] == draft.answer else said

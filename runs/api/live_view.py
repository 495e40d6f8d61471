"""A live session as agentevals' page reads it: `agentevals.api.v1alpha1.Session` in protobuf's JSON
(CONTRACTS.md 1.10). What has protobuf's default is left out; whole numbers of 64 bits are texts."""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from runs.exact import Json
from runs.models.span import LiveSession
from runs.traces import Span, Trace
from runs.traces.dialects import Usage
from runs.traces.grouping import drafts_of_group
from runs.traces.performance import provider_of
from runs.traces.tool_uses import ModelCall, ToolUse
from runs.traces.transcript import as_object
from runs.traces.turns import Draft
from runs.traces.values import moment, scalar_text

MAX_TEXT = 64 * 1024  # characters of a text, bytes of a value
_SHORT = 6
_TRUNCATED = {"code": "truncated"}


def session_view(live: LiveSession, traces: Sequence[Trace], *, complete: bool) -> dict[str, Json]:
    """The session with its turns; `traces` are in order of start, none where there are too many spans."""
    spans = {span_id: span for trace in traces for span_id, span in trace.spans.items()}
    drafts = drafts_of_group(traces)
    turns = [_turn(index, draft, spans) for index, draft in enumerate(drafts)]
    return _lean({"summary": _summary(live, drafts, spans, complete=complete), "turns": turns})


def _summary(
    live: LiveSession, drafts: Sequence[Draft], spans: dict[str, Span], *, complete: bool
) -> dict[str, Json]:
    calls = [call for draft in drafts for call in draft.calls]
    tools = [use for draft in drafts for use in draft.tools]
    start = min((draft.start for draft in drafts), default=0)
    end = max((draft.end for draft in drafts), default=0)
    return _lean(
        {
            "id": live.key,
            "shortId": live.key[-_SHORT:] if _is_generated(live.key) else live.key,
            "agent": _agent(drafts, spans),
            "state": "SESSION_STATE_COMPLETE" if complete else "SESSION_STATE_LIVE",
            "startedAt": _instant(moment(start) or live.started_at),
            "endedAt": _instant(moment(end)),
            "duration": _duration(start, end),
            "firstUserText": next((_text(draft.question) for draft in drafts if draft.question), ""),
            "contentCapture": _capture(drafts),
            "totals": {
                "turns": len(drafts),
                "failedTurns": sum(draft.error is not None for draft in drafts),
                "modelCalls": len(calls),
                "toolCalls": len(tools),
                "usage": _usage([call.usage for call in calls]),
                "modelCallsWithUsage": sum(call.usage is not None for call in calls),
                "toolCallsWithArguments": sum(use.arguments is not None for use in tools),
            },
            "models": list(dict.fromkeys(call.model for call in calls if call.model)),
            "conversationId": next((draft.conversation_id for draft in drafts if draft.conversation_id), ""),
            "traceIds": [trace.trace_id for trace in live.traces],
            "evalSetId": live.eval_set_id or "",
            "spanCount": live.span_count,
        }
    )


def _turn(index: int, draft: Draft, spans: dict[str, Span]) -> dict[str, Json]:
    long = [what for what in (draft.question, draft.answer) if what and len(what) > MAX_TEXT]
    return _lean(
        {
            "index": index,
            "traceId": draft.trace_id,
            "spanId": draft.span_id,
            "status": "STATUS_CODE_ERROR" if draft.error is not None else "",
            "errorType": "_OTHER" if draft.error is not None else "",
            "startedAt": _instant(moment(draft.start)),
            "duration": _duration(draft.start, draft.end),
            "agentName": draft.agent_name,
            "userText": _text(draft.question),
            "answerText": _text(draft.answer),
            "contentCaptured": _has_content(draft),
            "toolCalls": [_tool_call(use) for use in draft.tools],
            "modelCalls": [_model_call(call, spans) for call in draft.calls],
            "usage": _usage([call.usage for call in draft.calls]),
            "gaps": [{**_TRUNCATED, "reason": f"text cut to {MAX_TEXT} characters"}] if long else [],
        }
    )


def _tool_call(use: ToolUse) -> dict[str, Json]:
    view = _lean(
        {
            "spanId": use.span_id,
            "name": use.name,
            "callId": use.call_id,
            "isError": use.error is not None,
            "startedAt": _instant(moment(use.start)),
            "duration": _duration(use.start, use.end),
        }
    )
    if use.arguments is not None:
        view["arguments"] = _value(as_object(use.arguments, "value"))
    if use.result is not None:
        view["result"] = _value(use.result)
    return view


def _model_call(call: ModelCall, spans: dict[str, Span]) -> dict[str, Json]:
    span = spans.get(call.span_id)
    attributes = span.attributes if span else {}
    return _lean(
        {
            "spanId": call.span_id,
            "operation": scalar_text(attributes.get("gen_ai.operation.name")),
            "provider": provider_of(call, spans) or "",
            "requestModel": call.model,
            "responseModel": scalar_text(attributes.get("gen_ai.response.model")),
            "responseId": scalar_text(attributes.get("gen_ai.response.id")),
            "usage": _usage([call.usage]),
            "finishReasons": [call.finish] if call.finish else [],
            "status": "STATUS_CODE_ERROR" if call.error is not None else "",
            "startedAt": _instant(moment(call.start)),
            "duration": _duration(call.start, call.end),
            "agentName": call.agent_name,
        }
    )


def _usage(usages: Iterable[Usage | None]) -> dict[str, str]:
    known = [usage for usage in usages if usage]
    kinds = {
        "inputTokens": [usage.input for usage in known],
        "outputTokens": [usage.output for usage in known],
        "cacheReadInputTokens": [usage.cache_read for usage in known],
        "cacheWriteInputTokens": [usage.cache_write for usage in known],
    }
    return {
        name: str(sum(number or 0 for number in numbers))
        for name, numbers in kinds.items()
        if any(number is not None for number in numbers)
    }


def _agent(drafts: Sequence[Draft], spans: dict[str, Span]) -> str:
    anchor = spans.get(drafts[0].span_id) if drafts else next(iter(spans.values()), None)
    resource = anchor.resource if anchor else {}
    named = next((draft.agent_name for draft in drafts if draft.agent_name), "")
    return (
        scalar_text(resource.get("gen_ai.agent.name")) or named or scalar_text(resource.get("service.name"))
    )


def _capture(drafts: Sequence[Draft]) -> str:
    captured = {_has_content(draft) for draft in drafts}
    if len(captured) == 2:
        return "CONTENT_CAPTURE_PARTIAL"
    if True in captured:
        return "CONTENT_CAPTURE_ON"
    return "CONTENT_CAPTURE_OFF" if captured else ""


def _has_content(draft: Draft) -> bool:
    known = any(use.arguments is not None or use.result is not None for use in draft.tools)
    return bool(draft.question or draft.answer or known)


def _is_generated(key: str) -> bool:
    """Of an id that a machine made, the end tells more than the beginning."""
    return len(key.replace("-", "")) >= 16 and set(key.lower()) <= set("0123456789abcdef-")


def _text(text: str | None) -> str | None:
    return text[:MAX_TEXT] if text else text


def _value(value: Json) -> Json:
    """A value that is too large as the beginning of its JSON."""
    told = json.dumps(value)
    return value if len(told) <= MAX_TEXT else told[:MAX_TEXT]


def _instant(at: datetime | None) -> str | None:
    return None if at is None else f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"


def _duration(start: int, end: int) -> str | None:
    seconds, rest = divmod(max(0, end - start), 1_000_000_000)
    return f"{seconds}.{rest:09d}s" if start and end else None


def _lean(message: dict[str, Any]) -> dict[str, Json]:
    return {name: value for name, value in message.items() if value not in (None, "", 0, False, [], {})}

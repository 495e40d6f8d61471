"""One event file of OpenHands as an entry of a run's history (CONTRACTS.md 3.4, docs/events.md).

What has a form of its own here is put into that form, and what else the event holds lies under `openhands`
beside it, so that nothing is there twice and nothing is lost. Any other kind, known or not, is kept as it is.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from runs.api.strict_json import JsonError, read_json
from runs.exact import Json
from runs.models import Event

_DOES_NOT_ACT = {"SystemPromptEvent"}  # what comes from the agent before it does anything
_STOPS = {"PauseEvent", "InterruptEvent"}
_ROLES = {"user": "user", "agent": "agent"}


class Outcome(StrEnum):
    """How a burst of work ended, as far as its last events tell."""

    UNKNOWN = ""
    ANSWERED = "answered"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Told:
    """An event as it is appended, and what it means for the course of its conversation.

    `begins`: a user's message. `acts`: the agent has begun to work. `outcome`: None where it says nothing of
    it. `response_id`: of the model's answer that it comes from.
    """

    kind: str
    role: str
    payload: Json
    begins: bool = False
    acts: bool = False
    outcome: Outcome | None = None
    response_id: str = ""


def told(content: bytes) -> Told:
    """Raises JsonError for what is not JSON."""
    value = read_json(content)
    if not isinstance(value, dict):
        return Told("event", "system", value)
    name = _text(value.get("kind"))
    source = _text(value.get("source"))
    kind, payload = _FORMS.get(name, _as_it_is)(dict(value))
    acts = (source == "agent" and name not in _DOES_NOT_ACT) or name == "ConversationErrorEvent"
    return Told(
        kind=kind,
        role="tool" if kind == Event.Kind.TOOL_RESULT else _role(value, source),
        payload=payload,
        begins=name == "MessageEvent" and source == "user",
        acts=acts,
        outcome=_outcome(value, name, source, acts),
        response_id=_text(value.get("llm_response_id")),
    )


def text_of(content: Json) -> str | None:
    """The texts of OpenHands' list of contents, one after the other; None where it holds anything else."""
    if not isinstance(content, list):
        return None
    texts = [part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)]
    return "\n".join(texts) if len(texts) == len(content) else None


# ── Forms: each takes what it shows out of the event, and leaves the rest ──────
type Form = Callable[[dict[str, Json]], tuple[str, Json]]


def _message(event: dict[str, Json]) -> tuple[str, Json]:
    said = event.get("llm_message")
    if not isinstance(said, dict):
        return _as_it_is(event)
    content, rest = said.get("content"), {key: value for key, value in said.items() if key != "content"}
    parts = _parts(content)
    if parts is None:
        return _as_it_is(event)
    event["llm_message"] = rest
    return Event.Kind.MESSAGE, {"parts": parts, "openhands": event}


def _instructions(event: dict[str, Json]) -> tuple[str, Json]:
    written = _parts([part for name in ("system_prompt", "dynamic_context") if (part := event.get(name))])
    if not written:
        return _as_it_is(event)
    rest = {name: value for name, value in event.items() if name not in ("system_prompt", "dynamic_context")}
    return Event.Kind.MESSAGE, {"parts": written, "openhands": rest}


def _action(event: dict[str, Json]) -> tuple[str, Json]:
    call = event.get("tool_call")
    call = call if isinstance(call, dict) else {}
    given = call.get("arguments")
    arguments = _arguments(given)
    action = event.get("action")
    if isinstance(action, dict) and _without(action, "kind") == arguments:
        event["action"] = {"kind": action.get("kind")}
    if call:
        event["tool_call"] = _without(call, "arguments")
    payload: dict[str, Json] = {
        "name": _text(event.pop("tool_name", None)) or _text(call.get("name")),
        "arguments": arguments,
        "call_id": event.pop("tool_call_id", None),
    }
    for name, shown in (("thought", text_of(event.get("thought"))), ("reasoning", _reasoning(event))):
        if shown:
            payload[name] = shown
            event.pop("reasoning_content" if name == "reasoning" else name)
    return Event.Kind.TOOL_CALL, payload | {"openhands": event}


def _observation(event: dict[str, Json]) -> tuple[str, Json]:
    seen = event.get("observation")
    if not isinstance(seen, dict):
        return _as_it_is(event)
    text = text_of(seen.get("content"))
    rest = _without(seen, "content", "is_error")
    if seen.get("kind") == "FinishObservation" and text:  # the agent's answer
        event["observation"] = rest
        parts = [{"kind": "text", "text": text}]
        return Event.Kind.MESSAGE, {"parts": parts, "call_id": event.get("tool_call_id"), "openhands": event}
    if "content" in seen:
        event["observation"] = rest
        result: Json = seen["content"] if text is None else text
    else:
        del event["observation"]
        result = rest
    return _result(event, result, is_error=seen.get("is_error") is True)


def _rejection(event: dict[str, Json]) -> tuple[str, Json]:
    return _result(event, event.pop("rejection_reason", None), is_error=True)


def _agent_error(event: dict[str, Json]) -> tuple[str, Json]:
    """An answer to a call that went wrong; without a call it stands for itself."""
    error = event.pop("error", None)
    if event.get("tool_call_id"):
        return _result(event, error, is_error=True)
    return Event.Kind.ERROR, {"message": error, "openhands": event}


def _conversation_error(event: dict[str, Json]) -> tuple[str, Json]:
    message = {"message": event.pop("detail", None), "code": event.pop("code", None)}
    return Event.Kind.ERROR, message | {"openhands": event}


def _as_it_is(event: dict[str, Json]) -> tuple[str, Json]:
    """Under its own name, which must not be one that means another thing here."""
    name = _text(event.get("kind"))[:80] or "event"
    return (f"openhands {name}" if name in Event.Kind.values else name), event


_FORMS: Mapping[str, Form] = {
    "MessageEvent": _message,
    "SystemPromptEvent": _instructions,
    "ActionEvent": _action,
    "ObservationEvent": _observation,
    "UserRejectObservation": _rejection,
    "AgentErrorEvent": _agent_error,
    "ConversationErrorEvent": _conversation_error,
}


# ── Pieces ─────────────────────────────────────────────────────────────────
def _parts(content: Json) -> list[Json] | None:
    """OpenHands' contents as A2A's parts; None where there is something else among them."""
    if not isinstance(content, list):
        return None
    parts: list[Json] = []
    for piece in content:
        if isinstance(piece, dict) and isinstance(piece.get("text"), str):
            parts.append({"kind": "text", "text": piece["text"]})
        elif isinstance(piece, dict) and isinstance(piece.get("image_urls"), list):
            parts += [{"kind": "file", "file": {"uri": url}} for url in piece["image_urls"]]
        else:
            return None
    return parts


def _result(event: dict[str, Json], result: Json, *, is_error: bool) -> tuple[str, Json]:
    name, call_id = _text(event.pop("tool_name", None)), event.pop("tool_call_id", None)
    about = {"name": name, "call_id": call_id, "result": result, "is_error": is_error}
    return Event.Kind.TOOL_RESULT, about | {"openhands": event}


def _arguments(given: Json) -> Json:
    """A model writes them as JSON; what is not JSON is shown as it was written."""
    try:
        return read_json(given.encode("utf-8", "surrogatepass")) if isinstance(given, str) else given
    except JsonError:
        return given


def _reasoning(event: dict[str, Json]) -> str:
    return _text(event.get("reasoning_content"))


def _outcome(event: dict[str, Json], name: str, source: str, acts: bool) -> Outcome | None:
    seen = event.get("observation")
    if name == "ConversationErrorEvent":
        return Outcome.FAILED
    if name in _STOPS:
        return Outcome.STOPPED
    if isinstance(seen, dict) and seen.get("kind") == "FinishObservation":
        return Outcome.ANSWERED
    if name == "MessageEvent" and source == "agent":
        return Outcome.ANSWERED
    return Outcome.UNKNOWN if acts else None


def _role(event: dict[str, Json], source: str) -> str:
    """What an agent's answer is told by is the environment."""
    seen = event.get("observation")
    if isinstance(seen, dict) and seen.get("kind") == "FinishObservation":
        return "agent"
    return "system" if event.get("kind") == "SystemPromptEvent" else _ROLES.get(source, "system")


def _without(value: Mapping[str, Json], *names: str) -> dict[str, Json]:
    return {key: item for key, item in value.items() if key not in names}


def _text(value: Json) -> str:
    return value if isinstance(value, str) else ""

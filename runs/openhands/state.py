"""base_state.json of a conversation: how it stands and what it used (CONTRACTS.md 3.2, 4.1-4.2)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from uuid import UUID

from runs.api.strict_json import JsonError, read_json
from runs.exact import Json, clean_text
from runs.models import Usage
from runs.models.run import AGENT_LENGTH
from runs.models.status import Status

_MOST_TOKENS = 2**40  # of one count; more is somebody's mistake
_MOST_COST = Decimal(10**7)  # of all together too: columns have room for little more
_NOTHING = Decimal(0)
_STATUSES = {
    "running": Status.RUNNING,
    "paused": Status.PAUSED,
    "waiting_for_confirmation": Status.INPUT_REQUIRED,
    "deleting": Status.CANCELLED,
}
_ENDS = {"finished": Status.SUCCEEDED, "error": Status.FAILED, "stuck": Status.FAILED}


@dataclass(frozen=True, slots=True)
class Used:
    """Tokens and US dollars."""

    input_tokens: int = 0
    output_tokens: int = 0
    cost: Decimal = _NOTHING

    def __add__(self, other: "Used") -> "Used":
        return Used(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            min(self.cost + other.cost, _MOST_COST),
        )

    def beyond(self, other: "Used") -> "Used":
        """What is here and not there."""
        return Used(
            max(0, self.input_tokens - other.input_tokens),
            max(0, self.output_tokens - other.output_tokens),
            max(_NOTHING, self.cost - other.cost),
        )

    def as_usage(self) -> Usage:
        """What an event is told: none instead of 0."""
        return Usage(self.input_tokens or None, self.output_tokens or None, self.cost or None)


@dataclass(frozen=True, slots=True)
class State:
    """`used` is what the whole conversation used so far, `by_response` what each answer of a model did.
    `has_usage`: it says so. `problem`: why nothing is known.
    """

    key: str = ""
    status: str = ""
    agent: str = ""
    model: str = ""
    workspace: str = ""
    tags: Mapping[str, Json] = field(default_factory=dict)
    used: Used = field(default_factory=Used)
    by_response: Mapping[str, Used] = field(default_factory=dict)
    has_usage: bool = False
    problem: str = ""


def read_state(content: bytes) -> State:
    """Of what is missing or of another type nothing is known. Raises JsonError for what is no JSON object."""
    value = read_json(content)
    if not isinstance(value, dict):
        raise JsonError("it is no JSON object")
    agent, workspace = _dict(value.get("agent")), _dict(value.get("workspace"))
    metrics = [_dict(one) for one in _dict(_dict(value.get("stats")).get("usage_to_metrics")).values()]
    return State(
        key=_text(value.get("id")),
        status=_text(value.get("execution_status"))[:100],
        agent=_text(agent.get("kind")),
        model=_text(_dict(agent.get("llm")).get("model"))[:AGENT_LENGTH],
        workspace=_text(workspace.get("working_dir")),
        tags=_dict(value.get("tags")),
        used=sum(map(_total, metrics), Used()),
        by_response={name: usage for one in metrics for name, usage in _by_response(one)},
        has_usage=True,
    )


def run_status(raw: str, *, has_acted: bool) -> Status:
    """How a run stands whose conversation says that it is `raw` (CONTRACTS.md 4.2).

    An end that was there before the agent did anything is that of the run before.
    """
    if raw in _ENDS and has_acted:
        return _ENDS[raw]
    if raw == "idle" and has_acted:
        return Status.PAUSED
    return _STATUSES.get(raw, Status.RUNNING if has_acted else Status.QUEUED)


def spelled(key: str) -> str:
    """A conversation's id as a UUID is written; folders are named without its dashes."""
    try:
        return str(UUID(key)) if len(key) == 32 else key
    except ValueError:
        return key


def _total(metrics: dict[str, Json]) -> Used:
    return _used(_dict(metrics.get("accumulated_token_usage")), metrics.get("accumulated_cost"))


def _by_response(metrics: dict[str, Json]) -> Iterator[tuple[str, Used]]:
    """What each answer cost is in a list beside, which says so where both are as long."""
    usages, costs = _list(metrics.get("token_usages")), _list(metrics.get("costs"))
    known = costs if len(costs) == len(usages) else [{}] * len(usages)
    for usage, cost in zip(usages, known, strict=True):
        if name := _text(usage.get("response_id")):
            yield name, _used(usage, cost.get("cost"))


def _used(usage: dict[str, Json], cost: Json) -> Used:
    return Used(_count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")), _cost(cost))


def _cost(value: Json) -> Decimal:
    """As columns keep it; 0 for what is none."""
    if type(value) not in (int, float) or not 0 <= value <= _MOST_COST:
        return _NOTHING
    return Decimal(str(value)).quantize(Decimal("0.000001"))


def _count(value: Json) -> int:
    return value if type(value) is int and 0 <= value <= _MOST_TOKENS else 0


def _dict(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}


def _list(value: Json) -> list[dict[str, Json]]:
    return [_dict(item) for item in value] if isinstance(value, list) else []


def _text(value: Json) -> str:
    return clean_text(value) if isinstance(value, str) else ""

"""The numbers of a whole evaluation (CONTRACTS 1.3, summary)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal

from runs.evaluators.base import average
from runs.traces import Group

Status = Literal["passed", "failed", "errored", "skipped"]
STATUSES: tuple[Status, ...] = ("passed", "failed", "errored", "skipped")


@dataclass(slots=True)
class _Metric:
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STATUSES, 0))
    scores: list[float] = field(default_factory=list)


class Tally:
    """Counts outcomes as they come."""

    def __init__(self) -> None:
        self._metrics: dict[str, _Metric] = {}

    def add(self, evaluator_name: str, status: Status, score: float | None) -> None:
        metric = self._metrics.setdefault(evaluator_name, _Metric())
        metric.counts[status] += 1
        if score is not None:
            metric.scores.append(score)

    @property
    def counts(self) -> dict[str, int]:
        metrics = self._metrics.values()
        return {status: sum(metric.counts[status] for metric in metrics) for status in STATUSES}

    def per_metric(self) -> dict[str, dict[str, Any]]:
        return {name: {**m.counts, "avg_score": average(m.scores)} for name, m in self._metrics.items()}


def performance(groups: Sequence[Group]) -> dict[str, Any] | None:
    """Tokens, milliseconds and counts; None without a group."""
    if not groups:
        return None
    turns = [turn for group in groups for turn in group.turns]
    prompt = sum(turn.input_tokens for turn in turns)
    output = sum(turn.output_tokens for turn in turns)
    model_calls = sum(turn.llm_calls for turn in turns)
    tool_calls = sum(len(turn.tool_calls) for turn in turns)
    latencies = sorted(group.latency_ms for group in groups if group.latency_ms is not None)
    number = len(groups)
    return {
        "tokens": {
            "total_prompt": prompt,
            "total_output": output,
            "total": prompt + output,
            "avg_per_trace": {"prompt": prompt / number, "output": output / number},
            "cache_creation_tokens": sum(turn.cache_write_tokens for turn in turns),
            "cache_read_tokens": sum(turn.cache_read_tokens for turn in turns),
        },
        "latency": {"overall_per_trace": _percentiles(latencies)} if latencies else {},
        "counts": {
            "traces": number,
            "total_llm_calls": model_calls,
            "total_tool_calls": tool_calls,
            "avg_llm_calls_per_trace": model_calls / number,
            "avg_tool_calls_per_trace": tool_calls / number,
        },
        "models": sorted({model for turn in turns for model in turn.models}),
        "trace_count": number,
    }


def _percentiles(ordered: Sequence[float]) -> dict[str, float]:
    return {
        "p50": median(ordered),
        "p95": ordered[int(len(ordered) * 0.95)],
        "p99": ordered[int(len(ordered) * 0.99)],
    }

"""The numbers of a whole evaluation (CONTRACTS 1.3, summary). They keep figures, not groups."""

from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal

from runs.evaluators.base import average
from runs.traces import Group

Status = Literal["passed", "failed", "errored", "skipped"]
STATUSES: tuple[Status, ...] = ("passed", "failed", "errored", "skipped")


@dataclass(slots=True)
class _Metric:
    first: int
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STATUSES, 0))
    scores: list[tuple[int, float]] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        """Scores are added in order of position: in another order the last digit may differ."""
        return {**self.counts, "avg_score": average([score for _, score in sorted(self.scores)])}


class Tally:
    """Counts outcomes as they come; in which order they come makes no difference."""

    def __init__(self) -> None:
        self._metrics: dict[str, _Metric] = {}

    def add(self, evaluator_name: str, status: Status, score: float | None, position: int) -> None:
        metric = self._metrics.setdefault(evaluator_name, _Metric(position))
        metric.first = min(metric.first, position)
        metric.counts[status] += 1
        if score is not None:
            metric.scores.append((position, score))

    @property
    def counts(self) -> dict[str, int]:
        metrics = self._metrics.values()
        return {status: sum(metric.counts[status] for metric in metrics) for status in STATUSES}

    def per_metric(self) -> dict[str, dict[str, Any]]:
        by_place = sorted(self._metrics.items(), key=lambda item: item[1].first)
        return {name: metric.figures() for name, metric in by_place}


class Performance:
    """Adds up what groups took: tokens, milliseconds and counts."""

    def __init__(self) -> None:
        self.groups = 0
        self.agents: set[str] = set()
        self._models: set[str] = set()
        self._latencies: list[float] = []
        self._prompt = self._output = self._cache_write = self._cache_read = 0
        self._model_calls = self._tool_calls = 0

    def add(self, group: Group) -> None:
        self.groups += 1
        if name := group.service_name or group.agent_name:
            self.agents.add(name)
        if group.latency_ms is not None:
            self._latencies.append(group.latency_ms)
        for turn in group.turns:
            self._models.update(turn.models)
            self._prompt += turn.input_tokens
            self._output += turn.output_tokens
            self._cache_write += turn.cache_write_tokens
            self._cache_read += turn.cache_read_tokens
            self._model_calls += turn.llm_calls
            self._tool_calls += len(turn.tool_calls)

    def figures(self) -> dict[str, Any] | None:
        """None without a group."""
        if not self.groups:
            return None
        number = self.groups
        return {
            "tokens": {
                "total_prompt": self._prompt,
                "total_output": self._output,
                "total": self._prompt + self._output,
                "avg_per_trace": {"prompt": self._prompt / number, "output": self._output / number},
                "cache_creation_tokens": self._cache_write,
                "cache_read_tokens": self._cache_read,
            },
            "latency": {"overall_per_trace": _percentiles(self._latencies)} if self._latencies else {},
            "counts": {
                "traces": number,
                "total_llm_calls": self._model_calls,
                "total_tool_calls": self._tool_calls,
                "avg_llm_calls_per_trace": self._model_calls / number,
                "avg_tool_calls_per_trace": self._tool_calls / number,
            },
            "models": sorted(self._models),
            "trace_count": number,
        }


def _percentiles(latencies: list[float]) -> dict[str, float]:
    ordered = sorted(latencies)
    return {
        "p50": median(ordered),
        "p95": ordered[int(len(ordered) * 0.95)],
        "p99": ordered[int(len(ordered) * 0.99)],
    }

"""Did the agent stay within its budget of turns, time, tokens or money?

Within is a score of 1, beyond it limit/measured: twice the budget is 0.5. What a trace does not report
is not taken for nothing: each amount is known from below and from above, and where the two would
decide differently the result is skipped.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from runs.evaluators.base import Config, Task, Verdict, average
from runs.traces import Turn

Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Per = Literal["turn", "run"]

_PER = "Whether each turn may take as much, or all turns of an item together."


@dataclass(frozen=True, slots=True)
class Measured:
    """At least `low` and at most `high`; `unknown` is why they differ."""

    low: float
    high: float
    unknown: str = ""

    @property
    def exact(self) -> float | None:
        return self.low if self.low == self.high else None


@dataclass(frozen=True, slots=True)
class _Budget:
    """`shown` writes an amount with its unit, `unit` is its name in the details."""

    limit: float
    per: Per
    unit: str
    shown: Callable[[float], str]

    def score(self, amount: float) -> float:
        return 1.0 if amount <= self.limit else self.limit / amount


class TurnCountConfig(Config):
    min_turns: int | None = Field(None, ge=0)
    max_turns: int | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _has_a_limit(self) -> "TurnCountConfig":
        low, high = self.min_turns, self.max_turns
        if low is None and high is None:
            raise ValueError("needs minTurns, maxTurns or both")
        if low is not None and high is not None and low > high:
            raise ValueError("minTurns is more than maxTurns")
        return self


class TurnCount:
    name = "turn_count"
    description = "The conversation has no more and no fewer turns than wanted."
    default_threshold = 1.0
    needs_eval_case = False
    waits = False
    Config = TurnCountConfig

    def judge(self, task: Task) -> Verdict:
        low, high = task.config.min_turns or 0, task.config.max_turns
        number = len(task.all_turns)
        details: dict[str, Any] = {"measured": number, "min": task.config.min_turns, "max": high}
        turns = "1 turn" if number == 1 else f"{number} turns"
        if number < low:
            score, reason = number / low, f"There were {turns}, fewer than {low}."
        elif high is not None and number > high:
            score, reason = high / number, f"There were {turns}, more than {high}."
        else:
            score, reason = 1.0, f"There {'was' if number == 1 else 'were'} {turns}, as wanted."
        return Verdict(score, [None] * number, {"reason": reason, **details})


class LatencyConfig(Config):
    max_seconds: Amount
    per: Per = Field("turn", description=_PER)


class LatencyBudget:
    """The time of a turn is from its question to its answer; between turns the user takes the time."""

    name = "latency_budget"
    description = "Answers take no longer than a number of seconds."
    default_threshold = 1.0
    needs_eval_case = False
    waits = False
    Config = LatencyConfig

    def judge(self, task: Task) -> Verdict:
        budget = _Budget(
            task.config.max_seconds, task.config.per, "seconds", lambda amount: f"{amount:.4g} s"
        )
        return _verdict(task, budget, [_seconds(turn) for turn in task.all_turns])


class TokenConfig(Config):
    max_tokens: int = Field(ge=0)
    per: Per = Field("run", description=_PER)
    count: Literal["total", "input", "output"] = Field("total", description="Which tokens count.")


class TokenBudget:
    name = "token_budget"
    description = "The models use no more than a number of tokens."
    default_threshold = 1.0
    needs_eval_case = False
    waits = False
    Config = TokenConfig

    def judge(self, task: Task) -> Verdict:
        config = task.config
        budget = _Budget(config.max_tokens, config.per, "tokens", lambda amount: f"{amount:,.0f} tokens")
        recorded = _calls_recorded(task.all_turns)
        return _verdict(task, budget, [_tokens(turn, config.count, recorded) for turn in task.all_turns])


class Price(Config):
    """US dollars for a million tokens."""

    input: Amount
    output: Amount
    cached: Amount | None = Field(
        None, description="Input tokens read from a cache; like input if not given."
    )


class CostConfig(Config):
    max_usd: Amount
    per: Per = Field("run", description=_PER)
    price_per_million: dict[str, Price] = Field(
        default_factory=dict,
        description="US dollars by the model's name as the trace has it, `*` for all others.",
    )


class CostBudget:
    """Without prices, what the trace itself reports counts."""

    name = "cost_budget"
    description = "The models cost no more than a number of US dollars."
    default_threshold = 1.0
    needs_eval_case = False
    waits = False
    Config = CostConfig

    def judge(self, task: Task) -> Verdict:
        config = task.config
        budget = _Budget(config.max_usd, config.per, "USD", _dollars)
        prices, recorded = config.price_per_million, _calls_recorded(task.all_turns)
        return _verdict(task, budget, [_cost(turn, prices, recorded) for turn in task.all_turns])


def _verdict(task: Task, budget: _Budget, turns: Sequence[Measured]) -> Verdict:
    parts = turns if budget.per == "turn" else [_sum(turns)]
    best = average([budget.score(part.low) for part in parts]) or 0.0
    worst = average([budget.score(part.high) for part in parts]) or 0.0
    details = {
        "limit": budget.limit,
        "unit": budget.unit,
        "per": budget.per,
        "measured": max(parts, key=lambda part: part.low).exact,
        "turns": [
            {"invocation_id": turn.invocation_id, "measured": measured.exact, "at_least": measured.low}
            for turn, measured in zip(task.all_turns, turns, strict=True)
        ],
    }
    scores = [_own_score(budget, turn) for turn in turns]
    if best >= task.threshold > worst:
        return Verdict(None, scores, {"reason": _unknowns(turns), **details})
    score = worst if worst >= task.threshold else best
    return Verdict(score, scores, {"reason": _reason(budget, parts), **details})


def _sum(turns: Sequence[Measured]) -> Measured:
    return Measured(sum(turn.low for turn in turns), sum(turn.high for turn in turns))


def _own_score(budget: _Budget, turn: Measured) -> float | None:
    """A budget for the run says nothing of one turn."""
    known = budget.per == "turn" and budget.score(turn.low) == budget.score(turn.high)
    return budget.score(turn.low) if known else None


def _unknowns(turns: Sequence[Measured]) -> str:
    found = list(dict.fromkeys(turn.unknown for turn in turns if turn.unknown))
    return "; ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")


def _reason(budget: _Budget, parts: Sequence[Measured]) -> str:
    limit = budget.shown(budget.limit)
    over = [part for part in parts if part.low > budget.limit]
    most = max(parts, key=lambda part: part.low)
    amount = f"{'' if most.exact is not None else 'at least '}{budget.shown(most.low)}"
    if len(parts) == 1:
        return f"It came to {amount}, {'more than' if over else 'within'} {limit}."
    if not over:
        return f"Each of {len(parts)} turns stayed within {limit}; the most was {amount}."
    return f"{len(over)} of {len(parts)} turns came to more than {limit}; the most was {amount}."


def _dollars(amount: float) -> str:
    return f"${amount:,.2f}" if amount >= 1 else f"${amount:.2g}"


def _seconds(turn: Turn) -> Measured:
    if turn.started_at is None or turn.ended_at is None:
        return Measured(0, inf, "the trace has no times")
    return Measured(turn.duration_ms / 1000, turn.duration_ms / 1000)


def _tokens(turn: Turn, count: Literal["total", "input", "output"], recorded: bool) -> Measured:
    """No tokens mean that none were reported, unless no model was called; `recorded` says that a trace
    of which other turns have model calls would have had it."""
    found = {
        "input": (turn.input_tokens,),
        "output": (turn.output_tokens,),
        "total": (turn.input_tokens, turn.output_tokens),
    }
    amount = sum(found[count])
    if all(found[count]) or (recorded and not turn.llm_calls):
        return Measured(amount, amount)
    return Measured(amount, inf, "the trace does not report the tokens of every model call")


def _calls_recorded(turns: Sequence[Turn]) -> bool:
    return any(turn.llm_calls for turn in turns)


def _cost(turn: Turn, prices: dict[str, Price], recorded: bool) -> Measured:
    if prices:
        return _priced(turn, prices, recorded)
    reported = turn.cost
    if reported is not None:
        return Measured(float(reported), float(reported))
    if recorded and not turn.llm_calls:
        return Measured(0, 0)
    return Measured(0, inf, "the trace reports no cost, and config has no pricePerMillion")


def _priced(turn: Turn, prices: dict[str, Price], recorded: bool) -> Measured:
    """Of a turn with several models it is not known which one used how many tokens."""
    tokens = _tokens(turn, "total", recorded)
    if not tokens.high:
        return Measured(0, 0)
    found = {
        model: prices.get(model) or prices.get("*") for model in turn.models or ["a model without a name"]
    }
    unpriced = ", ".join(model for model, price in found.items() if price is None)
    if unpriced:
        return Measured(0, inf, f"pricePerMillion has no price for {unpriced}")
    costs = [_price_of(turn, price) for price in found.values() if price]
    if tokens.unknown:
        return Measured(min(costs), inf, tokens.unknown)
    return Measured(
        min(costs), max(costs), f"the tokens of {' and '.join(found)} are not reported separately"
    )


def _price_of(turn: Turn, price: Price) -> float:
    """Cached tokens are among the input tokens (OpenTelemetry GenAI), unless there are more of them."""
    cached = turn.cache_read_tokens
    fresh = turn.input_tokens - cached if cached <= turn.input_tokens else turn.input_tokens
    cached_price = price.input if price.cached is None else price.cached
    return (fresh * price.input + cached * cached_price + turn.output_tokens * price.output) / 1_000_000

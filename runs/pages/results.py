"""The results of a run as a table of items and evaluators, with reasons in words."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db.models import Count, Min, Q, QuerySet, Sum

from runs.access import SignedInRequest
from runs.exact import Json
from runs.models import Result, Run
from runs.pages import json_view, text

PAGE = 50  # items
_SHOW = ("failed", "errored", "skipped")
_EVALUATORS = 50  # columns; more stand in the raw JSON


@dataclass(slots=True)
class Reason:
    evaluator: str
    css: str
    words: str
    expected: str = ""
    called: str = ""


@dataclass(slots=True)
class Item:
    id: str
    question: str
    case: str
    cells: list[Result | None]
    reasons: list[Reason] = field(default_factory=list)
    judged: UUID | None = None  # the run that it is, where that is recorded here and may be seen


@dataclass(slots=True)
class Column:
    name: str
    type: str
    threshold: float | None
    passed: int = 0
    failed: int = 0
    errored: int = 0
    skipped: int = 0
    score_sum: float = 0
    scored: int = 0

    @property
    def total(self) -> int:
        return self.passed + self.failed + self.errored + self.skipped

    @property
    def mean(self) -> float | None:
        return self.score_sum / self.scored if self.scored else None


def results_context(request: SignedInRequest, run: Run) -> dict[str, Any]:
    show = request.GET.get("show", "")
    show = show if show in _SHOW else ""
    columns = _columns(run)
    results = Result.objects.filter(run=run)
    chosen = results.filter(status=show) if show else results
    places = chosen.values("item_id").annotate(place=Min("position"))
    if after := _place(request.GET.get("after")):
        place, item_id = after
        places = places.filter(Q(place__gt=place) | Q(place=place, item_id__gt=item_id))
    page = list(places.order_by("place", "item_id")[: PAGE + 1])
    items = _items(run, [place["item_id"] for place in page[:PAGE]], columns)
    _link(request, items)
    last = page[PAGE - 1] if len(page) > PAGE else None
    return {
        "columns": columns,
        "items": items,
        "show": show,
        "more": f"{last['place']}.{last['item_id']}" if last else None,
        "counts": _counts(results),
    }


def _counts(results: QuerySet[Result]) -> list[tuple[str, str, int]]:
    """How many items there are, and how many with such a result; within one run, counting is cheap."""
    counts = results.aggregate(
        all=Count("item_id", distinct=True),
        **{name: Count("item_id", distinct=True, filter=Q(status=name)) for name in _SHOW},
    )
    return [("", "All", counts["all"]), *((name, name.capitalize(), counts[name]) for name in _SHOW)]


def _columns(run: Run) -> list[Column]:
    """Counted in the database: a run may have thousands of items."""
    rows = (
        Result.objects.filter(run=run)
        .values("evaluator_name", "evaluator_type", "status")
        .annotate(count=Count("pk"), total=Sum("score"), scored=Count("score"), place=Min("position"))
        .annotate(threshold=Min("threshold"))
        .order_by("place")
    )
    columns: dict[str, Column] = {}
    for row in rows:
        name = row["evaluator_name"]
        if name not in columns and len(columns) == _EVALUATORS:
            continue
        column = columns.setdefault(name, Column(name, row["evaluator_type"], row["threshold"]))
        setattr(column, row["status"], row["count"])
        column.score_sum += row["total"] or 0
        column.scored += row["scored"]
        column.threshold = row["threshold"] if column.threshold is None else column.threshold
    return list(columns.values())


def _items(run: Run, ids: list[str], columns: list[Column]) -> list[Item]:
    by_item: dict[str, dict[str, Result]] = {item_id: {} for item_id in ids}
    for result in Result.objects.filter(run=run, item_id__in=ids).order_by("position"):
        by_item[result.item_id][result.evaluator_name] = result
    return [_item(item_id, found, columns) for item_id, found in by_item.items()]


def _item(item_id: str, found: dict[str, Result], columns: list[Column]) -> Item:
    first = next(iter(found.values()))
    item = Item(item_id, first.question, first.case_id, [found.get(column.name) for column in columns])
    item.reasons = [_reason(result) for result in found.values() if result.status != Result.Status.PASSED]
    return item


def _link(request: SignedInRequest, items: list[Item]) -> None:
    """An item of recorded runs is named by the run that it is."""
    ids = {item.id: found for item in items if (found := _uuid(item.id))}
    if ids:
        seen = set(
            Run.objects.visible_to(request.user).filter(pk__in=ids.values()).values_list("pk", flat=True)
        )
        for item in items:
            item.judged = ids[item.id] if ids.get(item.id) in seen else None


def _uuid(item_id: str) -> UUID | None:
    """Written as we write ids; 32 digits are a trace's."""
    try:
        return UUID(item_id) if len(item_id) == 36 else None
    except ValueError:
        return None


def _reason(result: Result) -> Reason:
    css = {"failed": "", "errored": "e", "skipped": "s"}[result.status]
    reason = Reason(text.visible(result.evaluator_name), css, "")
    details = result.full_details if isinstance(result.full_details, dict) else {}
    if result.status == Result.Status.ERRORED:
        reason.words = text.visible(result.error or "It gave no verdict and no reason.")[:2000]
    elif result.status == Result.Status.SKIPPED:
        reason.words = _skipped(details)
    elif isinstance(details.get("reason"), str) and details["reason"]:
        reason.words = text.visible(details["reason"])[:2000]
    elif isinstance(details.get("comparisons"), list):
        _explain_calls(reason, details["comparisons"])
    else:
        reason.words = _below(result)
    return reason


def _skipped(details: dict[str, Json]) -> str:
    why = details.get("reason")
    return f"Not judged: {text.visible(why)}." if isinstance(why, str) and why else "Not judged."


def _below(result: Result) -> str:
    if result.score is None:
        return "It has no score."
    if result.evaluator_name == "response_match_score":
        needed = f"; {result.threshold:.0%} is required" if result.threshold is not None else ""
        return f"The answer agrees with the expected one to {result.score:.0%}{needed}."
    needed = f", {result.threshold:.2f} is required" if result.threshold is not None else ""
    return f"The score is {result.score:.2f}{needed}."


def _explain_calls(reason: Reason, comparisons: list[Json]) -> None:
    """Tells the first turn that went wrong, and how many did."""
    wrong = [one for one in comparisons if isinstance(one, dict) and not one.get("matched")]
    if not wrong:
        return
    expected, actual = _list(wrong[0].get("expected")), _list(wrong[0].get("actual"))
    more = f" So it is in {len(wrong)} of {len(comparisons)} turns." if len(wrong) > 1 else ""
    reason.words = f"{_difference(expected, actual)}{more}"
    reason.expected, reason.called = _calls(expected), _calls(actual)


def _difference(expected: list[Json], actual: list[Json]) -> str:
    missing = [call for call in expected if call not in actual]
    extra = [call for call in actual if call not in expected]
    if not missing and not extra:
        return "The expected tools were called, in another order or number."
    if missing and extra and _names(missing) == _names(extra):
        return f"{_names(missing)} was called with other arguments."
    if missing and extra:
        return f"Called {_names(extra)} where {_names(missing)} was expected."
    return (
        f"{_names(missing)} was not called."
        if missing
        else f"Called {_names(extra)}, which was not expected."
    )


def _names(calls: list[Json]) -> str:
    names = [
        text.visible(str(call.get("name", "?")))[:100] if isinstance(call, dict) else "?" for call in calls
    ]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def _calls(calls: list[Json]) -> str:
    if not calls:
        return "no tool"
    return ", ".join(_call(call) for call in calls[:10]) + (" …" if len(calls) > 10 else "")


def _call(call: Json) -> str:
    if not isinstance(call, dict):
        return json_view.inline(call, 60)
    args = json_view.inline(call.get("args"), 200, separator=", ")
    return f"{text.visible(str(call.get('name', '?')))[:100]}({args})"


def _place(after: str | None) -> tuple[int, str] | None:
    """The item that a page begins behind: its place and its id."""
    digits, _, item_id = (after or "").partition(".")
    return (int(digits), item_id) if digits.isascii() and digits.isdigit() and len(digits) < 10 else None

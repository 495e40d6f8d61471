"""The results of a run as a table of items and evaluators or one by one, with reasons in words."""

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.db.models import Count, Min, Q, QuerySet, Sum

from runs.access import SignedInRequest
from runs.exact import Json
from runs.models import Result, Run
from runs.pages import json_view, text

PAGE = 50  # items
_SHOW = ("failed", "errored", "skipped")
_EVALUATORS = 50  # columns; the list has them all
_VIEWS = ("matrix", "list")


@dataclass(slots=True)
class Reason:
    evaluator: str
    css: str
    words: str
    expected: str = ""
    called: str = ""
    result: str = ""  # its id, for its details; "" where it has none


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


@dataclass(frozen=True, slots=True)
class Line:
    """One result by itself."""

    result: Result
    reason: Reason


def results_context(request: SignedInRequest, run: Run) -> dict[str, Any]:
    """A page of the results that are asked for: `only` those of a status, of one `evaluator`; as a matrix of
    items, or one by one as a list."""
    only = request.GET.get("only", request.GET.get("show", ""))
    asked = {
        "tab": "results",
        "only": only if only in _SHOW else "",
        "evaluator": request.GET.get("evaluator", "").replace("\x00", ""),
        "view": "list" if request.GET.get("view") == "list" else "",
    }
    columns = _columns(run)
    if asked["evaluator"] not in {column.name for column in columns}:
        asked["evaluator"] = ""
    chosen = Result.objects.filter(run=run)
    if asked["only"]:
        chosen = chosen.filter(status=asked["only"])
    if asked["evaluator"]:
        chosen = chosen.filter(evaluator_name=asked["evaluator"])
    after = request.GET.get("after", "")
    page = (
        _one_by_one(chosen, after)
        if asked["view"] == "list"
        else _matrix(request, run, chosen, asked, columns, after)
    )
    more = page.pop("more")
    return {
        **page,
        "columns": columns,
        "only": asked["only"],
        "evaluator": asked["evaluator"],
        "view": asked["view"] or "matrix",
        "counts": _counts(run, asked),
        "evaluators": [("All evaluators", _link_to(asked, evaluator=""), not asked["evaluator"])]
        + [
            (text.visible(one.name), _link_to(asked, evaluator=one.name), one.name == asked["evaluator"])
            for one in columns
        ],
        "views": [(name, _link_to(asked, view="" if name == "matrix" else name)) for name in _VIEWS],
        "more": more and _link_to(asked, after=more),
    }


def _matrix(
    request: SignedInRequest,
    run: Run,
    chosen: QuerySet[Result],
    asked: dict[str, str],
    columns: list[Column],
    after: str,
) -> dict[str, Any]:
    """The items that have such a result."""
    places = chosen.values("item_id").annotate(place=Min("position"))
    if behind := _place(after):
        place, item_id = behind
        places = places.filter(Q(place__gt=place) | Q(place=place, item_id__gt=item_id))
    page = list(places.order_by("place", "item_id")[: PAGE + 1])
    shown = [column for column in columns if column.name == asked["evaluator"]] or columns
    items = _items(run, [place["item_id"] for place in page[:PAGE]], shown)
    _link(request, items)
    last = page[PAGE - 1] if len(page) > PAGE else None
    return {"items": items, "shown": shown, "more": f"{last['place']}.{last['item_id']}" if last else None}


def _one_by_one(chosen: QuerySet[Result], after: str) -> dict[str, Any]:
    """The results one by one, in the order of their evaluation."""
    if behind := _place(after):
        place, result_id = behind
        chosen = chosen.filter(Q(position__gt=place) | Q(position=place, pk__gt=result_id))
    page = list(chosen.order_by("position", "pk")[: PAGE + 1])
    last = page[PAGE - 1] if len(page) > PAGE else None
    lines = [Line(result, reason_of(result)) for result in page[:PAGE]]
    return {"lines": lines, "more": f"{last.position}.{last.pk}" if last else None}


def _counts(run: Run, asked: dict[str, str]) -> list[tuple[str, str, int, str]]:
    """How many results there are, and how many of each that is not well: the run keeps count of them."""
    each = {"failed": run.failed_count, "errored": run.errored_count, "skipped": run.skipped_count}
    counts = {"": run.passed_count + sum(each.values()), **each}
    return [
        (name, name.capitalize() or "All", count, _link_to(asked, only=name))
        for name, count in counts.items()
    ]


def _link_to(asked: dict[str, str], **other: str) -> str:
    return f"?{urlencode({name: value for name, value in {**asked, **other}.items() if value})}"


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
    names = {column.name for column in columns}
    item.reasons = [
        reason_of(result)
        for result in found.values()
        if result.status != Result.Status.PASSED and result.evaluator_name in names
    ]
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


def reason_of(result: Result) -> Reason:
    css = {"passed": "ok", "errored": "e", "skipped": "s"}.get(result.status, "")
    reason = Reason(text.visible(result.evaluator_name), css, "", result=result.pk if result.details else "")
    details = result.full_details if isinstance(result.full_details, dict) else {}
    if result.status == Result.Status.ERRORED:
        reason.words = text.visible(result.error or "It gave no verdict and no reason.")[:2000]
    elif result.status == Result.Status.SKIPPED:
        reason.words = _skipped(details)
    elif isinstance(details.get("reason"), str) and details["reason"]:
        reason.words = text.visible(text.without_base64(details["reason"]))[:2000]
    elif result.status == Result.Status.PASSED:
        return reason
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

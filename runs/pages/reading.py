"""A run as a reviewer reads it: question, answer and verdict, without a word of JSON (issue 5, point 5)."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from runs.exact import Json
from runs.models import Event, Result, Run
from runs.pages import text
from runs.pages.files import file_part
from runs.pages.results import reason_of

_MESSAGES = 500  # the newest of a run, among which question and answer are looked for
_RESULTS = 500  # of an evaluation, among which its items are looked for
_ITEMS = 5  # that are read at once, those that went wrong first
_WHOLE = 1_000_000  # bytes of a message that is read
_LONG = 20_000  # characters of a text that are shown
_FACTS = 12  # values of data that are shown by their names
_AGENTS = ("agent", "assistant", "model")


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of what was said. `seq` is its message's; `cut`: there is more than is shown."""

    kind: Literal["prose", "file", "facts", "other"]
    seq: int
    value: Any = None
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one evaluator said, with its reason in words where there is one."""

    status: str
    name: str
    score: float | None
    words: str


@dataclass(slots=True)
class Exchange:
    """A question, its answer, and what evaluators said of them. `title` is its item's."""

    title: str = ""
    question: list[Piece] = field(default_factory=list)
    answer: list[Piece] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Reading:
    """`told` is the run that the words are of: the judged one, or the run itself.

    items: how many there are, of which `exchanges` shows the first; None where they are more than are
    looked through.
    """

    told: Run
    exchanges: list[Exchange]
    items: int | None


@dataclass(frozen=True, slots=True)
class _Said:
    seq: int
    role: str
    event_id: str


def reading_of(run: Run, judged: Run | None) -> Reading:
    """`judged` is the run that this one judges, where the reader may see it."""
    told = judged or run
    said = _messages(told)
    if not run.is_evaluation:
        exchange = _last(told, said)
        exchange.verdicts = _verdicts_on(run)
        return Reading(told, [exchange], 1)
    found = _by_item(
        Result.objects.filter(run=run).only(*_BRIEF).order_by("created_at", "position")[:_RESULTS]
    )
    count = None if sum(len(some) for some in found.values()) == _RESULTS else len(found)
    if len(found) <= 1:
        exchange = _last(told, said)
        exchange.verdicts = _verdicts(run, found)
        return Reading(told, [exchange], count)
    return Reading(told, _exchanges(run, told, said, found), count)


# ── What was said ──────────────────────────────────────────────────────────
def _messages(run: Run) -> list[_Said]:
    """The newest messages in their order, without what they say."""
    rows = Event.objects.filter(run=run, kind=Event.Kind.MESSAGE).order_by("-seq")
    told = rows.values_list("seq", "role", "event_id")[:_MESSAGES]
    return [_Said(seq, role, event_id or "") for seq, role, event_id in reversed(told)]


def _last(run: Run, said: Sequence[_Said]) -> Exchange:
    """The last question, and the last answer after it."""
    question, answer = _pair(said)
    pieces = _pieces(run, filter(None, (question, answer)))
    return Exchange(
        question=pieces.get(question, []) or [Piece("prose", 0, text.visible(run.title))],
        answer=pieces.get(answer, []),
    )


def _pair(said: Sequence[_Said]) -> tuple[int | None, int | None]:
    """Where the last question and the last answer after it stand."""
    question = max((one.seq for one in said if one.role == "user"), default=None)
    answers = (one.seq for one in said if one.role in _AGENTS and one.seq > (question or 0))
    return question, max(answers, default=None)


def _pieces(run: Run, seqs: Iterable[int]) -> dict[int | None, list[Piece]]:
    events = Event.objects.filter(run=run, seq__in=list(seqs))
    small = events.filter(size__lte=_WHOLE).only("seq", "payload", "payload_exact")
    found: dict[int | None, list[Piece]] = {event.seq: list(_parts(event)) for event in small}
    return found | {seq: [Piece("other", seq)] for seq in seqs if seq not in found}


def _parts(event: Event) -> Iterator[Piece]:
    payload = event.full_payload
    parts = payload.get("parts") if isinstance(payload, dict) else None
    for number, part in enumerate(parts if isinstance(parts, list) else []):
        if not isinstance(part, dict):
            yield Piece("other", event.seq)
        elif isinstance(said := part.get("text"), str):
            shown = text.shortened(said, _LONG)
            yield Piece("prose", event.seq, shown, len(shown) < len(said))
        elif file := file_part(part, number):
            yield Piece("file", event.seq, file)
        elif facts := _facts(part.get("data")):
            yield Piece("facts", event.seq, facts)
        else:
            yield Piece("other", event.seq)


def _facts(data: Json) -> list[tuple[str, str]]:
    """Names and values, where data is no more than a few of these; else nothing."""
    if not isinstance(data, dict) or len(data) > _FACTS:
        return []
    if any(isinstance(value, dict | list) or len(str(value)) > 500 for value in data.values()):
        return []
    return [(text.visible(_plain(key)), text.visible(_in_words(value))) for key, value in data.items()]


def _in_words(value: Json) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


# ── What evaluators said ───────────────────────────────────────────────────
# Enough to tell items apart; the reasons are read of those that are shown.
_BRIEF = ("item_id", "item_name", "case_id", "question", "status", "trace_id")


def _by_item(results: Iterable[Result]) -> dict[str, list[Result]]:
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(result.item_id, []).append(result)
    return found


def _exchanges(run: Run, told: Run, said: Sequence[_Said], found: dict[str, list[Result]]) -> list[Exchange]:
    """An exchange for each item; the words are those of its trace, as far as they are recorded here."""
    wrong_first = sorted(found, key=lambda item: all(one.status == "passed" for one in found[item]))
    shown = {item: found[item] for item in wrong_first[:_ITEMS]}
    pairs = {item: _pair([one for one in said if _is_of(one, some[0])]) for item, some in shown.items()}
    pieces = _pieces(told, {seq for pair in pairs.values() for seq in pair if seq})
    full = _by_item(Result.objects.filter(run=run, item_id__in=list(shown)).order_by("position"))
    exchanges = []
    for item, some in shown.items():
        question, answer = pairs[item]
        asked = [Piece("prose", 0, text.visible(some[0].question or some[0].item_name))]
        exchanges.append(
            Exchange(
                title=_title(some[0]),
                question=pieces.get(question) or asked,
                answer=pieces.get(answer, []),
                verdicts=[_verdict(result) for result in full.get(item, [])],
            )
        )
    return exchanges


def _title(result: Result) -> str:
    """What people call the item; the id of its trace tells them nothing."""
    name = result.case_id or ("" if result.item_name == result.trace_id else result.item_name)
    return text.visible(name)[:200]


def _is_of(said: _Said, result: Result) -> bool:
    """Its event's id begins with the trace that it comes from (runs.worker.history)."""
    return bool(result.trace_id) and said.event_id.startswith(f"{result.trace_id}/")


def _verdicts(run: Run, found: dict[str, list[Result]]) -> list[Verdict]:
    results = Result.objects.filter(run=run, item_id__in=list(found)).order_by("position")
    return [_verdict(result) for result in results]


def _verdicts_on(run: Run) -> list[Verdict]:
    """Of the newest evaluation that judges this run."""
    results = Result.objects.filter(run__judged=run, run__owner=run.owner_id, run__deleted_at=None).order_by(
        "-run__created_at", "-run", "position"
    )
    newest = list(results[:50])
    return [_verdict(result) for result in newest if result.run_id == newest[0].run_id]


def _verdict(result: Result) -> Verdict:
    return Verdict(
        result.status, text.visible(_plain(result.evaluator_name)), result.score, reason_of(result).words
    )


def _plain(name: str) -> str:
    """A name that a program gave, as people write: "Response match score"."""
    words = " ".join(name.replace("_", " ").split())[:100]
    return words[:1].upper() + words[1:]

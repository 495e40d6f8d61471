"""A run's history as a conversation, a window of it at a time (DESIGN.md 3.5)."""

import json
import re
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db.models import F, TextField
from django.db.models.functions import Cast, Left

from runs.exact import Json
from runs.models import Event, Run, SearchDoc
from runs.pages import json_view, text
from runs.pages.files import FilePart, file_part

WINDOW = 50  # events
WHOLE_EVENT = 4_000_000  # bytes; of a larger one only the beginning is read
WHOLE_TEXT = 200_000  # characters of one text on a page of its own
WHOLE_WINDOW = 12_000_000  # bytes of a window that are read whole, all events together


_MARKUP = re.compile(r"[*`#>]{1,6}")  # what Markdown emphasises with


@dataclass(slots=True)
class Call:
    """A tool call with its result, which may lie in another window."""

    seq: int
    name: str
    arguments: Json = None
    has_arguments: bool = False
    result: Json = None
    result_seq: int | None = None
    is_error: bool = False
    duration_ms: Json = None

    @property
    def has_result(self) -> bool:
        return self.result_seq is not None

    @property
    def brief(self) -> str:
        return json_view.inline(self.arguments)


@dataclass(slots=True)
class Part:
    """Something in a turn: `kind` names its form in the template. `cut`: there is more than is shown."""

    kind: str  # prose, call, file, data, error, state, raw, large
    seq: int
    value: Any = None
    about: str = ""
    cut: bool = False

    @property
    def slug(self) -> str:
        """The name of its event among the values of a run."""
        return f"event-{self.seq}"


@dataclass(slots=True)
class Turn:
    """What one speaker did until another spoke. `late`: it came after the run had ended."""

    seq: int
    role: str
    who: str
    at: datetime
    model: str = ""
    tokens: int | None = None
    duration_ms: Json = None
    late: bool = False
    half_searched: bool = False  # it has more than the search index keeps
    parts: list[Part] = field(default_factory=list)

    @property
    def outline(self) -> str:
        """A few words of the first thing said, for the list beside the transcript."""
        said = next((part.value for part in self.parts if part.kind == "prose"), "")
        return text.visible(" ".join(_MARKUP.sub("", said[:200]).split())[:80]) or self.who

    @property
    def calls(self) -> list[Call]:
        return [part.value for part in self.parts if part.kind == "call"]


@dataclass(frozen=True, slots=True)
class Window:
    """Events `first` to `last` of `count`, as turns."""

    turns: list[Turn]
    first: int
    last: int
    count: int

    @property
    def before(self) -> int | None:
        """Where the window before this one begins; None at the start."""
        return max(1, self.first - WINDOW) if self.first > 1 else None

    @property
    def earlier(self) -> int:
        """How many events lie before this window."""
        return self.first - 1

    @property
    def after(self) -> int | None:
        return self.last + 1 if self.last < self.count else None

    @property
    def is_whole(self) -> bool:
        return self.first <= 1 and self.last >= self.count


def window(run: Run, start: int | None, until: int | None = None) -> Window:
    """The window that begins at event `start` and ends before `until`; without a start, the end of the
    history."""
    first = min(start, run.event_count) if start else run.event_count - WINDOW + 1
    first = max(1, first)
    events = _read(run, first, min(until or first + WINDOW, first + WINDOW))
    last = events[-1].seq if events else first - 1
    turns = turns_of(events, run)
    _mark_half_searched(run, turns, first, last)
    return Window(turns, first, last, run.event_count)


def single(run: Run, seq: int) -> Turn | None:
    """One event as a turn, its texts as long as a page can take them."""
    events = _read(run, seq, seq + 1)
    return turns_of(events, run, limit=WHOLE_TEXT)[0] if events else None


def turns_of(events: Iterable[Event], run: Run, limit: int = text.PREVIEW) -> list[Turn]:
    """`limit` is how many characters of a text are shown."""
    turns: list[Turn] = []
    calls: dict[str, Call] = {}
    for recorded in events:
        event = _as_it_was_sent(recorded)
        payload = _payload(event)
        if (
            event.kind == Event.Kind.TOOL_RESULT
            and (call := calls.get(_key(payload)))
            and not call.has_result
        ):
            _take_result(call, event, payload)
            continue
        turn = _turn_for(turns, event, payload, run, is_late=event is not recorded)
        for part in _parts(event, payload, limit):
            turn.parts.append(part)
            if part.kind == "call" and not part.value.has_result:
                calls[_key(payload)] = part.value
    return turns


def _mark_half_searched(run: Run, turns: Sequence[Turn], first: int, last: int) -> None:
    cut = SearchDoc.objects.filter(run_id=run.pk, seq__range=(first, last), whole=False)
    seqs = set(cut.values_list("seq", flat=True))
    for turn in turns:
        turn.half_searched = any(part.seq in seqs for part in turn.parts)


def _as_it_was_sent(event: Event) -> Event:
    """A late write as the event that it would have been; any other as it is."""
    payload = event.full_payload
    if event.kind != Event.Kind.LATE_WRITE or not isinstance(payload, dict) or "payload" not in payload:
        return event
    sent = copy(event)
    sent.kind, sent.payload, sent.payload_exact = str(payload["kind"]), payload["payload"], None
    return sent


def _read(run: Run, first: int, end: int) -> Sequence[Event]:
    """The events of a window; of a payload that is large only the beginning is fetched, under _PREVIEW."""
    events = list(
        run.events.filter(seq__gte=first, seq__lt=end).defer("payload", "payload_exact").order_by("seq")
    )
    room = WHOLE_WINDOW
    whole: list[int] = []
    large: list[int] = []
    for event in events:
        fits = event.size <= min(WHOLE_EVENT, room)
        room -= event.size if fits else 0
        (whole if fits else large).append(event.pk)
    payloads = {row.pk: row for row in Event.objects.filter(pk__in=whole).only("payload", "payload_exact")}
    beginning = Left(Cast(F("payload"), TextField()), text.PREVIEW)
    previews = dict(
        Event.objects.filter(pk__in=large).annotate(beginning=beginning).values_list("pk", "beginning")
        if large
        else []
    )
    for event in events:
        if event.pk in previews:
            event.payload, event.payload_exact = {_PREVIEW: previews[event.pk]}, None
        else:
            event.payload, event.payload_exact = payloads[event.pk].payload, payloads[event.pk].payload_exact
    return events


_PREVIEW = "\N{NULL}preview"  # a key that no stored payload can have: JSONB refuses NUL


def _payload(event: Event) -> dict[str, Json]:
    payload = event.full_payload
    return payload if isinstance(payload, dict) else {"value": payload}


def _turn_for(turns: list[Turn], event: Event, payload: dict[str, Json], run: Run, is_late: bool) -> Turn:
    role = "agent" if event.role in ("agent", "tool", "assistant", "model") else event.role or "system"
    if event.kind == Event.Kind.STATE:
        role = "state"
    speaks = event.kind == Event.Kind.MESSAGE
    late = is_late or (
        run.finished_at is not None and run.kind == Run.Kind.TASK and event.at > run.finished_at
    )
    if turns and turns[-1].role == role and not speaks and turns[-1].late == late:
        return turns[-1]
    named = payload.get("name") if speaks else None
    agent = text.visible(run.agent) or "Agent"
    who = {"user": "User", "agent": agent, "system": "System", "state": "Runfolio"}.get(
        role, text.visible(role)
    )
    turn = Turn(event.seq, role, text.visible(named) if isinstance(named, str) and named else who, event.at)
    turn.late = late
    if speaks:
        turn.model = text.visible(str(payload.get("model") or ""))[:200]
        turn.tokens = _tokens(payload)
        turn.duration_ms = payload.get("duration_ms")
    turns.append(turn)
    return turn


def _tokens(payload: dict[str, Json]) -> int | None:
    counts = [payload.get(key) for key in ("input_tokens", "output_tokens")]
    known = [count for count in counts if type(count) is int]
    if known:
        return sum(known)
    return payload["tokens"] if type(payload.get("tokens")) is int else None


def _parts(event: Event, payload: dict[str, Json], limit: int) -> list[Part]:
    if _PREVIEW in payload:
        preview = text.visible(text.without_base64(str(payload[_PREVIEW])))
        return [Part("large", event.seq, (event.size, preview), text.visible(event.kind), True)]
    if event.kind == Event.Kind.MESSAGE and isinstance(payload.get("parts"), list):
        return [_message_part(event.seq, number, part, limit) for number, part in enumerate(payload["parts"])]
    if event.kind == Event.Kind.TOOL_CALL:
        return [Part("call", event.seq, Call(event.seq, _name(payload), payload.get("arguments"), True))]
    if event.kind == Event.Kind.TOOL_RESULT:
        call = Call(event.seq, _name(payload))
        _take_result(call, event, payload)
        return [Part("call", event.seq, call)]
    if event.kind == Event.Kind.ERROR:
        said = str(payload.get("message") or payload.get("code") or "An error without a message.")
        return [_text_part("error", event.seq, said, limit)]
    if event.kind == Event.Kind.STATE:
        return [Part("state", event.seq, payload)]
    return [Part("raw", event.seq, payload, text.visible(event.kind))]


def _message_part(seq: int, number: int, part: Json, limit: int) -> Part:
    if not isinstance(part, dict):
        return Part("data", seq, part)
    if isinstance(part.get("text"), str) and part.get("kind", "text") == "text":
        return _text_part("prose", seq, part["text"], limit)
    found = file_part(part, number)
    if found is not None:
        return Part("file", seq, found)
    return Part("data", seq, part.get("data", part))


def _text_part(kind: str, seq: int, said: str, limit: int) -> Part:
    shown = text.shortened(said, limit)
    return Part(kind, seq, shown, f"{len(said):,} characters", len(shown) < len(said))


def find_file(event: Event, number: int) -> FilePart | None:
    """The file that is the `number`-th part of a message."""
    payload = _payload(_as_it_was_sent(event))
    parts = payload.get("parts")
    if not isinstance(parts, list) or number >= len(parts) or not isinstance(parts[number], dict):
        return None
    return file_part(parts[number], number)


def _take_result(call: Call, event: Event, payload: dict[str, Json]) -> None:
    call.result, call.result_seq = payload.get("result"), event.seq
    if _PREVIEW in payload:
        call.result = payload[_PREVIEW]
    call.is_error = payload.get("is_error") is True
    call.duration_ms = payload.get("duration_ms")


def _name(payload: dict[str, Json]) -> str:
    return text.visible(str(payload.get("name") or "tool"))[:200]


def _key(payload: dict[str, Json]) -> str:
    """A result belongs to the call of the same id; without ids, to the last call of that tool."""
    call_id = payload.get("call_id")
    return json.dumps([call_id, None if call_id else payload.get("name")])

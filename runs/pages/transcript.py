"""A run's history as a conversation, a window of it at a time (DESIGN.md 3.5)."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from django.db import connection
from django.utils.safestring import SafeString

from runs.exact import Json, join_exact
from runs.models import Event, Run
from runs.pages import json_view, text, tree, value
from runs.pages.files import FilePart, file_part
from runs.pages.jinja import draw

WINDOW = 50  # events
ROOM = 21_000  # characters that the events of a window may show, about
SHOWN = 2_000  # characters of one text in a window
WHOLE_EVENT = 4_000_000  # bytes; of a larger one only the beginning is read
WHOLE_TEXT = 100_000  # characters of one text where it stands alone

_AT_ONCE = 32_000  # bytes; a window reads an event of at most this size whole
_AT_A_GLANCE = 2_000_000  # bytes; of one of at most this size it reads who and what, of others their size
_OPEN_ERRORS = 6  # errors of a window that are unfolded
_SMALL_BODY = 300  # characters; what a folded call holds comes with it, if it is no more
_MARKUP = re.compile(r"[*`#>]{1,6}")  # what Markdown emphasises with


class Recorded(Protocol):
    """An event as it was read: a row of the table, or an Entry."""

    seq: int
    kind: str
    role: str
    size: int

    @property
    def at(self) -> datetime: ...
    @property
    def full_payload(self) -> Json: ...


@dataclass(slots=True)
class Entry:
    """An event of a window. `is_glance`: only the heads and beginnings of its payload were read;
    `is_unread`: nothing of it."""

    seq: int
    kind: str
    role: str
    size: int
    at: datetime
    full_payload: Json
    is_glance: bool = False
    is_unread: bool = False
    half_searched: bool = False


@dataclass(slots=True)
class Call:
    """A tool call with its result, which may lie in another window.

    brief: its arguments in a line. is_error: None where the result is too large to tell. bytes: of both
    payloads. is_unread: they are not here.
    """

    seq: int
    name: str
    brief: str = ""
    arguments: Json = None
    has_arguments: bool = False
    result: Json = None
    result_seq: int | None = None
    is_error: bool | None = False
    duration_ms: Json = None
    bytes: int = 0
    is_unread: bool = False
    is_open: bool = False
    is_answered: bool = False  # by a message

    @property
    def has_result(self) -> bool:
        return self.result_seq is not None

    @property
    def is_here(self) -> bool:
        """Whether what it holds is sent along with it, rather than when it is unfolded."""
        return not self.is_unread and (self.is_open or self.bytes <= _SMALL_BODY)


@dataclass(slots=True)
class Part:
    """Something in a turn: `kind` names its form in the template. `cut`: there is more than is shown."""

    kind: str  # prose, thinking, call, file, data, error, state, raw, unread
    seq: int
    value: Any = None
    about: str = ""
    cut: bool = False
    number: int = 0  # of its message's parts
    path: str = ""  # where it is in its payload


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
        return gist(said) or self.who

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
    def earlier(self) -> int:
        """How many events lie before this window."""
        return self.first - 1

    @property
    def after(self) -> int | None:
        return self.last + 1 if self.last < self.count else None

    @property
    def is_whole(self) -> bool:
        return self.first <= 1 and self.last >= self.count


def window(
    run: Run, start: int | None = None, *, before: int | None = None, find: int | None = None
) -> Window:
    """As many events as a page takes: from `start` on, or the last ones before `before`, or the last of all.

    `find` is an event that is to be seen unfolded.
    """
    if start is None:
        entries = read(run, 1, before or run.event_count + 1, newest=True)
    else:
        entries = read(run, max(1, min(start, run.event_count)), run.event_count + 1)
    turns = turns_of(entries, run)
    _unfold(turns, find)
    first, last = (entries[0].seq, entries[-1].seq) if entries else (1, 0)
    return Window(turns, first, last, run.event_count)


def single(run: Run, seq: int, with_result: int | None = None) -> Turn | None:
    """One event as a turn, its texts as long as a page can take them; a call along with its result."""
    entries = [entry for one in (seq, with_result) if one and (entry := _read_one(run, one))]
    turns = turns_of(entries, run, limit=WHOLE_TEXT)
    for call in (call for turn in turns for call in turn.calls):
        call.is_open = True
    return turns[0] if turns else None


def draw_turns(turns: Sequence[Turn], run: Run, *, prefix: str = "", alone: bool = False) -> SafeString:
    """The turns as HTML. `prefix` stands before their ids where a page shows several runs; `alone`: each is
    all that its page shows, so nothing leads to the rest of it."""
    return draw("runs/turns", turns=turns, prefix=prefix, **_words(run, alone))


def draw_body(turn: Turn, run: Run, part: int | None = None) -> SafeString:
    """What a window left out: all that a call holds, or the parts of an event, or the one of this number."""
    if part is not None:
        turn.parts = [one for one in turn.parts if one.number == part]
    call = turn.calls[0] if turn.calls else None
    return draw("runs/body", turn=turn, call=call, prefix="", **_words(run, alone=True))


def turns_of(events: Iterable[Recorded], run: Run, limit: int = SHOWN) -> list[Turn]:
    """`limit` is how many characters of a text are shown."""
    turns: list[Turn] = []
    calls: dict[str, Call] = {}
    for recorded in events:
        event = _as_it_was_sent(recorded)
        payload = _payload(event)
        if event.kind == Event.Kind.TOOL_RESULT and (call := _answered(calls, event, payload)):
            _take_result(call, event, payload)
            turns[-1].half_searched |= event.half_searched
            continue
        turn = _turn_for(turns, event, payload, run, is_late=event is not recorded)
        turn.half_searched |= event.half_searched
        for part in _parts(event, payload, limit):
            turn.parts.append(part)
            if part.kind == "call" and not part.value.has_result:
                calls[_key(payload)] = part.value
        if event.kind == Event.Kind.MESSAGE and payload.get("call_id"):
            _note_answer(calls, payload)
    return turns


def find_file(event: Recorded, number: int) -> FilePart | None:
    """The file that is the `number`-th part of a message."""
    payload = _payload(_as_it_was_sent(event))
    parts = payload.get("parts")
    if not isinstance(parts, list) or number >= len(parts) or not isinstance(parts[number], dict):
        return None
    return file_part(parts[number], number)


def _words(run: Run, alone: bool) -> dict[str, Any]:
    """What the templates of turns know besides them."""
    return {
        "run": run,
        "base": f"/runs/{run.pk}",
        "alone": alone,
        "show": value.draw_value,
        "cut": lambda seq: tree.draw_branch(run, f"event-{seq}"),
    }


def gist(said: str) -> str:
    """A few words of a text, in one line and without Markdown's marks."""
    return text.visible(" ".join(_MARKUP.sub("", said[:200]).split())[:80])


# ── Reading ────────────────────────────────────────────────────────────────
def read(run: Run, first: int, end: int, *, newest: bool = False) -> list[Entry]:
    """The events from `first` to before `end` that a window takes, in order: the first ones, or the newest.

    One statement, which reads no large payload whole: what is large shows its beginning (DESIGN.md 3.5).
    """
    given = {"first": first, "end": end, "room": ROOM, "whole": _AT_ONCE, "glance": _AT_A_GLANCE}
    entries = _entries(run, _READ.format(order="DESC" if newest else "ASC"), given)
    return entries[::-1] if newest else entries


def _read_one(run: Run, seq: int) -> Entry | None:
    given = {"first": seq, "end": seq + 1, "room": 0, "whole": WHOLE_EVENT, "glance": 2**31 - 1}
    return next(iter(_entries(run, _READ.format(order="ASC"), given)), None)


def _entries(run: Run, statement: str, given: dict[str, int]) -> list[Entry]:
    with connection.cursor() as cursor:
        cursor.execute(statement, {"run": run.pk, "shown": SHOWN, "window": WINDOW, **given})
        return [_entry(*row) for row in cursor.fetchall()]


def _entry(
    seq: int,
    kind: str,
    role: str,
    size: int,
    at: datetime,
    whole: str | None,
    exact: str | None,
    glance: str | None,
    half_searched: bool,
) -> Entry:
    read_ = whole if whole is not None else glance
    payload = join_exact(None if read_ is None else json.loads(read_), exact)
    is_unread = whole is None and glance is None
    return Entry(seq, kind, role, size, at, payload, glance is not None, is_unread, half_searched)


# What an event costs is about what it shows: of a text its beginning, of a folded call little. The lateral
# subquery reads a payload once; each of its operators by itself would do so again.
_READ = """SELECT seq, kind, role, size, coalesce(occurred_at, created_at),
        CASE WHEN size <= %(whole)s THEN coalesce(payload::text, 'null') END,
        CASE WHEN size <= %(whole)s THEN payload_exact END,
        CASE
            WHEN held IS NULL THEN NULL
            WHEN kind = 'message' THEN jsonb_build_object(
                'name', left(held ->> 'name', 200), 'model', left(held ->> 'model', 200),
                'call_id', held -> 'call_id',
                'duration_ms', held -> 'duration_ms', 'tokens', held -> 'tokens',
                'input_tokens', held -> 'input_tokens', 'output_tokens', held -> 'output_tokens',
                'parts', (SELECT jsonb_agg(CASE
                    WHEN jsonb_typeof(part -> 'text') = 'string' THEN jsonb_build_object(
                        'text', left(part ->> 'text', %(shown)s), 'length', length(part ->> 'text'))
                    WHEN jsonb_typeof(part -> 'file') = 'object' THEN jsonb_build_object('file',
                        (part -> 'file') - 'bytes' - 'uri' || jsonb_build_object(
                            'length', length(part #>> '{{file,bytes}}'),
                            'uri_length', length(part #>> '{{file,uri}}'),
                            'uri', left(part #>> '{{file,uri}}', 2000)))
                    WHEN pg_column_size(part) < 4000 THEN part
                    ELSE jsonb_build_object('length', pg_column_size(part)) END)
                    FROM jsonb_array_elements(
                        CASE WHEN jsonb_typeof(held -> 'parts') = 'array' THEN held -> 'parts' END) AS part))
            WHEN kind = 'tool_call' THEN jsonb_build_object(
                'name', left(held ->> 'name', 200), 'call_id', held -> 'call_id',
                'reasoning', left(held ->> 'reasoning', %(shown)s),
                'thought', left(held ->> 'thought', %(shown)s),
                'lengths', jsonb_build_array(length(held ->> 'reasoning'), length(held ->> 'thought')))
            WHEN kind = 'tool_result' THEN jsonb_build_object(
                'name', left(held ->> 'name', 200), 'call_id', held -> 'call_id',
                'is_error', held -> 'is_error', 'duration_ms', held -> 'duration_ms')
            WHEN kind = 'error' THEN jsonb_build_object(
                'message', left(coalesce(held ->> 'message', held ->> 'code'), %(shown)s),
                'length', length(coalesce(held ->> 'message', held ->> 'code')))
            END::text,
        EXISTS (SELECT 1 FROM search_doc WHERE run_id = %(run)s AND seq = weighed.seq AND NOT whole)
    FROM (
        SELECT *, sum(CASE
            WHEN size > %(whole)s THEN 3000
            WHEN kind IN ('tool_call', 'tool_result') THEN 200 + size / 16
            ELSE least(size, %(shown)s) + size / 32
        END) OVER (ORDER BY seq {order}) AS weight, row_number() OVER (ORDER BY seq {order}) AS place
        FROM (
            SELECT seq, kind, role, size, occurred_at, created_at, payload, payload_exact FROM event
            WHERE run_id = %(run)s AND seq >= %(first)s AND seq < %(end)s
            ORDER BY seq {order} LIMIT %(window)s
        ) AS near
    ) AS weighed, LATERAL (
        SELECT CASE WHEN size > %(whole)s AND size <= %(glance)s THEN payload #> '{{}}' END AS held OFFSET 0
    ) AS reading
    WHERE weight <= %(room)s OR place = 1
    ORDER BY seq {order}
"""


# ── Turns ──────────────────────────────────────────────────────────────────
def _as_it_was_sent(event: Recorded) -> Entry:
    """A late write as the event that it would have been; any other as it is."""
    payload = event.full_payload
    is_late = event.kind == Event.Kind.LATE_WRITE and isinstance(payload, dict) and "payload" in payload
    if isinstance(event, Entry) and not is_late:
        return event
    kind, sent = (str(payload["kind"]), payload["payload"]) if is_late else (event.kind, payload)
    return Entry(event.seq, kind, event.role, event.size, event.at, sent)


def _payload(event: Entry) -> dict[str, Json]:
    payload = event.full_payload
    return payload if isinstance(payload, dict) else {"value": payload}


def _turn_for(turns: list[Turn], event: Entry, payload: dict[str, Json], run: Run, is_late: bool) -> Turn:
    role = "agent" if event.role in ("agent", "tool", "assistant", "model") else event.role or "system"
    if event.kind == Event.Kind.STATE:
        role = "state"
    speaks = event.kind == Event.Kind.MESSAGE
    late = (
        is_late
        or event.kind == Event.Kind.LATE_WRITE
        # The note of the end itself is a moment younger than the end.
        or (
            event.kind != Event.Kind.STATE
            and run.finished_at is not None
            and run.kind == Run.Kind.TASK
            and event.at > run.finished_at
        )
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


def _parts(event: Entry, payload: dict[str, Json], limit: int) -> list[Part]:
    if event.is_unread:
        return [Part("unread", event.seq, event.size, text.visible(event.kind.replace("_", " ")))]
    if event.kind == Event.Kind.MESSAGE and isinstance(payload.get("parts"), list):
        return [_message_part(event, number, part, limit) for number, part in enumerate(payload["parts"])]
    if event.kind == Event.Kind.TOOL_CALL:
        call = Call(
            event.seq, _name(payload), bytes=event.size, is_unread=event.is_glance, has_arguments=True
        )
        call.arguments = payload.get("arguments")
        call.brief = json_view.inline(call.arguments)
        return [*_said_before(event, payload, limit), Part("call", event.seq, call)]
    if event.kind == Event.Kind.TOOL_RESULT:
        call = Call(event.seq, _name(payload))
        _take_result(call, event, payload)
        return [Part("call", event.seq, call)]
    if event.kind == Event.Kind.ERROR:
        said = str(payload.get("message") or payload.get("code") or "An error without a message.")
        return [
            _text_part("error", event.seq, said, limit, payload.get("length") if event.is_glance else None)
        ]
    if event.kind == Event.Kind.STATE:
        return [Part("state", event.seq, payload)]
    return [Part("raw", event.seq, payload, text.visible(event.kind))]


def _said_before(event: Entry, payload: dict[str, Json], limit: int) -> list[Part]:
    """What an agent thought when it called a tool, and what it said."""
    said = (("thinking", payload.get("reasoning"), 0), ("prose", payload.get("thought"), 1))
    lengths = payload.get("lengths") if event.is_glance else None
    lengths = lengths if isinstance(lengths, list) else [None, None]
    return [
        _text_part(kind, event.seq, words, limit, lengths[number], number + 1)
        for kind, words, number in said
        if isinstance(words, str) and words
    ]


def _message_part(event: Entry, number: int, part: Json, limit: int) -> Part:
    if not isinstance(part, dict):
        return Part("data", event.seq, part, path=f"/parts/{number}")
    length = part.get("length") if event.is_glance else None
    if isinstance(part.get("text"), str) and part.get("kind", "text") == "text":
        return _text_part("prose", event.seq, part["text"], limit, length, number)
    found = file_part(part, number, is_glance=event.is_glance)
    if found is not None:
        return Part("file", event.seq, found)
    if isinstance(length, int):
        return Part("unread", event.seq, length, "data")
    path = f"/parts/{number}/data" if "data" in part else f"/parts/{number}"
    return Part("data", event.seq, part.get("data", part), path=path)


def _text_part(kind: str, seq: int, said: str, limit: int, length: Json = None, number: int = 0) -> Part:
    """`length` is that of the whole text where `said` is its beginning."""
    shown = text.shortened(said, limit)
    whole = length if isinstance(length, int) else len(said)
    return Part(kind, seq, shown, f"{whole:,} characters", len(shown) < whole, number)


def _answered(calls: dict[str, Call], event: Entry, payload: dict[str, Json]) -> Call | None:
    """The call that a result answers; of a result too large to be read, the only one that waits for any."""
    if not event.is_unread:
        call = calls.get(_key(payload))
        return call if call and not call.has_result else None
    waiting = [call for call in calls.values() if not call.has_result]
    return waiting[0] if len(waiting) == 1 else None


def _note_answer(calls: dict[str, Call], payload: dict[str, Json]) -> None:
    """A message may be what a call came to, such as an agent's answer when it finishes."""
    if call := calls.get(_key(payload)):
        call.is_answered = True


def _take_result(call: Call, event: Entry, payload: dict[str, Json]) -> None:
    call.result, call.result_seq = payload.get("result"), event.seq
    call.is_error = None if event.is_unread else payload.get("is_error") is True
    call.duration_ms = payload.get("duration_ms")
    call.bytes += event.size
    call.is_unread |= event.is_glance or event.is_unread


def _unfold(turns: Sequence[Turn], find: int | None) -> None:
    """The newest errors, and what was found."""
    calls = [call for turn in turns for call in turn.calls]
    wrong = [call for call in calls if call.is_error]
    for call in calls:
        call.is_open = find in (call.seq, call.result_seq) and find is not None
    for call in wrong[-_OPEN_ERRORS:]:
        call.is_open = True


def _name(payload: dict[str, Json]) -> str:
    return text.visible(str(payload.get("name") or "tool"))[:200]


def _key(payload: dict[str, Json]) -> str:
    """A result belongs to the call of the same id; without ids, to the last call of that tool."""
    call_id = payload.get("call_id")
    return json.dumps([call_id, None if call_id else payload.get("name")])

"""`/v1/traces` and `/v1/logs`: what becomes of what is sent (issue 6, point 5)."""

import json
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.db.utils import OperationalError, ProgrammingError
from django.utils import timezone
from psycopg.errors import DeadlockDetected

from runs.ingest import close_idle, forget_waiting, keeping
from runs.models import NewEvent, Owner, Run, Session, SpanBatch, Token, Trace, append_events
from runs.models.counters import differences
from runs.models.deletion import purge
from runs.models.span import id_of, otlp_of, otlp_of_run, session_of, sessions
from tests.api.otlp import PROTOBUF, Exporter, as_protobuf, of_trace, weather
from tests.traces.spans import SECOND, TRACE_ID, agent, assistant, chat, export, log, span, user

HISTORY = [
    ("message", "user", "Will it rain?"),
    ("message", "agent", "Yes, at noon."),
    ("tool_call", "agent", {"city": "Rome"}),
    ("tool_result", "tool", {"rain": True}),
]


@pytest.fixture
def exporter(token: str) -> Exporter:
    return Exporter(token)


@pytest.fixture
def pass_time() -> Callable[[float], None]:
    """Makes what has come so many seconds older."""

    def older(seconds: float) -> None:
        for trace in Trace.objects.all():
            ago = timedelta(seconds=seconds)
            rooted = trace.rooted_at and trace.rooted_at - ago
            Trace.objects.filter(pk=trace.pk).update(last_span_at=trace.last_span_at - ago, rooted_at=rooted)

    return older


def told(run: Run) -> list[tuple[str, str, Any]]:
    """The run's history in a few words."""
    return [(event.kind, event.role, _gist(event.payload)) for event in run.events.order_by("seq")]


def _gist(payload: dict[str, Any]) -> Any:
    if "parts" in payload:
        return payload["parts"][0]["text"]
    return payload.get("arguments") or payload.get("result") or payload.get("message")


# ── A trace is a run ───────────────────────────────────────────────────────
def test_a_trace_is_a_run_with_its_history(exporter):
    exporter.traces(*weather(), resource={"service.name": "shop"})
    run = Run.objects.get()
    assert (run.kind, run.status, run.title, run.agent) == ("task", "succeeded", "Will it rain?", "helper")
    assert (run.model, run.input_tokens, run.output_tokens) == ("model-1", 12, 5)
    assert run.metadata == {"trace_id": TRACE_ID, "service.name": "shop"}
    assert run.session.source == "otlp"
    assert told(run) == HISTORY
    assert list(differences()) == []


def test_protobuf_tells_the_same(exporter):
    answer = exporter.post(as_protobuf(export(*weather())), kind=PROTOBUF)
    assert (answer.status_code, answer.content, answer["Content-Type"]) == (200, b"", PROTOBUF)
    run = Run.objects.get()
    assert told(run) == HISTORY
    assert otlp_of_run(run)["resourceSpans"][0]["scopeSpans"][0]["spans"][2]["spanId"] == f"{1:016x}"


def test_it_is_searchable_and_on_its_pages(exporter, signed_in):
    exporter.traces(*weather("Is the harbour dry?"), resource={"agentevals.session_name": "tides"})
    run = Run.objects.get()
    assert "Is the harbour dry?" in signed_in.get("/?q=harbour").content.decode()
    assert "Yes, at noon." in signed_in.get(f"/runs/{run.pk}").content.decode()
    assert "tides" in signed_in.get("/sessions").content.decode()
    assert f"/runs/{run.pk}" in signed_in.get(f"/?q={TRACE_ID}").content.decode()


def test_times_are_those_of_the_spans(exporter):
    start = int((timezone.now() - timedelta(hours=2)).timestamp())
    times = {"startTimeUnixNano": str(start * SECOND), "endTimeUnixNano": str((start + 9) * SECOND)}
    exporter.traces(agent(1, **times), chat(2, 1, said=[assistant("Yes.")], **times))
    run = Run.objects.get()
    assert run.started_at.timestamp() == start
    assert (run.finished_at - run.started_at).total_seconds() == 9
    assert timezone.now() - run.created_at < timedelta(minutes=5)


def test_a_root_that_failed_is_a_run_that_failed(exporter):
    exporter.traces(agent(1, status={"code": 2, "message": "out of credit"}), chat(2, 1, said=[]))
    run = Run.objects.get()
    assert (run.status, run.raw_status, run.error) == ("failed", "error", "out of credit")
    assert ("error", "agent", "out of credit") in told(run)


def test_cost_is_counted_where_it_is_given_and_once(exporter):
    dear = {"llm.cost.total": 0.25}
    said = [assistant("Yes.")]
    first, second = (chat(number, 1, said=said) for number in (2, 3))
    spans = [json.loads(json.dumps(one)) for one in (agent(1), first, second)]
    for one, cost in zip(spans, (0.75, 0.25, 0.5), strict=True):
        one["attributes"].append({"key": next(iter(dear)), "value": {"doubleValue": cost}})
    exporter.traces(*spans)
    assert float(Run.objects.get().cost) == 0.75
    assert list(differences()) == []


def test_spans_that_tell_no_turn_are_shown_as_they_are(exporter):
    exporter.traces(span(1, name="embed", attributes={"gen_ai.operation.name": "embeddings"}))
    run = Run.objects.get()
    assert (run.title, [event.kind for event in run.events.all()]) == ("embed", ["span"])


def test_a_tools_failure_is_in_its_result(exporter):
    failed = {**weather()[1], "status": {"code": 2, "message": "no such city"}}
    exporter.traces(agent(1), chat(2, 1, asked=[user("?")], said=[assistant("No.")]), failed)
    results = Run.objects.get().events.filter(kind="tool_result")
    assert [event.payload["is_error"] for event in results] == [True]


# ── Sessions ───────────────────────────────────────────────────────────────
NAME, CONVERSATION, SESSION = "agentevals.session_name", "gen_ai.conversation.id", "session.id"


@pytest.mark.parametrize(
    ("resource", "own", "key"),
    [
        ({NAME: "named", CONVERSATION: "r"}, {CONVERSATION: "c", SESSION: "s"}, "named"),
        ({CONVERSATION: "r"}, {CONVERSATION: "c", SESSION: "s"}, "c"),
        ({CONVERSATION: "r"}, {SESSION: "s"}, "r"),
        ({SESSION: "resource's"}, {}, "resource's"),
        ({}, {SESSION: "s"}, "s"),
        ({}, {}, f"otlp-{TRACE_ID[:12]}"),
        ({}, {CONVERSATION: "x" * 300}, f"otlp-{TRACE_ID[:12]}"),
    ],
)
def test_the_session_is_the_first_that_is_named(exporter, resource, own, key):
    exporter.traces(agent(1, attributes=own), chat(2, 1, said=[assistant("Yes.")]), resource=resource)
    assert [session.key for session in Session.objects.all()] == [key]


def test_traces_of_one_conversation_are_one_session_in_order_of_time(exporter):
    turns = [
        of_trace(number, agent(number, attributes={CONVERSATION: "c"}), chat(10, number, asked=[user(text)]))
        for number, text in ((3, "third"), (1, "first"), (2, "second"))
    ]
    for turn, start in zip(turns, (30, 10, 20), strict=True):
        turn[0]["startTimeUnixNano"] = str((10**9 + start) * SECOND)
    exporter.traces(*(one for turn in turns for one in turn))
    session = Session.objects.get()
    assert session.run_count == 3
    titles = [run.title for run in session.runs.order_by("created_at", "id")]
    assert titles == ["first", "second", "third"]


def test_traces_without_an_agents_span_open_no_session(exporter):
    exporter.traces(span(1, name="GET /", attributes={"http.method": "GET", SESSION: "browser"}))
    assert not Session.objects.exists()
    assert not Run.objects.exists()
    assert Trace.objects.get().state == "waiting"


def test_they_are_part_of_the_run_once_an_agents_span_comes(exporter):
    exporter.traces(span(1, name="POST /ask"))
    exporter.traces(agent(2, 1), chat(3, 2, asked=[user("Why?")], said=[assistant("So.")]))
    run = Run.objects.get()
    assert (run.status, run.title, run.session.run_count) == ("succeeded", "Why?", 1)
    assert len(otlp_of_run(run)["resourceSpans"]) == 2


def test_they_are_forgotten_after_a_day(exporter, owner, pass_time):
    exporter.traces(span(1))
    pass_time(23 * 3600)
    assert forget_waiting(owner) == 0
    pass_time(2 * 3600)
    assert forget_waiting(owner) == 1
    assert not SpanBatch.objects.exists()


def test_a_finished_name_starts_another_session_on_a_rerun(exporter, pass_time):
    named = {"resource": {NAME: "nightly"}}
    for number in (1, 2, 3):
        exporter.traces(*of_trace(number, agent(1), chat(2, 1, said=[assistant("Yes.")])), **named)
        pass_time(4)
    assert sorted(Session.objects.values_list("key", flat=True)) == ["nightly", "nightly-2", "nightly-3"]


def test_a_name_at_work_stays_one_session(exporter):
    for number in (1, 2):
        spans = of_trace(number, agent(1), chat(2, 1, said=[assistant("Yes.")]))
        exporter.traces(*spans, resource={NAME: "nightly"})
    assert [session.run_count for session in Session.objects.all()] == [2]


def test_the_same_process_goes_on_in_its_session(exporter, pass_time):
    named = {"resource": {NAME: "nightly", "service.instance.id": "i1"}}
    for number in (1, 2):
        exporter.traces(*of_trace(number, agent(1), chat(2, 1, said=[assistant("Yes.")])), **named)
        pass_time(60)
    assert [session.key for session in Session.objects.all()] == ["nightly"]


def test_a_run_that_says_so_is_a_rerun_at_once(exporter):
    for number in (1, 2):
        named = {NAME: "nightly", "agentevals.session.run_id": f"r{number}"}
        exporter.traces(*of_trace(number, agent(1), chat(2, 1, said=[assistant("Yes.")])), resource=named)
    assert sorted(Session.objects.values_list("key", flat=True)) == ["nightly", "nightly-2"]


def test_a_conversation_opens_again(exporter, pass_time):
    for number in (1, 2):
        spans = of_trace(number, agent(1, attributes={CONVERSATION: "c"}), chat(2, 1, said=[assistant("A")]))
        exporter.traces(*spans)
        pass_time(3600)
    assert [session.run_count for session in Session.objects.all()] == [2]


def test_live_sessions_are_told_as_agentevals_tells_them(exporter, owner, pass_time):
    exporter.traces(*weather(), resource={NAME: "tides", "service.name": "shop"})
    (live,) = sessions(owner)
    assert (live.key, live.trace_id, live.span_count) == ("tides", TRACE_ID, 3)
    assert live.metadata["service.name"] == "shop"
    assert not live.is_complete(timezone.now())
    pass_time(4)
    again = session_of(owner, "tides")
    assert again is not None
    assert again.is_complete(timezone.now())
    assert len(otlp_of(again)["resourceSpans"][0]["scopeSpans"][0]["spans"]) == 3


def test_a_trace_at_work_is_live_before_anything_names_its_session(exporter, owner):
    exporter.traces(chat(2, 1, asked=[user("Why?")]))
    (live,) = sessions(owner)
    assert (live.key, live.session, live.span_count) == (f"otlp-{TRACE_ID[:12]}", None, 1)


# ── Late spans ─────────────────────────────────────────────────────────────
@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_spans_that_come_one_by_one_tell_the_same_as_all_at_once(exporter, order):
    spans = weather()
    for number in order:
        exporter.traces(spans[number])
        assert list(differences()) == []
    run = Run.objects.get()
    assert told(run) == HISTORY
    assert (run.status, run.title, run.agent, run.input_tokens) == (
        "succeeded",
        "Will it rain?",
        "helper",
        12,
    )
    # Where the root came before the question, its name stood in for a title.
    assert set(run.changes.values_list("field", flat=True)) == (
        {"title"} if order.index(2) < order.index(0) else set()
    )
    assert [session.run_count for session in Session.objects.all()] == [1]


def test_a_run_goes_on_until_its_root_is_there(exporter):
    model, used, root = weather()
    exporter.traces(model)
    run = Run.objects.get()
    assert (run.status, run.finished_at, run.session) == ("running", None, None)
    first = list(run.events.values_list("pk", flat=True))
    exporter.traces(used)
    assert list(run.events.values_list("pk", flat=True))[:2] == first, "what was told stays as it is"
    assert told(run) == HISTORY
    exporter.traces(root)
    run.refresh_from_db()
    assert run.status == "succeeded"


def test_a_span_that_comes_twice_is_there_once(exporter):
    for _ in range(2):
        exporter.traces(*weather(), weather()[0])
    assert Trace.objects.get().span_count == 3
    assert SpanBatch.objects.count() == 1
    assert told(Run.objects.get()) == HISTORY


def test_a_trace_without_a_root_is_closed_when_nothing_more_comes(exporter, owner, pass_time):
    exporter.traces(*weather()[:2])
    pass_time(29)
    assert close_idle(owner) == 0
    pass_time(2)
    assert close_idle(owner) == 1
    run = Run.objects.get()
    assert (run.status, run.raw_status, run.session.key) == ("succeeded", "idle", f"otlp-{TRACE_ID[:12]}")
    assert list(differences()) == []


def test_a_root_that_comes_after_that_decides_and_leaves_a_change(exporter, owner, pass_time):
    exporter.traces(*weather()[:2])
    pass_time(40)
    close_idle(owner)
    exporter.traces({**weather()[2], "status": {"code": 2, "message": "lost"}})
    run = Run.objects.get()
    assert (run.status, run.error) == ("failed", "lost")
    assert "status" in run.changes.values_list("field", flat=True)
    assert list(differences()) == []


def test_a_local_root_ends_the_run_though_its_parent_is_elsewhere(exporter):
    exporter.traces(agent(1, 77, flags=0x300), chat(2, 1, said=[assistant("Yes.")]))
    assert Run.objects.get().status == "succeeded"


def test_what_somebody_else_wrote_into_the_history_stays(exporter):
    exporter.traces(weather()[0])
    run = Run.objects.get()
    append_events(run, [NewEvent("message", {"parts": [{"text": "a remark"}]}, "user")])
    exporter.traces(*weather()[1:])
    assert told(run) == [*HISTORY, ("message", "user", "a remark")]
    assert list(run.events.values_list("seq", flat=True)) == [1, 2, 3, 4, 5]
    assert list(differences()) == []


def test_a_cancelled_run_stays_so(exporter, owner):
    exporter.traces(weather()[0])
    Run.objects.update(status="cancelled", finished_at=timezone.now())
    exporter.traces(*weather()[1:])
    run = Run.objects.get()
    assert run.status == "cancelled"
    assert told(run) == HISTORY


@pytest.mark.parametrize("trace_id", [TRACE_ID, "f" * 32])
def test_the_database_retells_no_other_run(owner, trace_id):
    run = Run.objects.open_task(owner)
    append_events(run, [NewEvent("message", {"parts": []}, "user")])
    refused = pytest.raises(ProgrammingError, match="is not told from")
    with refused, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT retell_run(%s, %s, 0, '[]'::jsonb)", [run.pk, trace_id])
    assert run.events.count() == 1


def test_writers_of_one_trace_lose_nothing(committed_db, exporter):
    spans = of_trace(5, agent(1), *(chat(n, 1, said=[assistant(f"Part {n}")]) for n in range(2, 26)))

    def send(mine: list[dict[str, Any]]) -> None:
        for one in mine:
            exporter.traces(one)
        connections.close_all()

    threads = [threading.Thread(target=send, args=(spans[number::3],)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run = Run.objects.get()
    assert Trace.objects.get().span_count == 25
    assert {text for _, _, text in told(run)} == {f"Part {n}" for n in range(2, 26)}
    assert list(differences()) == []


def test_late_spans_of_the_same_sessions_do_not_wait_in_a_circle(committed_db, exporter, owner, monkeypatch):
    numbers = sorted(range(1, 5), key=lambda number: id_of(owner, f"{number:032x}"))
    said = dict(zip(numbers, "abba", strict=True))

    def late(span_number: int, *traces: int) -> list[dict[str, Any]]:
        return [
            one
            for number in traces
            for one in of_trace(number, chat(span_number, 1, attributes={CONVERSATION: said[number]}))
        ]

    exporter.traces(*late(2, *numbers))
    Session.objects.update(last_activity_at=timezone.now() - timedelta(minutes=1))
    tries: list[int] = []
    note, retell = keeping._note, keeping.retell
    monkeypatch.setattr(keeping, "_note", lambda *args: tries.append(1) or note(*args))
    monkeypatch.setattr(keeping, "retell", lambda *args, **more: (retell(*args, **more), time.sleep(0.3)))

    def send(*traces: int) -> None:
        exporter.traces(*late(3, *traces))
        connections.close_all()

    threads = [threading.Thread(target=send, args=pair) for pair in (numbers[:2], numbers[2:])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(Trace.objects.values_list("span_count", flat=True)) == [2, 2, 2, 2]
    assert len(tries) == 2, "none had to be tried again"


def test_an_export_that_lost_to_another_is_tried_again(exporter, monkeypatch):
    begin, lost = keeping._begin, [DeadlockDetected("deadlock detected")]

    def begin_second(*args: Any) -> None:
        begin(*args)
        if lost:
            raise OperationalError from lost.pop()

    monkeypatch.setattr(keeping, "_begin", begin_second)
    exporter.traces(*weather())
    assert told(Run.objects.get()) == HISTORY


def test_a_trace_that_is_forgotten_meanwhile_begins_anew(
    committed_db, exporter, owner, pass_time, monkeypatch
):
    exporter.traces(span(1))
    pass_time(25 * 3600)
    note, forgotten = keeping._note, []

    def forget() -> None:
        forgotten.append(forget_waiting(owner))
        connections.close_all()

    def note_and_forget(*args: Any) -> Any:
        new = note(*args)
        other = threading.Thread(target=forget)
        other.start()
        other.join()
        return new

    monkeypatch.setattr(keeping, "_note", note_and_forget)
    exporter.traces(agent(2), chat(3, 2, asked=[user("Why?")]))
    assert forgotten[0] == 1
    assert Run.objects.get().title == "Why?"


# ── Logs ───────────────────────────────────────────────────────────────────
def test_what_log_records_say_belongs_to_their_spans(exporter):
    records = [
        log("gen_ai.user.message", {"content": "Why?"}, 2),
        log("gen_ai.choice", {"message": {"role": "assistant", "content": "So."}}, 2),
    ]
    answer = exporter.post(json.dumps({"resourceLogs": records}), "/v1/logs")
    assert (answer.status_code, answer.content) == (200, b"{}")
    assert told(Run.objects.get()) == [("message", "user", "Why?"), ("message", "agent", "So.")]
    exporter.traces(agent(1), chat(2, 1))
    run = Run.objects.get()
    assert (run.status, run.agent) == ("succeeded", "helper")
    assert told(run) == [("message", "user", "Why?"), ("message", "agent", "So.")]


def test_other_log_records_are_taken_and_not_kept(exporter):
    answer = exporter.post(json.dumps({"resourceLogs": [log("request served", {"ms": 4}, 2)]}), "/v1/logs")
    assert answer.status_code == 200
    assert not Trace.objects.exists()


# ── Owners, and what goes ──────────────────────────────────────────────────
def test_the_same_trace_of_another_owner_is_another_run(exporter, stranger, owner):
    other = Exporter(Token.objects.issue(stranger.memberships.get().owner, "theirs")[1])
    exporter.traces(*weather())
    other.traces(*weather("Whose is this?"))
    assert Run.objects.count() == 2
    assert [run.title for run in Run.objects.visible_to(owner)] == ["Will it rain?"]
    assert [live.span_count for live in sessions(owner)] == [3]


def test_an_id_that_somebody_took_is_refused(exporter, owner):
    Run.objects.open_task(owner, run_id=id_of(owner, TRACE_ID))
    both = [*weather(), *of_trace(9, agent(1), chat(2, 1, said=[assistant("Yes.")]))]
    answer = exporter.post(json.dumps(export(*both)))
    assert json.loads(answer.content)["partialSuccess"]["rejectedSpans"] == "3"
    assert Run.objects.filter(metadata__trace_id=f"{9:032x}").exists()


def test_log_records_of_such_a_trace_are_refused_too(exporter, owner):
    Run.objects.open_task(owner, run_id=id_of(owner, TRACE_ID))
    records = [log("gen_ai.user.message", {"content": "Why?"}, 2)]
    answer = exporter.post(json.dumps({"resourceLogs": records}), "/v1/logs")
    assert json.loads(answer.content)["partialSuccess"]["rejectedLogRecords"] == "1"


def test_spans_go_with_their_run(exporter, owner):
    exporter.traces(*weather())
    purge(Run.objects.all(), "tests", "done")
    assert not Trace.objects.exists()
    assert not SpanBatch.objects.exists()


def test_a_trace_whose_run_was_purged_may_come_again(exporter):
    exporter.traces(*weather())
    purge(Run.objects.all(), "tests", "done")
    exporter.traces(*weather())
    assert told(Run.objects.get()) == HISTORY
    assert Owner.objects.count() == 1


def test_runs_of_spans_are_followed_live(exporter, signed_in):
    exporter.traces(*weather()[:1])
    run = Run.objects.get()
    page = signed_in.get(f"/runs/{run.pk}").content.decode()
    assert "running" in page
    assert "Yes, at noon." in page

"""A list costs what it shows, whatever the filter (issue 3, "Lists"); what it shows is in test_search."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from bench.data import load_runs
from runs.models import Membership, Owner, Run, Session, Token, append_events, give_feedback
from runs.models.event import NewEvent, Usage
from runs.models.listing import find_runs
from runs.models.paging import Cursor
from runs.query import parse
from tests.pages.helpers import make_task

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
PAGE = 50


def found(caller, text="", **options) -> list[str]:
    return [run.title for run in find_runs(parse(text, NOW), caller, **options).runs]


@pytest.fixture
def several(owner, alice):
    """Runs that differ in each thing that can be asked for."""
    desk = Session.objects.open(owner, "a2a", "desk")
    day = timedelta(days=1)
    ended = {"started_at": NOW - day, "finished_at": NOW - day + timedelta(seconds=90)}
    make_task(
        owner, title="failed", status="failed", agent="helm", error="boom", created_at=NOW - day, **ended
    )
    make_task(
        owner, title="rejected", status="failed", raw_status="rejected", created_at=NOW - 2 * day, **ended
    )
    good = make_task(owner, title="good", status="succeeded", session=desk, created_at=NOW - 3 * day, **ended)
    live = make_task(owner, title="live", agent="k8s", created_at=NOW - 4 * day)
    append_events(live, [NewEvent("message", {}, usage=Usage(900, 200)), NewEvent("message", {})])
    give_feedback(good, alice, 5)
    return {run.title: run for run in Run.objects.all()}


@pytest.mark.parametrize(
    ("query", "titles"),
    [
        ("", ["failed", "rejected", "good", "live"]),
        ("status:failed", ["failed", "rejected"]),
        ("-status:failed", ["good", "live"]),
        ("status:failed,succeeded", ["failed", "rejected", "good"]),
        ("status:rejected", ["rejected"]),
        ("status:rejected,working", ["rejected", "live"]),
        ("-status:rejected", ["failed", "good", "live"]),
        ("status:failed -status:rejected", ["failed"]),
        ("status:failed status:succeeded", []),
        ("is:open", ["live"]),
        ("is:final", ["failed", "rejected", "good"]),
        ("-is:open", ["failed", "rejected", "good"]),
        ("kind:task", ["failed", "rejected", "good", "live"]),
        ("kind:evaluation", []),
        ("agent:helm", ["failed"]),
        ("agent:helm,k8s", ["failed", "live"]),
        ("-agent:helm", ["rejected", "good", "live"]),
        ("agent:helm status:failed", ["failed"]),
        ("agent:k8s status:failed", []),
        ("session:desk", ["good"]),
        ("-session:desk", ["failed", "rejected", "live"]),
        ("session:nowhere", []),
        ("source:a2a", ["good"]),
        ("owner:platform", ["failed", "rejected", "good", "live"]),
        ("-owner:platform", []),
        ("rating:5", ["good"]),
        ("-rating:5", ["failed", "rejected", "live"]),
        ("rating:>=4", ["good"]),
        ("rating:none", ["failed", "rejected", "live"]),
        ("has:feedback", ["good"]),
        ("has:error", ["failed"]),
        ("-has:error", ["rejected", "good", "live"]),
        ("raw_status:rejected", ["rejected"]),
        ("duration:>1m", ["failed", "rejected", "good"]),
        ("duration:>2m", []),
        ("duration:none", ["live"]),
        ("tokens:>1000", ["live"]),
        ("tokens:none", ["failed", "rejected", "good"]),
        ("events:2", ["live"]),
        ("events:<2", ["failed", "rejected", "good"]),
        ("after:2026-11-19T12:00", ["failed", "rejected"]),
        ("before:2026-11-19T12:00", ["good", "live"]),
        ("after:2026-11-18 before:2026-11-19", ["good"]),
        ("-after:2026-11-19T12:00", ["good", "live"]),
        ("status:failed after:30h", ["failed"]),
        ("boom status:failed agent:helm", ["failed"]),
        ("boom status:succeeded", []),
    ],
)
def test_what_a_query_asks_for(several, alice, query, titles):
    assert found(alice, query) == titles


def test_an_id_is_found_by_its_beginning(several, alice):
    digits = several["good"].pk.hex[:20]

    assert found(alice, f"id:{digits}") == ["good"]


def test_nobody_finds_what_is_anothers(several, stranger):
    assert found(stranger) == []
    assert found(stranger, f"id:{several['good'].pk.hex}") == []
    assert found(stranger, "session:desk") == []


def test_runs_of_several_owners_come_in_one_order(owner, alice):
    other = Owner.objects.create(name="other")
    Membership.objects.create(user=alice, owner=other, role="viewer")
    for number in range(9):
        make_task((owner, other)[number % 2], title=str(number), created_at=NOW - timedelta(hours=number))

    assert found(alice) == list("012345678")
    assert found(alice, "events:0") == list("012345678")
    assert found(alice, "owner:other") == list("1357")


def test_many_owners_are_merged_as_few_are(owner, alice):
    owners = [owner, *(Owner.objects.create(name=f"team {number}") for number in range(8))]
    for other in owners[1:]:
        Membership.objects.create(user=alice, owner=other, role="viewer")
    for number in range(27):
        status = ("running", "paused")[number % 2]
        at = NOW - timedelta(hours=number)
        make_task(owners[number % 9], title=f"{number:02}", status=status, created_at=at)
    all_of_them = [f"{number:02}" for number in range(27)]

    assert found(alice) == all_of_them
    assert found(alice, "-status:succeeded") == all_of_them
    assert found(alice, "status:paused,failed,queued") == all_of_them[1::2]
    assert found(alice, "status:paused", size=5) == all_of_them[1:10:2]
    assert found(alice, "agent:helm-agent kind:task") == all_of_them
    page = find_runs(parse("", NOW), alice, size=10)
    assert found(alice, after=page.older) == all_of_them[10:]


def test_pages_of_runs_of_one_instant_lose_and_repeat_none(owner, alice):
    for number in range(7):
        make_task(owner, title=str(number), created_at=NOW)
    seen, after = [], None
    while True:
        page = find_runs(parse("status:running,queued", NOW), alice, after=after, size=3)
        seen, after = [*seen, *page.runs], page.older
        if after is None:
            break

    assert len(seen) == len({run.pk for run in seen}) == 7


@pytest.fixture
def many(committed_db) -> Owner:
    """The largest of twenty owners of 100,000 runs."""
    return load_runs(100_000, "owner")[0]


def test_a_page_touches_no_more_than_five_buffers_a_row(many):
    token, _ = Token.objects.issue(many, "tests")
    middle = Run.objects.filter(owner=many).order_by("-created_at", "-id")[12_000]
    deep = Cursor(middle.created_at, middle.pk)
    too_much = {}
    for text in (
        *("", "status:failed", "-status:succeeded", "kind:evaluation", 'agent:"agent 3"', "rating:4"),
        *("is:open", "after:30d", "before:30d", "status:failed kind:task", 'status:failed agent:"agent 3"'),
    ):
        for after in (None, deep):
            runs, buffers = _cost(parse(text, datetime.now(UTC)), token, after)
            if buffers > 5 * PAGE or (after is None and text != "is:open" and runs < PAGE):
                too_much[text, after is not None] = (runs, buffers)

    assert too_much == {}


def test_more_buffers_are_noticed(many):
    """The control: without the index of statuses the same page costs more."""
    token, _ = Token.objects.issue(many, "tests")
    with connection.cursor() as cursor:
        cursor.execute("SET enable_indexscan = off; SET enable_indexonlyscan = off")
        try:
            _, buffers = _cost(parse("status:failed", datetime.now(UTC)), token, None)
        finally:
            cursor.execute("RESET enable_indexscan; RESET enable_indexonlyscan")

    assert buffers > 5 * PAGE


def _cost(query, token, after) -> tuple[int, int]:
    """How many runs the page has, and how many buffers its statements touch."""
    asked = []

    def note(execute, statement, parameters, many, context):
        asked.append((statement, parameters))
        return execute(statement, parameters, many, context)

    with connection.execute_wrapper(note):
        runs = len(find_runs(query, token, after=after, size=PAGE).runs)
    return runs, sum(_buffers(*one) for one in asked)


def _buffers(statement, parameters) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", parameters)
        (plan,) = cursor.fetchone()
    plan = json.loads(plan) if isinstance(plan, str) else plan
    return plan[0]["Plan"]["Shared Hit Blocks"] + plan[0]["Plan"]["Shared Read Blocks"]

"""The sessions, and one of them as a thread across its runs."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connections
from django.utils import timezone

from runs.models import Membership, Owner, Run, Session, append_events, give_feedback
from tests.pages.helpers import called, make_task, said

NOON = datetime(2026, 11, 10, 12, tzinfo=UTC)


def make_session(owner: Owner, key: str, began: datetime, ended: datetime, **fields) -> Session:
    return Session.objects.create(
        owner=owner,
        source=fields.pop("source", "a2a"),
        key=key,
        created_at=began,
        last_activity_at=ended,
        **fields,
    )


def listed(client, query: str = "") -> list[str]:
    """The keys of the sessions that a page shows."""
    page = client.get(f"/sessions{query}").content.decode()
    return re.findall(r'<th scope="row"><a [^>]*>([^<]+)<', page)


def shown(client, session: Session, query: str = "") -> str:
    response = client.get(f"/sessions/{session.pk}{query}")
    assert response.status_code == 200
    return response.content.decode()


def at(minutes: int) -> dict[str, datetime]:
    return {"created_at": NOON + timedelta(minutes=minutes)}


# ── The list ───────────────────────────────────────────────────────────────
def test_the_list_works(signed_in, owner):
    Session.objects.open(owner, "a2a", "checkout-rollout", "helm-agent")
    page = signed_in.get("/sessions").content.decode()
    assert "checkout-rollout" in page
    assert "helm-agent" in page


def test_without_a_session_it_says_where_they_come_from(signed_in):
    assert b"No session yet." in signed_in.get("/sessions").content


def test_a_row_says_how_the_last_run_stands_and_how_they_are_rated(signed_in, alice, owner):
    session = Session.objects.open(owner, "a2a", "chat")
    give_feedback(make_task(owner, session=session, status="succeeded", finished_at=timezone.now()), alice, 5)
    failed = make_task(owner, session=session, status="failed", finished_at=timezone.now())
    give_feedback(failed, alice, 2)
    page = signed_in.get("/sessions").content.decode()
    assert 'class="st st-failed"' in page
    assert 'class="st st-succeeded"' not in page
    assert "3.5" in page


def test_older_ones_are_a_link_away(signed_in, owner):
    for number in range(53):
        Session.objects.open(owner, "a2a", f"s{number}")
    first = signed_in.get("/sessions")
    second = listed(signed_in, first.context["older"])
    assert len({*listed(signed_in), *second}) == 53


def test_htmx_gets_the_older_rows_alone(signed_in, owner):
    for number in range(53):
        Session.objects.open(owner, "a2a", f"s{number}")
    older = signed_in.get("/sessions").context["older"]
    page = signed_in.get(f"/sessions{older}", headers={"HX-Request": "true", "HX-Target": "rows"})
    assert b"<main" not in page.content
    assert page.content.count(b"<tr>") == 3


# ── Its filters ────────────────────────────────────────────────────────────
OVERLAPS = {
    "all of it": ("?since=2026-11-10T11:00&before=2026-11-10T14:00", True),
    "its middle": ("?since=2026-11-10T12:20&before=2026-11-10T12:30", True),
    "its beginning": ("?since=2026-11-10T11:00&before=2026-11-10T12:01", True),
    "its end": ("?since=2026-11-10T12:59&before=2026-11-10T14:00", True),
    "since its end": ("?since=2026-11-10T13:00", True),
    "after its end": ("?since=2026-11-10T13:01", False),
    "before its beginning": ("?before=2026-11-10T12:00", False),
    "until just after its beginning": ("?before=2026-11-10T12:00:01", True),
    "a day before": ("?since=2026-11-09&before=2026-11-10", False),
    "the day": ("?since=2026-11-10&before=2026-11-11", True),
}


@pytest.mark.parametrize(("query", "is_there"), OVERLAPS.values(), ids=OVERLAPS)
def test_the_time_is_one_that_overlaps(signed_in, owner, query, is_there):
    make_session(owner, "lunch", NOON, NOON + timedelta(hours=1))
    assert listed(signed_in, query) == (["lunch"] if is_there else [])


def test_a_session_that_began_before_its_record_counts_from_then(signed_in, owner):
    make_session(owner, "told later", NOON, NOON, started_at=NOON - timedelta(days=2))
    assert listed(signed_in, "?since=2026-11-08&before=2026-11-09") == ["told later"]


def test_clocks_that_run_backwards_do_no_harm(signed_in, owner):
    make_session(owner, "odd", NOON, NOON - timedelta(days=1), completed_at=NOON - timedelta(days=2))
    assert listed(signed_in, "?since=2026-11-10") == ["odd"]


def test_times_are_the_readers(signed_in, alice, owner):
    alice.time_zone = "Asia/Tokyo"
    alice.save()
    make_session(owner, "lunch", NOON, NOON + timedelta(hours=1))  # from 21:00 in Tokyo
    assert listed(signed_in, "?since=2026-11-10T22:30") == []
    assert listed(signed_in, "?before=2026-11-10T21:30") == ["lunch"]


def test_an_age_is_a_time(signed_in, owner):
    now = timezone.now()
    make_session(owner, "old", now - timedelta(days=9), now - timedelta(days=8))
    make_session(owner, "new", now - timedelta(days=3), now)
    assert listed(signed_in, "?since=7d") == ["new"]


@pytest.mark.parametrize("query", ["?since=soon", "?before=31.12.", "?since=7d+status:failed", "?since=1e99"])
def test_a_time_that_is_none_is_named_and_nothing_shown(signed_in, owner, query):
    make_session(owner, "there", NOON, NOON)
    page = signed_in.get(f"/sessions{query}")
    assert page.status_code == 200
    assert b"Write an age such as 7d" in page.content
    assert listed(signed_in, query) == []


def test_agent_source_and_owner_filter(signed_in, alice, owner):
    second = Owner.objects.create(name="second")
    Membership.objects.create(user=alice, owner=second, role="viewer")
    make_session(owner, "a", NOON, NOON, agent="helm", source="a2a")
    make_session(owner, "b", NOON, NOON, agent="rook", source="otlp")
    make_session(second, "c", NOON, NOON, agent="helm", source="otlp")
    assert set(listed(signed_in, "?agent=helm")) == {"a", "c"}
    assert set(listed(signed_in, "?source=otlp")) == {"b", "c"}
    assert listed(signed_in, "?owner=second") == ["c"]
    assert listed(signed_in, "?owner=second&agent=rook") == []


def test_words_are_of_title_or_key(signed_in, owner):
    make_session(owner, "key-42", NOON, NOON, title="Roll out the checkout")
    make_session(owner, "key-43", NOON, NOON, title="Something else")
    assert listed(signed_in, "?q=checkout+ROLL") == ["Roll out the checkout"]
    assert listed(signed_in, "?q=KEY-43") == ["Something else"]
    assert listed(signed_in, "?q=100%25") == []


def test_the_filter_stays_in_the_address_of_older_rows(signed_in, owner):
    for number in range(60):
        make_session(owner, f"s{number}", NOON, NOON, agent="helm")
    response = signed_in.get("/sessions?agent=helm&since=2026-11-10")
    assert response.context["older"].startswith("?since=2026-11-10&agent=helm&after=")


def test_a_filter_that_finds_nothing_can_be_taken_back(signed_in, owner):
    make_session(owner, "s", NOON, NOON)
    page = signed_in.get("/sessions?agent=none&source=a2a").content.decode()
    assert "No session matches" in page
    assert 'href="?source=a2a">Without agent' in page


def test_an_hour_among_a_hundred_thousand_sessions_is_found_by_the_index(committed_db, owner):
    with connections["owner"].cursor() as cursor:
        cursor.execute(
            """INSERT INTO session (id, key, owner_id, agent, source, title, metadata, created_at,
                last_activity_at, run_count, deleted_by)
            SELECT gen_random_uuid(), n::text, %s, '', 'x', '', '{}', %s + n * interval '1 min',
                %s + n * interval '1 min' + interval '30 min', 0, '' FROM generate_series(1, 100000) AS n""",
            [owner.pk, NOON, NOON],
        )
        cursor.execute("ANALYZE session")
    hour = NOON + timedelta(days=30)
    found = Session.objects.filter(owner__in=[owner.pk], deleted_at=None)
    plan = found.lasting_into(hour, hour + timedelta(hours=1)).newest_first()[:51].explain()
    assert "Index Scan on session_lasted" in plan


# ── One session ────────────────────────────────────────────────────────────
def test_it_is_one_thread_across_its_runs(signed_in, owner):
    session = Session.objects.open(owner, "a2a", "chat")
    make_task(
        owner, said("first question", "user"), said("first answer"), title="one", session=session, **at(1)
    )
    make_task(owner, said("second question", "user"), title="two", session=session, **at(2))
    page = shown(signed_in, session)
    places = [page.index(words) for words in ("first question", "first answer", "second question")]
    assert places == sorted(places)
    assert page.index(">one</a>") < places[0] < page.index(">two</a>") < places[2]


def test_a_run_heads_its_turns_with_status_and_reason(signed_in, owner):
    session = Session.objects.open(owner, "a2a", "chat")
    run = make_task(
        owner,
        said("x"),
        session=session,
        status="failed",
        error="the model broke",
        finished_at=timezone.now(),
    )
    page = shown(signed_in, session)
    assert "the model broke" in page
    assert f'href="/runs/{run.pk}"' in page


def test_evaluations_and_retries_are_folded(signed_in, owner, make_run):
    session = Session.objects.open(owner, "a2a", "chat")
    failed = make_task(owner, said("x"), session=session, **at(1))
    make_task(owner, said("again"), session=session, retried=failed, **at(2))
    run = make_run(session=session, title="judged")
    Run.objects.filter(pk=run.pk).update(created_at=NOON + timedelta(minutes=3))
    make_task(owner, said("last"), session=session, **at(4))
    page = shown(signed_in, session)
    assert page.count('<details class="piece piece-fold"') == 2
    assert "tried again" in page


def test_a_long_thread_starts_at_its_end_and_goes_back(signed_in, owner):
    session = Session.objects.open(owner, "a2a", "chat")
    make_task(owner, *(said(f"old {number}.") for number in range(40)), session=session, **at(1))
    make_task(owner, *(said(f"new {number}.") for number in range(40)), session=session, **at(2))
    page = shown(signed_in, session)
    assert "new 39." in page
    assert "old 39." in page
    assert "old 5." not in page
    earlier = re.search(r'href="(\?until=[^"]+)"', page)
    assert earlier
    before = shown(signed_in, session, earlier[1])
    assert "old 0." in before
    said_in = [re.findall(r"(?:old|new) \d+\.", one) for one in (before, page)]
    assert sorted({*said_in[0], *said_in[1]}) == sorted(
        {f"{when} {number}." for when in ("old", "new") for number in range(40)}
    )
    assert not set(said_in[0]) & set(said_in[1])


def test_all_of_a_long_thread_is_reached_from_its_start(signed_in, owner):
    session = Session.objects.open(owner, "a2a", "chat")
    for run in range(30):
        make_task(owner, *(said(f"{run}/{number}.") for number in range(4)), session=session, **at(run))
    query, seen = "?from=start", []
    while query:
        page = shown(signed_in, session, query)
        seen += re.findall(r"\d+/\d\.", page)
        later = re.search(r'href="(\?from=[^"s][^"]*)"', page)
        query = later[1] if later else ""
    assert seen == [f"{run}/{number}." for run in range(30) for number in range(4)]


def test_a_broken_place_is_the_end(signed_in, owner):
    session = Session.objects.open(owner, "a2a", "chat")
    make_task(owner, said("the end"), session=session)
    for query in ("?until=x", "?until=x.5", "?until=.", "?from=%00"[:6], "?until=" + "9" * 50):
        assert "the end" in shown(signed_in, session, query)


def test_turns_of_several_runs_have_ids_of_their_own(signed_in, owner):
    session = Session.objects.open(owner, "a2a", "chat")
    for number in range(3):
        make_task(owner, said("x", "user"), called("t", {}), said("y"), session=session, **at(number))
    ids = re.findall(r' id="([^"]+)"', shown(signed_in, session))
    assert len(ids) == len(set(ids))


def test_it_tells_its_facts_and_metadata(signed_in, owner):
    session = make_session(
        owner, "chat", NOON, NOON, metadata={"channel": "#ops", "all the rest": "x " * 5_000}
    )
    page = shown(signed_in, session)
    assert "#ops" in page
    assert page.count("x " * 1_500) == 1
    assert "x " * 2_500 not in page


def test_the_last_run_can_be_rated_from_it(signed_in, alice, owner):
    session = Session.objects.open(owner, "a2a", "chat")
    make_task(owner, said("x"), session=session, **at(1))
    last = make_task(owner, said("y"), session=session, **at(2))
    assert f'href="/runs/{last.pk}#feedback"' in shown(signed_in, session)
    Membership.objects.filter(user=alice).update(role="viewer")
    assert "#feedback" not in shown(signed_in, session)


def test_an_empty_session_says_so(signed_in, owner):
    session = Session.objects.open(owner, "a2a", "chat")
    assert "Nothing was said in this session yet" in shown(signed_in, session)
    assert "No runs in this session yet" in shown(signed_in, session, "?tab=runs")


def test_its_runs_are_a_table_and_no_others(signed_in, owner):
    session = Session.objects.open(owner, "a2a", "chat")
    make_task(owner, title="mine", session=session)
    make_task(owner, title="other")
    page = shown(signed_in, session, "?tab=runs")
    assert "mine" in page
    assert "other" not in page


def test_a_deleted_run_is_not_in_the_thread(signed_in, owner):
    session = Session.objects.open(owner, "a2a", "chat")
    run = make_task(owner, said("gone"), session=session)
    Run.objects.filter(pk=run.pk).update(deleted_at=timezone.now())
    assert "gone" not in shown(signed_in, session)


def test_a_strangers_session_is_missing(strangers_client, owner):
    session = Session.objects.open(owner, "a2a", "secret-project")
    assert strangers_client.get(f"/sessions/{session.pk}").status_code == 404
    assert b"secret-project" not in strangers_client.get("/sessions").content


# ── What it costs ──────────────────────────────────────────────────────────
def test_the_number_of_queries_does_not_grow_with_the_sessions(
    signed_in, owner, django_assert_max_num_queries
):
    for count in (2, 40):
        for number in range(count):
            make_task(owner, session=Session.objects.open(owner, "a2a", f"s{count}-{number}"))
        with django_assert_max_num_queries(8):
            signed_in.get("/sessions?since=7d")


def test_the_number_of_queries_does_not_grow_with_the_runs(signed_in, owner, django_assert_max_num_queries):
    session = Session.objects.open(owner, "a2a", "chat")
    for count in (3, 60):
        for number in range(count):
            make_task(owner, said(f"{number}"), session=session)
        with django_assert_max_num_queries(15):
            signed_in.get(f"/sessions/{session.pk}")
        with django_assert_max_num_queries(12):
            signed_in.get(f"/sessions/{session.pk}?tab=runs")


def test_a_session_of_many_events_sends_no_more_than_one_of_few(signed_in, owner):
    session = Session.objects.open(owner, "a2a", "chat")
    run = make_task(owner, session=session)
    for _ in range(4):
        append_events(run, [said("word " * 500) for _ in range(100)])
    assert len(shown(signed_in, session).encode()) < 300_000

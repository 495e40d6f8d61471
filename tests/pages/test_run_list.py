import re
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from runs.models import Membership, Owner, Run, Session, User, give_feedback
from tests.pages.helpers import make_task, said

HTMX = {"HX-Request": "true"}


def titles(answer) -> list[str]:
    return [row.run.title for row in answer.context["page"].rows]


def test_it_works(signed_in, make_run):
    make_run(title="Greenhouse")
    assert titles(signed_in.get("/")) == ["Greenhouse"]


def test_it_hides_other_peoples_runs(strangers_client, make_run):
    run = make_run()
    assert b"Send the first run" in strangers_client.get("/").content
    live = {"live": f"{run.pk.hex}.0"}
    assert strangers_client.get("/live", live).status_code == 286
    assert strangers_client.get("/live", live).content == b""


def test_without_a_run_it_says_how_to_send_one(signed_in):
    page = signed_in.get("/").content.decode()
    assert "samples/run.json" in page
    assert "$(cat" in page
    assert signed_in.get("/first-run").status_code == 204


def test_the_waiting_page_loads_again_when_a_run_is_there(signed_in, make_run):
    make_run()
    assert signed_in.get("/first-run")["HX-Refresh"] == "true"


def test_newest_is_first_and_older_ones_are_a_link_away(signed_in, owner, make_run):
    now = timezone.now()
    for number in range(53):
        # Two of a kind at the border: a page may neither lose nor repeat one of them.
        make_task(owner, title=f"t{number}", created_at=now - timedelta(seconds=number // 2))
    first = signed_in.get("/")
    assert len(titles(first)) == 50
    second = signed_in.get(first.context["older"])
    assert len({*titles(first), *titles(second)}) == 53
    assert second.context["older"] is None


def test_htmx_gets_only_the_next_rows(signed_in, owner):
    for number in range(51):
        make_task(owner, title=f"t{number}")
    older = signed_in.get("/").context["older"]
    answer = signed_in.get(older, headers={**HTMX, "HX-Target": "rows"})
    assert answer.content.strip().startswith(b"<tr id=")
    assert b'id="more" hx-swap-oob' in answer.content
    assert {"HX-Request", "HX-Target"} <= set(answer["Vary"].replace(" ", "").split(","))


def test_the_number_of_queries_does_not_grow_with_the_rows(
    signed_in, alice, make_run, django_assert_num_queries
):
    def load(count: int) -> int:
        with django_assert_num_queries(6) as queries:
            page = signed_in.get("/")
        assert len(titles(page)) == count
        return len(queries)

    for number in range(5):
        session = Session.objects.open(Owner.objects.get(), "test", "s")
        give_feedback(make_run(title=f"{number}", session=session), alice, 3)
    few = load(5)
    for number in range(45):
        session = Session.objects.open(Owner.objects.get(), "test", f"s{number}")
        give_feedback(make_run(title=f"more {number}", session=session), alice, 4)
    assert load(50) == few


def test_no_payload_is_read(signed_in, make_run):
    make_run()
    with CaptureQueriesContext(connection) as queries:
        signed_in.get("/")
    read = " ".join(query["sql"] for query in queries.captured_queries)
    assert len(queries) <= 12
    assert "spec" not in read
    assert "metadata" not in read
    assert "COUNT(*)" not in read


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("status=failed", ["failed"]),
        ("status=failed&status=paused", ["paused", "failed"]),
        ("status=failed&not=status", ["paused", "running"]),
        ("agent=helm", ["failed"]),
        ("agent=helm&not=agent", ["paused", "running"]),
        ("session=cleanup", ["paused"]),
        ("session=cleanup&not=session", ["running", "failed"]),
        ("session=nothing", []),
        ("kind=evaluation", []),
        ("status=nonsense", ["paused", "running", "failed"]),
        ("status=nonsense&agent=helm", ["failed"]),
        ("after=nonsense", ["paused", "running", "failed"]),
        ("run=zzz", ["paused", "running", "failed"]),
        ("owner=999999", ["paused", "running", "failed"]),
    ],
)
def test_filters(signed_in, owner, query, found):
    session = Session.objects.open(owner, "a2a", "cleanup")
    now = timezone.now()
    make_task(owner, title="failed", status="failed", finished_at=now, agent="helm")
    make_task(owner, title="running", agent="k8s")
    make_task(owner, title="paused", status="paused", agent="k8s", session=session)
    answer = signed_in.get(f"/?{query}")
    assert sorted(titles(answer)) == sorted(found)
    if any(word in query for word in ("nonsense", "zzz", "999999")) and "after" not in query:
        assert b"Not a filter, and left out" in answer.content


def test_a_parameter_that_there_is_not_is_named(signed_in, owner):
    make_task(owner)
    assert b"Not a filter, and left out: colour." in signed_in.get("/?colour=red").content


def test_the_beginning_of_an_id_finds_a_run(signed_in, owner):
    run = make_task(owner, title="this")
    assert titles(signed_in.get(f"/?run={str(run.pk)[:13]}")) == ["this"]


def test_older_parameters_become_part_of_the_query(signed_in, owner):
    make_task(owner, agent="helm", status="paused")
    page = signed_in.get("/?agent=helm&not=agent&status=failed&status=paused&q=lamp")
    assert page.context["text"] == "status:failed,paused -agent:helm lamp"


def test_a_status_of_the_legend_is_added_to_the_query(signed_in, owner):
    make_task(owner, agent="helm")
    page = signed_in.get("/?q=agent:helm+status:running").content.decode()
    legend = r'<a data-list href="([^"]*)" id="status-(\w+)"( class="on" aria-current="true")?>'
    found = {value: (address, bool(on)) for address, value, on in re.findall(legend, page)}
    assert found["failed"] == ("/?q=agent%3Ahelm+status%3Arunning%2Cfailed", False)
    assert found["running"] == ("/?q=agent%3Ahelm", True)


def test_words_of_a_row_add_to_the_query(signed_in, owner):
    session = Session.objects.open(owner, "a2a", "the key")
    make_task(owner, agent="my agent", session=session, status="paused")
    page = signed_in.get("/?q=kind:task&columns=cost").content.decode()
    for added in ("status%3Apaused", "agent%3A%22my+agent%22", "session%3A%22the+key%22"):
        assert f'href="/?columns=cost&amp;q=kind%3Atask+{added}"' in page


def test_every_condition_is_a_chip_that_can_be_turned_around_and_taken_away(signed_in, owner):
    make_task(owner)
    query = "disk -agent:helm status:failed,paused after:7d score:>=0.5 tokens:1..5"
    query += " -has:feedback is:open metadata.env:prod"
    chips = signed_in.get("/", {"q": query}).context["chips"]
    assert [(chip.name, chip.verb, chip.words) for chip in chips] == [
        ("text", "has", "“disk”"),
        ("agent", "is not", "helm"),
        ("status", "is", "failed or paused"),
        ("created", "since", "7d ago"),
        ("score", "is", "at least 0.5"),
        ("tokens", "is", "1 to 5"),
        ("run", "has not", "a rating"),
        ("run", "is", "open"),
        ("metadata.env", "is", "prod"),
    ]
    turned = parse_qs(urlsplit(chips[1].turned).query)["q"][0]
    assert turned == query.replace("-agent:helm", "agent:helm")
    assert "-agent" not in chips[1].without


def test_times_are_those_of_the_readers_zone(signed_in, alice, owner):
    User.objects.filter(pk=alice.pk).update(time_zone="Asia/Tokyo")
    day = datetime(2026, 3, 1, 16, tzinfo=UTC)  # 2 March in Tokyo
    make_task(owner, title="in the evening", created_at=day)
    assert titles(signed_in.get("/?q=after:2026-03-02+before:2026-03-03")) == ["in the evening"]
    assert titles(signed_in.get("/?q=before:2026-03-02")) == []


def test_nothing_found_has_a_way_back(signed_in, owner):
    make_task(owner)
    page = signed_in.get("/?agent=nobody").content
    assert b"No run matches." in page
    assert b"Without agent nobody" in page


def test_another_owners_name_is_no_filter(signed_in, stranger, owner):
    make_task(owner)
    other = Membership.objects.get(user=stranger).owner
    assert b"elsewhere" not in signed_in.get(f"/?owner={other.pk}").content


# ── Columns ────────────────────────────────────────────────────────────────
def test_columns_are_chosen_in_the_address(signed_in, owner):
    make_task(owner, cost="1.50", model="gpt-5")
    page = signed_in.get("/?columns=cost&columns=events").content.decode()
    heads = re.findall(r'<th scope="col" class="[^"]*"(?: aria-sort="descending")?>(\w[^<]*)<', page)
    assert heads == ["Status", "Cost", "Events"]
    assert "$1.50" in page
    assert "gpt-5" not in page


def test_a_column_that_is_gone_is_left_out_with_a_word(signed_in, owner):
    make_task(owner)
    assert b"Not a column any more, and left out: labels." in signed_in.get("/?columns=cost,labels").content


# ── What moves ─────────────────────────────────────────────────────────────
def shown(row) -> str:
    return f"{row.run.pk.hex}.{row.version}"


def test_rows_that_move_are_asked_for_together_and_those_that_are_over_are_not(signed_in, owner):
    live = [make_task(owner), make_task(owner, status="paused")]
    over = make_task(owner, status="succeeded", finished_at=timezone.now())
    page = signed_in.get("/").content.decode()
    assert len(re.findall(r'hx-get="/live[^"]*" hx-trigger="every 3s"', page)) == 1
    assert set(re.findall(r'name="live" value="(\w+)\.', page)) == {run.pk.hex for run in live}
    assert over.pk.hex not in page


def test_where_nothing_moves_nothing_is_asked(signed_in, owner):
    make_task(owner, status="succeeded", finished_at=timezone.now())
    assert "/live" not in signed_in.get("/").content.decode()


def test_unchanged_rows_are_204_and_the_last_one_that_ends_stops_the_asking(signed_in, owner):
    run, other = make_task(owner), make_task(owner)
    rows = {row.run.pk: row for row in signed_in.get("/").context["page"].rows}
    live = {"live": [shown(row) for row in rows.values()]}
    assert signed_in.get("/live", live).status_code == 204
    now = timezone.now()
    Run.objects.filter(pk=run.pk).update(status="succeeded", finished_at=now, updated_at=now)
    answer = signed_in.get("/live", live)
    assert answer.status_code == 200
    assert f'<tr id="run-{run.pk}" hx-swap-oob="true">' in answer.content.decode()
    assert str(other.pk) not in answer.content.decode()
    Run.objects.filter(pk=other.pk).update(status="failed", finished_at=now, updated_at=now)
    assert signed_in.get("/live", live).status_code == 286


def test_a_poll_that_finds_nothing_new_reads_runs_once(signed_in, owner, django_assert_max_num_queries):
    for _ in range(5):
        make_task(owner)
    live = {"live": [shown(row) for row in signed_in.get("/").context["page"].rows]}
    with django_assert_max_num_queries(4):  # session, person, runs, what is said beside them
        signed_in.get("/live", live)


@pytest.mark.parametrize("live", ["", "x", "x.y", "é.1", f"{'0' * 33}.1"])
def test_a_row_that_is_none_is_passed_over(signed_in, live):
    assert signed_in.get("/live", {"live": live}).status_code == 286


def test_newer_runs_are_told_of_and_not_inserted(signed_in, owner):
    make_task(owner, title="first")
    newer = signed_in.get("/?q=agent:helm-agent").context["to"]["newer"]
    assert signed_in.get(newer).status_code == 204
    make_task(owner, title="second")
    make_task(owner, title="of another", agent="another")
    answer = signed_in.get(newer)
    assert "1 newer run" in answer.content.decode()
    assert signed_in.get(f"{newer}&known=1").status_code == 204


def test_for_newer_runs_nothing_is_searched(signed_in, owner):
    make_task(owner, said("the disk is full"))
    newer = signed_in.get("/?q=disk").context["to"]["newer"]
    make_task(owner, said("the disk is full again"))
    assert signed_in.get(newer).status_code == 204


# ── Chosen rows ────────────────────────────────────────────────────────────
def test_who_may_act_on_many_chooses_rows(signed_in, owner):
    run = make_task(owner)
    page = signed_in.get("/?q=kind:task").content.decode()
    assert f'name="id" value="{run.pk}" form="bulk"' in page
    assert '<input type="hidden" name="q" value="kind:task">' in page
    assert re.findall(r'name="action" value="(\w+)"', page) == ["cancel", "retry", "review", "delete"]


def test_a_viewer_is_offered_no_action(client, alice, owner):
    Membership.objects.filter(user=alice).update(role="viewer")
    client.force_login(alice, backend="django.contrib.auth.backends.ModelBackend")
    make_task(owner)
    assert b'name="action"' not in client.get("/").content


def test_all_of_the_filter_is_an_address(signed_in, owner):
    run = make_task(owner)
    page = signed_in.get("/?select=all").content.decode()
    assert "All runs of this filter" in page
    assert re.search(f'value="{run.pk}"[^>]* checked disabled', page)


def test_what_strangers_wrote_is_text(signed_in, owner):
    evil = "<script>alert(1)</script>"
    session = Session.objects.open(owner, "a2a", evil)
    names = {"title": f"{evil} \u202e עברית", "agent": evil, "model": evil}
    make_task(owner, **names, session=session, status="failed", error=evil, finished_at=timezone.now())
    page = signed_in.get("/").content.decode()
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;") >= 5
    assert 'dir="auto"' in page


def test_a_search_finds_what_was_said(signed_in, owner):
    make_task(owner, said("the disk is full"), title="disk")
    make_task(owner, said("all is well"), title="well", agent="k8s")
    assert titles(signed_in.get("/", {"q": "DISK"})) == ["disk"]
    assert titles(signed_in.get("/", {"q": "-disk agent:k8s"})) == ["well"]
    assert titles(signed_in.get("/", {"q": "disk", "agent": "k8s"})) == []


def test_a_mistake_in_a_search_is_named_and_finds_nothing(signed_in, owner):
    make_task(owner)
    answer = signed_in.get("/", {"q": "disk stauts:failed"})
    page = answer.content.decode()
    assert titles(answer) == []
    assert '<code dir="auto" class="q-err">stauts' in page
    assert "did you mean" in page
    assert "The search was not understood." in page


def test_a_search_without_a_letter_is_a_mistake_too(signed_in, owner):
    make_task(owner)
    assert b"no letter or digit" in signed_in.get("/", {"q": '"..."'}).content


def test_a_mistake_that_htmx_sends_leaves_the_list_as_it_is(signed_in, owner):
    make_task(owner)
    answer = signed_in.get("/", {"q": "stauts:failed"}, headers={**HTMX, "HX-Target": "list"})
    assert (answer["HX-Retarget"], answer["HX-Push-Url"]) == ("#q-said", "false")
    assert "The list still shows the last filter that worked." in answer.content.decode()
    assert "<table" not in answer.content.decode()


def test_an_older_parameter_stays_beside_a_mistake(signed_in, owner):
    make_task(owner)
    answer = signed_in.get("/?agent=helm&q=stauts:failed")
    assert answer.context["text"] == "agent:helm stauts:failed"
    assert answer.context["mistakes"][0]["text"] == "stauts:failed"


def test_htmx_gets_the_list_its_address_and_the_tabs(signed_in, owner):
    make_task(owner)
    answer = signed_in.get("/", {"status": "running"}, headers={**HTMX, "HX-Target": "list"})
    page = answer.content.decode()
    assert answer["HX-Push-Url"] == "/?q=status%3Arunning"
    assert page.strip().startswith('<div id="list">')
    assert 'id="views" aria-label="Saved views" hx-swap-oob="true"' in page


def test_a_search_that_runs_out_of_time_says_how_far_it_came(signed_in, owner, monkeypatch):
    monkeypatch.setattr("runs.models.listing.STEPS", (2,))
    monkeypatch.setattr("runs.models.listing.PATIENCE", 0)
    for number in range(5):
        make_task(owner, title=f"t{number}")
    page = signed_in.get("/", {"q": "events:>0"}).content.decode()
    assert "Searched back to" in page
    assert "Go on" in page


def test_what_waits_says_for_whom(signed_in, owner, make_run):
    make_task(owner, status="queued")
    assert "its agent has not begun" in signed_in.get("/").content.decode()
    make_run(status="queued")
    assert "waits for a worker" in signed_in.get("/").content.decode()


def test_a_ticked_row_stays_so_when_it_alone_is_drawn_again(signed_in, owner):
    run = make_task(owner, status="running")
    assert "hx-preserve" not in signed_in.get("/").content.decode()
    row = signed_in.get("/live", {"live": f"{run.pk.hex}.0", "picks": "1"}).content.decode()
    assert f'id="ck-{run.pk}" hx-preserve' in row

from datetime import timedelta

import pytest
from django.utils import timezone

from runs.models import Membership, Owner, Run, Session, give_feedback
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
    assert strangers_client.get(f"/runs/{run.pk}/row").status_code == 404


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
        with django_assert_num_queries(9) as queries:
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


def test_no_payload_is_read(signed_in, make_run, django_assert_num_queries):
    make_run()
    with django_assert_num_queries(7) as queries:
        signed_in.get("/")
    read = " ".join(query["sql"] for query in queries.captured_queries)
    assert '"run"."spec"' not in read
    assert '"run"."metadata"' not in read
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


def test_the_beginning_of_an_id_finds_a_run(signed_in, owner):
    run = make_task(owner, title="this")
    assert titles(signed_in.get(f"/?run={str(run.pk)[:13]}")) == ["this"]


def test_a_status_is_added_to_the_filter_that_is_there(signed_in, owner):
    make_task(owner, agent="helm")
    answer = signed_in.get("/?agent=helm&status=running")
    addresses = {choice.value: choice.address for choice in answer.context["legend"]}
    assert addresses["failed"] == "/?agent=helm&status=failed&status=running"
    assert addresses["running"] == "/?agent=helm"


def test_nothing_found_has_a_way_back(signed_in, owner):
    make_task(owner)
    page = signed_in.get("/?agent=nobody").content
    assert b"No run matches." in page
    assert b"Without agent" in page


def test_another_owners_name_is_no_filter(signed_in, stranger, owner):
    make_task(owner)
    other = Membership.objects.get(user=stranger).owner
    assert b"elsewhere" not in signed_in.get(f"/?owner={other.pk}").content


def test_a_row_that_moves_asks_for_itself_and_one_that_is_over_does_not(signed_in, owner):
    live = make_task(owner)
    over = make_task(owner, status="succeeded", finished_at=timezone.now())
    page = signed_in.get("/").content.decode()
    assert f"/runs/{live.pk}/row?v=" in page
    assert f"/runs/{over.pk}/row" not in page


def test_an_unchanged_row_is_204_and_a_final_one_stops_asking(signed_in, owner):
    run = make_task(owner)
    row = signed_in.get("/").context["page"].rows[0]
    address = f"/runs/{run.pk}/row"
    assert signed_in.get(address, {"v": row.version}).status_code == 204
    Run.objects.filter(pk=run.pk).update(
        status="succeeded", finished_at=timezone.now(), updated_at=timezone.now()
    )
    answer = signed_in.get(address, {"v": row.version})
    assert answer.content.strip().startswith(b"<tr id=")
    assert b'hx-trigger="every' not in answer.content


def test_titles_of_strangers_are_text(signed_in, owner):
    make_task(owner, title="<script>alert(1)</script> \u202e עברית")
    page = signed_in.get("/").content.decode()
    assert "<script>alert" not in page
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


def test_a_search_and_the_other_filters_stay_together(signed_in, owner):
    make_task(owner, said("the disk is full"), agent="helm")
    page = signed_in.get("/", {"q": "disk", "agent": "helm"}).content.decode()
    assert '<input type="hidden" name="agent" value="helm">' in page
    assert '<input type="hidden" name="q" value="disk">' in page
    assert "q=disk" in next(choice.address for choice in signed_in.get("/?q=disk").context["legend"])


def test_a_search_that_finds_nothing_can_be_taken_away(signed_in, owner):
    make_task(owner, agent="helm")
    page = signed_in.get("/", {"q": "nothing", "agent": "helm"}).content.decode()
    assert '<a class="btn" href="/?agent=helm">Without the search</a>' in page


def test_a_search_that_runs_out_of_time_says_how_far_it_came(signed_in, owner, monkeypatch):
    monkeypatch.setattr("runs.models.listing.STEPS", (2,))
    monkeypatch.setattr("runs.models.listing.PATIENCE", 0)
    for number in range(5):
        make_task(owner, title=f"t{number}")
    page = signed_in.get("/", {"q": "events:>0"}).content.decode()
    assert "Searched back to" in page
    assert "Go on" in page

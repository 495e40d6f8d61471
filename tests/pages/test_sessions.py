from runs.models import Session
from tests.pages.helpers import make_task


def test_the_list_works(signed_in, owner):
    Session.objects.open(owner, "a2a", "checkout-rollout", "helm-agent")
    page = signed_in.get("/sessions").content.decode()
    assert "checkout-rollout" in page
    assert "helm-agent" in page


def test_without_a_session_it_says_where_they_come_from(signed_in):
    assert b"No session yet." in signed_in.get("/sessions").content


def test_a_session_shows_its_runs_and_no_others(signed_in, owner):
    session = Session.objects.open(owner, "a2a", "chat")
    make_task(owner, title="mine", session=session)
    make_task(owner, title="other")
    page = signed_in.get(f"/sessions/{session.pk}").content.decode()
    assert "mine" in page
    assert "other" not in page


def test_older_ones_are_a_link_away(signed_in, owner):
    for number in range(53):
        Session.objects.open(owner, "a2a", f"s{number}")
    first = signed_in.get("/sessions").context
    second = signed_in.get(f"/sessions{first['older']}").context
    assert len({session.key for session in [*first["sessions"], *second["sessions"]]}) == 53


def test_a_strangers_session_is_missing(strangers_client, owner):
    session = Session.objects.open(owner, "a2a", "secret-project")
    assert strangers_client.get(f"/sessions/{session.pk}").status_code == 404
    assert b"secret-project" not in strangers_client.get("/sessions").content


def test_the_number_of_queries_does_not_grow(signed_in, owner, django_assert_num_queries):
    session = Session.objects.open(owner, "a2a", "chat")
    for count in (2, 30):
        for number in range(count):
            make_task(owner, title=f"{number}", session=session)
        with django_assert_num_queries(7):
            signed_in.get(f"/sessions/{session.pk}")
        with django_assert_num_queries(4):
            signed_in.get("/sessions")

"""The strip above the list: bars that narrow the time, what went wrong below the line, counts in words."""

import re
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from django.utils import timezone

from runs.models import Membership, User
from runs.pages.strip import many
from tests.pages.helpers import make_task

HTMX = {"HX-Request": "true", "HX-Target": "strip"}


def drawn(client, query: str = "") -> str:
    answer = client.get("/strip", {"q": query} if query else {}, headers=HTMX)
    assert answer.status_code == 200
    return answer.content.decode()


def asked_by(address: str) -> str:
    return parse_qs(urlsplit(address.replace("&amp;", "&")).query)["q"][0]


@pytest.fixture
def evening(owner):
    """An hour of runs, one of them failed."""
    start = timezone.now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=5)
    for number in range(6):
        at = start + timedelta(minutes=number)
        make_task(owner, status="failed" if number == 3 else "succeeded", created_at=at, finished_at=at)
    return start


def test_it_works(signed_in, evening):
    page = drawn(signed_in)
    assert "<b>5</b> succeeded" in page
    assert "<b>1</b> failed" in page
    assert re.search(r'<b id="found" hx-swap-oob="true">6 runs', page)


def test_what_went_wrong_hangs_below_the_line(signed_in, evening):
    page = drawn(signed_in)
    bottoms = [
        float(y) + float(h) for y, h in re.findall(r'c-ok" x="[^"]*" y="([^"]*)"[^>]*height="([^"]*)"', page)
    ]
    assert all(bottom == pytest.approx(54, abs=0.1) for bottom in bottoms)
    assert re.findall(r'c-bad" x="[^"]*" y="([^"]*)"', page) == ["54.0"]


def test_a_bar_narrows_the_time_and_keeps_the_rest(signed_in, owner, evening):
    address = re.search(
        r'<a data-list href="([^"]*)" tabindex="-1">', drawn(signed_in, "-agent:x after:30d")
    )[1]
    query = asked_by(address)
    assert query.startswith("-agent:x after:")
    assert "30d" not in query
    assert len(signed_in.get("/", {"q": query}).context["page"].rows) > 0


def test_all_bars_together_have_every_run(signed_in, owner, evening):
    found = [
        asked_by(one) for one in re.findall(r'<a data-list href="([^"]*)" tabindex="-1">', drawn(signed_in))
    ]
    assert sum(len(signed_in.get("/", {"q": query}).context["page"].rows) for query in found) == 6


def test_the_table_behind_it_says_the_same(signed_in, evening):
    page = drawn(signed_in)
    rows = re.findall(r'<th scope="row">.*?</tr>', page, re.DOTALL)
    counts = [[int(number) for number in re.findall(r'class="num">(\d+)<', row)] for row in rows]
    assert [sum(column) for column in zip(*counts, strict=True)] == [5, 1, 0, 0]


def test_it_hides_other_peoples_runs(strangers_client, evening):
    assert "0 runs" in drawn(strangers_client)


def test_days_are_those_of_the_readers_zone(signed_in, alice, owner):
    User.objects.filter(pk=alice.pk).update(time_zone="Asia/Tokyo")
    for month in (1, 3, 5):
        at = datetime(2026, month, 1, 16, tzinfo=UTC)  # the 2nd in Tokyo
        make_task(owner, status="succeeded", created_at=at, finished_at=at)
    page = drawn(signed_in)
    assert re.search(r"after%3A2026-\d\d-\d\dT15%3A00Z", page)


def test_without_script_it_is_a_link_away(signed_in, evening):
    page = signed_in.get("/").content.decode()
    link = re.search(r'<noscript><p><a href="([^"]*)"', page)[1]
    assert "<rect" in signed_in.get(link).content.decode()
    assert signed_in.get("/strip?q=kind:task")["Location"] == "/?strip=1&q=kind%3Atask"


def test_a_query_with_a_mistake_has_no_strip(signed_in, evening):
    assert "<rect" not in drawn(signed_in, "stauts:failed")
    assert 'id="strip"' not in signed_in.get("/?q=stauts:failed").content.decode()


def test_nothing_found_is_nothing_drawn(signed_in, evening):
    page = drawn(signed_in, "agent:nobody")
    assert "<rect" not in page
    assert "0 runs" in page


def test_more_than_is_counted_is_said(signed_in, evening, monkeypatch):
    monkeypatch.setattr("runs.models.tally.SEARCHED", 3)
    page = drawn(signed_in, "-agent:x")
    assert "3+ runs" in page
    assert "older runs are not counted" in page


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "0"),
        (9_999, "9,999"),
        (10_001, "10k+"),
        (512_345, "512k+"),
        (1_000_000, "1M+"),
        (2_390_000, "2.3M+"),
    ],
)
def test_large_counts_are_words(number, words):
    assert many(number) == words


def test_a_person_of_no_owner_gets_an_empty_one(client, db):
    person = User.objects.create_user("nobody")
    client.force_login(person, backend="django.contrib.auth.backends.ModelBackend")
    assert not Membership.objects.filter(user=person).exists()
    assert "0 runs" in drawn(client)

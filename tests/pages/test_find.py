"""Finding in a transcript, what is folded or not loaded included."""

import re

import pytest

from runs.models import append_events
from runs.pages.find import mark_hits
from tests.pages.helpers import answered, called, make_task, said

HTMX = {"HX-Request": "true", "HX-Target": "transcript"}


def found(client, run, words: str, **more: object) -> str:
    answer = client.get(f"/runs/{run.pk}", {"tab": "transcript", "find": words, **more}, headers=HTMX)
    assert answer.status_code == 200
    return answer.content.decode()


@pytest.fixture
def run(owner):
    return make_task(
        owner,
        *(said(f"filler {n}", role="user") for n in range(100)),
        called("helm_get", {"release": "Checkout"}),
        answered("helm_get", "the needle lies in a long result " + "hay " * 500),
        *(said(f"more {n}", role="user") for n in range(100)),
        said('She said "Straße & Söhne" 東京都 مرحبا'),
    )


def test_it_leads_to_what_is_folded_and_far_away(signed_in, run):
    page = found(signed_in, run, "NEEDLE lies")
    assert "<b>1 of 1</b>" in page
    assert 'id="e-101"' in page
    call = re.search(r'<details class="call" id="[ce]-101"[^>]*>', page)
    assert call
    assert " open" in call[0]
    assert "the <mark>needle lies</mark> in a long" in page


def test_without_script_the_search_is_an_address_with_the_place(signed_in, run):
    form = {"tab": "transcript", "find": "needle", "was": "", "at": ""}
    answer = signed_in.get(f"/runs/{run.pk}", form)
    assert answer["Location"] == f"/runs/{run.pk}?tab=transcript&find=needle&at=102#e-102"
    assert "<mark>needle</mark>" in signed_in.get(answer["Location"]).content.decode()


def test_the_same_again_is_the_next_and_after_the_last_the_first(signed_in, run):
    answer = signed_in.get(
        f"/runs/{run.pk}", {"tab": "transcript", "find": "filler", "was": "filler", "at": 7}
    )
    assert "at=8#" in answer["Location"]
    answer = signed_in.get(
        f"/runs/{run.pk}", {"tab": "transcript", "find": "filler", "was": "filler", "at": 100}
    )
    assert "at=1#" in answer["Location"]
    page = found(signed_in, run, "filler", at=50)
    assert "<b>50 of 100</b>" in page
    assert "find=filler&amp;at=51" in page
    assert "find=filler&amp;at=49" in page


@pytest.mark.parametrize("words", ["straße & söhne", "東京", "مرحبا", '"Straße', "checkout"])
def test_it_finds_any_language_and_any_sign(signed_in, run, words):
    assert "<b>1 of 1</b>" in found(signed_in, run, words)


@pytest.mark.parametrize("words", ["parts", "kind", "is_error", "%", "_", "zzz"])
def test_what_no_reader_sees_is_not_found(signed_in, run, words):
    assert "<b>Nothing</b>" in found(signed_in, run, words) or words == "_"


def test_what_comes_later_is_found_too(signed_in, run):
    assert "<b>1 of 1</b>" in found(signed_in, run, "needle")
    append_events(run, [said("another needle")])
    run.refresh_from_db()
    assert "<b>1 of 2</b>" in found(signed_in, run, "needle")


def test_a_long_history_is_looked_through_in_steps(signed_in, run, monkeypatch):
    monkeypatch.setattr("runs.pages.find.AT_ONCE", 4_000)
    page = found(signed_in, run, "needle")
    assert "<b>Nothing</b> in events 1 to " in page
    onward = re.search(r"since=(\d+)", page)
    assert onward
    assert "<b>1 of 1</b>+" in found(signed_in, run, "needle", since=onward[1]).replace("+</b>", "</b>+")


def test_base64_is_not_shown_in_an_excerpt(signed_in, owner):
    run = make_task(owner, answered("get", "word data:image/png;base64," + "QUJD" * 200))
    assert "QUJDQUJD" not in found(signed_in, run, "word")


def test_another_persons_run_is_as_missing(strangers_client, run):
    answer = strangers_client.get(f"/runs/{run.pk}", {"tab": "transcript", "find": "needle"})
    assert answer.status_code == 404


@pytest.mark.parametrize("query", ["find=&was=", "find=x&at=x&since=y", f"find={'x' * 5000}", "find=%F0%9F"])
def test_a_strange_search_is_no_error(signed_in, run, query):
    assert signed_in.get(f"/runs/{run.pk}?tab=transcript&{query}").status_code in (200, 302)


@pytest.mark.parametrize(
    ("drawn", "words", "marked"),
    [
        ('<a href="x">x y</a>', "x", '<a href="x"><mark>x</mark> y</a>'),
        ("a &amp; b", "amp", "a &amp; b"),
        ("a &amp; b", "&", "a <mark>&amp;</mark> b"),
        ("&lt;b&gt;", "<b>", "<mark>&lt;b&gt;</mark>"),
        ("one\n  two", "one two", "<mark>one\n  two</mark>"),
    ],
)
def test_marks_stand_in_texts_only(drawn, words, marked):
    assert mark_hits(drawn, words) == marked

import re

import pytest

from runs.models import Membership
from runs.pages.help import KEYS, guides
from runs.query import FIELDS


def test_it_works(signed_in):
    page = signed_in.get("/help").content.decode()
    assert "<h1>Help</h1>" in page
    assert all(f"<code>{name}</code>" in page for name in FIELDS)


def test_it_leads_only_where_one_may_go(signed_in, owner, alice):
    assert '<a href="/people">People</a></dt>' in signed_in.get("/help").content.decode()
    Membership.objects.filter(user=alice, owner=owner).update(role="viewer")
    page = signed_in.get("/help").content.decode()
    assert '<a href="/trends">Trends</a></dt>' in page
    for name in ("Submit", "People", "Criteria", "System"):
        assert f">{name}</a></dt>" not in page


def test_the_sheet_on_every_page_and_the_page_of_help_have_the_same_keys(signed_in):
    sheet = signed_in.get("/account").content.decode()
    page = signed_in.get("/help").content.decode()
    for keys in KEYS.values():
        for key in keys:
            assert f"<dd>{key.does}</dd>" in sheet
            assert page.count(f"<dd>{key.does}</dd>") >= 2  # in the text and in its own sheet


def test_every_place_that_a_key_goes_to_is_in_the_spine(signed_in):
    page = signed_in.get("/").content.decode()
    told = {key.keys[1] for key in KEYS["Go to"]}
    assert set(re.findall(r'data-go="(\w)"', page)) == told


def test_every_example_of_the_query_language_can_be_asked(signed_in):
    for field in FIELDS.values():
        assert signed_in.get("/", {"q": field.example}).status_code == 200


@pytest.mark.parametrize("slug", guides())
def test_a_guide_is_the_file_in_docs(signed_in, slug):
    page = signed_in.get(f"/help/{slug}").content.decode()
    assert f"<h1>{guides()[slug].title}</h1>" in page
    assert ".md" not in re.findall(r'href="([^"]*)"', page)


def test_the_headings_of_a_guide_are_in_order(signed_in):
    for slug in guides():
        body = signed_in.get(f"/help/{slug}").content.decode().partition('<article class="prose')[2]
        levels = [int(level) for level in re.findall(r"<h(\d)", body.partition("</article>")[0])]
        assert all(after <= before + 1 for before, after in zip([1, *levels], levels, strict=False)), slug


def test_links_between_guides_lead_to_pages(signed_in):
    assert 'href="/help/webhooks"' in signed_in.get("/help/workers").content.decode()


@pytest.mark.parametrize("slug", ["nothing", "..", "README"])
def test_nothing_else_is_read(signed_in, slug):
    assert signed_in.get(f"/help/{slug}").status_code == 404

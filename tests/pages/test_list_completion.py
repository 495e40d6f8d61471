"""What completes the box: names, values of the owner's own, quotes where they are needed, mistakes."""

import re

import pytest

from runs.models import Session
from tests.pages.helpers import make_task


def offered(client, text: str, at: int | None = None) -> list[str]:
    asked = {"q": text, "at": len(text) if at is None else at}
    page = client.get("/completion", asked).content.decode()
    return [one.replace("&quot;", '"') for one in re.findall(r'data-text="([^"]*)"', page)]


@pytest.fixture(autouse=True)
def things(db, owner):
    session = Session.objects.open(owner, "a2a", "checkout 42")
    Session.objects.open(owner, "otlp", "check-7")
    make_task(
        owner, agent="helm-agent", model="gpt-5", session=session, metadata={"env": "prod", "app.version": 1}
    )
    make_task(owner, agent="my agent")


@pytest.mark.parametrize(
    ("text", "texts"),
    [
        ("stat", ["status:"]),
        ("lamp -ki", ["kind:"]),
        ("status:fa", ["failed "]),
        ("status:failed,can", ["cancelled "]),
        ("agent:", ["helm-agent ", '"my agent" ']),
        ("agent:AGENT", ["helm-agent ", '"my agent" ']),
        ('agent:"my', ['"my agent" ']),
        ("agent:helm-agent,my", ['"my agent" ']),
        ("model:g", ["gpt-5 "]),
        ("source:", ["a2a ", "otlp "]),
        ("session:check", ["check-7 ", '"checkout 42" ']),
        ("session:check-", ["check-7 "]),
        ("metadata.", ['"app.version":', "env:"]),
        ("metadata.e", ["env:", '"app.version":']),
        ("has:f", ["feedback "]),
        ("after:y", ["yesterday "]),
        ("score:", []),
        ("nothing:x", []),
        ('"status', []),
    ],
)
def test_it_offers(signed_in, text, texts):
    assert offered(signed_in, text) == texts


def test_it_says_where_the_text_goes(signed_in):
    page = signed_in.get("/completion", {"q": 'agent:"my ag" is:open', "at": 12}).content.decode()
    assert 'data-start="6" data-end="13"' in page


def test_owners_are_ones_own(signed_in, owner, stranger):
    assert offered(signed_in, "owner:") == [f"{owner.name} "]


def test_it_offers_nothing_of_others(strangers_client):
    for text in ("agent:", "model:", "session:check", "metadata.", "source:"):
        assert offered(strangers_client, text) == []


def test_what_is_being_typed_is_no_mistake_yet(signed_in):
    page = signed_in.get("/completion", {"q": "scroe:3 status:", "at": 15}).content.decode()
    assert 'data-wrong="0-7 "' in page
    assert "did you mean" in page
    assert "Add a value" not in page
    assert "Add a value" in signed_in.get("/completion", {"q": "scroe:3 status:", "at": 0}).content.decode()


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"q": "x" * 3000},
        {"q": "agent:", "at": "-1"},
        {"q": "\ud7ff", "at": "٣"},
        {"q": "a" * 5, "at": "99999"},
    ],
)
def test_no_question_breaks_it(signed_in, asked):
    assert signed_in.get("/completion", asked).status_code == 200


def test_values_of_strangers_are_text(signed_in, owner):
    make_task(owner, agent="<script>alert(1)</script>")
    assert "<script>" not in signed_in.get("/completion", {"q": "agent:<", "at": 7}).content.decode()

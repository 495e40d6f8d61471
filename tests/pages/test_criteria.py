"""Criteria: an owner's admins say what its people rate runs on."""

from runs.models import Criterion, Membership, Owner, User
from runs.models.criterion import add_criterion


def asked(owner: Owner) -> list[str]:
    return [one.label for one in Criterion.objects.filter(owner=owner).asked()]


def test_one_is_added_explained_and_moved(signed_in, owner):
    for label in ("Correct", "Höflich"):
        form = {"owner": owner.pk, "label": label, "description": "1 is bad."}
        assert signed_in.post("/criteria", form)["Location"] == "/criteria"
    page = signed_in.get("/criteria").content.decode()
    assert page.index("Correct") < page.index("Höflich")
    second = Criterion.objects.get(label="Höflich")
    signed_in.post(f"/criteria/{second.pk}/move", {"to": "earlier"})
    assert asked(owner) == ["Höflich", "Correct"]
    signed_in.post(f"/criteria/{second.pk}", {"label": "Polite", "description": "5 is kind."})
    second.refresh_from_db()
    assert (second.label, second.key, second.description) == ("Polite", "höflich", "5 is kind.")


def test_one_is_retired_and_brought_back(signed_in, owner):
    criterion = add_criterion(owner, "Correct")
    signed_in.post(f"/criteria/{criterion.pk}/retire")
    assert asked(owner) == []
    assert "Retired: 1" in signed_in.get("/criteria").content.decode()
    signed_in.post(f"/criteria/{criterion.pk}/bring-back")
    assert asked(owner) == ["Correct"]


def test_what_is_wrong_stands_beside_the_field(signed_in, owner):
    add_criterion(owner, "Correct")
    for label, words in (
        ("", "This field is required."),
        ("?", "A name needs a letter or a digit."),
        ("overall", "Overall is always asked"),
        ("Correct", "There is a criterion Correct already."),
        ("x" * 61, "at most 60 characters"),
    ):
        answer = signed_in.post("/criteria", {"owner": owner.pk, "label": label})
        assert (answer.status_code, words in answer.content.decode()) == (422, True), label
    assert asked(owner) == ["Correct"]


def test_each_owner_has_its_own(signed_in, alice, owner):
    others = Owner.objects.create(name="others")
    Membership.objects.create(user=alice, owner=others, role="admin")
    signed_in.post("/criteria", {"owner": others.pk, "label": "Fast"})
    assert (asked(owner), asked(others)) == ([], ["Fast"])


def test_only_an_admin_says_so(owner, client):
    criterion = add_criterion(owner, "Correct")
    operator = User.objects.create_user("operator")
    Membership.objects.create(user=operator, owner=owner, role="operator")
    client.force_login(operator, backend="django.contrib.auth.backends.ModelBackend")
    assert client.get("/criteria").status_code == 403
    assert client.post("/criteria", {"owner": owner.pk, "label": "x"}).status_code == 403
    for path in ("", "/retire", "/bring-back", "/move"):
        assert client.post(f"/criteria/{criterion.pk}{path}", {"label": "x"}).status_code == 403
    assert asked(owner) == ["Correct"]


def test_a_stranger_finds_nothing(strangers_client, owner):
    criterion = add_criterion(owner, "Of others")
    assert strangers_client.get(f"/criteria/{criterion.pk}").status_code == 404
    assert strangers_client.post(f"/criteria/{criterion.pk}/retire").status_code == 404
    answer = strangers_client.post("/criteria", {"owner": owner.pk, "label": "x"})
    assert answer.status_code == 422
    assert "Of others" not in answer.content.decode()

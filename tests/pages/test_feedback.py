from runs.models import OVERALL, Feedback, FeedbackVersion, Membership, Owner, User, give_feedback
from runs.models.criterion import add_criterion, retire_criterion

HTMX = {"HX-Request": "true"}
PANEL = {**HTMX, "HX-Target": "feedback"}


def test_it_works(signed_in, make_run, alice):
    run = make_run()
    answer = signed_in.post(f"/runs/{run.pk}/feedback", {"rating": "4", "comment": "good"})
    assert answer["Location"] == f"/runs/{run.pk}"
    given = Feedback.objects.get(run=run)
    assert (given.author, given.rating, given.comment) == (alice.actor, 4, "good")


def test_a_second_rating_takes_the_firsts_place_and_the_first_is_kept(signed_in, make_run):
    run = make_run()
    for rating in "35":
        signed_in.post(f"/runs/{run.pk}/feedback", {"rating": rating})
    assert Feedback.objects.get(run=run).rating == 5
    assert [version.rating for version in FeedbackVersion.objects.all()] == [3, 5]
    assert "was 3 until" in signed_in.get(f"/runs/{run.pk}").content.decode()


def test_rating_in_the_row_keeps_the_comment(signed_in, make_run, alice):
    run = make_run()
    give_feedback(run, alice, 2, "the limit was in the diff")
    answer = signed_in.post(f"/runs/{run.pk}/feedback", {"rating": "3"}, headers=HTMX)
    assert answer.status_code == 204
    given = Feedback.objects.get(run=run)
    assert (given.rating, given.comment) == (3, "the limit was in the diff")


def test_what_is_rated_beside_the_row_is_shown_in_it(signed_in, make_run):
    run = make_run()
    form = {"rating": "4", "criterion": OVERALL}
    cell = signed_in.post(f"/runs/{run.pk}/feedback", form, headers=HTMX)
    assert cell.status_code == 200
    assert f'id="rate-{run.pk}" hx-swap-oob="true"' in cell.content.decode()
    assert 'value="4" checked' in cell.content.decode()


def test_without_script_one_comes_back_to_the_list(signed_in, make_run):
    run = make_run()
    answer = signed_in.post(f"/runs/{run.pk}/feedback", {"rating": "3", "next": "/?status=queued"})
    assert answer["Location"] == "/?status=queued"
    answer = signed_in.post(f"/runs/{run.pk}/feedback", {"rating": "3", "next": "https://evil.example"})
    assert answer["Location"] == f"/runs/{run.pk}"


def test_a_bad_rating_is_refused_in_its_place(signed_in, make_run):
    run = make_run()
    for rating in ("0", "6", "4.5", "x", ""):
        form = {"rating": rating}
        page = signed_in.post(f"/runs/{run.pk}/feedback", form)
        assert page.status_code == 422
        assert b"<!doctype html>" in page.content
        headers = {**HTMX, "HX-Target": "feedback"}
        part = signed_in.post(f"/runs/{run.pk}/feedback", form, headers=headers)
        assert part.status_code == 422
        assert part.content.startswith(b'<section class="r-fb" id="feedback">')
        cell = signed_in.post(f"/runs/{run.pk}/feedback", form, headers=HTMX)
        assert cell.status_code == 422
        assert b'hx-swap-oob="true"' in cell.content
    assert not Feedback.objects.exists()


def test_what_others_said_is_shown(signed_in, make_run, stranger):
    run = make_run()
    give_feedback(run, stranger, 2, "كان يجب أن يرفض")
    page = signed_in.get(f"/runs/{run.pk}").content.decode()
    assert "كان يجب أن يرفض" in page
    assert 'aria-label="2 of 5"' in page


def test_a_stranger_cannot_rate(strangers_client, make_run):
    run = make_run()
    assert strangers_client.post(f"/runs/{run.pk}/feedback", {"rating": "1"}).status_code == 404
    assert not Feedback.objects.exists()


def test_each_criterion_is_rated_in_the_panel(signed_in, make_run, owner):
    run = make_run()
    add_criterion(owner, "Correct", "1 is wrong.")
    panel = signed_in.get(f"/runs/{run.pk}").content.decode()
    assert panel.index("Overall") < panel.index("Correct")
    assert "1 is wrong." in panel
    form = {"rating": "4", "rating-correct": "2", "comment": "close"}
    answer = signed_in.post(f"/runs/{run.pk}/feedback", form, headers=PANEL).content.decode()
    assert "Saved" in answer
    assert 'id="rate-correct-2" value="2" checked' in answer
    assert list(Feedback.objects.order_by("criterion").values_list("criterion", "rating")) == [
        ("correct", 2),
        ("overall", 4),
    ]


def test_one_criterion_alone_is_rated_with_a_comment_of_its_own(signed_in, make_run, owner):
    run = make_run()
    add_criterion(owner, "Tone")
    form = {"criterion": "tone", "rating": "2", "comment": "curt"}
    assert signed_in.post(f"/runs/{run.pk}/feedback", form, headers=HTMX).status_code == 204
    assert list(Feedback.objects.values_list("criterion", "rating", "comment")) == [("tone", 2, "curt")]


def test_a_criterion_that_is_unknown_or_retired_is_named(signed_in, make_run, owner):
    run = make_run()
    retire_criterion(add_criterion(owner, "Tone"))
    for criterion, words in (("speed", "There is no criterion “speed”."), ("tone", "“Tone” is retired")):
        form = {"criterion": criterion, "rating": "2"}
        answer = signed_in.post(f"/runs/{run.pk}/feedback", form, headers=PANEL)
        assert (answer.status_code, words in answer.content.decode()) == (422, True)
    assert not Feedback.objects.exists()


def test_another_owners_criterion_is_none(signed_in, make_run):
    run = make_run()
    add_criterion(Owner.objects.create(name="others"), "Tone")
    answer = signed_in.post(f"/runs/{run.pk}/feedback", {"criterion": "tone", "rating": "2"}, headers=PANEL)
    assert answer.status_code == 422


def test_a_rating_that_is_posted_twice_is_one(signed_in, make_run):
    run = make_run()
    for _ in range(2):
        signed_in.post(f"/runs/{run.pk}/feedback", {"rating": "4", "comment": "good"})
    assert FeedbackVersion.objects.count() == 1


def test_what_was_said_before_is_shown(signed_in, make_run, owner):
    run = make_run()
    add_criterion(owner, "Tone")
    for rating in "25":
        signed_in.post(f"/runs/{run.pk}/feedback", {"rating-tone": rating, "comment": f"said {rating}"})
    page = signed_in.get(f"/runs/{run.pk}").content.decode()
    assert "Tone was 2 until" in page
    earlier = page[page.index("What you said before") :]
    assert "said 2" in earlier
    assert 'aria-label="2 of 5"' in earlier


def test_withdrawing_takes_all_back_and_keeps_it_among_what_was_said(signed_in, make_run, owner):
    run = make_run()
    add_criterion(owner, "Tone")
    form = {"rating": "4", "rating-tone": "2", "comment": "good"}
    signed_in.post(f"/runs/{run.pk}/feedback", form)
    for _ in range(2):
        answer = signed_in.post(f"/runs/{run.pk}/feedback", {**form, "withdraw": "1"}, headers=PANEL)
        assert answer.status_code == 200
    panel = answer.content.decode()
    assert "Withdrawn" in panel
    assert "checked" not in panel
    assert "hx-preserve" not in panel  # the boxes are emptied
    run.refresh_from_db()
    assert run.rating_count == 0
    assert FeedbackVersion.objects.filter(withdrawn=True).count() == 2


def test_one_criterion_is_withdrawn_alone(signed_in, make_run, owner):
    run = make_run()
    add_criterion(owner, "Tone")
    signed_in.post(f"/runs/{run.pk}/feedback", {"rating": "4", "rating-tone": "2"})
    signed_in.post(f"/runs/{run.pk}/feedback", {"withdraw": "1", "criterion": "tone"})
    assert Feedback.objects.get(withdrawn_at=None).criterion == "overall"


def test_an_error_keeps_what_was_typed(signed_in, make_run, owner):
    run = make_run()
    add_criterion(owner, "Tone")
    form = {"rating": "7", "rating-tone": "3", "comment": "half a thought"}
    page = signed_in.post(f"/runs/{run.pk}/feedback", form).content.decode()
    assert "Overall: a rating is a whole number from 1 to 5." in page
    assert 'id="rate-tone-3" value="3" checked' in page
    assert "half a thought</textarea>" in page
    part = signed_in.post(f"/runs/{run.pk}/feedback", form, headers=PANEL).content.decode()
    assert 'id="marks" hx-preserve' in part
    long = signed_in.post(f"/runs/{run.pk}/feedback", {"rating": "3", "comment": "x" * 20_001})
    assert (long.status_code, b"at most 20,000 characters" in long.content) == (422, True)


def test_what_others_said_stands_under_their_name_with_the_criteria(signed_in, make_run, owner, stranger):
    run = make_run()
    retire_criterion(add_criterion(owner, "Tone"))
    give_feedback(run, stranger, 4, "good")
    give_feedback(run, stranger, 1, "rude", "tone")
    give_feedback(run, stranger, 2, "", "of-an-api")
    page = signed_in.get(f"/runs/{run.pk}").content.decode()
    assert page.count('<b dir="auto">stranger</b>') == 1
    assert '<dt dir="auto">Tone</dt>' in page
    assert '<dt dir="auto">of-an-api</dt>' in page
    assert "<b>Tone:</b> rude" in page


def test_a_rating_that_is_none_is_shown_flagged(signed_in, make_run, stranger):
    run = make_run()
    give_feedback(run, stranger, None, "odd", raw={"rating": 87})
    assert "gave 87, which is not from 1 to 5" in signed_in.get(f"/runs/{run.pk}").content.decode()


def test_a_viewer_reads_and_may_not_rate(make_run, owner, stranger, client):
    run = make_run()
    give_feedback(run, stranger, 2, "hm")
    Membership.objects.create(user=(vera := User.objects.create_user("vera")), owner=owner, role="viewer")
    client.force_login(vera, backend="django.contrib.auth.backends.ModelBackend")
    assert "hm" in client.get(f"/runs/{run.pk}").content.decode()
    assert client.post(f"/runs/{run.pk}/feedback", {"rating": "1"}).status_code == 403

from runs.models import Feedback, FeedbackVersion, give_feedback

HTMX = {"HX-Request": "true"}


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

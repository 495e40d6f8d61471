"""Review queues: made from a filter, handed out one at a time, question and answer first."""

from datetime import timedelta

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from runs.models import (
    BulkJob,
    Criterion,
    Feedback,
    FeedbackVersion,
    Membership,
    Owner,
    Result,
    ReviewItem,
    ReviewQueue,
    Run,
    User,
    give_feedback,
)
from runs.models.criterion import add_criterion, retire_criterion
from runs.models.review import add_items, end_item, open_queue, reserve_next
from runs.pages import review
from tests.pages.helpers import called, make_task, said

HTMX = {"HX-Request": "true", "HX-Target": "item"}


@pytest.fixture
def bob(owner: Owner) -> User:
    """A reviewer."""
    return member(owner, "bob", "reviewer")


@pytest.fixture
def queue(owner: Owner) -> ReviewQueue:
    """Two answers."""
    queue = open_queue(owner, "German answers", "user:1", criteria=["tone"])
    add_criterion(owner, "Tone", "1 is rude, 5 is kind.")
    runs = [make_task(owner, said(f"Question {n}?", "user"), said(f"Answer {n}.")) for n in (1, 2)]
    add_items(queue, [run.pk for run in runs])
    return queue


def member(owner: Owner, name: str, role: str) -> User:
    user = User.objects.create_user(name)
    Membership.objects.create(user=user, owner=owner, role=role)
    return user


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def items(queue: ReviewQueue) -> list[ReviewItem]:
    return list(ReviewItem.objects.filter(queue=queue).order_by("pk"))


def address(item: ReviewItem) -> str:
    return f"/review/{item.queue_id}/{item.pk}"


def text_of(response) -> str:
    return response.content.decode()


# ── The queues ─────────────────────────────────────────────────────────────
def test_the_list_says_how_far_each_is_and_who_is_at_it(signed_in, queue, alice, bob):
    first = items(queue)[0]
    end_item(first, alice, ReviewItem.State.DONE)
    reserve_next(queue, bob)
    page = text_of(signed_in.get("/review"))
    assert "German answers" in page
    assert '<progress class="progress" max="2" value="1"' in page
    assert '<td data-l="At it now">bob</td>' in page
    assert '<span class="tick">0<' in page  # bob is at the only one


def test_the_list_costs_the_same_for_many_queues(signed_in, queue, owner):
    def count() -> int:
        with CaptureQueriesContext(connection) as queries:
            signed_in.get("/review")
        return len(queries)

    few = count()
    for number in range(8):
        more = open_queue(owner, f"queue {number}", "user:1")
        add_items(more, [item.run_id for item in items(queue)])
    assert count() == few <= 12


def test_without_a_queue_it_says_what_to_do(signed_in):
    page = text_of(signed_in.get("/review"))
    assert "No queue is open." in page
    assert 'href="/review/new"' in page


def test_others_queues_are_not_shown(strangers_client, queue):
    assert "German answers" not in text_of(strangers_client.get("/review"))
    for path in ("", "/change", f"/{items(queue)[0].pk}"):
        assert strangers_client.get(f"/review/{queue.pk}{path}").status_code == 404


def test_a_viewer_sees_how_far_they_are_and_may_not_review(owner, queue):
    viewer = client_of(member(owner, "vera", "viewer"))
    page = text_of(viewer.get("/review"))
    assert "German answers" in page
    assert f'href="/review/{queue.pk}"' not in page
    assert viewer.get(f"/review/{queue.pk}").status_code == 403
    assert viewer.post(address(items(queue)[0]), {"rating": "4"}).status_code == 403
    assert not Feedback.objects.exists()


def test_closing_and_reopening(signed_in, queue):
    for _ in range(2):
        signed_in.post(f"/review/{queue.pk}/close")
    assert "German answers" not in text_of(signed_in.get("/review"))
    assert "German answers" in text_of(signed_in.get("/review?closed"))
    assert "This queue is closed." in text_of(signed_in.get(f"/review/{queue.pk}"))
    signed_in.post(f"/review/{queue.pk}/reopen")
    assert signed_in.get(f"/review/{queue.pk}").status_code == 302


# ── Making and changing one ────────────────────────────────────────────────
def test_a_queue_is_made_from_a_filter(signed_in, alice, owner):
    add_criterion(owner, "Tone")
    retire_criterion(add_criterion(owner, "Old"))
    wanted = [make_task(owner, agent="helm") for _ in range(2)]
    make_task(owner, agent="other")
    form = text_of(signed_in.get("/review/new?q=agent:helm"))
    assert "2 runs match." in form
    assert "Old" not in form
    answer = signed_in.post(
        "/review/new",
        {
            "q": "agent:helm",
            "owner": owner.pk,
            "name": "Helm",
            "instructions": "Look *closely*.",
            "criteria": Criterion.objects.get(key="tone").pk,
        },
    )
    assert answer["Location"] == "/review"
    made = ReviewQueue.objects.get()
    assert (made.name, made.criteria, made.created_by) == ("Helm", ["tone"], alice.actor)
    assert {item.run_id for item in items(made)} == {run.pk for run in wanted}
    assert "“Helm” has 2 runs to review." in text_of(signed_in.get("/review"))


def test_only_runs_of_the_chosen_owner_are_put_in(signed_in, alice, owner):
    others = Owner.objects.create(name="others")
    Membership.objects.create(user=alice, owner=others, role="reviewer")
    mine = make_task(owner)
    make_task(others)
    signed_in.post("/review/new", {"q": "", "owner": owner.pk, "name": "All"})
    assert [item.run_id for item in items(ReviewQueue.objects.get())] == [mine.pk]


def test_what_is_wrong_with_it_stands_beside_its_field(signed_in, owner, queue):
    make_task(owner)
    for form, words in (
        ({"q": "scroe:1", "name": "x"}, "scroe"),
        ({"q": "agent:nobody", "name": "x"}, "No run of platform matches"),
        ({"q": "", "name": "German answers"}, "platform has a queue of this name already."),
        ({"q": "", "name": ""}, "This field is required."),
        ({"q": "", "name": "x", "criteria": "999"}, "Select a valid choice"),
    ):
        answer = signed_in.post("/review/new", {"owner": owner.pk, **form})
        assert (answer.status_code, words in text_of(answer)) == (422, True), form
    assert ReviewQueue.objects.count() == 1


def test_more_than_a_form_puts_in_is_left_to_the_worker(signed_in, alice, owner, monkeypatch):
    monkeypatch.setattr(review, "AT_ONCE", 2)
    for _ in range(3):
        make_task(owner)
    assert "More than 2 runs match" in text_of(signed_in.get("/review/new"))
    signed_in.post("/review/new", {"q": "after:7d", "owner": owner.pk, "name": "All"})
    made, job = ReviewQueue.objects.get(), BulkJob.objects.get()
    assert items(made) == []
    assert (job.action, job.person, job.owners, job.state) == ("review", alice, [owner.pk], "queued")
    assert job.options == {"queue": made.pk}
    assert "owner:platform" in job.query
    assert "7d" not in job.query  # fixed in time
    assert "the worker is putting them in" in text_of(signed_in.get("/review"))


def test_a_viewer_makes_none(owner):
    viewer = client_of(member(owner, "vera", "viewer"))
    assert viewer.get("/review/new").status_code == 403
    assert viewer.post("/review/new", {"owner": owner.pk, "name": "x"}).status_code == 403


def test_its_name_instructions_and_criteria_are_changed(signed_in, queue, owner):
    page = text_of(signed_in.get(f"/review/{queue.pk}/change"))
    assert 'value="German answers"' in page
    correct = add_criterion(owner, "Correct")
    form = {"name": "Answers", "instructions": "Read twice.", "criteria": correct.pk}
    signed_in.post(f"/review/{queue.pk}/change", form)
    queue.refresh_from_db()
    assert (queue.name, queue.instructions, queue.criteria) == ("Answers", "Read twice.", ["correct"])
    open_queue(owner, "Taken", "user:1")
    answer = signed_in.post(f"/review/{queue.pk}/change", {"name": "Taken"})
    assert (answer.status_code, "of this name already" in text_of(answer)) == (422, True)


# ── Reading ────────────────────────────────────────────────────────────────
def test_the_next_item_has_an_address_of_its_own_and_is_kept(signed_in, queue, bob):
    answer = signed_in.get(f"/review/{queue.pk}")
    assert answer["Location"] == address(items(queue)[0])
    assert signed_in.get(answer["Location"]).status_code == 200
    assert signed_in.get(f"/review/{queue.pk}")["Location"] == answer["Location"]
    assert client_of(bob).get(f"/review/{queue.pk}")["Location"] == address(items(queue)[1])


def test_question_and_answer_come_first(signed_in, owner):
    queue = open_queue(owner, "q", "user:1", instructions="Is it *right*?")
    run = make_task(
        owner,
        said("Be brief.", "system"),
        said("An older question", "user"),
        said("An older answer"),
        said("Where is the **file**?", "user"),
        called("rummage", {"name": "file"}),
        said("On the desk."),
    )
    add_items(queue, [run.pk])
    page = text_of(signed_in.get(f"/review/{queue.pk}", follow=True))
    told, question, answer = (
        page.index(words) for words in ("Is it <em>right</em>?", "Where is the <strong>", "On the desk.")
    )
    assert told < question < answer
    assert "older" not in page
    assert "rummage" not in page
    assert f'hx-get="/runs/{run.pk}?tab=transcript"' in page
    assert f'<a href="/runs/{run.pk}">Everything about this run</a>' in page


def test_a_run_without_words_says_so(signed_in, owner):
    queue = open_queue(owner, "q", "user:1")
    add_items(
        queue, [make_task(owner, title="Clean up <b>", status="succeeded", finished_at=timezone.now()).pk]
    )
    page = text_of(signed_in.get(f"/review/{queue.pk}", follow=True))
    assert "Clean up &lt;b&gt;" in page
    assert "There is no answer in words." in page


def test_of_a_run_that_is_not_over_no_answer_is_expected_yet(signed_in, owner):
    queue = open_queue(owner, "q", "user:1")
    add_items(queue, [make_task(owner, title="Clean up", status="paused").pk])
    page = text_of(signed_in.get(f"/review/{queue.pk}", follow=True))
    assert "There is no answer yet" in page


def test_small_data_is_shown_as_facts_and_large_as_a_link(signed_in, owner):
    def data(value):
        return {"kind": "data", "data": value}

    parts = [data({"ticket_no": 7, "open": True}), data({"deep": {"er": 1}})]
    run = make_task(owner, said("?", "user", parts=parts))
    queue = open_queue(owner, "q", "user:1")
    add_items(queue, [run.pk])
    page = text_of(signed_in.get(f"/review/{queue.pk}", follow=True))
    assert '<dt>Ticket no</dt><dd dir="auto">7</dd>' in page
    assert '<dt>Open</dt><dd dir="auto">yes</dd>' in page
    assert f'<a href="/runs/{run.pk}/events/1">Something that is not text' in page


def result(run: Run, item: str, status: str, **fields) -> Result:
    values = {"item_name": item, "evaluator_type": "builtin", "score": 0.5, **fields}
    name = values.pop("evaluator_name", "response_match_score")
    key = f"{item}-{name}-{run.pk}".ljust(64, "0")[:64]
    return Result.objects.create(id=key, run=run, item_id=item, evaluator_name=name, status=status, **values)


def test_an_evaluation_shows_the_judged_runs_words_and_the_verdicts(signed_in, owner, make_run):
    judged = make_task(owner, said("Why?", "user"), said("Because."))
    run = make_run(judged=judged)
    result(run, "1", "failed", details={"reason": "A cause is missing."}, threshold=0.7)
    result(run, "1", "passed", evaluator_name="language", score=1)
    queue = open_queue(owner, "q", "user:1")
    add_items(queue, [run.pk])
    page = text_of(signed_in.get(f"/review/{queue.pk}", follow=True))
    places = [page.index(words) for words in ("Why?", "Because.", "A cause is missing.")]
    assert places == sorted(places)
    assert '<b dir="auto">Response match score</b>' in page
    assert f'hx-get="/runs/{judged.pk}?tab=transcript"' in page


def test_an_evaluation_of_several_items_shows_those_that_went_wrong_first(signed_in, owner, make_run):
    run = make_run()
    for number in range(8):
        status = "failed" if number == 7 else "passed"
        result(run, f"item-{number}", status, question=f"Question {number}?", trace_id=str(number))
    queue = open_queue(owner, "q", "user:1")
    add_items(queue, [run.pk])
    page = text_of(signed_in.get(f"/review/{queue.pk}", follow=True))
    assert page.index("Question 7?") < page.index("Question 0?")
    assert "Of 8 questions these 5 are shown, what went wrong first." in page


def test_a_tasks_newest_evaluation_is_its_verdict(signed_in, owner, make_run):
    task = make_task(owner, said("Why?", "user"), said("Because."))
    for title, score in (("older", 0.1), ("newer", 0.9)):
        result(make_run(judged=task, title=title), "1", "passed", score=score)
    queue = open_queue(owner, "q", "user:1")
    add_items(queue, [task.pk])
    page = text_of(signed_in.get(f"/review/{queue.pk}", follow=True))
    assert '<span class="num">0.90</span>' in page
    assert '<span class="num">0.10</span>' not in page


def test_an_item_costs_few_queries_however_large_its_run_is(signed_in, owner, make_run):
    judged = make_task(owner, *(said(f"{n}", "user" if n % 2 else "agent") for n in range(30)))
    run = make_run(judged=judged)
    for number in range(30):
        result(run, f"item-{number % 10}", "failed", evaluator_name=f"e{number // 10}")
    queue = open_queue(owner, "q", "user:1")
    add_items(queue, [run.pk])
    first = signed_in.get(f"/review/{queue.pk}")["Location"]
    with CaptureQueriesContext(connection) as queries:
        signed_in.get(first)
    assert len(queries) <= 15


# ── Rating ─────────────────────────────────────────────────────────────────
def test_done_keeps_the_ratings_and_goes_on(signed_in, queue, alice):
    first, second = items(queue)
    signed_in.get(f"/review/{queue.pk}")
    form = {"rating": "4", "rating-tone": "2", "comment": "Too curt."}
    answer = signed_in.post(address(first), form)
    assert answer["Location"] == address(second)
    given = Feedback.objects.order_by("criterion").values_list("run", "author", "criterion", "rating")
    assert list(given) == [(first.run_id, alice.actor, "overall", 4), (first.run_id, alice.actor, "tone", 2)]
    first.refresh_from_db()
    assert (first.state, first.ended_by) == ("done", alice.actor)
    assert "1 of 2 looked at" in text_of(signed_in.get(address(second)))


def test_htmx_gets_the_next_item_and_the_progress_in_one_answer(signed_in, queue):
    first, second = items(queue)
    signed_in.get(f"/review/{queue.pk}")
    answer = signed_in.post(address(first), {"rating": "4"}, headers=HTMX)
    page = text_of(answer)
    assert answer["HX-Push-Url"] == address(second)
    assert "Question 2?" in page
    assert '<header class="rev-top" id="rev-top" hx-swap-oob="true">' in page
    assert "1 of 2 looked at" in page
    assert 'id="question" tabindex="-1" autofocus' in page
    assert "<!doctype html>" not in page


def test_a_rating_that_is_posted_twice_is_one(signed_in, queue, alice):
    first, second = items(queue)
    signed_in.get(f"/review/{queue.pk}")
    for _ in range(2):
        assert signed_in.post(address(first), {"rating": "4"})["Location"] == address(second)
    assert FeedbackVersion.objects.count() == 1
    assert [item.state for item in items(queue)] == ["done", "open"]


def test_nothing_said_is_asked_for_and_nothing_typed_is_lost(signed_in, queue):
    first = items(queue)[0]
    signed_in.get(f"/review/{queue.pk}")
    part = signed_in.post(address(first), {"comment": ""}, headers=HTMX)
    assert (part.status_code, part["HX-Retarget"]) == (422, "#wrong")
    assert "Choose from 1 to 5, or skip it." in text_of(part)
    assert "<textarea" not in text_of(part)
    bad = {"rating": "9", "rating-tone": "3", "comment": "half a thought"}
    page = text_of(signed_in.post(address(first), bad))
    assert "Overall: a rating is a whole number from 1 to 5." in page
    assert "half a thought</textarea>" in page
    assert 'id="rate-tone-3" value="3" checked' in page
    assert not Feedback.objects.exists()


def test_skipping_goes_on_and_keeps_what_was_said(signed_in, queue, alice):
    first, second = items(queue)
    signed_in.get(f"/review/{queue.pk}")
    answer = signed_in.post(address(first), {"skip": "1", "comment": "A lawyer must see this."})
    assert answer["Location"] == address(second)
    assert items(queue)[0].state == "skipped"
    assert Feedback.objects.get().comment == "A lawyer must see this."
    signed_in.post(address(second), {"skip": "1"})
    end = text_of(signed_in.get(f"/review/{queue.pk}"))
    assert "All 2 are looked at." in end
    assert "Look at the 2 skipped" in end
    again = signed_in.post(f"/review/{queue.pk}/again", follow=True)
    assert "Question 1?" in text_of(again)


def test_back_shows_what_one_said_and_keeps_it_changed(signed_in, queue, alice, bob):
    first, second = items(queue)
    give_feedback(first.run, bob, 1, "I think it is wrong")
    signed_in.get(f"/review/{queue.pk}")
    before = text_of(signed_in.get(address(first)))
    assert "What 1 other said of it is shown once you are done" in before
    assert "I think it is wrong" not in before
    signed_in.post(address(first), {"rating": "4"})
    page = text_of(signed_in.get(address(second)))
    assert f'id="rev-back" href="{address(first)}"' in page
    page = text_of(signed_in.get(address(first)))
    assert 'id="rate-4" value="4" checked' in page
    assert "You did this one" in page
    assert "I think it is wrong" in page
    answer = signed_in.post(address(first), {"rating": "2"})
    assert answer["Location"] == address(second)
    assert Feedback.objects.get(author=alice.actor).rating == 2
    assert FeedbackVersion.objects.filter(feedback__author=alice.actor).count() == 2


def test_what_was_said_before_is_there(signed_in, queue, alice):
    first = items(queue)[0]
    give_feedback(first.run, alice, 3, "as I said", "overall")
    page = text_of(signed_in.get(f"/review/{queue.pk}", follow=True))
    assert 'id="rate-3" value="3" checked' in page
    assert "as I said</textarea>" in page


def test_only_the_queues_criteria_that_are_not_retired_are_asked(signed_in, queue, owner):
    add_criterion(owner, "Elsewhere")
    page = text_of(signed_in.get(f"/review/{queue.pk}", follow=True))
    assert "1 is rude, 5 is kind." in page
    assert "Elsewhere" not in page
    retire_criterion(Criterion.objects.get(key="tone"))
    assert "1 is rude" not in text_of(signed_in.get(f"/review/{queue.pk}", follow=True))


# ── Two at once, and leaving ───────────────────────────────────────────────
def run_out(item: ReviewItem) -> None:
    ReviewItem.objects.filter(pk=item.pk).update(reserved_until=Now() - timedelta(seconds=1))


def test_what_was_lost_while_one_typed_is_kept_and_it_says_who_has_it(signed_in, queue, alice, bob):
    first, second = items(queue)
    signed_in.get(f"/review/{queue.pk}")
    run_out(first)
    assert reserve_next(queue, bob) == first.pk
    answer = signed_in.post(address(first), {"rating": "5"}, headers=HTMX)
    page = text_of(answer)
    assert "bob has this one now." in page
    assert "is kept as your feedback." in page
    assert answer["HX-Push-Url"] == address(second)
    assert Feedback.objects.get(author=alice.actor).rating == 5
    assert items(queue)[0].state == "open"
    end_item(first, bob, ReviewItem.State.DONE)
    page = text_of(signed_in.post(address(first), {"rating": "4"}, follow=True))
    assert "bob did this one." in page
    assert items(queue)[0].ended_by == bob.actor


def test_a_ping_keeps_it_and_says_when_it_is_anothers(signed_in, queue, bob):
    first = items(queue)[0]
    signed_in.get(f"/review/{queue.pk}")
    run_out(first)
    with CaptureQueriesContext(connection) as queries:
        assert signed_in.post(f"{address(first)}/ping").status_code == 204
    assert len(queries) <= 6
    assert items(queue)[0].reserved_until > timezone.now()
    run_out(first)
    reserve_next(queue, bob)
    answer = signed_in.post(f"{address(first)}/ping")
    assert "bob has this one now." in text_of(answer)
    assert "hx-trigger" not in text_of(answer)


def test_stopping_frees_it_and_keeps_what_was_said(signed_in, queue, alice, bob):
    first = items(queue)[0]
    signed_in.get(f"/review/{queue.pk}")
    answer = signed_in.post(f"/review/{queue.pk}/stop", {"item": first.pk, "comment": "to be continued"})
    assert answer["Location"] == "/review"
    assert Feedback.objects.get().comment == "to be continued"
    assert client_of(bob).get(f"/review/{queue.pk}")["Location"] == address(first)
    headers = {"HX-Request": "true"}
    assert signed_in.post(f"/review/{queue.pk}/stop", headers=headers)["HX-Redirect"] == "/review"


def test_an_item_of_another_is_shown_with_a_word_on_it(signed_in, queue, bob):
    reserve_next(queue, bob)
    page = text_of(signed_in.get(address(items(queue)[0])))
    assert "bob has this one now. What you say is kept all the same." in page
    assert items(queue)[0].reserved_by == bob


def test_a_run_that_was_deleted_meanwhile_is_passed_over(signed_in, queue):
    first, second = items(queue)
    signed_in.get(f"/review/{queue.pk}")
    Run.objects.filter(pk=first.run_id).update(deleted_at=timezone.now())
    page = signed_in.get(address(first), follow=True)
    assert page.redirect_chain[-1][0] == address(second)
    assert "That run has been deleted." in text_of(page)
    answer = signed_in.post(address(first), {"rating": "4"}, follow=True)
    assert answer.redirect_chain[-1][0] == address(second)


def test_the_end_says_who_is_at_the_rest(signed_in, queue, bob):
    second = items(queue)[1]
    reserve_next(queue, bob)
    signed_in.get(f"/review/{queue.pk}")
    answer = signed_in.post(address(second), {"rating": "4"}, headers=HTMX)
    assert answer["HX-Push-Url"] == f"/review/{queue.pk}"
    page = text_of(answer)
    assert "Nothing is left for you just now." in page
    assert "bob" in page
    assert "Look again" in page

"""The panel beside the list: how the run went, what went wrong first, and nothing large read."""

import pytest
from django.utils import timezone

from runs.models import Event, NewEvent, Result, Run, give_feedback
from runs.models.criterion import add_criterion
from tests.pages.helpers import make_task, said

HTMX = {"HX-Request": "true", "HX-Target": "peek"}


def peek(client, run: Run) -> str:
    answer = client.get(f"/runs/{run.pk}/peek", headers=HTMX)
    assert answer.status_code == 200
    return answer.content.decode()


def over(owner, *events, **fields) -> Run:
    return make_task(owner, *events, **{"status": "succeeded", "finished_at": timezone.now(), **fields})


def add_result(run: Run, number: int, status: str = "failed", **fields) -> None:
    names = {"item_id": str(number), "item_name": f"item {number}", "evaluator_name": "response_match_score"}
    Result.objects.create(
        id=f"{number:064}", run=run, evaluator_type="builtin", status=status, **names, **fields
    )


def test_it_works(signed_in, owner):
    page = peek(
        signed_in, over(owner, said("What is up?", role="user"), said("All is **well**."), title="Ask")
    )
    assert '<h2 dir="auto">Ask</h2>' in page
    assert "<strong>well</strong>" in page
    assert "Its agent finished." in page


def test_a_rating_in_the_row_loads_it_again(signed_in, owner):
    run = over(owner)
    assert f'hx-trigger="htmx:afterRequest from:#rate-{run.pk}"' in peek(signed_in, run)


def test_it_hides_other_peoples_runs(strangers_client, owner):
    assert strangers_client.get(f"/runs/{over(owner).pk}/peek", headers=HTMX).status_code == 404


def test_a_failed_run_says_why_and_what_went_wrong_on_the_way(signed_in, owner):
    trouble = NewEvent(Event.Kind.ERROR, {"message": "the pod was evicted"})
    page = peek(signed_in, over(owner, trouble, status="failed", error="out of memory"))
    assert "out of memory" in page
    assert "the pod was evicted" in page


def test_failed_results_come_with_their_reasons(signed_in, owner):
    run = over(owner, kind="evaluation", failed_count=6, errored_count=1, passed_count=3)
    for number in range(6):
        add_result(run, number, score=0.25, threshold=0.5, details={"reason": f"reason {number}"})
    add_result(run, 7, "errored", error="429 from the provider")
    add_result(run, 8, "passed")
    page = peek(signed_in, run)
    assert "Of 10 results, 6 are below the threshold and 1 could not be judged." in page
    assert [f"reason {number}" in page for number in range(6)] == [True] * 5 + [False]
    assert "2 more" in page


def test_one_rates_by_criterion(signed_in, alice, owner):
    add_criterion(owner, "helpful", "Helpful")
    run = over(owner)
    give_feedback(run, alice, 4, criterion="helpful")
    page = peek(signed_in, run)
    assert 'name="criterion" value="helpful"' in page
    assert 'id="peek-rate-helpful-4" value="4" checked' in page
    assert 'id="peek-rate-4" value="4">' in page


def test_what_goes_on_is_not_rated_and_can_be_cancelled(signed_in, owner):
    run = make_task(owner)
    page = peek(signed_in, run)
    assert 'class="stars"' not in page
    assert f'href="/runs/{run.pk}/cancel"' in page


def test_the_run_before_is_a_link_to_compare(signed_in, owner):
    before, _, run = over(owner), over(owner, agent="another"), over(owner)
    assert f"/compare?runs={before.pk},{run.pk}" in peek(signed_in, run)
    assert "/compare" not in peek(signed_in, before)


def test_large_things_are_told_of_and_not_read(signed_in, owner, django_assert_max_num_queries):
    run = over(owner, said("x" * 300_000))
    add_result(run, 1, score=0.1, threshold=0.5, details={"reason": "no", "more": list(range(90_000))})
    Run.objects.filter(pk=run.pk).update(failed_count=1)
    with django_assert_max_num_queries(12):
        page = peek(signed_in, run)
    assert "A message of 300 kB." in page
    assert "agrees with the expected one to 10%" in page
    assert len(page) < 20_000


def test_the_address_says_what_is_beside_the_list(signed_in, owner):
    run = over(owner, title="Beside")
    page = signed_in.get(f"/?q=kind:task&peek={run.pk}").content.decode()
    assert 'class="page split has-peek"' in page
    assert f'id="peek" aria-label="Preview of the run" data-run="{run.pk}"' in page
    assert signed_in.get(f"/runs/{run.pk}/peek")["Location"] == f"/?peek={run.pk}"


@pytest.mark.parametrize("peeked", ["x", "01a1fe55-b8e4-7199-bcb7-8d1837c5314d", ""])
def test_a_run_that_there_is_not_is_no_panel(signed_in, owner, peeked):
    over(owner)
    answer = signed_in.get(f"/?peek={peeked}")
    assert answer.status_code == 200
    assert b"has-peek" not in answer.content


def test_words_of_strangers_are_text(signed_in, owner):
    evil = "<script>alert(1)</script>"
    run = over(owner, said(evil), title=evil, agent=evil, model=evil, status="failed", error=evil)
    assert "<script>" not in peek(signed_in, run)

"""Acting on many runs: the sheet counts, the confirmation counts again, the job shows how far it is."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from runs.models import BulkJob, Membership, Owner, ReviewItem, ReviewQueue, Run, User, give_feedback
from runs.worker.bulk import carry_on
from tests.pages.helpers import make_task

HTMX = {"HX-Request": "true", "HX-Target": "dialog"}


@pytest.fixture
def ended(make_run):
    def make(**fields: Any) -> Run:
        return make_run(**{"status": "succeeded", "finished_at": timezone.now(), **fields})

    return make


def ask(client: Client, action: str, **given: Any) -> str:
    answer = client.post("/bulk/ask", {"action": action, **({} if "id" in given else {"all": "1"}), **given})
    assert answer.status_code == 200
    return answer.content.decode()


def fields_of(sheet: str) -> dict[str, Any]:
    """What the form of the sheet sends along."""
    form = sheet[sheet.index('<form class="sheet-in"') :]
    found: dict[str, Any] = {}
    for name, value in re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', form):
        if name != "csrfmiddlewaretoken":
            found.setdefault(name, []).append(value.replace("&quot;", '"').replace("&lt;", "<"))
    return found


def confirm(client: Client, action: str, reason: str = "why", **given: Any) -> Any:
    return client.post("/bulk/start", {**fields_of(ask(client, action, **given)), "reason": reason})


def work_off() -> BulkJob:
    while carry_on("tests/1"):
        pass
    return BulkJob.objects.order_by("-id")[0]


# ── The sheet ──────────────────────────────────────────────────────────────
def test_it_says_how_many_and_why_the_others_stay(signed_in, alice, ended, make_run):
    ended()
    give_feedback(ended(), alice, 4)
    make_run()
    sheet = ask(signed_in, "delete", q="")
    assert "Delete 1 run?" in sheet
    assert "1 of 3 runs" in sheet
    assert "1 with feedback" in sheet
    assert "1 not over yet" in sheet
    assert Run.objects.filter(deleted_at=None).count() == 3


def test_the_filter_decides(signed_in, make_run):
    make_run(agent="helm")
    make_run(agent="k8s")
    assert "Cancel 1 run?" in ask(signed_in, "cancel", q="agent:helm")


def test_runs_that_were_chosen_are_meant_alone(signed_in, make_run):
    runs = [make_run() for _ in range(3)]
    sheet = ask(signed_in, "cancel", q="agent:whatever", id=[runs[0].pk, runs[1].pk])
    assert "Cancel 2 runs?" in sheet
    assert "2 runs, one by one" in sheet


def test_where_none_is_ticked_nothing_is_meant(signed_in, make_run):
    make_run()
    answer = signed_in.post("/bulk/ask", {"action": "cancel", "q": ""})
    assert answer.status_code == 422
    assert "No run is chosen" in answer.content.decode()


def test_all_of_the_filter_goes_before_what_is_ticked(signed_in, make_run):
    runs = [make_run() for _ in range(3)]
    assert "Cancel 3 runs?" in ask(signed_in, "cancel", q="", all="1", id=runs[0].pk)


def test_in_a_dialog_it_is_the_sheet_alone(signed_in, make_run):
    make_run()
    answer = signed_in.post("/bulk/ask", {"action": "cancel", "q": "", "all": "1"}, headers=HTMX)
    assert answer.content.strip().startswith(b"<form")


def test_where_none_can_be_there_is_nothing_to_confirm(signed_in, ended):
    ended()
    sheet = ask(signed_in, "cancel", q="")
    assert "None of 1 run can be cancelled" in sheet
    assert "<button" not in sheet[sheet.index('<form class="sheet-in"') :].partition("</form>")[0]


def test_a_mistake_in_the_filter_is_told(signed_in):
    answer = signed_in.post("/bulk/ask", {"action": "cancel", "q": "scroe:1", "all": "1"})
    assert answer.status_code == 422
    assert "scroe" in answer.content.decode()


@pytest.mark.parametrize("given", [{"action": "explode"}, {"action": "cancel", "id": "x"}, {}])
def test_what_cannot_be_read_is_refused(signed_in, given):
    answer = signed_in.post("/bulk/ask", given)
    assert answer.status_code == 400
    assert "action must be one of cancel" in answer.content.decode()


# ── Confirming ─────────────────────────────────────────────────────────────
def test_what_was_confirmed_is_done_and_recorded(signed_in, alice, ended):
    runs = [ended() for _ in range(3)]
    answer = confirm(signed_in, "delete", q="")
    job = work_off()
    assert answer["Location"] == f"/bulk/{job.pk}"
    assert (job.person, job.counted, job.done_count, job.reason) == (alice, 3, 3, "why")
    assert not Run.objects.filter(pk__in=[run.pk for run in runs], deleted_at=None).exists()


def test_another_number_by_then_is_asked_about_again(signed_in, ended):
    ended()
    sheet = fields_of(ask(signed_in, "delete", q=""))
    Run.objects.update(created_at=timezone.now() - timedelta(hours=1))
    ended(created_at=timezone.now() - timedelta(hours=1))
    answer = signed_in.post("/bulk/start", sheet)
    page = answer.content.decode()
    assert answer.status_code == 422
    assert "It was 1 when you were asked." in page
    assert "Delete 2 runs?" in page
    assert not BulkJob.objects.exists()
    assert signed_in.post("/bulk/start", fields_of(page)).status_code == 302
    assert work_off().done_count == 2


def test_a_run_that_was_made_after_the_count_is_neither_counted_nor_hit(signed_in, ended):
    ended()
    sheet = fields_of(ask(signed_in, "delete", q=""))
    later = ended()
    assert signed_in.post("/bulk/start", sheet).status_code == 302
    work_off()
    assert Run.objects.get(deleted_at=None) == later


def test_a_time_to_come_takes_in_nothing_more(signed_in, ended):
    ended()
    sheet = {**fields_of(ask(signed_in, "delete", q="")), "until": "2100-01-01T00:00:00Z"}
    assert signed_in.post("/bulk/start", sheet).status_code == 302
    assert BulkJob.objects.get().until <= timezone.now()


def test_sent_twice_it_is_one_job(signed_in, ended):
    ended()
    sheet = fields_of(ask(signed_in, "delete", q=""))
    first, second = (signed_in.post("/bulk/start", sheet)["Location"] for _ in range(2))
    assert first == second
    assert BulkJob.objects.count() == 1


def test_to_cancel_a_reason_is_needed(signed_in, make_run):
    make_run()
    answer = confirm(signed_in, "cancel", reason=" ", q="")
    assert answer.status_code == 422
    assert "This field is required." in answer.content.decode()
    assert not BulkJob.objects.exists()


def test_htmx_is_sent_to_the_job(signed_in, ended):
    ended()
    answer = signed_in.post("/bulk/start", fields_of(ask(signed_in, "retry", q="")), headers=HTMX)
    assert answer["HX-Redirect"] == f"/bulk/{BulkJob.objects.get().pk}"


def test_from_the_list_progress_takes_the_place_of_its_bar(signed_in, ended):
    ended()
    at_list = {**HTMX, "HX-Current-URL": "http://testserver/?q=is%3Afinal&columns=run&select=all"}
    answer = signed_in.post("/bulk/start", fields_of(ask(signed_in, "delete", q="")), headers=at_list)
    assert (answer["HX-Retarget"], answer["HX-Reswap"]) == ("#bulk", "outerHTML")
    poll = re.search(r'hx-get="([^"]+)" hx-trigger="every 1s"', answer.content.decode())[1]
    poll = poll.replace("&amp;", "&")
    assert signed_in.get(poll, headers=at_list).status_code == 204
    work_off()
    bar = signed_in.get(poll, headers=at_list).content.decode()
    assert "1 run deleted." in bar
    assert "Undo: restore 1" in bar
    assert "hx-trigger" not in bar
    assert 'data-list href="/?q=is%3Afinal&amp;columns=run"' in bar


def test_sent_twice_from_the_list_it_shows_the_same_job(signed_in, ended):
    ended()
    sheet = fields_of(ask(signed_in, "delete", q=""))
    at_list = {**HTMX, "HX-Current-URL": "http://testserver/"}
    for _ in range(2):
        answer = signed_in.post("/bulk/start", sheet, headers=at_list).content.decode()
        assert f"/bulk/{BulkJob.objects.get().pk}/progress" in answer


@pytest.mark.parametrize("gone", ["until", "job", "counted"])
def test_a_form_that_lacks_something_is_refused(signed_in, ended, gone):
    ended()
    sheet = fields_of(ask(signed_in, "delete", q=""))
    del sheet[gone]
    assert signed_in.post("/bulk/start", sheet).status_code == 400


# ── Review ─────────────────────────────────────────────────────────────────
def test_runs_are_sent_to_a_new_queue(signed_in, owner, ended):
    run = ended()
    sheet = {**fields_of(ask(signed_in, "review", q="")), "name": "Friday"}
    assert signed_in.post("/bulk/start", sheet).status_code == 302
    work_off()
    item = ReviewItem.objects.get()
    assert (item.run, item.queue.name, item.queue.owner) == (run, "Friday", owner)


def test_runs_are_sent_to_a_queue_that_is_there(signed_in, owner, ended):
    ended()
    queue = ReviewQueue.objects.create(owner=owner, name="Friday", created_by="user:1")
    sheet = fields_of(ask(signed_in, "review", q=""))
    signed_in.post("/bulk/start", {**sheet, "queue": queue.pk})
    work_off()
    assert ReviewItem.objects.get().queue == queue


def test_a_queue_is_needed(signed_in, ended):
    ended()
    answer = confirm(signed_in, "review", q="")
    assert answer.status_code == 422
    assert "Choose a queue above, or name a new one." in answer.content.decode()


def test_of_several_owners_those_that_do_not_go_into_the_queue_are_named(signed_in, alice, ended):
    other = Owner.objects.create(name="other")
    Membership.objects.create(user=alice, owner=other, role="reviewer")
    ended()
    ended(owner=other)
    sheet = {**fields_of(ask(signed_in, "review", q="")), "name": "Friday", "owner": other.pk}
    answer = signed_in.post("/bulk/start", sheet)
    assert answer.status_code == 422
    assert "1 of another owner than the queue" in answer.content.decode()


# ── Rights ─────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("role", "action", "status"),
    [("viewer", "review", 403), ("reviewer", "review", 200), ("reviewer", "delete", 403)]
    + [("operator", action, 200) for action in ("cancel", "retry", "delete", "review")],
)
def test_who_may(signed_in, alice, ended, role, action, status):
    ended()
    Membership.objects.update(role=role)
    assert signed_in.post("/bulk/ask", {"action": action, "q": "", "all": "1"}).status_code == status


def test_a_right_that_is_gone_by_then_is_asked_for_again(signed_in, ended):
    ended()
    sheet = fields_of(ask(signed_in, "delete", q=""))
    Membership.objects.update(role="viewer")
    assert signed_in.post("/bulk/start", sheet).status_code == 403


def test_a_stranger_counts_none_of_it(strangers_client, ended):
    run = ended()
    assert "No run matches" in ask(strangers_client, "delete", id=run.pk)


def test_anothers_job_is_not_there(signed_in, strangers_client, ended):
    ended()
    job = confirm(signed_in, "delete", q="")["Location"]
    for address in (job, f"{job}/progress"):
        assert strangers_client.get(address).status_code == 404
    for address in (f"{job}/stop", f"{job}/undo"):
        assert strangers_client.post(address).status_code == 404
    assert "Nothing yet." in strangers_client.get("/bulk").content.decode()


# ── Progress ───────────────────────────────────────────────────────────────
def test_the_page_follows_until_it_is_over(signed_in, ended):
    ended()
    address = confirm(signed_in, "delete", q="")["Location"]
    page = signed_in.get(address).content.decode()
    assert "waits for a worker" in page
    poll = re.search(r'hx-get="([^"]+)" hx-trigger="every 1s"', page)[1]
    assert signed_in.get(poll).status_code == 204
    work_off()
    part = signed_in.get(poll).content.decode()
    assert "1 run deleted." in part
    assert "hx-trigger" not in part


def test_a_poll_reads_the_job_alone(signed_in, ended):
    ended()
    address = confirm(signed_in, "delete", q="")["Location"]
    poll = re.search(r'hx-get="([^"]+)" hx-trigger', signed_in.get(address).content.decode())[1]
    with CaptureQueriesContext(connection) as queries:
        signed_in.get(poll)
    read = [query["sql"] for query in queries if "bulk_job" in query["sql"]]
    assert len(read) == 1
    assert len(queries) == 3  # with the session and its person


def test_why_some_were_left_is_shown(signed_in, ended):
    run = ended()
    sheet = fields_of(ask(signed_in, "delete", q=""))
    address = signed_in.post("/bulk/start", sheet)["Location"]
    give_feedback(run, User.objects.get(username="alice"), 5)
    work_off()
    page = signed_in.get(address).content.decode()
    assert "0 of 1 deleted." in page
    assert "1 with feedback" in page


def test_it_can_be_stopped(signed_in, ended):
    ended()
    address = confirm(signed_in, "delete", q="")["Location"]
    for _ in range(2):
        assert signed_in.post(f"{address}/stop")["Location"] == address
    work_off()
    assert Run.objects.filter(deleted_at=None).exists()
    assert "Stopped: 0 of 1 deleted." in signed_in.get(address).content.decode()


def test_a_deletion_can_be_undone(signed_in, ended):
    ended()
    address = confirm(signed_in, "delete", q="")["Location"]
    work_off()
    assert "Undo: restore 1" in signed_in.get(address).content.decode()
    undoing = {signed_in.post(f"{address}/undo")["Location"] for _ in range(2)}
    assert len(undoing) == 1
    work_off()
    assert Run.objects.filter(deleted_at=None).exists()
    assert "1 run restored." in signed_in.get(undoing.pop()).content.decode()
    assert "Undone" in signed_in.get(address).content.decode()


def test_past_the_grace_time_undo_is_not_offered(signed_in, ended, settings):
    ended()
    address = confirm(signed_in, "delete", q="")["Location"]
    work_off()
    settings.DELETE_GRACE_DAYS = 0
    assert "Undo" not in signed_in.get(address).content.decode()


def test_what_deleted_nothing_is_shown_where_one_undoes_it(signed_in, make_run):
    make_run()
    address = confirm(signed_in, "cancel", q="")["Location"]
    assert signed_in.post(f"{address}/undo")["Location"] == address


def test_ones_jobs_are_listed(signed_in, ended):
    ended()
    confirm(signed_in, "delete", q="kind:evaluation")
    work_off()
    page = signed_in.get("/bulk").content.decode()
    assert "1 run deleted." in page
    assert "kind:evaluation" in page
    assert signed_in.get("/bulk?before=nonsense").status_code == 200
    assert (
        "Nothing yet." in signed_in.get("/bulk?before=00000000-0000-7000-8000-000000000000").content.decode()
    )


def test_an_agents_tasks_are_named_when_one_retries(signed_in, owner):
    make_task(owner, status="succeeded", finished_at=timezone.now())
    assert "1 reported by agents, who alone can repeat them" in ask(signed_in, "retry", q="")

import json
from datetime import timedelta

import pytest
from django.utils import timezone

from runs.models import Run, Session, correction
from tests.pages.helpers import make_task, said

HTMX = {"HX-Request": "true"}
TABS = ("transcript", "results", "artifacts", "attempts", "timeline", "spec", "metadata", "raw")


@pytest.mark.parametrize("tab", TABS)
def test_it_works(signed_in, make_run, tab):
    run = make_run(title="Greenhouse")
    page = signed_in.get(f"/runs/{run.pk}?tab={tab}")
    assert page.status_code == 200
    assert page.context["tab"] == tab
    assert b"No worker is alive: manage.py worker starts one." in page.content


def test_another_persons_run_is_as_missing(strangers_client, make_run):
    run = make_run()
    addresses = ["", "/status", "/row", "/cancel", "/events/1", "/json/run", "/tree/spec"]
    missing = strangers_client.get("/runs/00000000-0000-7000-8000-000000000000")
    for address in addresses:
        answer = strangers_client.get(f"/runs/{run.pk}{address}")
        assert answer.status_code == 404
        assert len(answer.content) == len(missing.content)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"status": "failed", "error": "eval set: no cases"}, "eval set: no cases"),
        ({"status": "succeeded", "passed_count": 3}, "All 3 results passed."),
        (
            {
                "status": "succeeded",
                "passed_count": 1,
                "failed_count": 1,
                "errored_count": 2,
                "skipped_count": 1,
            },
            "Of 5 results, 1 is below the threshold, 2 could not be judged and 1 was skipped.",
        ),
        ({"status": "succeeded", "summary": {"trace_count": 0}}, "No traces were found"),
        ({"status": "succeeded", "summary": {"errors": ["span 3 is torn"]}}, "span 3 is torn"),
    ],
)
def test_it_says_in_a_sentence_how_it_is(signed_in, make_run, fields, sentence):
    run = make_run(finished_at=timezone.now(), started_at=timezone.now(), **fields)
    assert sentence in signed_in.get(f"/runs/{run.pk}").content.decode()


def test_a_silent_worker_is_shown_as_stale(signed_in, make_run):
    past = timezone.now() - timedelta(minutes=5)
    run = make_run(status="running", worker_id="w", claimed_at=past, lease_expires_at=past, started_at=past)
    assert "Stale" in signed_in.get(f"/runs/{run.pk}").content.decode()


def test_the_strip_is_204_while_nothing_changes_and_stops_when_final(signed_in, make_run):
    run = make_run()
    page = signed_in.get(f"/runs/{run.pk}")
    address = f"/runs/{run.pk}/status"
    assert signed_in.get(address, {"v": page.context["version"]}).status_code == 204
    Run.objects.filter(pk=run.pk).update(
        status="succeeded", finished_at=timezone.now(), updated_at=timezone.now()
    )
    strip = signed_in.get(address, {"v": page.context["version"]}, headers=HTMX)
    assert b"hx-trigger" not in strip.content
    assert "run-final" in strip["HX-Trigger-After-Settle"]
    assert b'hx-trigger="every' not in signed_in.get(f"/runs/{run.pk}").content


def test_secrets_of_the_spec_are_hidden_everywhere(signed_in, make_run, sample):
    spec = {**sample["spec"], "context": {"headers": {"Authorization": "Bearer hunter2"}}}
    run = make_run(spec=spec)
    for address in ("?tab=spec", "?tab=raw", "/json/spec", "/json/run", "/tree/spec?path=/context"):
        assert b"hunter2" not in signed_in.get(f"/runs/{run.pk}{address}").content


def test_a_large_spec_is_shown_by_branch_and_big_texts_by_their_beginning(signed_in, make_run, sample):
    inline = {"data": [{"n": number, "text": "x" * 50} for number in range(500)], "big": "y " * 1_000_000}
    spec = {**sample["spec"], "target": {"kind": "inline", "inline": inline}}
    run = make_run(spec=spec)
    page = signed_in.get(f"/runs/{run.pk}?tab=spec").content
    assert len(page) < 40_000
    branch = signed_in.get(f"/runs/{run.pk}/tree/spec?path=/target/inline", headers=HTMX).content.decode()
    assert "500 entries" in branch
    assert "2,000,000 characters" in branch
    assert len(branch) < 5_000
    window = signed_in.get(f"/runs/{run.pk}/tree/spec?path=/target/inline/data", headers=HTMX).content
    assert b"400 more" in window
    whole = signed_in.get(f"/runs/{run.pk}/json/spec?path=/target/inline/big")
    assert whole.content == inline["big"].encode()
    assert whole["Content-Disposition"].startswith("attachment")


def test_a_branch_has_a_page_of_its_own_without_script(signed_in, make_run):
    run = make_run()
    assert b"<!doctype html>" in signed_in.get(f"/runs/{run.pk}/tree/spec?path=/target").content
    assert signed_in.get(f"/runs/{run.pk}/tree/spec?path=/nothing").status_code == 404
    assert signed_in.get(f"/runs/{run.pk}/tree/nothing").status_code == 404


def test_base64_is_never_printed(signed_in, make_run, sample):
    picture = "data:image/png;base64," + "iVBORw0KGgo" * 1000
    spec = {**sample["spec"], "target": {"kind": "inline", "inline": {"picture": picture}}}
    run = make_run(spec=spec)
    branch = signed_in.get(f"/runs/{run.pk}/tree/spec?path=/target/inline", headers=HTMX).content
    assert b"iVBORw0KGgoiVBORw0KGgo" not in branch
    assert b"base64" in branch


def test_raw_json_is_what_the_api_says(signed_in, api, make_run):
    run = make_run()
    downloaded = json.loads(signed_in.get(f"/runs/{run.pk}/json/run").content)
    assert downloaded == api.get(f"/{run.pk}")[1]["data"]


def test_a_correction_is_shown_with_who_and_why(signed_in, alice, make_run):
    run = make_run(title="Wrong <b>name")
    with correction(alice.actor, "named the wrong cluster"):
        Run.objects.filter(pk=run.pk).update(title="Right name")
    page = signed_in.get(f"/runs/{run.pk}?tab=changes").content.decode()
    for words in ("alice", "named the wrong cluster", "Wrong &lt;b&gt;name", "Right name"):
        assert words in page


def test_a_task_has_no_spec_and_begins_with_its_transcript(signed_in, owner):
    run = make_task(owner, said("hello"), session=Session.objects.open(owner, "a2a", "chat"))
    page = signed_in.get(f"/runs/{run.pk}")
    assert page.context["tab"] == "transcript"
    assert b"?tab=spec" not in page.content
    assert signed_in.get(f"/runs/{run.pk}/json/spec").status_code == 404
    assert signed_in.get(f"/runs/{run.pk}?tab=raw").status_code == 200


def test_a_tab_that_is_not_there_is_the_first_one(signed_in, make_run):
    run = make_run()
    assert (
        signed_in.get(f"/runs/{run.pk}?tab=nonsense&from=x&after=%00".replace("%00", "y")).status_code == 200
    )


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"status": "queued"}, "Its agent has not begun yet."),
        ({"status": "running"}, "helm-agent is at it."),
        ({"status": "input_required"}, "Its agent waits for a person"),
        ({"status": "paused"}, "A person or a limit holds it."),
        ({"status": "succeeded"}, "Its agent finished."),
        ({"status": "failed", "error": "no quota"}, "no quota"),
        ({"status": "failed"}, "It failed without saying why."),
        ({"status": "cancelled"}, "It was stopped; what it had done until then is kept."),
    ],
)
def test_a_task_says_how_it_is_in_every_status(signed_in, owner, fields, sentence):
    ended = (
        {"finished_at": timezone.now()} if fields["status"] in ("succeeded", "failed", "cancelled") else {}
    )
    run = make_task(owner, **fields, **ended)
    page = signed_in.get(f"/runs/{run.pk}").content.decode()
    assert sentence in page


def test_a_deleted_run_is_as_missing_even_to_its_poll(signed_in, owner):
    run = make_task(owner, said("hello"))
    Run.objects.filter(pk=run.pk).update(deleted_at=timezone.now())
    for piece in ("", "/status", "/rail", "/outline", "/events/1/body"):
        assert signed_in.get(f"/runs/{run.pk}{piece}").status_code == 404


def test_the_title_puts_the_detail_first(signed_in, owner):
    run = make_task(owner, said("hello"), title="Upgrade <shop>")
    assert (
        "<title>Running: Upgrade &lt;shop&gt; · Runfolio</title>"
        in signed_in.get(f"/runs/{run.pk}").content.decode()
    )
    assert "<title>Artifacts: Upgrade" in signed_in.get(f"/runs/{run.pk}?tab=artifacts").content.decode()


def test_the_heads_buttons_and_the_title_go_with_the_state(signed_in, owner):
    run = make_task(owner, said("hello"), title="Upgrade")
    page = signed_in.get(f"/runs/{run.pk}")
    assert f'href="/runs/{run.pk}/cancel"' in page.content.decode()
    now = timezone.now()
    Run.objects.filter(pk=run.pk).update(status="succeeded", finished_at=now, updated_at=now)
    strip = signed_in.get(
        f"/runs/{run.pk}/status", {"v": page.context["version"]}, headers=HTMX
    ).content.decode()
    assert "<title>Succeeded: Upgrade · Runfolio</title>" in strip
    assert 'id="run-buttons" hx-swap-oob="true"' in strip
    assert f'href="/runs/{run.pk}/cancel"' not in strip


def test_a_poll_is_one_query_beside_who_asks(signed_in, owner, django_assert_num_queries):
    run = make_task(owner, said("hello"))
    version = signed_in.get(f"/runs/{run.pk}").context["version"]
    with django_assert_num_queries(4):  # the session, the person, their rights, the run
        assert signed_in.get(f"/runs/{run.pk}/status", {"v": version, "seen": 1}).status_code == 204


def test_a_long_error_is_cut_at_the_top_and_says_where_the_rest_is(signed_in, owner):
    run = make_task(owner, status="failed", error="It broke. " * 300, finished_at=timezone.now())
    strip = signed_in.get(f"/runs/{run.pk}/status").content.decode()
    assert "All of it is under Raw JSON." in strip
    assert strip.count("It broke.") < 60

import base64
import json
from datetime import timedelta

from django.utils import timezone

from runs.models import Event, NewEvent, Status, append_events
from runs.models.transition import finish
from tests.pages.helpers import answered, called, make_task, png, said

HTMX = {"HX-Request": "true"}


def transcript(client, run, query: str = "") -> str:
    answer = client.get(f"/runs/{run.pk}?tab=transcript{query}")
    assert answer.status_code == 200
    page = answer.content.decode()
    return page[page.index('<div id="transcript"') :]


def body(client, run, seq: int, query: str = "") -> str:
    """What is folded, as it comes when one unfolds it."""
    answer = client.get(f"/runs/{run.pk}/events/{seq}/body{query}", headers=HTMX)
    assert answer.status_code == 200
    return answer.content.decode()


def test_it_works(signed_in, owner):
    run = make_task(
        owner,
        said("List the releases", role="user", name="Marta"),
        called("helm_list", {"namespace": "shop"}),
        answered("helm_list", {"output": "checkout-api"}),
        said("There is **one**.", model="gpt", output_tokens=12),
    )
    page = transcript(signed_in, run)
    for words in (
        "Marta",
        "helm_list",
        "namespace=&#34;shop&#34;",
        "checkout-api",
        "<strong>one</strong>",
        "12 tokens",
    ):
        assert words in page
    assert page.count('<details class="call"') == 1


def test_a_call_and_its_result_find_each_other_by_id(signed_in, owner):
    run = make_task(
        owner,
        called("get", {"n": 1}, "a"),
        called("get", {"n": 2}, "b"),
        answered("get", "second", "b"),
        answered("get", "first", "a", is_error=True),
    )
    page = transcript(signed_in, run)
    assert page.index("n=1") < page.index("first") < page.index("n=2") < page.index("second")
    assert '<details class="call call-bad" id="c-1" open>' in page


def test_every_message_has_an_address(signed_in, owner):
    run = make_task(owner, said("one"), said("two", role="user"))
    page = transcript(signed_in, run)
    assert 'id="e-1"' in page
    assert 'href="#e-2"' in page


def test_texts_that_no_response_can_hold_are_shown_by_marks(signed_in, owner):
    run = make_task(
        owner,
        said("NUL \x00, lone \ud800, bell \x07"),
        called("x\x00\udfff", {"k\x00": "v\ud800"}),
        answered("x\x00\udfff", "out\x00put \ud83d"),
        NewEvent("odd\x00kind", {"a\x00": ["\udc00"]}),
        NewEvent(Event.Kind.ERROR, {"message": "broke \x00 \ud800"}),
        NewEvent(Event.Kind.STATE, {"from": "a\x00", "to": "\ud800"}),
        NewEvent(Event.Kind.MESSAGE, "not even an object \ud800"),
    )
    page = transcript(signed_in, run)
    assert "NUL ␀, lone �, bell ␇" in page
    assert "out␀put �" in page
    for seq in range(1, 8):
        assert signed_in.get(f"/runs/{run.pk}/events/{seq}").status_code == 200
    exact = json.loads(signed_in.get(f"/runs/{run.pk}/json/event-1").content)
    assert exact["parts"][0]["text"] == "NUL \x00, lone \ud800, bell \x07"


def test_what_agents_write_cannot_run_or_load(signed_in, owner):
    text = (
        "<script>alert(1)</script> <img src=x onerror=alert(1)> ![pixel](https://evil.example/p.png) "
        "[click](javascript:alert(1)) [ok](https://example.org)"
    )
    run = make_task(owner, said(text), called("t", {"a": "<script>"}), answered("t", "<img src=y>"))
    page = transcript(signed_in, run)
    assert "<script>" not in page
    assert "<img" not in page
    assert 'href="javascript' not in page
    assert 'rel="noopener noreferrer nofollow"' in page


def test_markdown_brings_no_style_attribute(signed_in, owner):
    run = make_task(owner, said("| a | b |\n| --- | ---: |\n| 1 | 2 |"))
    page = transcript(signed_in, run)
    assert "style=" not in page
    assert '<td class="num">2</td>' in page


def test_long_texts_show_their_beginning_and_a_way_to_the_rest(signed_in, owner):
    words = "word " * 4_000
    run = make_task(owner, said(words + "END"), answered("log", "line\n" * 4_000 + "END"))
    page = transcript(signed_in, run)
    assert "Show all 20,003 characters" in page
    assert "END" not in page
    assert "END" in signed_in.get(f"/runs/{run.pk}/events/1").content.decode()


def test_events_of_any_size_leave_the_page_small(signed_in, owner):
    run = make_task(
        owner,
        said("x" * 6_000_000),
        answered("dump", {"rows": [{"n": number, "v": "y" * 100} for number in range(50_000)]}),
        said("data:image/png;base64," + base64.b64encode(b"z" * 900_000).decode()),
    )
    page = transcript(signed_in, run)
    assert len(page) < 60_000
    assert "6.0 MB" in page
    assert "The rest is in the download" in body(signed_in, run, 1)
    assert "1,200,0" in page  # characters of base64, not the base64
    assert signed_in.get(f"/runs/{run.pk}/events/2").status_code == 200


def test_a_long_history_begins_at_its_end(signed_in, owner):
    run = make_task(owner, *(said(f"message {number}", role="user") for number in range(1, 121)))
    page = transcript(signed_in, run)
    assert "Events 71 to 120 of 120" in page
    assert "message 70<" not in page
    assert "message 1<" in transcript(signed_in, run, "&from=1")
    earlier = signed_in.get(f"/runs/{run.pk}?tab=transcript&before=21", headers=HTMX).content.decode()
    assert earlier.count("<article") == 20
    assert "<!doctype" not in earlier
    assert "Load earlier" not in earlier


def test_pictures_come_from_a_route_that_nothing_can_run_on(signed_in, strangers_client, owner):
    file = {"name": "a.png", "mimeType": "image/png", "bytes": base64.b64encode(png()).decode()}
    run = make_task(
        owner, NewEvent(Event.Kind.MESSAGE, {"parts": [{"kind": "file", "file": file}]}, role="agent")
    )
    address = f"/runs/{run.pk}/events/1/files/0"
    assert f'<img src="{address}?inline"' in transcript(signed_in, run)
    picture = signed_in.get(f"{address}?inline")
    assert picture.content == png()
    assert picture["Content-Type"] == "image/png"
    assert picture["Content-Disposition"].startswith("inline")
    assert picture["X-Content-Type-Options"] == "nosniff"
    assert picture["Content-Security-Policy"] == "sandbox; default-src 'none'"
    assert signed_in.get(f"/runs/{run.pk}/events/1/files/1").status_code == 404
    assert strangers_client.get(address).status_code == 404


def test_what_only_says_that_it_is_a_picture_is_a_download(signed_in, owner):
    page = base64.b64encode(b"<svg onload='alert(1)'/>").decode()
    parts = [
        {"kind": "file", "file": {"name": "a.png", "mimeType": "image/png", "bytes": page}},
        {"kind": "file", "file": {"name": "a.svg", "mimeType": "image/svg+xml", "bytes": page}},
        {
            "kind": "file",
            "file": {"name": "a.html", "mimeType": "text/html", "uri": f"data:text/html;base64,{page}"},
        },
    ]
    run = make_task(owner, NewEvent(Event.Kind.MESSAGE, {"parts": parts}, role="agent"))
    for number in range(3):
        file = signed_in.get(f"/runs/{run.pk}/events/1/files/{number}?inline")
        assert file["Content-Type"] == "application/octet-stream"
        assert file["Content-Disposition"].startswith("attachment")


def test_colours_of_a_terminal_are_kept(signed_in, owner):
    run = make_task(
        owner, answered("sh", "\x1b[31mred\x1b[0m \x1b[1;32mgreen\x1b[m \x1b[2Jplain\x1b]0;title\x07")
    )
    page = transcript(signed_in, run)
    assert '<span class="a-r">red</span>' in page
    assert '<span class="a-g">green</span> plain' in page


def test_the_number_of_queries_does_not_grow_with_the_events(signed_in, owner, django_assert_max_num_queries):
    few = make_task(owner, said("one"))
    many = make_task(owner, *(said(f"{number}") for number in range(50)))
    for run in (few, many):
        with django_assert_max_num_queries(10):
            transcript(signed_in, run)


def test_what_came_after_the_end_is_shown_as_it_was_sent(signed_in, owner):
    soon = timezone.now() + timedelta(minutes=1)
    run = make_task(owner, said("done"), status="succeeded", finished_at=soon)
    append_events(run, [said("one thing more"), NewEvent("tool_call", {"name": "rm"}, "agent")])

    page = signed_in.get(f"/runs/{run.pk}?tab=transcript").content.decode()

    assert "one thing more" in page
    assert page.count("This came after the end") == 1
    assert '<code class="name">rm</code>' in page


def test_a_message_that_is_not_all_searchable_says_so(signed_in, owner):
    run = make_task(owner, said("short"), said("word " * 20_000))

    page = signed_in.get(f"/runs/{run.pk}?tab=transcript").content.decode()

    assert page.count("only its beginning is found by a search") == 1


def test_what_a_window_shows_is_bounded_and_the_rest_is_a_step_away(signed_in, owner):
    turns = [
        event
        for n in range(12)
        for event in (
            said("why " * 75_000, role="user"),
            called("get", {"blob": "x " * 150_000}, str(n)),
            answered("get", "line\n" * 60_000, str(n)),
            said("because " * 40_000),
        )
    ]
    run = make_task(owner, *turns)
    answer = signed_in.get(f"/runs/{run.pk}?tab=transcript")
    assert len(answer.content) < 100_000
    page = answer.content.decode()
    assert "Load earlier" in page
    assert "to 48 of 48" in page
    assert "Show all 320,000 characters" in page
    assert '<code class="name">get</code>' in page


def test_a_window_costs_a_constant_number_of_queries(signed_in, owner, django_assert_max_num_queries):
    small = make_task(owner, said("one"))
    large = make_task(owner, *(said("x " * 100_000) for _ in range(60)))
    for run in (small, large):
        with django_assert_max_num_queries(8):
            signed_in.get(f"/runs/{run.pk}?tab=transcript")


def test_a_folded_call_brings_what_it_holds_when_it_is_unfolded(signed_in, owner):
    run = make_task(owner, called("get", {"n": "y" * 400}), answered("get", "z" * 900))
    page = transcript(signed_in, run)
    assert "zzz" not in page
    assert f'hx-get="/runs/{run.pk}/events/1/body?result=2" hx-trigger="toggle once"' in page
    held = body(signed_in, run, 1, "?result=2")
    assert "Arguments" in held
    assert "z" * 900 in held.replace("⟨900 characters of base64⟩", "z" * 900)
    assert signed_in.get(f"/runs/{run.pk}/events/9/body").status_code == 404


def test_a_text_that_is_cut_shows_all_of_itself_in_place(signed_in, owner):
    parts = [{"kind": "text", "text": "first " * 2_000}, {"kind": "text", "text": "second " * 2_000 + "END"}]
    run = make_task(owner, NewEvent(Event.Kind.MESSAGE, {"parts": parts}, role="agent"))
    page = transcript(signed_in, run)
    assert f'hx-get="/runs/{run.pk}/events/1/body?part=1"' in page
    whole = body(signed_in, run, 1, "?part=1")
    assert "END" in whole
    assert "first" not in whole


def test_results_take_the_form_that_reads_best(signed_in, owner):
    diff = "--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n same\n-old <b>\n+new\n"
    rows = [{"name": f"pod-{n}", "restarts": n} for n in range(60)]
    run = make_task(
        owner,
        answered("diff", diff, "1"),
        answered("csv", "name,restarts\npod-1,3\npod-2,4\n", "2"),
        answered("list", rows, "3"),
        answered("json", '{"deep": {"er": [1, 2, true]}}', "4"),
        answered("prose", "One, two.\nThree, four.\nFive, six.", "5"),
        answered("nothing", "", "6"),
    )
    assert "<del>-old &lt;b&gt;</del><ins>+new</ins>" in body(signed_in, run, 1)
    assert '<td class="num" dir="auto">4</td>' in body(signed_in, run, 2)
    table = body(signed_in, run, 3)
    assert '<th scope="col" class="num">restarts</th>' in table
    assert "50 of 60 rows" in table
    assert '<span class="j-k">&quot;deep&quot;</span>' in body(signed_in, run, 4)
    assert "<table" not in body(signed_in, run, 5)
    assert "empty" in body(signed_in, run, 6)


def test_large_json_in_a_result_opens_by_branch(signed_in, owner):
    run = make_task(owner, answered("get", {"rows": {f"k{n}": {"v": "x" * 50} for n in range(500)}}))
    held = body(signed_in, run, 1)
    assert f'hx-get="/runs/{run.pk}/tree/event-1?path=/result/rows"' in held
    branch = signed_in.get(f"/runs/{run.pk}/tree/event-1?path=/result/rows", headers=HTMX).content.decode()
    assert "400 more" in branch


def test_a_sound_is_played_and_what_only_says_so_is_a_download(signed_in, owner):
    wav = b"RIFF\x24\x00\x00\x00WAVEfmt "
    parts = [
        {
            "kind": "file",
            "file": {"name": "a.wav", "mimeType": "audio/x-wav", "bytes": base64.b64encode(data).decode()},
        }
        for data in (wav, b"<html>")
    ]
    run = make_task(owner, NewEvent(Event.Kind.MESSAGE, {"parts": parts}, role="agent"))
    address = f"/runs/{run.pk}/events/1/files"
    page = signed_in.get(f"/runs/{run.pk}?tab=transcript")
    assert f'<audio controls preload="none" src="{address}/0?inline"' in page.content.decode()
    assert "media-src 'self'" in page["Content-Security-Policy"]
    assert signed_in.get(f"{address}/0?inline")["Content-Type"] == "audio/wav"
    other = signed_in.get(f"{address}/1?inline")
    assert other["Content-Type"] == "application/octet-stream"
    assert other["Content-Disposition"].startswith("attachment")


def test_a_large_picture_is_shown_though_its_bytes_were_not_read(signed_in, owner):
    data = base64.b64encode(png() + b"\x00" * 200_000).decode()
    for file in ({"bytes": data}, {"uri": f"data:image/png;base64,{data}"}):
        part = {"kind": "file", "file": {"name": "a.png", "mimeType": "image/png", **file}}
        run = make_task(owner, NewEvent(Event.Kind.MESSAGE, {"parts": [part]}, role="agent"))
        page = transcript(signed_in, run)
        assert f'<img src="/runs/{run.pk}/events/1/files/0?inline"' in page
        assert "200 kB" in page
        assert data[:60] not in page
        assert signed_in.get(f"/runs/{run.pk}/events/1/files/0?inline")["Content-Type"] == "image/png"


def test_newer_events_come_behind_the_last_and_nothing_is_204(signed_in, owner):
    run = make_task(owner, said("one"), said("two"))
    assert signed_in.get(f"/runs/{run.pk}?tab=transcript&after=2", headers=HTMX).status_code == 204
    append_events(run, [said("three")])
    piece = signed_in.get(f"/runs/{run.pk}?tab=transcript&after=2", headers=HTMX).content.decode()
    assert 'id="e-3"' in piece
    assert 'id="e-2"' not in piece
    assert 'name="seen" value="3"' in piece


def test_the_poll_tells_how_many_are_new_without_inserting_them(signed_in, owner):
    run = make_task(owner, said("one"))
    page = signed_in.get(f"/runs/{run.pk}?tab=transcript")
    append_events(run, [said("secretly new"), said("and another")])
    poll = signed_in.get(
        f"/runs/{run.pk}/status", {"v": page.context["version"], "seen": 1}, headers=HTMX
    ).content.decode()
    assert ">2 new</a>" in poll
    assert 'id="news" hx-swap-oob="true"' in poll
    assert "secretly" not in poll


def test_the_outline_is_of_the_whole_run_and_bounded(signed_in, owner):
    events = [said(f"question {n}", role="user") for n in range(400)]
    run = make_task(owner, *events, answered("break", "boom", is_error=True), *(said("x") for _ in range(60)))
    page = signed_in.get(f"/runs/{run.pk}?tab=transcript").content.decode()
    assert f'hx-get="/runs/{run.pk}/outline?from=' in page
    outline = signed_in.get(f"/runs/{run.pk}/outline?from=412&to=461", headers=HTMX).content.decode()
    assert 'href="?tab=transcript&amp;from=1#e-1"' in outline
    assert 'href="#e-461"' in outline
    assert "break" in outline
    assert outline.count("<li>") <= 160


def test_the_note_of_the_end_itself_is_no_late_write(signed_in, owner):
    run = make_task(owner, said("Done."))
    finish(run, Status.SUCCEEDED)
    assert "This came after the end" not in transcript(signed_in, run)


def test_an_event_without_a_payload_is_no_value_that_is_too_large(signed_in, owner):
    page = transcript(signed_in, make_task(owner, NewEvent("note", None)))
    assert "note" in page
    assert "big-val" not in page


def test_a_long_word_is_not_taken_for_base64(signed_in, owner):
    page = transcript(signed_in, make_task(owner, said("Donaudampfschifffahrt" * 40)))
    assert "of base64" not in page
    assert "Donaudampfschifffahrt" * 40 in page


def test_a_result_too_large_to_read_belongs_to_the_call_that_waits_and_is_not_called_fine(signed_in, owner):
    run = make_task(owner, called("dump", {"n": 1}), answered("dump", "many words " * 250_000))
    finish(run, Status.SUCCEEDED)
    run.refresh_from_db()
    page = transcript(signed_in, run)
    assert "no result" not in page
    assert "2.8 MB" in page
    assert 'class="sr">ok' not in page
    assert "body?result=2" in page

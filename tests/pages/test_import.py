"""The page that takes an export in."""

import gzip
from pathlib import Path

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from runs.models import FileNamespace, Membership, Owner, Run
from tests.importers.test_openhands import write_conversation, zipped
from tests.pages.helpers import make_task, said
from tests.transfer.files import OTHER, RUN, a_file, an_event, exported


def post(client, owner, data: bytes, name: str = "runs.jsonl"):
    return client.post("/import", {"file": SimpleUploadedFile(name, data), "owner": owner.pk})


def test_it_works(signed_in, owner):
    page = post(signed_in, owner, a_file(an_event(), run={"title": "from there"}))
    assert page.status_code == 200
    assert "1 run imported" in page.content.decode()
    assert "from there" in signed_in.get(f"/runs/{RUN}").content.decode()


def test_a_gzipped_file_is_understood(signed_in, owner):
    assert b"1 run imported" in post(signed_in, owner, gzip.compress(a_file()), "runs.jsonl.gz").content


def test_a_file_on_disk_is_streamed(signed_in, owner, settings):
    settings.FILE_UPLOAD_MAX_MEMORY_SIZE = 100
    assert b"1 run imported" in post(signed_in, owner, a_file(an_event())).content


def test_a_second_time_it_says_that_all_is_there(signed_in, owner, alice):
    make_task(owner, said("hello"))
    page = post(signed_in, owner, exported(alice)).content.decode()
    assert "0 runs imported" in page
    assert "<dt>There already</dt><dd>1</dd>" in page


def test_a_broken_file_is_told_loudly_with_its_line(signed_in, owner):
    data = b"\n".join([*a_file(an_event()).splitlines()[:2], b"{"])
    page = post(signed_in, owner, data)
    assert page.status_code == 200
    assert "The file is not whole" in page.content.decode()
    assert '<td class="num">3</td>' in page.content.decode()


def test_hostile_words_do_not_break_the_page(signed_in, owner):
    data = a_file() + b'{"record": "<script>\\ud800\\u0000</script>"}\n'
    page = post(signed_in, owner, data, "<b>\u202e.jsonl")
    assert page.status_code == 200
    assert b"<script>\xef" not in page.content


def test_without_a_file_it_says_what_to_do(signed_in, owner):
    page = signed_in.post("/import", {"owner": owner.pk})
    assert page.status_code == 422
    assert "Choose a file that Runfolio exported" in page.content.decode()


def test_a_viewer_may_not(signed_in, alice, owner):
    Membership.objects.filter(user=alice).update(role="viewer")
    assert signed_in.get("/import").status_code == 403
    assert post(signed_in, owner, a_file()).status_code == 403


def test_nobody_imports_for_another_owner(signed_in, owner):
    elsewhere = Owner.objects.create(name="elsewhere")
    page = post(signed_in, elsewhere, a_file(run={"id": OTHER}))
    assert page.status_code == 422
    assert not Run.objects.filter(pk=OTHER).exists()


def test_an_operator_adds_no_criteria(signed_in, alice, owner):
    Membership.objects.filter(user=alice).update(role="operator")
    lines = a_file().splitlines()
    criterion = b'{"record":"criterion","key":"tone","label":"Tone","created_at":"2026-11-01T12:00:00Z"}'
    page = post(signed_in, owner, b"\n".join([lines[0], criterion, *lines[1:]]))
    assert "only an admin of platform adds criteria" in page.content.decode()
    assert not owner.criteria.exists()


# ── Other systems' files ───────────────────────────────────────────────────
TRACE = (Path(__file__).resolve().parents[2] / "samples" / "trace.json").read_bytes()


@pytest.mark.parametrize("data", [TRACE, gzip.compress(TRACE)])
def test_traces_become_runs(signed_in, owner, data):
    page = post(signed_in, owner, data, "trace.json").content.decode()
    assert "<dt>Traces</dt><dd>2</dd>" in page
    assert Run.objects.count() == 2


def test_conversations_come_as_an_archive(signed_in, owner, tmp_path):
    write_conversation(tmp_path)
    page = post(signed_in, owner, zipped(tmp_path).getvalue(), "mine.zip").content.decode()
    assert "<dt>Conversations</dt><dd>1</dd>" in page
    assert 'href="/sessions"' in page


def test_conversations_belong_to_the_chosen_owner(signed_in, owner, stranger, tmp_path):
    write_conversation(tmp_path)
    elsewhere = stranger.memberships.get().owner
    assert post(signed_in, elsewhere, zipped(tmp_path).getvalue(), "mine.zip").status_code == 422
    assert not FileNamespace.objects.exists()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"PK\x03\x04 and nothing more", "it is no .zip file"),
        (b"PK\x05\x06" + bytes(18), "there is no conversation in it"),
        (b'{"resourceSpans": [}', "nothing more of it is read"),
        (b'{"resourceSpans": []}', "there is no trace in it"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(signed_in, owner, data, reason):
    page = post(signed_in, owner, data, "<b>.zip")
    assert page.status_code == 200
    assert reason in page.content.decode()
    assert b"<b>.zip" not in page.content


@pytest.mark.parametrize(
    "data", [b"\x89PNG\r\n\x1a\n", b"<!doctype html>", b"not a zip", gzip.compress(b"id,title")]
)
def test_a_file_of_another_kind_is_refused_in_the_form(signed_in, owner, data):
    page = post(signed_in, owner, data, "mine.zip")
    assert page.status_code == 422
    assert "This is nothing that can be imported. Choose a file" in page.content.decode()


def test_an_archive_that_unpacks_to_too_much_is_refused(signed_in, owner, settings, tmp_path):
    settings.MAX_BODY_BYTES = 1000
    (tmp_path / "base_state.json").write_bytes(b" " * 20_000)
    page = post(signed_in, owner, zipped(tmp_path).getvalue(), "mine.zip").content.decode()
    assert "may hold 10,000" in page

import json
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from runs.models import Membership, Owner, Run
from tests.conftest import ROOT

TRACE = (ROOT / "samples" / "trace.json").read_bytes()
EVAL_SET = (ROOT / "samples" / "eval_set.json").read_bytes()


def file(content: bytes, name: str = "trace.json") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, content, "application/json")


@pytest.fixture
def send(signed_in, owner):
    def post(**fields: Any):
        form = {
            "traces": file(TRACE), "trajectory": "on", "match": "EXACT", "response": "on",
            "threshold": "0.7", "owner": owner.pk, **fields,
        }  # fmt: skip
        return signed_in.post("/submit", {key: value for key, value in form.items() if value is not None})

    return post


def test_it_works(send):
    answer = send(eval_set=file(EVAL_SET, "set.json"), session="tuning")
    run = Run.objects.get()
    assert answer["Location"] == f"/runs/{run.pk}"
    assert run.full_spec["target"]["inline"] == json.loads(TRACE)
    assert run.full_spec["evalSet"] == json.loads(EVAL_SET)
    assert [one["name"] for one in run.full_spec["evalConfig"]["evaluators"]] == [
        "tool_trajectory_avg_score",
        "response_match_score",
    ]
    assert run.session.key == "tuning"


def test_each_file_becomes_a_run(send):
    answer = send(traces=[file(TRACE), file(TRACE, "second.json")])
    assert answer["Location"] == "/"
    assert Run.objects.count() == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "is not JSON"),
        (b"[NaN]", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[1, 2]", "is not a JSON object"),
        (b'{"hello": 1}', "trace.json:"),
        (b'{"data": []}', "there is no trace in it"),
        (b"", "empty"),
    ],
)
def test_a_file_that_is_no_trace_is_refused_beside_its_field(send, content, words):
    answer = send(traces=file(content))
    assert answer.status_code == 422
    page = answer.content.decode()
    assert words in page[page.index("id_traces_error") :][:400]
    assert not Run.objects.exists()


def test_one_bad_file_of_several_submits_none(send):
    answer = send(traces=[file(TRACE), file(b'{"hello": 1}', "second.json")])
    assert answer.status_code == 422
    assert b"second.json:" in answer.content
    assert not Run.objects.exists()


def test_an_eval_set_that_is_not_json_is_said_beside_its_own_field(send):
    answer = send(eval_set=file(b"nonsense"))
    assert b"id_eval_set_error" in answer.content
    assert b"id_traces_error" not in answer.content


def test_an_evaluator_is_needed(send):
    answer = send(trajectory=None, response=None)
    assert answer.status_code == 422
    assert b"Choose at least one evaluator." in answer.content


def test_a_file_is_needed(send):
    assert b"Choose a trace file." in send(traces=None).content


def test_another_owner_cannot_be_written_to(send, stranger):
    other = Membership.objects.get(user=stranger).owner
    assert send(owner=other.pk).status_code == 422
    assert not Run.objects.exists()


def test_whoever_has_several_owners_chooses(signed_in, alice):
    second = Owner.objects.create(name="second")
    Membership.objects.create(user=alice, owner=second, role="admin")
    page = signed_in.get("/submit").content.decode()
    assert '<select name="owner"' in page


def test_a_file_with_one_export_a_line_becomes_one_run(send):
    block = json.loads(TRACE)["resourceSpans"]
    lines = b"\n".join(json.dumps({"resourceSpans": [one]}).encode() for one in [*block, *block])

    send(traces=file(lines, "export.jsonl"))

    assert Run.objects.get().full_spec["target"]["inline"] == {"resourceSpans": [*block, *block]}


def test_a_line_that_is_no_json_is_named(send):
    answer = send(traces=file(b'{"resourceSpans": []}\n{"resourceSpans": [}\n', "export.jsonl"))

    assert answer.status_code == 422
    assert "line 2" in answer.content.decode()

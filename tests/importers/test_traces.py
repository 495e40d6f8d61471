"""`manage.py import traces`: files of traces, as exporters and collectors write them."""

import gzip
import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from runs.importers.traces import take
from runs.models import Owner, Run
from runs.models.span import Trace

SAMPLE = Path(__file__).resolve().parents[2] / "samples" / "trace.json"


def otlp(number: int = 1, **attributes: Any) -> dict[str, Any]:
    """A trace of one model call."""
    said = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-5", **attributes}
    span = {
        "traceId": f"{number:032x}",
        "spanId": f"{number:016x}",
        "name": "chat gpt-5",
        "startTimeUnixNano": "1760000000000000000",
        "endTimeUnixNano": "1760000001000000000",
        "attributes": [{"key": key, "value": {"stringValue": value}} for key, value in said.items()],
    }
    return {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}


def run_it(*files: Path) -> str:
    out = io.StringIO()
    call_command("import", "traces", *map(str, files), stdout=out)
    return out.getvalue()


def run_damaged(file: Path) -> str:
    out = io.StringIO()
    with pytest.raises(CommandError, match="Not all of it is here"):
        call_command("import", "traces", str(file), stdout=out)
    return out.getvalue()


def test_it_works(owner: Owner) -> None:
    assert "Taken: " in run_it(SAMPLE)
    runs = Run.objects.all()
    assert {run.status for run in runs} == {"succeeded"}
    assert all(run.event_count > 1 for run in runs)


def test_a_byte_order_mark_is_passed_over(owner: Owner, tmp_path: Path) -> None:
    for number, text in enumerate([json.dumps(otlp(1)), json.dumps(otlp(2), indent=1)]):
        file = tmp_path / f"{number}.json"
        file.write_text(text, "utf-8-sig")
        assert "Taken: 1 traces" in run_it(file)


def test_lines_of_documents_are_read_one_by_one(owner: Owner, tmp_path: Path) -> None:
    file = tmp_path / "spans.jsonl.gz"
    file.write_bytes(gzip.compress(b"".join(json.dumps(otlp(n)).encode() + b"\n" for n in range(1, 6))))
    assert "Taken: 5 traces, 5 spans." in run_it(file)
    assert Run.objects.count() == 5


def test_jaegers_spans_keep_what_they_say(owner: Owner, tmp_path: Path) -> None:
    tags = [
        {"key": "gen_ai.operation.name", "type": "string", "value": "chat"},
        {"key": "gen_ai.request.model", "type": "string", "value": "gpt-5"},
        {"key": "gen_ai.usage.input_tokens", "type": "int64", "value": 7},
        {"key": "otel.status_code", "type": "string", "value": "ERROR"},
    ]
    span = {
        "traceID": "ab" * 16,
        "spanID": "cd" * 8,
        "operationName": "chat",
        "processID": "p1",
        "startTime": 1760000000000000,
        "duration": 5000,
        "tags": tags,
        "logs": [],
    }
    trace = {"traceID": "ab" * 16, "spans": [span], "processes": {"p1": {"serviceName": "weather"}}}
    (tmp_path / "jaeger.json").write_text(json.dumps({"data": [trace]}, indent=2))
    run_it(tmp_path / "jaeger.json")
    run = Run.objects.get()
    assert (run.status, run.agent, run.model, run.input_tokens) == ("failed", "weather", "gpt-5", 7)


def test_done_again_it_changes_nothing(owner: Owner) -> None:
    run_it(SAMPLE)
    before = list(Run.objects.values())
    assert "Taken: nothing." in run_it(SAMPLE)
    assert list(Run.objects.values()) == before


def test_a_trace_without_an_agent_is_told(owner: Owner, tmp_path: Path) -> None:
    document = otlp()
    document["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["attributes"] = []
    (tmp_path / "a.json").write_text(json.dumps(document))
    assert "1 traces with nothing of an agent" in run_it(tmp_path / "a.json")
    assert Trace.objects.get().state == Trace.State.WAITING


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "nothing more of it is read"),
        (b"not json", "nothing more of it is read"),
        (b"{}", "there is no trace in it"),
        (b'{"data": 5}', "expected a list under data"),
        (b"[" * 100_000, "nested more than"),
        (gzip.compress(b"{}", mtime=0)[:-9], "nothing more of it is read"),
    ],
)
def test_what_is_no_trace_is_told(owner: Owner, tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    out = io.StringIO()
    with pytest.raises(CommandError, match="Not all of it is here"):
        call_command("import", "traces", str(tmp_path / "a.json"), stdout=out)
    assert reason in out.getvalue()


def test_what_stands_before_a_broken_line_is_taken(owner: Owner, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(json.dumps(otlp()).encode() + b"\n{broken\n")
    with pytest.raises(CommandError):
        run_it(tmp_path / "a.jsonl")
    assert Run.objects.count() == 1


def test_more_than_it_may_have_is_not_read(owner: Owner) -> None:
    file = io.BytesIO(gzip.compress(b'{"data": [' + b" " * 10_000 + b"]}"))
    reports = list(take(file, owner, "a.json.gz", most=5_000))
    assert reports[-1].problems == [("a.json.gz", "nothing more of it is read: it has more than 5,000 bytes")]


def test_a_file_that_is_not_there_is_named(owner: Owner) -> None:
    with pytest.raises(CommandError, match=r"nothing\.json cannot be read"):
        run_it(Path("nothing.json"))
    with pytest.raises(CommandError, match="~nobody-of-this-name/a cannot be read"):
        run_it(Path("~nobody-of-this-name/a"))


def test_a_trace_keeps_its_spans_where_log_records_tell_of_it_too(owner: Owner, tmp_path: Path) -> None:
    document = otlp()
    record = {
        "traceId": f"{1:032x}",
        "spanId": f"{1:016x}",
        "timeUnixNano": "1760000000500000000",
        "attributes": [{"key": "event.name", "value": {"stringValue": "gen_ai.user.message"}}],
        "body": {"kvlistValue": {"values": [{"key": "content", "value": {"stringValue": "How are you?"}}]}},
    }
    document["resourceLogs"] = [{"scopeLogs": [{"logRecords": [record]}]}]
    (tmp_path / "a.json").write_text(json.dumps(document))
    said = run_it(tmp_path / "a.json")
    assert "Taken: 1 traces, 1 spans." in said
    assert "There already" not in said
    assert Trace.objects.get().span_count == 1
    assert Run.objects.get().model == "gpt-5"


def test_spans_of_a_trace_on_two_lines_make_one_run(owner: Owner, tmp_path: Path) -> None:
    first, second = otlp(), otlp()
    span = first["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    span.update(spanId="ef" * 8, attributes=[])
    (tmp_path / "a.jsonl").write_text(f"{json.dumps(first)}\n{json.dumps(second)}\n")
    said = run_it(tmp_path / "a.jsonl")
    assert "Taken: 1 traces, 2 spans.\n" in said
    assert "There already" not in said
    assert "nothing of an agent" not in said
    assert Run.objects.count() == 1


def test_lines_share_a_transaction(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[int] = []
    monkeypatch.setattr("runs.importers.traces._take", lambda _, arrivals, __: batches.append(len(arrivals)))
    list(take(io.BytesIO(b"\n".join(json.dumps(otlp(n)).encode() for n in range(1, 251))), owner, "a.jsonl"))
    assert batches == [100, 100, 50]


def test_spans_of_jaegers_without_ids_are_told(owner: Owner, tmp_path: Path) -> None:
    trace = {"traceID": "ab" * 16, "spans": [{"operationName": "lost"}], "processes": {}}
    (tmp_path / "a.json").write_text(json.dumps({"data": [trace]}))
    assert "1 spans: invalid trace or span id" in run_damaged(tmp_path / "a.json")


def test_a_line_that_unpacks_to_very_much_is_not_unpacked(owner: Owner) -> None:
    file = io.BytesIO(gzip.compress(b"[" + b" " * 2**25))
    tracemalloc.start()
    reports = list(take(file, owner, "a.json.gz", most=5_000))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "more than 5,000 bytes" in reports[-1].problems[0][1]
    assert most < 2**22

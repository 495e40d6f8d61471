"""The forms of documents: lines, lists, traces without an envelope, logs without spans."""

import json

import pytest

from runs.traces import TraceError, group_turns, read_document, read_traces
from tests.traces.spans import TRACE_ID, export, jaeger, jaeger_span, log, span
from tests.traces.told import ANSWER, QUESTION, only_turn


def test_a_file_with_an_export_on_each_line():
    lines = "\n".join(json.dumps(export(span(number))) for number in (1, 2))
    (trace,) = read_traces(read_document(f"{lines}\n".encode()))
    assert len(trace.spans) == 2


def test_lines_of_spans_and_of_logs_belong_together():
    logs = {"resourceLogs": [log("gen_ai.user.message", {"content": QUESTION}, 1)]}
    said = {"gen_ai.operation.name": "chat"}
    lines = "\n".join(json.dumps(one) for one in (export(span(1, attributes=said)), logs))
    assert only_turn(read_document(lines.encode())).user_text == QUESTION


def test_an_ordinary_document_is_read_as_it_is():
    assert read_document(json.dumps(export(span(1)), indent=1).encode()) == export(span(1))


@pytest.mark.parametrize("text", ["", "nonsense", '{"a": 1', "[1,\n2", "[" * 100_000])
def test_what_is_no_json_is_a_value_error(text):
    with pytest.raises(ValueError):
        read_document(text.encode())


def test_a_broken_line_is_named():
    with pytest.raises(TraceError, match="line 2 is not JSON"):
        read_document(b'{"resourceSpans": []}\n{"resourceSpans": [\n')


def test_a_list_of_exports_is_one_document():
    (trace,) = read_traces([export(span(1)), export(span(2, parent=1))])
    assert trace.roots == [f"{1:016x}"]


def test_jaegers_trace_without_its_envelope():
    (trace,) = jaeger(jaeger_span(1))["data"]
    assert [found.trace_id for found in read_traces(trace)] == [TRACE_ID]
    assert [found.trace_id for found in read_traces([trace])] == [TRACE_ID]


def test_jaegers_booleans_may_be_texts():
    raw = jaeger_span(1)
    raw["tags"].append({"key": "error", "type": "bool", "value": "true"})
    (found,) = read_traces(jaeger(raw))[0].spans.values()
    assert found.status == "error"


def conversation(*records):
    """Logs without spans; each record's time is its place."""
    blocks = []
    for at, block in enumerate(records, 1):
        block["scopeLogs"][0]["logRecords"][0]["timeUnixNano"] = str(at)
        blocks.append(block)
    return {"resourceLogs": blocks}


def test_logs_alone_tell_the_calls_whose_spans_they_name():
    document = conversation(
        log("gen_ai.user.message", {"content": QUESTION}, 7),
        log("gen_ai.choice", {"message": {"content": ANSWER}}, 7),
    )
    turn = only_turn(document)
    assert (turn.span_id, turn.user_text, turn.final_text) == (f"{7:016x}", QUESTION, ANSWER)


def test_logs_alone_without_span_ids_are_told_apart_by_their_choices():
    document = conversation(
        log("gen_ai.user.message", {"content": QUESTION}),
        log("gen_ai.choice", {"message": {"content": ANSWER}}),
        log("gen_ai.user.message", {"content": "And lamps?"}),
        log("gen_ai.choice", {"message": {"content": "None."}}),
    )
    (group,) = group_turns(read_traces(document))
    assert [(turn.user_text, turn.final_text) for turn in group.turns] == [
        (QUESTION, ANSWER),
        ("And lamps?", "None."),
    ]


def test_other_logs_alone_are_no_trace():
    assert read_traces(conversation(log("http.request", "GET /", 1))) == []


def test_logs_alone_keep_their_resource():
    document = conversation(log("gen_ai.choice", {"message": {"content": ANSWER}}, 1))
    name = {"key": "service.name", "value": {"stringValue": "shop"}}
    document["resourceLogs"][0]["resource"] = {"attributes": [name]}
    assert group_turns(read_traces(document))[0].service_name == "shop"

"""read_traces: formats, ids, times and how spans hang together."""

import base64

import pytest

from runs.traces import TraceError, read_traces
from tests.traces.spans import TRACE_ID, any_value, export, jaeger, jaeger_span, span


def test_an_otlp_export_is_recognised():
    (trace,) = read_traces(export(span(1), span(2, parent=1)))
    assert trace.trace_id == TRACE_ID
    assert trace.roots == [f"{1:016x}"]
    assert trace.children == {f"{1:016x}": [f"{2:016x}"]}


def test_a_jaeger_export_is_recognised():
    (trace,) = read_traces(jaeger(jaeger_span(1), jaeger_span(2, parent=1)))
    assert trace.children == {f"{1:016x}": [f"{2:016x}"]}


def test_tempos_batches_are_read():
    blocks = [{"instrumentationLibrarySpans": [{"spans": [span(1)]}]}]
    assert len(read_traces({"batches": blocks})) == 1
    assert len(read_traces({"trace": {"batches": blocks}})) == 1


def test_protobufs_field_names_are_read():
    raw = {
        "trace_id": TRACE_ID,
        "span_id": f"{1:016x}",
        "start_time_unix_nano": 5,
        "attributes": [{"key": "n", "value": {"int_value": 7}}],
    }
    (trace,) = read_traces({"resource_spans": [{"scope_spans": [{"spans": [raw]}]}]})
    (found,) = trace.spans.values()
    assert (found.start, found.attributes) == (5, {"n": 7})


def test_spans_without_an_envelope_are_read():
    assert len(read_traces(span(1))[0].spans) == 1
    assert len(read_traces([span(1), span(2)])[0].spans) == 2


@pytest.mark.parametrize("document", [None, 5, "text", [], {}, {"hello": 1}, [1], True])
def test_anything_else_is_refused_in_one_sentence(document):
    with pytest.raises(
        TraceError, match=r"^not an OTLP JSON document: expected resourceSpans, resourceLogs or"
    ):
        read_traces(document)


def test_the_named_format_is_insisted_on():
    with pytest.raises(TraceError, match="not a Jaeger JSON document"):
        read_traces(export(span(1)), "jaeger-json")
    with pytest.raises(TraceError, match="not an OTLP JSON document"):
        read_traces(jaeger(jaeger_span(1)), "otlp-json")


def test_another_format_is_refused_by_name():
    with pytest.raises(TraceError, match="unknown trace format 'zipkin'"):
        read_traces({}, "zipkin")


def test_a_document_without_spans_has_no_traces():
    assert read_traces({"resourceSpans": []}) == []
    assert read_traces({"data": []}) == []
    assert read_traces({"resourceLogs": []}) == []


def test_ids_may_be_base64_or_upper_case_hex():
    raw = span(1)
    raw["traceId"] = base64.b64encode(bytes.fromhex(TRACE_ID)).decode()
    raw["spanId"] = "00000000000000AB"
    (trace,) = read_traces(export(raw))
    assert trace.trace_id == TRACE_ID
    assert list(trace.spans) == ["00000000000000ab"]


def test_short_jaeger_ids_stay_as_they_are():
    (trace,) = read_traces(jaeger({**jaeger_span(1), "traceID": "ABC123"}))
    assert trace.trace_id == "abc123"


@pytest.mark.parametrize("bad", [None, "", 7, [], "0" * 16, "x" * 1000, "nul\0", "lone \ud800"])
def test_a_span_without_a_usable_id_is_left_out_with_a_warning(bad):
    (trace,) = read_traces(export(span(1), {**span(2), "spanId": bad}))
    assert len(trace.spans) == 1
    assert trace.warnings == ["1 span(s) left out: no usable trace id or span id"]


def test_the_first_copy_of_a_span_counts():
    (trace,) = read_traces(export(span(1, name="first"), span(1, name="second")))
    assert [found.name for found in trace.spans.values()] == ["first"]
    assert len(trace.warnings) == 1


def test_numbers_may_be_written_as_text():
    raw = span(1, startTimeUnixNano=5, endTimeUnixNano="7", attributes={})
    raw["attributes"] = [{"key": "n", "value": {"intValue": "-12"}}]
    (found,) = read_traces(export(raw))[0].spans.values()
    assert (found.start, found.end, found.attributes["n"]) == (5, 7, -12)


def test_nested_values_become_plain_json():
    (found,) = read_traces(export(span(1, attributes={"a": {"b": [1, True, "x"]}})))[0].spans.values()
    assert found.attributes["a"] == {"b": [1, True, "x"]}


def test_bytes_stay_base64_and_odd_numbers_become_text():
    raw = span(1)
    raw["attributes"] = [
        {"key": "raw", "value": {"bytesValue": "AAEC"}},
        {"key": "nan", "value": {"doubleValue": "NaN"}},
        {"key": "half", "value": {"doubleValue": 0.5}},
    ]
    (found,) = read_traces(export(raw))[0].spans.values()
    assert found.attributes == {"raw": "AAEC", "nan": "nan", "half": 0.5}


def test_attributes_may_be_a_nested_object():
    raw = {**span(1), "attributes": {"gen_ai": {"operation": {"name": "chat"}}, "flat.key": 1}}
    (found,) = read_traces(export(raw))[0].spans.values()
    assert found.attributes == {"gen_ai.operation.name": "chat", "flat.key": 1}


def test_jaegers_tags_give_back_scope_status_and_typed_values():
    raw = jaeger_span(1, **{"otel.scope.name": "lib", "otel.status_code": "ERROR"})
    raw["tags"] += [
        {"key": "n", "type": "int64", "value": "12"},
        {"key": "bad", "type": "int64", "value": "x"},
    ]
    (found,) = read_traces(jaeger(raw))[0].spans.values()
    assert (found.scope, found.status) == ("lib", "error")
    assert (found.attributes["n"], found.attributes["bad"]) == (12, "x")
    assert found.resource["service.name"] == "shop"
    assert found.duration_ms == 500.0


def test_a_missing_parent_makes_a_root():
    (trace,) = read_traces(export(span(2, parent=1)))
    assert trace.roots == [f"{2:016x}"]


def test_a_circle_is_cut_at_its_earliest_span_whatever_the_order():
    circle = [span(1, parent=3), span(2, parent=1), span(3, parent=2), span(4, parent=4)]
    for spans in (circle, circle[::-1]):
        (trace,) = read_traces(export(*spans))
        assert trace.roots == [f"{1:016x}", f"{4:016x}"]
        assert len(trace.warnings) == 2


def test_siblings_are_in_order_of_start():
    (trace,) = read_traces(export(span(3, parent=1), span(2, parent=1), span(1)))
    assert trace.children[f"{1:016x}"] == [f"{2:016x}", f"{3:016x}"]


def test_values_nested_without_end_are_cut_short():
    value = any_value("end")
    for _ in range(500):
        value = {"arrayValue": {"values": [value]}}
    raw = {**span(1), "attributes": [{"key": "deep", "value": value}]}
    (found,) = read_traces(export(raw))[0].spans.values()
    assert str(found.attributes["deep"]).count("[") < 100

"""group_turns: which traces are judged together, and under what key."""

import pytest

from runs.traces import TraceError, group_turns, read_traces
from tests.traces.spans import agent, answer_of, assistant, call, chat, export, span, user

FIRST, SECOND = "1" * 32, "2" * 32


def two_traces(key: str = "gen_ai.conversation.id", resource=None):
    values = {key: "talk-7"}
    return read_traces(
        export(
            chat(5, asked=[user("later")], attributes=values, traceId=SECOND),
            chat(1, asked=[user("sooner")], attributes=values, traceId=FIRST),
            resource=resource,
        )
    )


def test_auto_takes_each_trace_by_itself():
    assert [group.key for group in group_turns(two_traces())] == [SECOND, FIRST]


def test_conversation_takes_traces_of_one_conversation_together_in_order_of_start():
    (group,) = group_turns(two_traces(), "conversation")
    assert group.key == group.conversation_id == "talk-7"
    assert group.trace_ids == [FIRST, SECOND]
    assert [turn.user_text for turn in group.turns] == ["sooner", "later"]


def test_a_session_id_does_as_well():
    (group,) = group_turns(two_traces("session.id"), "conversation")
    assert (group.key, group.conversation_id) == ("talk-7", None)


def test_auto_means_conversation_when_the_session_has_a_name():
    (group,) = group_turns(two_traces(resource={"agentevals.session_name": "nightly"}))
    assert group.key == "nightly"


def test_auto_means_conversation_when_the_eval_set_has_several_turns():
    assert len(group_turns(two_traces(), "auto", multi_turn=True)) == 1


def test_trace_means_trace_even_then():
    traces = two_traces(resource={"agentevals.session_name": "nightly"})
    assert len(group_turns(traces, "trace", multi_turn=True)) == 2


def test_a_trace_without_a_conversation_is_a_group_by_itself():
    (group,) = group_turns(read_traces(export(chat(1))), "conversation")
    assert group.key == group.trace_ids[0]


@pytest.mark.parametrize("bad", ["", "  ", "x" * 257, "two\nlines", "nul\0", "lone \ud800", True])
def test_a_key_that_is_not_fit_for_one_is_not_taken(bad):
    (group,) = group_turns(
        read_traces(export(chat(1, attributes={"gen_ai.conversation.id": bad}))), "conversation"
    )
    assert group.key == group.trace_ids[0]


def test_the_outermost_spans_conversation_counts():
    traces = read_traces(
        export(
            agent(3, 1, attributes={"gen_ai.conversation.id": "inner"}),
            chat(1, attributes={"gen_ai.conversation.id": "outer"}),
        )
    )
    assert group_turns(traces, "conversation")[0].key == "outer"


def test_a_trace_may_name_its_eval_case():
    traces = read_traces(export(chat(1), resource={"agentevals.eval.case.id": "case-3"}))
    assert group_turns(traces)[0].case_id == "case-3"


def test_service_and_agent_are_told():
    traces = read_traces(export(agent(1), chat(2, 1), resource={"service.name": "shop"}))
    (group,) = group_turns(traces)
    assert (group.service_name, group.agent_name) == ("shop", "helper")


def test_tool_rounds_in_traces_of_their_own_are_one_turn():
    values = {"gen_ai.conversation.id": "talk-7"}
    asked = chat(1, asked=[user("where?")], said=[call("find", {}, "c1")], attributes=values, traceId=FIRST)
    went_on = chat(
        3,
        asked=[user("where?"), call("find", {}, "c1"), answer_of("here", "c1")],
        said=[assistant("It is here.")],
        attributes=values,
        traceId=SECOND,
    )
    (group,) = group_turns(read_traces(export(asked, went_on)), "conversation")
    (turn,) = group.turns
    assert (turn.user_text, turn.final_text, turn.llm_calls) == ("where?", "It is here.", 2)
    assert turn.tool_responses[0].response == {"result": "here"}


def test_a_result_for_another_call_does_not_go_on():
    values = {"gen_ai.conversation.id": "talk-7"}
    asked = chat(1, said=[call("find", {}, "c1")], attributes=values, traceId=FIRST)
    other = chat(3, asked=[answer_of("x", "c9")], attributes=values, traceId=SECOND)
    (group,) = group_turns(read_traces(export(asked, other)), "conversation")
    assert len(group.turns) == 2


def test_latency_is_the_median_of_the_turns_or_of_the_roots():
    turns = export(span(9), agent(1, 9), chat(2, 1), agent(5, 9), chat(6, 5))
    assert group_turns(read_traces(turns))[0].latency_ms == 2000.0
    assert group_turns(read_traces(export(span(1))))[0].latency_ms == 1000.0


def test_warnings_are_few():
    traces = read_traces(export(*(span(n, parent=n) for n in range(1, 500))))
    (group,) = group_turns(traces)
    assert len(group.warnings) == 51
    assert group.warnings[-1] == "and 449 more"


def test_another_way_of_grouping_is_refused():
    with pytest.raises(TraceError, match="unknown groupBy"):
        group_turns([], "session")


def test_nothing_makes_no_group():
    assert group_turns([]) == []


@pytest.mark.parametrize(
    "key",
    [
        "traceloop.association.properties.session_id",
        "traceloop.association.properties.thread_id",
        "gcp.vertex.agent.session_id",
        "ai.telemetry.metadata.sessionId",
        "langfuse.session.id",
        "langsmith.metadata.thread_id",
    ],
)
def test_every_instrumentations_session_is_one(key):
    (group,) = group_turns(two_traces(key), "conversation")
    assert (group.key, group.conversation_id) == ("talk-7", None)


def test_the_conventions_session_goes_before_the_instrumentations():
    said = {"langfuse.session.id": "later", "session.id": "second", "gen_ai.conversation.id": "first"}
    (group,) = group_turns(read_traces(export(chat(1, attributes=said))), "conversation")
    assert group.key == "first"

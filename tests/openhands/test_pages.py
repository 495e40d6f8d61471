"""A conversation as its readers see it: the session's thread, the run's transcript."""

import pytest

from runs.models import request_cancel
from tests.openhands.talk import Talk, read_all, words

PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAA"
    "AABJRU5ErkJggg=="
)


@pytest.fixture
def talk(owner):
    return Talk(owner)


@pytest.fixture
def look(signed_in, talk):
    """Reads what was written, and gives the transcript of the first run, or another page of it."""

    def get(rest="", run=0):
        read_all()
        response = signed_in.get(f"/runs/{talk.runs[run].pk}{rest}")
        assert response.status_code == 200
        return response.content.decode()

    return get


def test_the_list_of_sessions_has_it(talk, signed_in):
    talk.work()
    read_all()
    page = signed_in.get("/sessions").content.decode()
    assert "Which file is the biggest?" in page
    assert talk.key in page


def test_the_thread_goes_through_all_its_runs(talk, signed_in):
    talk.work("One")
    talk.work("Two")
    read_all()
    page = signed_in.get(f"/sessions/{talk.session.pk}").content.decode()
    assert page.index("One") < page.index("Two")
    assert page.count("It is <strong>a.txt</strong>.") == 2


def test_what_the_agent_said_stands_before_its_call(talk, look):
    talk.ask()
    talk.call(thought=[words("I look at **sizes**.")], reasoning_content="Largest first.")
    talk.observe("\x1b[31ma.txt\x1b[0m")
    page = look()
    said = page.index("I look at <strong>sizes</strong>.")
    assert page.index("Largest first.") < said < page.index('<code class="name">terminal</code>')
    assert '<span class="name">Reasoning</span>' in page


def test_what_it_thought_is_shown_of_a_large_call_as_well(talk, look):
    talk.ask()
    talk.call(arguments={"text": "x" * 50_000}, thought=[words("I write it down. " * 1000)])
    page = look()
    assert "I write it down." in page
    assert "Show all 17,000 characters" in page


def test_the_rest_of_a_long_thought_comes_when_it_is_asked_for(talk, look):
    talk.ask()
    talk.call(thought=[words("word " * 1000 + "at last")])
    assert "at last" not in look()
    assert "at last" in look("/events/2/body?part=2")


def test_the_answer_is_read_as_an_answer_and_its_call_has_a_result(talk, look):
    talk.work()
    page = look()
    assert "It is <strong>a.txt</strong>." in page
    assert "no result" not in page


def test_a_call_that_failed_says_so(talk, look):
    talk.ask()
    talk.call("browser", {"url": "x"}, "c2")
    talk.add("AgentErrorEvent", "agent", tool_name="browser", tool_call_id="c2", error="Tool not found.")
    talk.save("running")
    page = look()
    assert "call-bad" in page
    assert "Tool not found." in page


def test_a_call_that_was_rejected_says_why(talk, look):
    talk.ask()
    talk.call()
    talk.add(
        "UserRejectObservation", "user", tool_name="terminal", tool_call_id="c1", rejection_reason="Not now"
    )
    talk.save("running")
    assert "Not now" in look()


def test_an_image_is_shown_as_an_image(talk, look):
    image = {"type": "image", "image_urls": [PIXEL]}
    content = {"role": "user", "content": [words("See"), image]}
    talk.add("MessageEvent", "user", llm_message=content)
    page = look()
    assert "<figure" in page
    assert "iVBORw0KGgo" not in page


def test_kinds_that_nobody_knows_are_shown_raw(talk, look):
    talk.ask()
    talk.add("DreamEvent", "agent", of="electric sheep")
    page = look()
    assert "DreamEvent" in page
    assert "electric sheep" in page


@pytest.mark.parametrize("kind", ["message", "tool_call", "state", "late_write", "error", "", 7, None])
def test_a_kind_that_means_another_thing_here_is_shown_raw(talk, look, kind):
    talk.ask()
    talk.add(kind, "agent", of="electric sheep")
    assert "electric sheep" in look()


@pytest.mark.parametrize(
    "fields",
    [
        {"llm_message": None},
        {"llm_message": {"content": "text"}},
        {"llm_message": {"content": [7]}},
        {"llm_message": {"content": [{"type": "image", "image_urls": [7, None]}]}},
    ],
)
def test_a_message_of_another_form_is_shown_somehow(talk, look, fields):
    talk.add("MessageEvent", "user", **fields)
    look()


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"tool_call": 7, "action": [1], "thought": "text", "tool_name": 7, "tool_call_id": {"a": 1}},
        {"tool_call": {"arguments": '{"a": 1e400}'}, "thought": [{"text": 7}], "reasoning_content": [1]},
        {"tool_call": {"arguments": "not JSON"}, "tool_name": "t", "llm_response_id": 7},
    ],
)
@pytest.mark.parametrize("kind", ["ActionEvent", "ObservationEvent", "AgentErrorEvent", "SystemPromptEvent"])
def test_other_events_of_another_form_are_shown_somehow(talk, look, kind, fields):
    talk.ask()
    talk.add(kind, "agent", **fields)
    look()


def test_a_cancel_that_was_asked_for_is_shown(talk, look):
    talk.ask()
    talk.call()
    talk.save("running")
    read_all()
    request_cancel(talk.runs[0], by="alice", reason="wrong folder")
    assert "wrong folder" in look()


def test_whoever_cancels_learns_that_openhands_does_not(talk, look):
    talk.ask()
    talk.call()
    talk.save("running")
    assert "pause the conversation where it runs" in look("/cancel")

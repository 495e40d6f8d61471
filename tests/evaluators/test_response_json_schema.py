"""response_json_schema."""

import time

import pytest

from runs.evaluators import EvalConfigError
from tests.evaluators.documents import answered, outcome

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "tags": {"items": {"type": "string"}}},
    "required": ["name"],
}


def judged(answer, schema=PERSON):
    return outcome(answered(answer), "response_json_schema", schema=schema)


@pytest.mark.parametrize(
    "answer",
    [
        '{"name": "Ada"}',
        '```json\n{"name": "Ada"}\n```',
        '\n```\n{"name": "Ada"}\n```\n',
        '~~~~ JSON\n{"name": "```"}\n~~~~',
    ],
)
def test_json_as_the_schema_says_passes_also_in_a_fence(answer):
    assert judged(answer).status == "passed"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("Ada", "The answer is not JSON: Expecting value: line 1 column 1 (char 0)."),
        ('Here: ```json\n{"name": "Ada"}\n```', "The answer is not JSON"),
        ('{"name": NaN}', "The answer is not JSON: NaN is not a number in JSON."),
        ("[" * 100_000, "The answer is not JSON"),
        ('{"age": 5}', "The answer is not as the schema says: $: 'name' is a required property."),
        (
            '{"name": 5, "tags": ["a", 1]}',
            "The answer is not as the schema says: $.name: 5 is not of type 'string' (and 1 more).",
        ),
    ],
)
def test_what_is_wrong_is_told(answer, reason):
    found = judged(answer)
    assert (found.status, found.score) == ("failed", 0.0)
    assert found.details["reason"].startswith(reason)


def test_all_that_is_wrong_is_listed_with_its_place():
    (turn,) = judged('{"name": 5, "tags": ["a", 1]}').details["turns"]
    assert [error["at"] for error in turn["errors"]] == ["$.name", "$.tags[1]"]


def test_a_long_list_of_mistakes_is_cut():
    (turn,) = judged(str([1] * 1000), {"items": {"type": "string"}}).details["turns"]
    assert len(turn["errors"]) == 20


def test_the_draft_is_the_one_that_the_schema_names():
    old = {"$schema": "http://json-schema.org/draft-04/schema#", "maximum": 5, "exclusiveMaximum": True}
    assert judged("5", old).status == "failed"


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "strnig"}, "config.schema: is no JSON Schema: $.type: 'strnig' is not valid"),
        ({"pattern": "("}, "config.schema: is no JSON Schema: $.pattern"),
        ([], "config.schema: input should be a valid dictionary"),
    ],
)
def test_what_is_no_schema_is_refused_when_it_is_submitted(schema, said):
    with pytest.raises(EvalConfigError) as caught:
        judged("1", schema)
    assert said in str(caught.value)


def test_the_schema_is_needed():
    with pytest.raises(EvalConfigError, match=r"response_json_schema: config\.schema: field required"):
        outcome(answered("1"), "response_json_schema")


@pytest.mark.parametrize("place", ["http://127.0.0.1:9/schema.json", "file:///etc/hostname", "#/missing"])
def test_what_a_schema_refers_to_is_not_fetched(place, monkeypatch):
    opened = []
    monkeypatch.setattr("urllib.request.urlopen", lambda *asked, **more: opened.append(asked))
    found = judged("1", {"$ref": place})
    assert not opened
    assert found.status == "errored"
    assert "nothing is fetched from elsewhere" in (found.error_text or "")


def test_a_schema_that_refers_to_itself_without_end_is_an_error():
    found = judged("1", {"$ref": "#"})
    assert (found.status, found.error_text) == (
        "errored",
        "The schema refers to itself without end, or is nested too deeply.",
    )


def test_a_pattern_in_the_schema_may_not_take_for_ever():
    began = time.monotonic()
    found = judged('"' + "a" * 100 + '!"', {"pattern": "^(a|aa)+$"})
    assert time.monotonic() - began < 10
    assert "took longer than 1 s" in (found.error_text or "")


def test_a_pattern_in_the_schema_is_searched_for():
    assert judged('"abc"', {"pattern": "b"}).status == "passed"
    assert judged('"abc"', {"pattern": "x"}).details["reason"].endswith("$: 'abc' does not match 'x'.")
    assert judged("5", {"pattern": "x"}).status == "passed"

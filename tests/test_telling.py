"""The JSON of an event that a span tells: what a JSONB holds otherwise than it came is kept twice."""

import json

import pytest

from runs.ingest.telling import told_event
from runs.models import Usage


@pytest.mark.parametrize("held", ["call 4e7", 1.5, 1e-7, -1, "a,2e5]", "grün"])
def test_most_is_kept_once(held):
    told = told_event("span:1:1", "message", "agent", {"a": held}, None, Usage())
    assert told.exact is None
    assert json.loads(told.text) == {"a": held}


@pytest.mark.parametrize("odd", [1e16, [2.5e300, 1], -0.0, "a\0b", "\ud800", {"b": 1e22}])
def test_what_a_jsonb_changes_is_kept_as_text_too(odd):
    told = told_event("span:1:1", "message", "agent", {"a": odd}, None, Usage())
    assert told.exact is not None
    assert repr(json.loads(told.exact)) == repr({"a": odd})

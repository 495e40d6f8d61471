"""JSON that PostgreSQL cannot hold is given back as it came."""

import json

import pytest

from runs.exact import clean_text, join_exact, split_exact


@pytest.mark.parametrize("value", [{"a": [1, 2.5, None, True, "text 😀"]}, [], "x", 0, 2**70, 0.1, None])
def test_what_jsonb_holds_is_stored_once(value):
    assert split_exact(value) == (value, None)


@pytest.mark.parametrize(
    "value", ["\x00", ["a\ud800"], {"k\x00": 1}, {"a": {"b": ["\udfff"]}}, 1e300, [-0.0], 1e16]
)
def test_what_jsonb_changes_is_kept_beside_it(value):
    held, exact = split_exact(value)

    assert exact is not None
    assert exact.isascii()
    assert repr(join_exact(held, exact)) == repr(value)
    json.dumps(held, ensure_ascii=False).encode()


def test_a_replacement_character_stands_where_something_was():
    assert clean_text("a\x00b\ud800c") == "a\ufffdb\ufffdc"
    assert split_exact({"k\x00": "v\ud800"})[0] == {"k\ufffd": "v\ufffd"}

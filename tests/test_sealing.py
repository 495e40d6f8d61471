"""Secrets at rest: they come back exactly, and only with the key."""

import pytest

from runs.sealing import Unsealable, open_sealed, seal

SECRET = {"Authorization": "Bearer canary-7d1", "odd": ["\ud83d", "\x00", "grün", 1e300, -0.0, 2**64, None]}


@pytest.fixture(autouse=True)
def keys(settings):
    """The same first key for each test, and no former one."""
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "first key", []
    return settings


@pytest.mark.parametrize("value", [SECRET, {}, [], "", "text", 0, None, True, {"a": {"b": [1.5]}}])
def test_what_was_sealed_comes_back_exactly(value):
    opened = open_sealed(seal(value))

    assert repr(opened) == repr(value)


def test_nothing_of_the_secret_is_in_the_sealed_bytes():
    sealed = seal(SECRET)

    assert not any(word in sealed for word in (b"canary", b"Bearer", b"Authorization"))


def test_the_same_secret_is_sealed_differently_each_time():
    assert len({seal(SECRET) for _ in range(100)}) == 100


def test_a_database_may_give_it_as_a_memoryview():
    assert open_sealed(memoryview(seal("text"))) == "text"


def test_a_former_key_still_opens(keys):
    sealed = seal(SECRET)
    keys.SECRET_KEY, keys.SECRET_KEY_FALLBACKS = "third key", ["second key", "first key"]

    assert open_sealed(sealed) == SECRET


def test_a_former_key_seals_no_more(keys):
    keys.SECRET_KEY, keys.SECRET_KEY_FALLBACKS = "second key", ["first key"]
    sealed = seal(SECRET)
    keys.SECRET_KEY, keys.SECRET_KEY_FALLBACKS = "first key", []

    with pytest.raises(Unsealable):
        open_sealed(sealed)


def test_another_key_is_told_what_to_do(keys):
    sealed = seal(SECRET)
    keys.SECRET_KEY = "second key"

    with pytest.raises(Unsealable, match="SECRET_KEY_FALLBACKS"):
        open_sealed(sealed)


def test_a_changed_byte_is_found_wherever_it_is():
    sealed = seal("text")
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        with pytest.raises(Unsealable):
            open_sealed(bytes(changed))


@pytest.mark.parametrize("data", [b"", b"\x01", b"\x01" + bytes(11), b'{"Authorization": "plain"}'])
def test_what_was_never_sealed_is_not_opened(data):
    with pytest.raises(Unsealable):
        open_sealed(data)

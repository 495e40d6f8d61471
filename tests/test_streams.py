"""Long answers are limited, and give their place back however they end."""

from collections.abc import Iterator

import pytest
from django.core.signals import request_finished
from django.db import close_old_connections
from django.test import RequestFactory

from runs import streams


@pytest.fixture(autouse=True)
def two_places(settings):
    settings.MAX_STREAMS = 2
    request_finished.disconnect(
        close_old_connections
    )  # as Django's own client does: there is no database here
    yield
    request_finished.connect(close_old_connections)


def begin(chunks: Iterator[bytes]):
    return streams.streamed(RequestFactory().get("/export"), chunks, "text/plain")


def test_it_works():
    response = begin(iter([b"a", b"b"]))
    assert b"".join(response.streaming_content) == b"ab"
    response.close()


def test_one_too_many_is_told_to_come_again():
    open_ones = [begin(iter([b"a"])) for _ in range(2)]
    refused = begin(iter([b"a"]))
    assert (refused.status_code, refused["Retry-After"]) == (503, "5")
    for response in open_ones:
        response.close()
    third = begin(iter([b"a"]))
    assert third.status_code == 200
    third.close()


def test_a_stream_that_ended_has_given_its_place_back():
    for _ in range(5):
        response = begin(iter([b"a"]))
        assert list(response.streaming_content) == [b"a"]


def test_a_stream_that_broke_has_given_its_place_back():
    def breaking() -> Iterator[bytes]:
        yield b"a"
        raise OSError("broken")

    for _ in range(5):
        with pytest.raises(OSError, match="broken"):
            list(begin(breaking()).streaming_content)


def test_closing_twice_gives_one_place_back():
    first, second = begin(iter([b"a"])), begin(iter([b"a"]))
    first.close()
    first.close()
    third = begin(iter([b"a"]))
    assert begin(iter([b"a"])).status_code == 503
    for response in (second, third):
        response.close()


def test_what_makes_the_chunks_is_closed_with_them():
    closed = []

    def endless() -> Iterator[bytes]:
        try:
            while True:
                yield b"a"
        finally:
            closed.append(True)

    response = begin(endless())
    next(iter(response.streaming_content))
    response.close()
    assert closed == [True]

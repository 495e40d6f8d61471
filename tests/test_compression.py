"""What is sent compressed, and what is not."""

import gzip

import pytest
from django.http import HttpResponse, StreamingHttpResponse
from django.test import RequestFactory

from runs.middleware import Compression

WORDS = "words " * 1000


def answer(response: HttpResponse, **headers: str) -> HttpResponse:
    request = RequestFactory().get("/", headers={"Accept-Encoding": "gzip, br", **headers})
    return Compression(lambda _: response)(request)


def test_a_page_is_compressed() -> None:
    response = answer(HttpResponse(WORDS))
    assert response["Content-Encoding"] == "gzip"
    assert gzip.decompress(response.content).decode() == WORDS
    assert int(response["Content-Length"]) == len(response.content) < 1000
    assert "Accept-Encoding" in response["Vary"]


def test_who_does_not_take_it_gets_it_as_it_is() -> None:
    for taken in ("", "br", "gzip;q=0", "gzip;q=0.0, br"):
        response = answer(HttpResponse(WORDS), **{"Accept-Encoding": taken})
        assert response.content.decode() == WORDS
        assert "Accept-Encoding" in response["Vary"]


@pytest.mark.parametrize(
    "response",
    [
        HttpResponse("short"),
        HttpResponse(WORDS, content_type="image/png"),
        HttpResponse(WORDS, headers={"Content-Encoding": "br"}),
    ],
)
def test_what_gains_nothing_is_left_alone(response: HttpResponse) -> None:
    before = response.content
    assert answer(response).content == before


def test_a_stream_is_not_held_up() -> None:
    response = answer(StreamingHttpResponse(iter([WORDS]), content_type="text/plain"))
    assert not response.has_header("Content-Encoding")


def test_equal_pages_have_lengths_of_chance() -> None:
    assert len({len(answer(HttpResponse(WORDS)).content) for _ in range(50)}) > 1


def test_the_style_sheet_is_compressed_and_known_again(client) -> None:
    first = client.get("/static/runfolio.css", headers={"Accept-Encoding": "gzip"})
    assert first["Content-Encoding"] == "gzip"
    assert b"--bg" in gzip.decompress(first.content)
    headers = {"Accept-Encoding": "gzip", "If-None-Match": first["ETag"]}
    assert client.get("/static/runfolio.css", headers=headers).status_code == 304

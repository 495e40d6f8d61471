"""Who is believed about where a request came from, and bodies without a length."""

import io
from ipaddress import ip_network
from typing import Any

import pytest

from project import wsgi


@pytest.fixture
def seen(settings) -> Any:
    """Gives what the application sees of a request, behind a proxy of 10.0.0.0/8."""
    settings.TRUSTED_PROXIES = [ip_network("10.0.0.0/8")]

    def see(**environ: Any) -> dict[str, Any]:
        caught: dict[str, Any] = {}

        def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
            caught.update(environ)
            return []

        wsgi.with_proxies(wsgi.with_chunked_bodies(app))(environ, lambda *_: None)
        return caught

    return see


@pytest.mark.parametrize(
    ("remote", "forwarded", "client"),
    [
        ("192.0.2.1", "203.0.113.9", "192.0.2.1"),
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "6.6.6.6, 203.0.113.9, 10.0.0.2", "203.0.113.9"),
        ("10.0.0.1", "nonsense", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("", "203.0.113.9", ""),
    ],
)
def test_only_a_trusted_proxy_may_say_who_the_client_is(seen, remote, forwarded, client):
    assert seen(REMOTE_ADDR=remote, HTTP_X_FORWARDED_FOR=forwarded)["REMOTE_ADDR"] == client


@pytest.mark.parametrize(("remote", "believed"), [("10.0.0.1", "https"), ("192.0.2.1", None)])
def test_only_a_trusted_proxy_may_say_that_it_was_https(seen, remote, believed):
    environ = seen(REMOTE_ADDR=remote, HTTP_X_FORWARDED_PROTO="https", HTTP_X_FORWARDED_HOST="evil")

    assert environ.get("HTTP_X_FORWARDED_PROTO") == believed
    assert "HTTP_X_FORWARDED_HOST" not in environ


def test_a_chunked_body_gets_a_length(seen):
    environ = seen(HTTP_TRANSFER_ENCODING="chunked", **{"wsgi.input": io.BytesIO(b"x" * 200_000)})

    assert environ["CONTENT_LENGTH"] == "200000"
    assert environ["wsgi.input"].read() == b"x" * 200_000


def test_a_body_with_a_length_is_left_alone(seen):
    body = io.BytesIO(b"abc")

    assert seen(CONTENT_LENGTH="3", **{"wsgi.input": body})["wsgi.input"] is body


def test_a_body_that_is_too_long_is_not_read_to_its_end(seen, settings):
    settings.MAX_BODY_BYTES = 1000
    body = io.BytesIO(b"x" * 10_000)

    assert seen(HTTP_TRANSFER_ENCODING="chunked", **{"wsgi.input": body})["CONTENT_LENGTH"] == "1001"
    assert body.tell() == 1001

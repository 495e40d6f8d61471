"""Everything that goes out goes through here (DESIGN.md 3.13).

Until the pipeline's work opens it further, only hosts that the operator listed in OUTGOING_ALLOW are
asked at all.
"""

from collections.abc import Mapping
from urllib.parse import urlsplit

import requests
from django.conf import settings
from requests_hardened import Config, HTTPSession

TIMEOUT = 30  # seconds, to connect and between two reads
MAX_BYTES = 50 * 2**20
_CHUNK = 64 * 1024


class OutgoingError(Exception):
    """The request was refused or failed; the text says why and holds no secret."""


def fetch(url: str, headers: Mapping[str, str]) -> bytes:
    """The body behind `url`, of at most MAX_BYTES; redirects are not followed. Raises OutgoingError."""
    host = _host(url)
    if host not in settings.OUTGOING_ALLOW:
        raise OutgoingError(f"{host or 'this address'} is not in OUTGOING_ALLOW, so it is not asked")
    try:
        with _session().get(url, headers=dict(headers), stream=True) as response:
            if not 200 <= response.status_code < 300:
                raise OutgoingError(f"{host} answered {response.status_code}")
            return _body(response, host)
    except requests.RequestException as error:
        raise OutgoingError(f"{host} did not answer: {type(error).__name__}") from None


def _host(url: str) -> str:
    try:
        parts = urlsplit(url)
        return (parts.hostname or "") if parts.scheme in ("http", "https") else ""
    except ValueError:
        return ""


def _session() -> HTTPSession:
    # The operator's list says where to; the filter of private addresses would refuse in-cluster hosts.
    config = Config(default_timeout=(TIMEOUT, TIMEOUT), never_redirect=True, ip_filter_enable=False)
    return HTTPSession(config)


def _body(response: requests.Response, host: str) -> bytes:
    body = bytearray()
    for chunk in response.iter_content(_CHUNK):
        body += chunk
        if len(body) > MAX_BYTES:
            raise OutgoingError(f"{host} sends more than {MAX_BYTES // 2**20} MB")
    return bytes(body)

"""How webhooks are signed: the Standard Webhooks specification 1.0.0, symmetric keys.

The signature covers id, time and body, so that none of them can be exchanged, and an old delivery
cannot be sent again as new. Receivers verify it with any library of that specification.
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta

TOLERANCE = timedelta(minutes=5)  # between the signature and its receipt

_PREFIX = "whsec_"
_TIMESTAMP = re.compile("[0-9]{1,12}")  # whole seconds since 1970


def new_secret() -> str:
    """A secret to share with one receiver: `whsec_` and 32 random bytes in base64."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def signed_headers(secret: str, message_id: str, at: datetime, body: bytes) -> dict[str, str]:
    """The three headers of a delivery sent at `at`, an aware time.

    A delivery that is tried again keeps its `message_id`, which receivers deduplicate by, and gets a new
    time. Raises ValueError for a secret that is none and for an id with a full stop, which would let one
    text be read as two.
    """
    if "." in message_id:
        raise ValueError("the id of a webhook message may hold no full stop")
    timestamp = str(int(at.timestamp()))
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": _signature(secret, message_id, timestamp, body),
    }


def verify(secret: str, headers: Mapping[str, str], body: bytes, now: datetime) -> bool:
    """Whether `body` came from who knows `secret`, at most TOLERANCE from `now`, an aware time.

    One fitting signature of several is enough: while a secret is changed, two are sent.
    """
    given = {name.lower(): value for name, value in headers.items()}
    message_id, timestamp = given.get("webhook-id", ""), given.get("webhook-timestamp", "")
    if "." in message_id or not _TIMESTAMP.fullmatch(timestamp):
        return False
    if abs(now.timestamp() - int(timestamp)) > TOLERANCE.total_seconds():
        return False
    expected = _signature(secret, message_id, timestamp, body).encode()
    signatures = given.get("webhook-signature", "").encode().split(b" ")
    return any(hmac.compare_digest(expected, signature) for signature in signatures)


def _signature(secret: str, message_id: str, timestamp: str, body: bytes) -> str:
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(_key(secret), signed, hashlib.sha256)).decode()


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not 24 <= len(key) <= 64:  # the specification's bounds
        raise ValueError(f"a signing secret is {_PREFIX} and 24 to 64 bytes in base64")
    return key

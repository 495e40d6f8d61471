"""Secrets at rest: what a database dump must not tell (CONTRACTS.md 4, RELIABILITY.md S8).

A sealed value is a version byte, a nonce of 12 bytes and AES-256-GCM's ciphertext with its tag. The key
is derived from SECRET_KEY. SECRET_KEY_FALLBACKS still open what was sealed under an older one.
"""

import json
import os
from collections.abc import Iterator

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

from runs.exact import Json

_VERSION = b"\x01"
_NONCE = 12  # bytes, what GCM is made for
_PURPOSE = b"runfolio: secrets at rest"  # whatever else is derived from SECRET_KEY has another key


class Unsealable(Exception):
    """The value cannot be opened; the text says what to do."""


def seal(value: Json) -> bytes:
    """`value` encrypted, different each time. Text that PostgreSQL cannot hold comes back as it was."""
    nonce = os.urandom(_NONCE)
    text = json.dumps(value).encode("ascii")
    return _VERSION + nonce + next(_ciphers()).encrypt(nonce, text, _VERSION)


def open_sealed(data: bytes | memoryview) -> Json:
    """What was sealed. Raises Unsealable where no key that we have fits, or a byte was changed."""
    version, nonce, text = _parts(bytes(data))
    for cipher in _ciphers():
        try:
            return json.loads(cipher.decrypt(nonce, text, version))
        except InvalidTag:
            continue
    raise Unsealable(
        "a stored secret cannot be opened: SECRET_KEY is not the one that it was sealed with. "
        "Put the former key into SECRET_KEY_FALLBACKS, or enter the secret again."
    )


def _parts(data: bytes) -> tuple[bytes, bytes, bytes]:
    version, nonce, text = data[:1], data[1 : 1 + _NONCE], data[1 + _NONCE :]
    if version != _VERSION or len(nonce) < _NONCE:
        raise Unsealable("a stored secret cannot be opened: it is not in a form that this version writes.")
    return version, nonce, text


def _ciphers() -> Iterator[AESGCM]:
    """Of today's key first, then of the former ones."""
    for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS):
        key = secret if isinstance(secret, bytes) else secret.encode()
        yield AESGCM(HKDF(algorithm=SHA256(), length=32, salt=None, info=_PURPOSE).derive(key))

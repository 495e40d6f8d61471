"""How large a body may be."""

from django.conf import settings

OTLP_BYTES = 64 * 2**20  # what OTLP recommends, before and after compression (CONTRACTS.md 1.10)


def body_limit(path: str) -> int:
    """In bytes, for a request to this path."""
    return OTLP_BYTES if path.startswith("/v1/") else settings.MAX_BODY_BYTES

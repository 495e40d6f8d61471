"""System checks: a view without an access mark is found before the first request (STYLE.md 10)."""

from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage, Error, register
from django.urls import URLPattern, URLResolver, get_resolver

# Django's own pages, which guard themselves.
_GUARDED = ("django.contrib.admin.",)


@register()
def every_view_says_who_may_call_it(**_: Any) -> list[CheckMessage]:
    """An error for each of our views that `runs.access` did not mark."""
    return [
        Error(
            f"{route} has no access mark",
            hint="Decorate the view with signed_in, public or token_only of runs.access.",
            id="runs.E001",
        )
        for route, view in _views(get_resolver())
        if not _is_marked(view)
    ]


def _is_marked(view: Any) -> bool:
    module = getattr(view, "__module__", "")
    return hasattr(view, "access") or module.startswith(_GUARDED)


def _views(resolver: URLResolver, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for entry in resolver.url_patterns:
        route = f"{prefix}{entry.pattern}"
        if isinstance(entry, URLResolver):
            if entry.app_name != "admin":
                yield from _views(entry, route)
        elif isinstance(entry, URLPattern):
            yield route, entry.callback

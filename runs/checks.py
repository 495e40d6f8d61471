"""System checks: a view without an access mark is found before the first request (STYLE.md 10)."""

import inspect
from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage, Error, register
from django.urls import URLPattern, URLResolver, get_resolver
from ninja.operation import Operation, PathView

# Django's own pages, which guard themselves.
_GUARDED = ("django.contrib.admin.",)


@register()
def every_view_says_who_may_call_it(**_: Any) -> list[CheckMessage]:
    """An error for each view that `runs.access` did not mark, and each API operation without `auth`."""
    return [*_unmarked_views(), *_unmarked_operations()]


def views(resolver: URLResolver, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The routes outside the admin, as URLconf writes them, with what answers there."""
    for entry in resolver.url_patterns:
        route = f"{prefix}{entry.pattern}"
        if isinstance(entry, URLResolver):
            if entry.app_name != "admin":
                yield from views(entry, route)
        elif isinstance(entry, URLPattern):
            yield route, entry.callback


def _unmarked_views() -> Iterator[Error]:
    for route, view in views(get_resolver()):
        if not _is_marked(view):
            hint = "Decorate the view with signed_in, public or token_only of runs.access."
            yield Error(f"{route} has no access mark", hint=hint, id="runs.E001")


def _unmarked_operations() -> Iterator[Error]:
    for route, view in views(get_resolver()):
        for operation in _operations(view):
            if not operation.auth_callbacks and not _is_marked(operation.view_func):
                hint = "Give it auth=TokenAuth(...), or decorate its function with public of runs.access."
                yield Error(
                    f"{'/'.join(operation.methods)} {route} asks for no token", hint=hint, id="runs.E001"
                )


def _is_marked(view: Any) -> bool:
    module = getattr(view, "__module__", "")
    return hasattr(view, "access") or module.startswith(_GUARDED)


def _operations(view: Any) -> list[Operation]:
    """What ninja answers through this view: its view is a closure, and tells of it in no other way."""
    path_view = inspect.getclosurevars(view).nonlocals.get("self") if inspect.isfunction(view) else None
    return path_view.operations if isinstance(path_view, PathView) else []

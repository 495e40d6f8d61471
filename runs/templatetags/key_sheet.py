"""The sheet of keys, which is on every page and the same on all."""

from functools import cache

from django import template
from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from runs.pages.help import KEYS

register = template.Library()


@register.simple_tag
@cache
def key_lists() -> SafeString:
    """All keys, by where they work."""
    return render_to_string("help/keys.html", {"groups": KEYS.items()})

"""Pieces that a page repeats many times, drawn by Jinja: several times as fast as Django's templates.

Everything else is a template of Django's; `*.jinja` files lie beside those and know the same words
(templatetags.look). Values are escaped by themselves, as there.
"""

from functools import cache
from typing import Any

from django.conf import settings
from django.urls import reverse
from django.utils.safestring import SafeString
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from runs.templatetags import look

_WORDS = (
    *("ago", "clock", "duration", "exact_time", "filesize", "icon", "initials", "markdown", "milliseconds"),
    *("moment", "pretty", "relative", "result_bar", "score", "score_bar", "stars_given", "status"),
    *("status_icon", "status_shape", "status_word", "terminal", "thousands", "tokens", "visible"),
)


def draw(template: str, **context: Any) -> SafeString:
    """The template `templates/<template>.jinja` as HTML that Django's templates take as it is.

    Raises jinja2.UndefinedError for a name that the context does not have.
    """
    return SafeString(_environment().get_template(f"{template}.jinja").render(context))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(settings.BASE_DIR / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=settings.DEBUG,
    )
    words = {word: getattr(look, word) for word in _WORDS}
    environment.globals.update(words, url=_url)
    environment.filters.update(words)
    return environment


def _url(name: str, *args: Any) -> str:
    return reverse(name, args=args)

"""Rows of runs in Django's templates; Jinja draws them (pages.run_table)."""

from django import template
from django.template.context import Context
from django.utils.safestring import SafeString

from runs.pages import run_table

register = template.Library()


@register.simple_tag(takes_context=True)
def run_rows(context: Context, oob: bool = False) -> SafeString:
    """The rows of the context's `page`."""
    return run_table.draw_rows(context["request"], context["page"], str(context.get("here", "/")), oob)


@register.simple_tag(takes_context=True)
def live_address(context: Context) -> str:
    """What the rows of the context's `page` ask for as long as one of them moves."""
    return run_table.live_address(context["page"], str(context.get("here", "/")))


@register.simple_tag(takes_context=True)
def rate_cell(context: Context) -> SafeString:
    """The cell of the context's `run` with its `rating`, and what is `wrong`, to be swapped out of band."""
    here, wrong = context.get("here", "/"), context.get("wrong", "")
    return run_table.draw_rating(
        context["request"], context["run"], context.get("rating"), str(here), str(wrong)
    )

"""What is wrong with a document, in one sentence."""

from pydantic import ValidationError


def first_mistake(error: ValidationError) -> tuple[str, str]:
    """Where, as in JavaScript (`eval_cases[0].conversation[1]`, empty for the whole), and what."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in first["loc"]).lstrip(".")
    what = first["msg"].removeprefix("Value error, ")
    more = error.error_count() - 1
    others = f" (and {more} more)" if more else ""
    return place, f"{what[:1].lower()}{what[1:]}{others}"

"""What runs an address or a form asks for: one reading of it for lists, jobs, exports and comparisons."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from django.http import QueryDict
from django.urls import reverse

from runs.models import User
from runs.query import Problem, Query


@dataclass(frozen=True, slots=True)
class Asked:
    """`text` is what stands in the search box; where it has `problems`, nothing is asked."""

    text: str
    query: Query
    problems: Sequence[Problem] = ()


def asked(data: QueryDict, user: User) -> Asked:
    """The query in `q` and in the older parameters (`status`, `agent`, ...), with ages and dates in the
    person's time zone."""
    from runs.pages.run_list import RunFilterForm

    form = RunFilterForm(data, user)
    return Asked(data.get("q", "") if form.problems else str(form.query), form.query, form.problems)


def list_address(text: str, **others: str) -> str:
    """The runs list that asks for `text`."""
    given = {name: value for name, value in {"q": text, **others}.items() if value}
    return f"{reverse('run_list')}?{urlencode(given)}" if given else reverse("run_list")

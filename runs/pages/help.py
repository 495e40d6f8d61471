"""Help: keys, what page is for what, the query language in brief, and the guides of docs/."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path

from django.conf import settings
from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.utils.safestring import SafeString, mark_safe
from django.views.decorators.http import require_safe

from runs import access
from runs.access import SignedInRequest
from runs.models import Action
from runs.pages import text
from runs.query import FIELDS

GUIDES = settings.BASE_DIR / "docs"
_TITLE = re.compile(r"# (.+)\n")
_LINK = re.compile(r"\]\(([a-z-]+)\.md(?:#[\w-]+)?\)")
_HEADING = re.compile(r"<(/?)h([3-6])>")
_TABLE = re.compile('aria-label="Table"')


@dataclass(frozen=True, slots=True)
class Key:
    """`keys` are pressed one after the other, or one of them."""

    keys: Sequence[str]
    does: str


# What static/runfolio.js does, for the sheet behind `?` and for the page.
KEYS: Mapping[str, Sequence[Key]] = {
    "Everywhere": (
        Key(("/",), "write a query"),
        Key(("Esc",), "close what is open, leave a field"),
        Key(("?",), "these keys"),
    ),
    "Go to": (
        Key(("g", "r"), "runs"),
        Key(("g", "s"), "sessions"),
        Key(("g", "v"), "review"),
        Key(("g", "c"), "compare"),
        Key(("g", "t"), "trends"),
        Key(("g", "w"), "workers"),
    ),
    "Lists": (
        Key(("j", "k"), "next, previous row"),
        Key(("Enter",), "open the row"),
        Key(("x",), "select the row"),
        Key(("1–5",), "rate the row"),
    ),
    "A run": (
        Key(("j", "k"), "next, previous message"),
        Key(("[", "]"), "previous, next error"),
        Key(("e",), "fold or unfold the calls"),
        Key(("f",), "find in the text"),
        Key(("1–5",), "rate it"),
        Key(("c",), "comment on it"),
    ),
    "Review": (
        Key(("1–5",), "rate"),
        Key(("Enter",), "done, next"),
        Key(("s",), "skip"),
        Key(("←",), "back"),
        Key(("Esc",), "stop; what you said is kept"),
    ),
}
PAGES: Sequence[tuple[str, str, str]] = (  # those of _NEEDS are for people with that right
    ("Runs", "/", "What agents did and what was said of it: search, open, rate, cancel, retry, export."),
    ("Sessions", "/sessions", "Conversations, each as one thread across its runs."),
    ("Review", "/review", "What waits for a person's opinion, one item after the other."),
    ("Compare", "/compare", "Runs or sets of runs side by side: what got better, what got worse."),
    ("Trends", "/trends", "Pass rate, scores, duration, tokens and cost over time."),
    ("Workers", "/workers", "What waits and why, who works, what could not be delivered."),
    ("Submit", "/submit", "Traces and an eval set become a run; a run goes again with changes."),
    ("Account", "/account", "Your name, password, theme, time zone, and tokens."),
    ("People", "/people", "Who belongs to which owner, and with which role."),
    ("Criteria", "/criteria", "What runs are rated on, beside how they are overall."),
    ("System", "/system", "Database, settings, backups, what is deleted when: how it is and what to do."),
)


_NEEDS = {
    "Submit": Action.SUBMIT,
    "People": Action.MANAGE,
    "Criteria": Action.MANAGE,
    "System": Action.MANAGE,
}


@dataclass(frozen=True, slots=True)
class Guide:
    slug: str
    title: str
    path: Path


@access.signed_in
@require_safe
def help_page(request: SignedInRequest) -> HttpResponse:
    context = {
        "place": "help",
        "pages": _pages(request),
        "fields": FIELDS.values(),
        "guides": guides().values(),
    }
    return render(request, "help/help.html", context)


@access.signed_in
@require_safe
def guide(request: SignedInRequest, slug: str) -> HttpResponse:
    found = guides().get(slug)
    if found is None:
        raise Http404
    context = {"place": "help", "guide": found, "body": _body(found), "guides": guides().values()}
    return render(request, "help/guide.html", context)


def _pages(request: SignedInRequest) -> list[tuple[str, str, str]]:
    """Those that this person may open; staff see the system in any case."""
    rights, staff = request.rights, request.user.is_staff
    return [
        page
        for page in PAGES
        if page[0] not in _NEEDS or rights[_NEEDS[page[0]]] or (staff and page[0] == "System")
    ]


@cache
def guides() -> dict[str, Guide]:
    """The files of docs/ by their names, which are the only ones that can be asked for."""
    found = {}
    for path in sorted(GUIDES.glob("*.md")):
        title = _TITLE.match(path.read_text())
        found[path.stem] = Guide(path.stem, title[1] if title else path.stem, path)
    return found


@cache
def _body(guide: Guide) -> SafeString:
    """The file as HTML, without its title, its headings below the page's own, its links to other guides."""
    written = _TITLE.sub("", guide.path.read_text(), count=1)
    html = text.markdown(_LINK.sub(r"](/help/\1)", written))
    lifted = _HEADING.sub(lambda found: f"<{found[1]}h{max(2, int(found[2]) - 2)}>", html)
    numbers = count(1)
    lifted = _TABLE.sub(
        lambda _: f'aria-label="Table {next(numbers)}"', lifted
    )  # regions have names of their own
    return mark_safe(lifted)  # noqa: S308  it was clean, and headings stay headings

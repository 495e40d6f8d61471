"""Server time of the pages against a plain page in the same rounds (issue 5, "Done when").

In this process, by Django's test client: middleware, sign-in, queries, templates and compression, without
the network. A page's queries and its size before compression are counted in a call of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import batched
from uuid import UUID

from django.conf import settings
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from bench.data import load_runs
from bench.measure import Measured, interleaved
from runs.models import Event, Membership, NewEvent, Owner, Run, User, append_events, transition
from runs.models.paging import Cursor

FEW = 10_000
PLAIN = "plain page"
LIST, RUN = 12, 15  # queries
LARGEST = 300_000  # bytes
GROWTH = 1.3


@dataclass(frozen=True)
class Page:
    """What is asked for, and how many times the plain page and how many queries it may take."""

    address: str
    limit: float
    queries: int
    headers: Mapping[str, str] = field(default_factory=dict)


def main(runs: int, rounds: int) -> None:
    """`runs` in the large owners' lists together; the largest has more than a quarter of them."""
    settings.ROOT_URLCONF = "bench.baseline"
    few, many = load_runs(FEW, "small"), load_runs(runs, "large")
    small, large = (_pages(owners[0], _reader(owners[:1])) for owners in (few, many))
    print(f"-- one owner of {runs:,} runs; limits: times the plain page, queries, {LARGEST:,} bytes")
    took = _measured({**_named(small, "small: "), **_named(large, "")}, rounds)
    base = took[PLAIN].milliseconds
    print(f"{PLAIN:34} {base:8.2f} ms", flush=True)
    for name, (client, page) in large.items():
        now, before = took[name].milliseconds, took[f"small: {name}"].milliseconds
        queries, size = _counted(client, page)
        wrong = [
            *(["SLOW"] if now > page.limit * base else []),
            *(["GROWS"] if now > GROWTH * before else []),
            *(["QUERIES"] if queries > page.queries else []),
            *(["LARGE"] if size > LARGEST else []),
        ]
        print(
            f"{name:34} {now:8.2f} ms {now / base:6.2f} x (limit {page.limit:g})"
            f" {now / before:6.2f} x of {FEW:,} runs {queries:3} queries {size:8,} bytes  {' '.join(wrong)}",
            flush=True,
        )
    everybody = _reader(many)
    wide = {"somebody of 20 owners: list": (everybody, Page("/", 3, LIST))}
    for name, one in _measured({PLAIN: next(iter(large.values())), **wide}, rounds).items():
        print(f"{name:34} {one.milliseconds:8.2f} ms")


def _named(pages: Mapping[str, tuple[Client, Page]], prefix: str) -> dict[str, tuple[Client, Page]]:
    plain = {} if prefix else {PLAIN: (next(iter(pages.values()))[0], Page("/plain", 1, LIST))}
    return {**plain, **{f"{prefix}{name}": page for name, page in pages.items()}}


def _measured(pages: Mapping[str, tuple[Client, Page]], rounds: int) -> dict[str, Measured]:
    steps = {name: partial(_get, client, page) for name, (client, page) in pages.items()}
    for step in steps.values():  # what is read once a process is read
        step()
    return interleaved(steps, rounds, calls=3)


def _get(client: Client, page: Page) -> int:
    response = client.get(page.address, headers=page.headers)
    assert response.status_code == 200, f"{page.address} answers {response.status_code}"
    return len(response.content)


def _counted(client: Client, page: Page) -> tuple[int, int]:
    with CaptureQueriesContext(connection) as captured:
        size = _get(client, page)
    return len(captured), size


def _reader(owners: list[Owner]) -> Client:
    person = User.objects.create(username=f"reader of {owners[0]} and {len(owners) - 1} more")
    for owner in owners:
        Membership.objects.create(user=person, owner=owner, role=Membership.Role.ADMIN)
    client = Client(SERVER_NAME="127.0.0.1")
    client.force_login(person, backend="django.contrib.auth.backends.ModelBackend")
    return client


def _pages(owner: Owner, client: Client) -> dict[str, tuple[Client, Page]]:
    newest = Run.objects.filter(owner=owner, status="succeeded").newest_first()[0]
    short, long = _task(owner, 20, 500), _task(owner, 10_000, 500)
    heavy, huge = _task(owner, 10_000, 5_000), _task(owner, 1, 50_000_000, first=2)
    deep = Cursor(*Run.objects.filter(owner=owner).newest_first().values_list("created_at", "id")[1_000])
    pages = {
        "runs list": Page("/", 3, LIST),
        "filter change": Page("/?q=status:failed", 2, LIST, _htmx("list")),
        "older rows": Page(f"/?after={deep}", 2, LIST, _htmx("rows")),
        "peek": Page(f"/runs/{newest.pk}/peek", 2, LIST, _htmx("peek")),
        "run of 20 events": Page(f"/runs/{short}", 2, RUN),
        "run of 10,000 events": Page(f"/runs/{long}", 2, RUN),
        "  a window of it": Page(f"/runs/{long}?tab=transcript&before=5001", 2, RUN, _htmx("transcript")),
        "run of 10,000 events, 50 MB": Page(f"/runs/{heavy}", 2, RUN),
        "run of one event, 50 MB": Page(f"/runs/{huge}", 2, RUN),
        "peek at 50 MB": Page(f"/runs/{huge}/peek", 2, LIST, _htmx("peek")),
    }
    return {name: (client, page) for name, page in pages.items()}


def _htmx(target: str) -> dict[str, str]:
    return {"HX-Request": "true", **({"HX-Target": target} if target else {})}


def _task(owner: Owner, events: int, size: int, first: int = 0) -> UUID:
    """A finished conversation of so many events of about so many bytes each: talk, calls and their results.

    `first` is which of those it begins with.
    """
    run = Run.objects.open_task(owner, agent="agent 0")
    transition(run, Run.Status.RUNNING)
    for some in batched(range(first, first + events), 500):
        append_events(run, [_event(number, size) for number in some])
    transition(run, Run.Status.SUCCEEDED)
    return run.pk


def _event(number: int, size: int) -> NewEvent:
    said = f"Event {number} of it. " + "These are words as an agent writes them. " * (size // 42 + 1)
    call = {"call_id": f"call {number - number % 4}", "name": "look_up"}
    kinds = (
        (Event.Kind.MESSAGE, "user", {"parts": [{"text": said[:size]}]}),
        (Event.Kind.TOOL_CALL, "agent", {**call, "arguments": {"text": said[:size]}}),
        (Event.Kind.TOOL_RESULT, "tool", {**call, "result": {"lines": said[:size].split(". ")}}),
        (Event.Kind.MESSAGE, "agent", {"parts": [{"text": said[:size]}], "output_tokens": 40}),
    )
    kind, role, payload = kinds[number % 4]
    return NewEvent(kind, payload, role=role)

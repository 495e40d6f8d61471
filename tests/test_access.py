"""Who gets what at every route: the access table (RELIABILITY.md S4), and that nothing leaks beside it."""

import re
from collections.abc import Iterator

import pytest
from django.contrib.admin.sites import site as admin_site
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, URLResolver, get_resolver, path
from ninja import NinjaAPI

from runs import access
from runs.models import Artifact, Membership, Run, Session
from tests.conftest import Api
from tests.pages.helpers import make_task, said
from tests.walk import CANARY, MEMBERS, SPEC, World, fill, taken

# One letter for each of these, in this order.
PEOPLE = ("nobody", "stranger", *MEMBERS, "superuser")  # the stranger is another owner's admin
TOKENS = ("read", "write", "foreign", "expired", "revoked")
EVERYBODY = (*PEOPLE, *TOKENS)
OUTSIDERS = ("nobody", "stranger", "superuser", "foreign", "expired", "revoked")  # all but the owner's own

# + is answered   s is sent to the sign-in page   0 is told that nothing is there   x may see but not do it
# k needs a good token   - is a choice that there is not
TABLE = {
    #                                                           nobody, stranger, v r o a, superuser; tokens
    "GET /": "s++++++ sssss",
    "GET /first-run": "s++++++ sssss",
    "GET /runs/<uuid:run_id>": "s0++++0 sssss",
    "GET /runs/<uuid:run_id>/status": "s0++++0 sssss",
    "GET /live": "s++++++ sssss",
    "GET /newer": "s++++++ sssss",
    "GET /strip": "s++++++ sssss",
    "GET /completion": "s++++++ sssss",
    "GET /views/new": "s++++++ sssss",
    "POST /views/new": "s++++++ sssss",
    # A shared view: who may submit for its owner changes it.
    "GET /views/<int:view_id>": "s0xx++0 sssss",
    "POST /views/<int:view_id>": "s0xx++0 sssss",
    "POST /views/<int:view_id>/delete": "s0xx++0 sssss",
    "GET /runs/<uuid:run_id>/peek": "s0++++0 sssss",
    "GET /runs/<uuid:run_id>/events/<int:seq>": "s0++++0 sssss",
    "GET /runs/<uuid:run_id>/events/<int:seq>/files/<int:number>": "s0++++0 sssss",
    "GET /runs/<uuid:run_id>/events/<int:seq>/body": "s0++++0 sssss",
    "GET /runs/<uuid:run_id>/outline": "s0++++0 sssss",
    "GET /runs/<uuid:run_id>/rail": "s0++++0 sssss",
    "GET /runs/<uuid:run_id>/json/<slug:part>": "s0++++0 sssss",
    "GET /runs/<uuid:run_id>/tree/<slug:part>": "s0++++0 sssss",
    "GET /runs/<uuid:run_id>/artifacts/<int:number>": "s0++++0 sssss",
    "POST /runs/<uuid:run_id>/feedback": "s0x+++0 sssss",
    "GET /runs/<uuid:run_id>/cancel": "s0xx++0 sssss",
    "POST /runs/<uuid:run_id>/cancel": "s0xx++0 sssss",
    "GET /runs/<uuid:run_id>/force": "s0xx++0 sssss",
    "POST /runs/<uuid:run_id>/force": "s0xx--0 sssss",
    "GET /runs/<uuid:run_id>/retry": "s0xx++0 sssss",
    "POST /runs/<uuid:run_id>/retry": "s0xx--0 sssss",
    "GET /runs/<uuid:run_id>/delete": "s0xx++0 sssss",
    "POST /runs/<uuid:run_id>/delete": "s0xx++0 sssss",
    "POST /runs/<uuid:run_id>/restore": "s0xx++0 sssss",
    "GET /deleted": "s+xx++x sssss",
    "GET /bulk": "s++++++ sssss",
    "POST /bulk/ask": "s+xx++x sssss",
    "POST /bulk/start": "s-xx++x sssss",
    # A job is the one's who started it.
    "GET /bulk/<uuid:job_id>": "s0000+0 sssss",
    "GET /bulk/<uuid:job_id>/progress": "s0000+0 sssss",
    "POST /bulk/<uuid:job_id>/stop": "s0000+0 sssss",
    "POST /bulk/<uuid:job_id>/undo": "s0000+0 sssss",
    "GET /export": "s++++++ sssss",
    "POST /export": "s++++++ sssss",
    "GET /export/choose": "s++++++ sssss",
    "GET /import": "s+xx++x sssss",
    "POST /import": "s-xx++x sssss",
    "GET /sessions": "s++++++ sssss",
    "GET /sessions/<uuid:session_id>": "s0++++0 sssss",
    "GET /runs/<uuid:task_id>/evaluate": "s0xx++0 sssss",
    "POST /runs/<uuid:task_id>/evaluate": "s0xx++0 sssss",
    "GET /sessions/<uuid:session_id>/evaluate": "s0xx++0 sssss",
    "POST /sessions/<uuid:session_id>/evaluate": "s0xx++0 sssss",
    "POST /runs/<uuid:run_id>/try-now": "s0xx++0 sssss",
    "POST /runs/<uuid:run_id>/deliveries/<int:delivery_id>/resend": "s0xx++0 sssss",
    "GET /compare": "s++++++ sssss",
    "GET /trends": "s++++++ sssss",
    # The queue and the workers are everybody's; what they run is its owner's.
    "GET /workers": "s++++++ sssss",
    "GET /workers/pause": "sxxxxx+ sssss",
    "POST /workers/pause": "sxxxxx+ sssss",
    "POST /workers/resume": "sxxxxx+ sssss",
    "POST /workers/<path:worker>/drain": "sxxxxx+ sssss",
    "GET /workers/<path:worker>/release": "s0xx++0 sssss",
    "POST /workers/<path:worker>/release": "s0xx++0 sssss",
    "GET /submit": "s+xx++x sssss",
    "POST /submit": "s-xx++x sssss",
    "GET /submit/spec": "s+xx++x sssss",
    "POST /submit/spec": "s-xx++x sssss",
    # Who may rate reviews; who manages an owner says on what.
    "GET /review": "s++++++ sssss",
    "GET /review/new": "s+x+++x sssss",
    "POST /review/new": "s-x+++x sssss",
    "GET /review/<int:queue_id>": "s0x+++0 sssss",
    "GET /review/<int:queue_id>/change": "s0x+++0 sssss",
    "POST /review/<int:queue_id>/change": "s0x+++0 sssss",
    "POST /review/<int:queue_id>/close": "s0x+++0 sssss",
    "POST /review/<int:queue_id>/reopen": "s0x+++0 sssss",
    "POST /review/<int:queue_id>/again": "s0x+++0 sssss",
    "POST /review/<int:queue_id>/stop": "s0x+++0 sssss",
    "GET /review/<int:queue_id>/<int:item_id>": "s0x+++0 sssss",
    "POST /review/<int:queue_id>/<int:item_id>": "s0x+++0 sssss",
    "POST /review/<int:queue_id>/<int:item_id>/ping": "s0x+++0 sssss",
    "GET /criteria": "s+xxx+x sssss",
    "POST /criteria": "s-xxx+x sssss",
    "GET /criteria/<int:criterion_id>": "s0xxx+0 sssss",
    "POST /criteria/<int:criterion_id>": "s0xxx+0 sssss",
    "POST /criteria/<int:criterion_id>/move": "s0xxx+0 sssss",
    "POST /criteria/<int:criterion_id>/retire": "s0xxx+0 sssss",
    "POST /criteria/<int:criterion_id>/bring-back": "s0xxx+0 sssss",
    "GET /account": "s++++++ sssss",
    "POST /account/name": "s++++++ sssss",
    "POST /account/password": "s++++++ sssss",
    "POST /account/theme": "s++++++ sssss",
    "POST /account/zone": "s++++++ sssss",
    "POST /account/tokens": "s-xxx+x sssss",
    "POST /account/tokens/<int:token_id>/revoke": "s0xxx+0 sssss",
    # For whoever manages an owner; the figures of the system also for staff.
    "GET /people": "s+xxx+x sssss",
    "POST /people/<int:owner_id>/add": "s0xxx+0 sssss",
    "POST /people/<int:owner_id>/name": "s0xxx+0 sssss",
    "POST /people/members/<int:member_id>/role": "s0xxx+0 sssss",
    "POST /people/members/<int:member_id>/remove": "s0xxx+0 sssss",
    "POST /people/members/<int:member_id>/link": "s0xxx+0 sssss",
    "GET /system": "s+xxx++ sssss",
    "GET /help": "s++++++ sssss",
    "GET /help/<slug:slug>": "s++++++ sssss",
    # Public: nothing there is an owner's.
    "GET /sign-in": "+++++++ +++++",
    "POST /sign-in": "+++++++ +++++",
    "GET /sign-in/link/<str:secret>": "+++++++ +++++",
    "POST /sign-in/link/<str:secret>": "+++++++ +++++",
    "POST /sign-out": "sssssss sssss",
    "GET /healthz": "+++++++ +++++",
    "GET /readyz": "+++++++ +++++",
    "GET /metrics": "+++++++ +++++",
    "GET /api/docs": "+++++++ +++++",
    "GET /api/openapi.json": "+++++++ +++++",
    "GET /api/": "0000000 00000",  # ninja's own, which says where the documentation is
    # The API takes tokens, never the session cookie.
    "GET /api/runs": "kkkkkkk +x+kk",
    "POST /api/runs": "kkkkkkk x++kk",
    "GET /api/runs/<run_id>": "kkkkkkk +x0kk",
    "GET /api/runs/<run_id>/results": "kkkkkkk +x0kk",
    "POST /api/runs/<run_id>/cancel": "kkkkkkk x+0kk",
    # agentevals' other paths; comparing sessions needs both to see them and to submit.
    "POST /api/evaluate": "kkkkkkk x++kk",
    "POST /api/evaluate/stream": "kkkkkkk x++kk",
    "POST /api/evaluate/json": "kkkkkkk x++kk",
    "POST /api/evaluate/json/stream": "kkkkkkk x++kk",
    "POST /api/convert": "kkkkkkk +x+kk",
    "POST /api/validate/eval-set": "kkkkkkk +x+kk",
    "GET /api/metrics": "kkkkkkk +x+kk",
    "GET /api/health": "kkkkkkk +x+kk",
    "GET /api/config": "kkkkkkk +x+kk",
    "GET /api/streaming/sessions": "kkkkkkk +x+kk",
    "GET /api/streaming/sessions/<path:live_key>/otlp": "kkkkkkk +x0kk",
    "POST /api/streaming/get-trace": "kkkkkkk +x0kk",
    "POST /api/streaming/create-eval-set": "kkkkkkk +x0kk",
    "POST /api/streaming/evaluate-sessions": "kkkkkkk x00kk",
    "POST /api/streaming/prepare-evaluation": "kkkkkkk +x0kk",
    "GET /api/streaming/download/<filename>": "kkkkkkk +x0kk",
    "GET /stream/ui-updates": "kkkkkkk +x+kk",
    "POST /api/sinks/agentevals": "kkkkkkk x++kk",
    # OpenTelemetry, whose shape of errors is google.rpc.Status.
    "POST /v1/traces": "kkkkkkk x++kk",
    "POST /v1/logs": "kkkkkkk x++kk",
    # Files of OpenHands: which one is said in the query (tests/api/test_files.py).
    "GET /api/files/content": "kkkkkkk -x-kk",
    "PUT /api/files/content": "kkkkkkk x--kk",
    "DELETE /api/files/content": "kkkkkkk x--kk",
    "GET /api/files/names": "kkkkkkk -x-kk",
    "GET /api/files/exists": "kkkkkkk -x-kk",
    "POST /api/files/lock": "kkkkkkk x--kk",
    "PUT /api/files/lock": "kkkkkkk x--kk",
    "DELETE /api/files/lock": "kkkkkkk x--kk",
    # Tasks of agents. Who may read them need not see where they push.
    "GET /api/tasks": "kkkkkkk +x+kk",
    "POST /api/tasks": "kkkkkkk x++kk",
    "DELETE /api/tasks": "kkkkkkk x++kk",
    "POST /api/tasks/bulk": "kkkkkkk x++kk",  # each line says what it came to
    "GET /api/tasks/count": "kkkkkkk +x+kk",
    "GET /api/tasks/push-configs": "kkkkkkk x++kk",
    "GET /api/tasks/<task_id>": "kkkkkkk +x0kk",
    "GET /api/tasks/<task_id>/owner": "kkkkkkk +x0kk",
    "POST /api/tasks/<task_id>/updates": "kkkkkkk x+0kk",
    "POST /api/tasks/<task_id>/transition": "kkkkkkk x+0kk",
    "POST /api/tasks/<task_id>/cancel": "kkkkkkk x+0kk",
    "GET /api/tasks/<task_id>/feedback": "kkkkkkk +x0kk",
    "POST /api/tasks/<task_id>/feedback": "kkkkkkk x+0kk",
    "GET /api/tasks/<task_id>/push-config": "kkkkkkk x+0kk",
    "PUT /api/tasks/<task_id>/push-config": "kkkkkkk x+0kk",
    "DELETE /api/tasks/<task_id>/push-config": "kkkkkkk x+0kk",
    # A context of this id is then the caller's own.
    "GET /api/contexts": "kkkkkkk +x+kk",
    "GET /api/contexts/<context_id>": "kkkkkkk +x0kk",
    "PUT /api/contexts/<context_id>": "kkkkkkk x++kk",
    "DELETE /api/contexts/<context_id>": "kkkkkkk x+0kk",
    "GET /api/contexts/<context_id>/owner": "kkkkkkk +x0kk",
    "GET /api/contexts/<context_id>/tasks": "kkkkkkk +x+kk",
    "GET /api/contexts/<context_id>/messages": "kkkkkkk +x0kk",
    "POST /api/contexts/<context_id>/messages": "kkkkkkk x++kk",
    # A2A: of its methods these two are called, which read; tests/api/test_a2a.py calls all.
    "GET /.well-known/agent.json": "+++++++ +++++",
    "GET /a2a/.well-known/agent.json": "+++++++ +++++",
    "POST /a2a": "kkkkkkk +x+kk",
    "POST /a2a/": "kkkkkkk +x+kk",
    "POST /api/push": "kkkkkkk x++kk",
}  # fmt: skip


@pytest.fixture
def world(db: None) -> World:
    return World()


# ── The table ──────────────────────────────────────────────────────────────
def test_every_route_and_method_is_in_the_table(world):
    there = taken(world)
    assert there - set(TABLE) == set(), "Say in TABLE of tests/test_access.py who may call these"
    assert set(TABLE) - there == set(), "TABLE of tests/test_access.py has entries of routes that are gone"


def test_a_route_that_is_not_in_the_table_is_found(world, settings):
    settings.ROOT_URLCONF = (*get_resolver().url_patterns, path("forgotten", _forgotten))
    assert "PUT /forgotten" in taken(world) - set(TABLE)


@pytest.mark.parametrize("entry", TABLE)
def test_everybody_gets_what_the_table_says(world, entry):
    assert differences(world, entry, TABLE[entry]) == []


def test_a_wrong_expectation_fails(world):
    entry = "POST /runs/<uuid:run_id>/cancel"
    wrong = TABLE[entry].replace("xx", "x+")
    assert differences(world, entry, wrong) == [f"reviewer: {entry} gives x (403), the table says +"]


def test_head_is_as_get(world):
    for route in (entry.removeprefix("GET ") for entry in TABLE if entry.startswith("GET /runs")):
        for name in PEOPLE:
            get, head = (world.visitors[name].call(way, fill(route, world.ids)) for way in ("GET", "HEAD"))
            assert head.status_code == get.status_code


def differences(world: World, entry: str, expected: str) -> list[str]:
    """A sentence for everybody who gets something else than the letter in `expected` says."""
    method, _, route = entry.partition(" ")
    wrong = []
    for name, letter in zip(EVERYBODY, expected.replace(" ", ""), strict=True):
        response = world.visitors[name].call(method, fill(route, world.ids), world.body(route))
        given = _letter(response)
        if given != letter:
            wrong.append(f"{name}: {entry} gives {given} ({response.status_code}), the table says {letter}")
    return wrong


def _letter(response: HttpResponse) -> str:
    if response.get("Location", "").startswith("/sign-in"):
        return "s"
    named = {401: "k", 403: "x", 404: "0", 422: "-"}
    return "+" if response.status_code < 400 else named.get(response.status_code, "?")


def _forgotten(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


# ── The admin ──────────────────────────────────────────────────────────────
def test_nobody_is_sent_from_every_page_of_the_admin_to_the_sign_in_page(world):
    assert len(admin_addresses()) > 60
    for address in admin_addresses():
        landed = _landed(world, "nobody", address)
        assert (address, landed.request["PATH_INFO"]) == (address, "/sign-in")


def test_a_member_who_is_not_staff_is_refused_every_page_of_the_admin(world):
    for address in admin_addresses():
        assert (address, _landed(world, "admin", address).status_code) == (address, 403)


def test_a_superuser_is_let_into_the_admin(world):
    assert _landed(world, "superuser", "/admin/runs/run/").status_code == 200


def admin_addresses() -> list[str]:
    """An address of every view of the admin; signing out, which anybody may, is not one."""
    addresses = _below(admin_site.urls[0], "/admin/")
    return [address for address in addresses if address != "/admin/logout/"]


def _below(entries: list[URLPattern | URLResolver], prefix: str) -> Iterator[str]:
    for entry in entries:
        address = prefix + _EXAMPLES.sub(_example, str(entry.pattern)).strip("^$")
        if isinstance(entry, URLResolver):
            yield from _below(entry.url_patterns, address)
        else:
            yield address


_EXAMPLES = re.compile(r"<[^>]+>|\(\?P<app_label>[^)]+\)|\(\?P<url>[^)]+\)")


def _example(parameter: re.Match[str]) -> str:
    """A value for a parameter of the admin's routes."""
    return "runs" if "app_label" in parameter[0] else "1"


def _landed(world: World, name: str, address: str) -> HttpResponse:
    """Where somebody ends who follows the redirects from there."""
    response = world.visitors[name].call("GET", address)
    for _ in range(3):
        if response.status_code != 302:
            break
        address = response["Location"]
        response = world.visitors[name].call("GET", address)
    return response


# ── Beside the table ───────────────────────────────────────────────────────
WITH_IDS = [entry for entry in TABLE if "_id>" in entry]


@pytest.mark.parametrize("name", ["stranger", "superuser", "foreign"])
def test_what_is_anothers_looks_as_what_is_missing(world, name):
    for entry in WITH_IDS:
        method, _, route = entry.partition(" ")
        theirs, missing = (
            world.visitors[name].call(method, fill(route, ids), world.body(route))
            for ids in (world.ids, world.missing)
        )
        assert (theirs.status_code, _anonymous(theirs)) == (missing.status_code, _anonymous(missing))


def _anonymous(response: HttpResponse) -> str:
    """The body without times, and ids of things and requests and CSRF tokens, which differ anyway."""
    body = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+", "TIME", response.content.decode())
    return re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|\b\w{64}\b|\b[0-9a-f]{16}\b", "ID", body)


@pytest.mark.parametrize("name", OUTSIDERS)
def test_no_word_of_an_owner_gets_outside(world, name):
    for entry in TABLE:
        method, _, route = entry.partition(" ")
        for address in world.addresses(route):
            answer = world.visitors[name].call(method, address, world.body(route))
            assert CANARY not in answer.content.decode(), address


def test_a_member_sees_these_words(world):
    """Else the test above could not fail."""
    viewer = world.visitors["viewer"]
    for address in ("/", "/sessions", *world.addresses("/runs/<uuid:run_id>")):
        assert CANARY in viewer.call("GET", address).content.decode(), address


def test_what_a_run_holds_is_not_reached_through_another_run(world):
    mine = make_task(world.elsewhere, said("mine"))
    for route in ("artifacts/<int:number>", "events/<int:seq>/files/<int:number>"):
        address = fill(f"/runs/<run_id>/{route}", {**world.ids, "run_id": mine.pk})
        assert world.visitors["stranger"].call("GET", address).status_code == 404
    assert Artifact.objects.filter(pk=1).exists()


# ── What is refused says why, and is not offered ───────────────────────────
def test_it_says_which_role_is_needed(world):
    page = world.visitors["viewer"].call("POST", f"/runs/{world.run.pk}/cancel", {"reason": "why"})
    assert "Cancelling needs the role operator; you are viewer of canary works." in page.content.decode()


def test_one_who_belongs_nowhere_is_told_so(world):
    page = world.visitors["superuser"].call("GET", "/submit").content.decode()
    assert "Submitting needs the role operator; you belong to no owner." in page


def test_it_says_which_scope_is_needed(world):
    answer = world.visitors["read"].call("POST", f"/api/runs/{world.run.pk}/cancel")
    assert answer.json() == {"detail": "Cancelling needs a token with the scope write."}


@pytest.mark.parametrize(
    ("role", "offered"),
    [
        ("viewer", set()),
        ("reviewer", {"rate"}),
        ("operator", {"rate", "cancel", "submit", "evaluate", "release", "resend"}),
        ("admin", {"rate", "cancel", "submit", "evaluate", "release", "resend", "tokens"}),
    ],
)
def test_only_what_one_may_do_is_offered(world, role, offered):
    session, runs = f"/sessions/{world.session.pk}", [f"/runs/{run.pk}" for run in (world.run, world.task)]
    addresses = ("/", *runs, "/sessions", session, "/workers", "/account")
    pages = "".join(world.visitors[role].call("GET", address).content.decode() for address in addresses)
    marks = {
        "rate": f'action="/runs/{world.run.pk}/feedback"',
        "cancel": f'href="/runs/{world.run.pk}/cancel"',
        "submit": 'href="/submit"',
        "evaluate": f'href="{session}/evaluate"',
        "release": 'href="/workers/there/1/release"',
        "resend": f"/deliveries/{world.ids['delivery_id']}/resend",
        "tokens": 'action="/account/tokens',
    }
    assert {name for name, mark in marks.items() if mark in pages} == offered


def test_a_rating_is_shown_to_one_who_may_not_rate(world):
    page = world.visitors["viewer"].call("GET", f"/runs/{world.run.pk}").content.decode()
    assert 'aria-label="3 of 5"' in page


def test_a_role_for_one_owner_is_none_for_another(world):
    operator = world.visitors["operator"].user
    Membership.objects.create(user=operator, owner=world.elsewhere, role="viewer")
    theirs = make_task(world.elsewhere, said("theirs"))
    cancel = {"reason": "why"}
    assert world.visitors["operator"].call("POST", f"/runs/{theirs.pk}/cancel", cancel).status_code == 403
    form = world.visitors["operator"].call("GET", "/submit").content.decode()
    assert "elsewhere" not in form
    body = {**world.body("/submit"), "owner": world.elsewhere.pk}
    assert world.visitors["operator"].call("POST", "/submit", body).status_code == 403


# ── Writing ────────────────────────────────────────────────────────────────
def test_another_owners_run_id_conflicts_and_nothing_is_shown(world):
    for spec in (SPEC, world.run.full_spec):
        body = {"runId": str(world.run.pk), "spec": spec}
        answer = world.visitors["foreign"].call("POST", "/api/runs", body)
        assert answer.status_code == 409
        assert answer.json() == {"detail": {"message": "run_id already exists with a different spec"}}


def test_another_owners_session_key_is_a_session_of_ones_own(world):
    before = Session.objects.get(pk=world.session.pk).run_count
    status, answer = Api(world.visitors["foreign"].secret).post(
        body={"spec": {**SPEC, "context": {"session": world.session.key}}}
    )
    made = Run.objects.get(pk=answer["data"]["runId"])
    assert status == 202
    assert made.session_id != world.session.pk
    assert made.session.owner_id == made.owner_id
    assert Session.objects.get(pk=world.session.pk).run_count == before


# ── The system check ───────────────────────────────────────────────────────
def _api(**options: object) -> tuple[URLPattern, ...]:
    """The routes of an API with one operation."""
    api = NinjaAPI(urls_namespace="control", docs_url=None, openapi_url=None)
    api.get("/open", **options)(lambda request: {})
    patterns = api.urls[0]
    for pattern in patterns:
        access.token_only(pattern.callback)
    return tuple(patterns)


def test_a_view_without_a_mark_is_found(settings):
    settings.ROOT_URLCONF = (path("forgotten", _forgotten),)
    with pytest.raises(SystemCheckError, match="forgotten has no access mark"):
        call_command("check")


def test_an_api_operation_without_a_token_is_found(settings):
    settings.ROOT_URLCONF = _api()
    with pytest.raises(SystemCheckError, match="GET open asks for no token"):
        call_command("check")


def test_an_api_operation_that_asks_for_a_token_or_is_marked_public_is_fine(settings):
    settings.ROOT_URLCONF = _api(auth=lambda request: True)
    call_command("check")

"""The system page: how Runfolio and its database are, and what to do (issue 5, point 11).

For those who manage an owner, and for staff. The figures are of the whole database and name nobody; what is
due to be deleted is of one's own owners. Nothing secret is shown: of settings, whether they are set.
"""

import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import django
from django.conf import settings
from django.db import DatabaseError
from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_safe

from project import env, postgres
from runs import access
from runs.access import SignedInRequest
from runs.models import Action, Deletion, Extent, Owner, RetentionPolicy, health, owner_ids, require
from runs.models.queue_view import posts
from runs.models.retention import due_of
from runs.pages.parts import wants
from runs.templatetags.look import duration, filesize

LATELY = 10  # deletions
PARTS = ("space", "due")  # they take their time, so that each asks for itself
_LONG = timedelta(minutes=5)
_MUCH = 0.2  # of a table's rows


@dataclass(frozen=True, slots=True)
class Check:
    """A line: how something is (`ok`, `attention`, `problem`), in a sentence, and what to do about it."""

    name: str
    state: str
    says: str
    to_do: str = ""


@dataclass(frozen=True, slots=True)
class DueLine:
    owner: Owner
    reason: str
    extent: Extent


@access.signed_in
@require_safe
def system(request: SignedInRequest) -> HttpResponse:
    """The page, or one of PARTS where htmx asks for it; without script `part` fills it in."""
    if not request.user.is_staff:
        require(request.user, Action.MANAGE)
    part = next((name for name in PARTS if wants(request, name)), None)
    context: dict[str, Any] = {"place": "system", "now": timezone.now(), "patience": health.PATIENCE}
    for name in PARTS if part is None else (part,):
        if name in (part, request.GET.get("part")):
            context[name] = _tried(partial(_FIGURES[name], request))
    if part is None:
        context |= _at_once(request)
    template = "system/system.html" if part is None else f"system/system.html#{part}"
    response = render(request, template, context)
    patch_vary_headers(response, ["HX-Request", "HX-Target"])
    return response


def _at_once(request: SignedInRequest) -> dict[str, Any]:
    groups = {
        "Database": [*_lines("Database", _database), *_lines("Connections", _activity), *_disk()],
        "Programs": [*_lines("Migrations", _migrations), *_lines("Workers", _workers), *_versions()],
        "Settings": list(_settings()),
    }
    return {
        "groups": groups,
        "troubles": [check for checks in groups.values() for check in checks if check.state != "ok"],
        "deletions": Deletion.objects.allowing(request.user, Action.MANAGE).select_related("owner")[:LATELY],
        "upkeep": duration(timedelta(seconds=settings.UPKEEP_INTERVAL)),
    }


# ── Figures that may fail ──────────────────────────────────────────────────
def _tried(figure: Callable[[], Any]) -> dict[str, Any]:
    """`value`, or `problem` in words: what one figure cannot tell must not hide the others."""
    try:
        with health.patient():
            return {"value": figure()}
    except DatabaseError as error:
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        return {"problem": what}


def _lines(name: str, checks: Callable[[], Iterator[Check]]) -> list[Check]:
    found = _tried(lambda: list(checks()))
    if "problem" in found:
        return [
            Check(name, "attention", f"PostgreSQL did not tell: {found['problem']}.", "Load the page again.")
        ]
    return list(found["value"])


def _space(request: SignedInRequest) -> dict[str, Any]:
    groups = health.space()
    total = sum(one.rows + one.indexes for one in groups)
    return {"groups": groups, "total": total, "dead": list(_dead())}


def _due(request: SignedInRequest) -> dict[str, Any]:
    """What would go by itself now, of the owners that this person manages."""
    now, lines = timezone.now(), []
    for owner in Owner.objects.filter(pk__in=owner_ids(request.user, Action.MANAGE)):
        lines += [DueLine(owner, due.reason, due.extent()) for due in due_of(owner, now)]
    policies = RetentionPolicy.objects.allowing(request.user, Action.MANAGE).filter(enabled=True)
    return {
        "lines": [line for line in lines if line.extent.runs],
        "policies": policies.select_related("owner"),
        "total": sum((line.extent for line in lines), Extent()),
    }


_FIGURES = {"space": _space, "due": _due}


# ── The database ───────────────────────────────────────────────────────────
def _database() -> Iterator[Check]:
    found = health.database()
    where = "its own, beside these pages" if _is_embedded() else "a server of yours"
    yield Check(
        "PostgreSQL",
        "ok",
        f"Version {found.version}, {where}, up for {duration(timezone.now() - found.since)}.",
    )
    yield Check("Size", "ok", f"{filesize(found.bytes)} on disk.")
    if found.guarded:
        yield Check("Guards", "ok", "Two roles: whoever serves may not alter what was recorded.")
    else:
        yield Check(
            "Guards",
            "attention",
            "One role: the record is guarded by triggers alone.",
            "Make a second role that owns the tables and name it in DATABASE_MIGRATE_URL.",
        )


def _is_embedded() -> bool:
    """Whether it is the data folder's own, which `manage.py up` names to its processes as any other."""
    running = postgres.address(settings.RUNFOLIO_DATA)
    host = settings.DATABASES["default"].get("HOST")
    return running is not None and env.database_from_url(running[0])["HOST"] == host


def _activity() -> Iterator[Check]:
    found = health.activity()
    crowded = found.connections > 0.8 * found.most
    yield Check(
        "Connections",
        "attention" if crowded else "ok",
        f"{found.connections} of {found.most}.",
        "Lower DATABASE_POOL_SIZE, start fewer processes, or raise max_connections." if crowded else "",
    )
    if found.oldest is None:
        yield Check("Oldest transaction", "ok", "None is open.")
        return
    waiting = f", and {found.blocked} others wait for a lock" if found.blocked else ""
    long = found.oldest > _LONG
    yield Check(
        "Oldest transaction",
        "attention" if long or found.blocked else "ok",
        f"Open for {duration(found.oldest)} by process {found.pid}, {found.state or 'unseen'}{waiting}.",
        f"Dead rows stay until it ends. SELECT pg_terminate_backend({found.pid}) ends it." if long else "",
    )


def _dead() -> Iterator[Check]:
    for one in health.dead():
        when = (
            f"cleaned {duration(timezone.now() - one.cleaned_at)} ago" if one.cleaned_at else "never cleaned"
        )
        much = one.share > _MUCH
        yield Check(
            one.table,
            "attention" if much else "ok",
            f"{one.share:.0%} of its rows, about {one.dead:,}, are left over from changes; {when}.",
            f"If that stays, a transaction holds them, or run VACUUM {one.table}." if much else "",
        )


def _disk() -> Iterator[Check]:
    """Of the place where the data folder lies; PostgreSQL's own, where it is the embedded one."""
    try:
        disk = shutil.disk_usage(settings.RUNFOLIO_DATA)
    except OSError:
        return
    embedded = _is_embedded()
    what = "Disk" if embedded else "Disk of the data folder"
    share = disk.free / max(1, disk.total)
    state = "problem" if share < 0.03 else "attention" if share < 0.1 else "ok"
    elsewhere = "" if embedded else " PostgreSQL's own is not seen from here."
    yield Check(
        what,
        state,
        f"{filesize(disk.free)} of {filesize(disk.total)} free, {share:.0%}.{elsewhere}",
        "" if state == "ok" else "Delete runs by a retention policy, or give it a larger disk.",
    )


# ── Programs ───────────────────────────────────────────────────────────────
def _migrations() -> Iterator[Check]:
    missing = health.missing_migrations()
    if not missing:
        yield Check("Migrations", "ok", "All are applied.")
    else:
        names = ", ".join(missing[:3])
        yield Check(
            "Migrations", "problem", f"{len(missing)} are missing: {names}.", "Run manage.py migrate."
        )


def _workers() -> Iterator[Check]:
    known = posts()
    silent = sum(post.silent for post in known)
    alive = len(known) - silent
    if not alive:
        yield Check("Workers", "problem", "None is alive: evaluations wait, nothing is deleted by itself.",
                    "Start one with manage.py worker.")  # fmt: skip
    elif silent:
        yield Check("Workers", "attention", f"{alive} answer, {silent} fell silent.", "See the workers page.")
    else:
        yield Check("Workers", "ok", "One answers." if alive == 1 else f"{alive} answer.")


def _versions() -> Iterator[Check]:
    says = f"Runfolio {_version()}, Django {django.get_version()}, Python {platform.python_version()}."
    yield Check("Versions", "ok", says)


def _version() -> str:
    try:
        return version("runfolio")
    except PackageNotFoundError:
        return "from its folder"


# ── Settings ───────────────────────────────────────────────────────────────
def _settings() -> Iterator[Check]:
    yield _address()
    if settings.SECRET_KEY_IS_KEPT:
        yield Check(
            "SECRET_KEY", "ok", "Kept: people stay signed in and secrets can be opened after a restart."
        )
    else:
        yield Check("SECRET_KEY", "problem", "Made anew at every start: a restart loses sealed secrets.",
                    "Set it to 50 random characters, the same on every machine.")  # fmt: skip
    allowed = settings.OUTGOING_ALLOW
    says = f"Private places that may be asked: {', '.join(allowed)}." if allowed else "Public places only."
    yield Check("OUTGOING_ALLOW", "ok", says)
    named = len(settings.SPEC_ENV_ALLOW)
    yield Check(
        "SPEC_ENV_ALLOW", "ok", f"Specs may name {named or 'no'} variable{'' if named == 1 else 's'}."
    )
    yield Check("MAX_BODY_BYTES", "ok", f"Nothing larger than {filesize(settings.MAX_BODY_BYTES)} is taken.")
    grace = settings.DELETE_GRACE_DAYS
    yield Check(
        "DELETE_GRACE_DAYS",
        "ok",
        f"What is deleted can be restored for {grace} day{'' if grace == 1 else 's'}.",
    )
    if settings.DEBUG:
        yield Check("DEBUG", "problem", "On: errors show what is in memory.", "Take DEBUG away.")


def _address() -> Check:
    public = settings.PUBLIC_URL
    if settings.SECURE or settings.LOOPBACK:
        return Check("PUBLIC_URL", "ok", f"{public}.")
    return Check("PUBLIC_URL", "attention", f"{public}: passwords and tokens travel unencrypted.",
                 "Put a proxy with HTTPS in front; name it in PUBLIC_URL and TRUSTED_PROXIES.")  # fmt: skip

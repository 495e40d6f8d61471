import os
import shlex
import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from project import up
from project.postgres import Server


class Command(BaseCommand):
    help = "Starts Runfolio: its PostgreSQL unless DATABASE_URL is set, the web server and one worker."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--demo", action="store_true", help="with believable history in it")

    def handle(self, *args: Any, **options: Any) -> None:
        sys.exit(up.run(_plan(["--demo"] if options["demo"] else [])))


def _plan(prepare_options: list[str]) -> up.Plan:
    memory = settings.EMBEDDED and settings.STORAGE_TYPE == "memory"
    return up.Plan(
        data=settings.RUNFOLIO_DATA,
        host=settings.HOST,
        port=settings.PORT,
        address=settings.PUBLIC_URL,
        server=Server(settings.RUNFOLIO_DATA, durable=not memory) if settings.EMBEDDED else None,
        children=[up.Child("web server", _web()), up.Child("worker", _manage("worker"))],
        prepare=[*_manage("prepare"), *prepare_options],
        announce=_banner,
        environment={**os.environ, **_opened()},
        more_ports=[settings.OTLP_PORT] if settings.OTLP_PORT else [],
        throw_away=memory,
    )


def _opened() -> dict[str, str]:
    """On this machine alone, whoever submits runs may have this machine asked anyway (DESIGN.md 3.13)."""
    return {"OUTGOING_ALLOW": "loopback"} if settings.LOOPBACK and not settings.OUTGOING_ALLOW else {}


def _manage(command: str) -> list[str]:
    return [sys.executable, str(settings.BASE_DIR / "manage.py"), command]


def _web() -> list[str]:
    host = f"[{settings.HOST}]" if ":" in settings.HOST else settings.HOST
    return [
        *(sys.executable, "-m", "gunicorn", "project.wsgi"),
        *("--config", str(settings.BASE_DIR / "gunicorn.conf.py")),
        *("--pythonpath", str(settings.BASE_DIR)),
        *("--bind", f"{host}:{settings.PORT}"),
        *(("--bind", f"{host}:{settings.OTLP_PORT}") if settings.OTLP_PORT else ()),
        # 4 threads starve with 8 open streams (DESIGN.md 6).
        *("--worker-class", "gthread", "--workers", "1", "--threads", "32"),
        *("--graceful-timeout", f"{up.GRACE - 1:.0f}"),
        "--no-control-socket",  # its default is one path for all instances of a user
        *("--log-level", "warning"),
    ]


def _banner(prepared: dict[str, Any]) -> str:
    token, sample = shlex.quote(prepared["token_file"]), settings.BASE_DIR / "samples" / "run.json"
    submit = (
        f'curl -H "Authorization: Bearer $(cat {token})" -H "Content-Type: application/json" '
        f"--data-binary {shlex.quote(f'@{sample}')} {settings.PUBLIC_URL}/api/runs"
    )
    opened = "\nTraces and webhooks may reach this machine's own addresses (OUTGOING_ALLOW=loopback).\n"
    return f"""
Runfolio is at     {settings.PUBLIC_URL}
Sign in, once, by  {prepared["link"]}
The API token is in {Path(prepared["token_file"])}

Submit the sample run from another terminal:
{submit}
{opened if _opened() else ""}
Ctrl-C stops it all.
"""

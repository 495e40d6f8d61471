import signal
import threading
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from project import env
from runs.errors import AGENTEVALS_PATHS
from runs.gateway.page import page_folder
from runs.gateway.server import HOST, Gateway, Passing

_MARGIN = 30.0  # seconds that Runfolio may need beside the wait itself
_OTLP = ("/v1/traces", "/v1/logs")
_NOTHING_TO_SEND = (
    "no token: set RUNFOLIO_TOKEN or RUNFOLIO_TOKEN_FILE, or run it where 'make up' has left {path}; "
    "'manage.py create_token' makes another one"
)
_NO_PAGE = (
    "agentevals is not installed, so there is no page here; its MCP server works. To have the page, name a "
    "Python that has agentevals-cli in AGENTEVALS_PYTHON."
)


class Command(BaseCommand):
    help = (
        "Serves agentevals' own web page on this machine, and passes what it, agentevals' MCP server and its "
        "SDK send on to Runfolio with a token, which they cannot send themselves."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=8001, help="of page and API; 8001 unless given")
        parser.add_argument(
            "--otlp-port",
            type=int,
            help="a second port that takes spans and logs without a token; agentevals' SDK sends to 4318",
        )
        parser.add_argument("--url", default=settings.PUBLIC_URL, help="where Runfolio is (%(default)s)")

    def handle(self, *args: Any, **options: Any) -> None:
        page = page_folder(settings.AGENTEVALS_PYTHON)
        about = {"url": options["url"], "token": _token(), "timeout": settings.EVALUATE_TIMEOUT + _MARGIN}
        gateways = [_open(options["port"], Passing(paths=AGENTEVALS_PATHS, page=page, **about))]
        if options["otlp_port"] is not None:
            gateways.append(_open(options["otlp_port"], Passing(paths=_OTLP, **about)))
        if page is None:
            self.stderr.write(_NO_PAGE)
        self.stdout.write(f"agentevals: http://{HOST}:{gateways[0].server_port} (Runfolio: {options['url']})")
        for spans in gateways[1:]:
            self.stdout.write(f"spans and logs: http://{HOST}:{spans.server_port}")
        _serve(gateways)


def _token() -> str:
    kept = settings.RUNFOLIO_DATA / "token"
    token = env.text("RUNFOLIO_TOKEN")
    if not token and kept.is_file():
        token = kept.read_text().strip()
    if not token:
        raise CommandError(_NOTHING_TO_SEND.format(path=kept))
    return token


def _open(port: int, passing: Passing) -> Gateway:
    try:
        return Gateway(port, passing)
    except (OSError, OverflowError) as error:
        raise CommandError(f"port {port} cannot be used: {error}") from None


def _serve(gateways: list[Gateway]) -> None:
    stop = threading.Event()

    def ask_to_stop(number: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask_to_stop)
    for gateway in gateways:
        threading.Thread(target=gateway.serve_forever, daemon=True).start()
    stop.wait()
    for gateway in gateways:
        gateway.shutdown()
        gateway.server_close()

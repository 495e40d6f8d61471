#!/usr/bin/env python3
"""Django's command line, with what is wrong outside told as one sentence instead of a traceback."""

import os
import signal
import sys


def main() -> None:
    if "up" in sys.argv[1:2]:
        # Until the supervisor listens, a Ctrl-C ends us at once: nothing has been started yet.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    from django.core.management import execute_from_command_line
    from django.db import OperationalError

    from project.env import SettingError

    try:
        execute_from_command_line(sys.argv)
    except SettingError as error:
        _give_up(str(error), 2)
    except OperationalError as error:
        from django.conf import settings

        if "runfolio-is-not-running" in settings.DATABASES["default"]["HOST"]:
            _give_up(
                f"Nothing runs on {settings.RUNFOLIO_DATA}. Start it with make up, or set DATABASE_URL.", 1
            )
        _give_up(f"The database does not answer: {error}", 1)


def _give_up(sentence: str, code: int) -> None:
    print(f"runfolio: {sentence}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()

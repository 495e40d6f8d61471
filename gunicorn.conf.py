"""What holds for every start of the web server: gunicorn reads this in the folder that it is started in."""

import signal
from typing import Any

# Bytes, and gunicorn's most: files are named in the query, where each byte of a path may take three.
limit_request_line = 8190


def post_worker_init(worker: Any) -> None:
    """On SIGTERM the streams that have no end are closed: gunicorn would wait for them."""
    from runs import streams

    stop = signal.getsignal(signal.SIGTERM)

    def told(number: int, frame: Any) -> None:
        streams.end_all()
        if callable(stop):
            stop(number, frame)

    signal.signal(signal.SIGTERM, told)

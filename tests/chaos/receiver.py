"""A receiver of webhooks that is often out of sorts, and remembers all that reached it."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Receiver:
    url: str
    told: list[tuple[str, dict[str, Any]]] = field(default_factory=list)  # message id and body, as they came
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, message_id: str, body: dict[str, Any]) -> int:
        """The status of the answer: of the tenth of the messages 500 at first, and another tenth is slow."""
        with self.lock:
            known = sum(1 for each, _ in self.told if each == message_id)
            self.told.append((message_id, body))
        if message_id[0] in "01" and not known:
            return 500
        if message_id[0] == "2" and not known:
            time.sleep(3)  # longer than the sink waits
        return 200


@contextmanager
def receiving() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status = receiver.take(self.headers["webhook-id"], body)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Its callers come and go."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A worker was killed while it spoke."""

    with Server(("127.0.0.1", 0), Handler) as server:
        receiver = Receiver(f"http://127.0.0.1:{server.server_address[1]}")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield receiver
        server.shutdown()

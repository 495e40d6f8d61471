"""HTTP without ornament: for many small requests in a row, of which httpx2 itself would be a good part."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2

from runfolio_client._http import Answer, Request, Send, Sleep, place, tries
from runfolio_client.client import Client

T = TypeVar("T")

_LOST = (OSError, http.client.HTTPException)


class LeanClient:
    """Performs requests over kept connections of the standard library; through a proxy as `Client` does."""

    def __init__(self, url: str | None, token: str | None, timeout: float) -> None:
        self._timeout = timeout
        self._url, secret = place(url, token)
        parts = urlsplit(self._url)
        self._host, self._port, self._base = parts.hostname or "", parts.port, parts.path
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._headers = {"Authorization": f"Bearer {secret}", "User-Agent": "runfolio-client"}
        self._guard = threading.Lock()
        self._idle: list[http.client.HTTPConnection] = []
        proxied = parts.scheme in getproxies() and not proxy_bypass(self._host)
        self._by_proxy = Client(self._url, secret, timeout) if proxied else None

    def perform(self, asked: Request[T]) -> T:
        """Raises AnswerError and OperationTimeout."""
        if self._by_proxy is not None:
            return self._by_proxy.perform(asked)
        steps = tries(asked, self._timeout, self._url)
        outcome: Any = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as done:
                result: T = done.value
                return result
            outcome = self._done(step)

    def close(self) -> None:
        with self._guard:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
        if self._by_proxy is not None:
            self._by_proxy.close()

    def _done(self, step: Send | Sleep) -> Answer | httpx2.TransportError | None:
        if isinstance(step, Sleep):
            time.sleep(step.seconds)
            return None
        with self._guard:
            kept = self._idle.pop() if self._idle else None
        try:
            try:
                return self._sent(step, kept or self._connection())
            except _LOST as error:
                if kept is None or isinstance(error, TimeoutError):
                    raise
                return self._sent(step, self._connection())  # the server had closed the kept one
        except TimeoutError as error:
            return httpx2.ReadTimeout(str(error))
        except (ConnectionRefusedError, socket.gaierror) as error:  # nobody is there: nothing broke off
            return httpx2.ConnectError(str(error))
        except _LOST as error:
            return httpx2.ReadError(str(error) or type(error).__name__)

    def _sent(self, step: Send, connection: http.client.HTTPConnection) -> Answer:
        asked = step.request
        try:
            connection.timeout = step.seconds
            if connection.sock is not None:
                connection.sock.settimeout(step.seconds)
            target = f"{self._base}{asked.path}?{urlencode(asked.query)}"
            try:
                connection.request(asked.method, target, asked.content, {**self._headers, **asked.headers})
            except (BrokenPipeError, ConnectionResetError):
                if connection.sock is None:
                    raise
                # Who does not read a body to its end may have said why before.
            response = connection.getresponse()
            headers = {name.lower(): value for name, value in response.headers.items()}
            answer = Answer(response.status, headers, response.read())
        except BaseException:
            connection.close()
            raise
        if not response.will_close:
            with self._guard:
                self._idle.append(connection)
        return answer

    def _connection(self) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self._host, self._port)
        return http.client.HTTPSConnection(self._host, self._port, context=self._tls)

"""A client of our own REST API, for tests."""

import json
from typing import Any
from uuid import uuid4

import requests
from django.test import Client


class Rest:
    """Calls with a token; answers are (status, JSON)."""

    def __init__(self, secret: str) -> None:
        self.client = Client(raise_request_exception=False)
        self.secret = secret

    def get(self, path: str, **query: Any) -> tuple[int, Any]:
        response = self.client.get(f"/api{path}", query, headers=self._headers(None))
        return response.status_code, json.loads(response.content)

    def post(self, path: str, body: Any = None, key: str | None = None, **query: Any) -> tuple[int, Any]:
        return self.send("POST", path, body, key, **query)

    def put(self, path: str, body: Any = None, key: str | None = None, **query: Any) -> tuple[int, Any]:
        return self.send("PUT", path, body, key, **query)

    def delete(self, path: str, key: str | None = None, **query: Any) -> tuple[int, Any]:
        return self.send("DELETE", path, b"", key, **query)

    def send(self, method: str, path: str, body: Any, key: str | None, **query: Any) -> tuple[int, Any]:
        response = self.client.generic(
            method,
            f"/api{path}",
            body if isinstance(body, bytes) else json.dumps(body),
            "application/json",
            query_params=query,
            headers=self._headers(key),
        )
        return response.status_code, json.loads(response.content)

    def bulk(self, lines: bytes | list[Any], key: str | None = None, **query: Any) -> list[Any]:
        data = lines if isinstance(lines, bytes) else "\n".join(map(json.dumps, lines)).encode()
        response = self.client.post(
            "/api/tasks/bulk",
            data,
            content_type="application/x-ndjson",
            query_params=query,
            headers=self._headers(key),
        )
        assert response.status_code == 200
        return [json.loads(line) for line in response.getvalue().splitlines()]

    def _headers(self, key: str | None) -> dict[str, str]:
        headers = {"Authorization": f"Bearer {self.secret}"}
        return headers if key is None else {**headers, "Idempotency-Key": key}


class Remote:
    """The same of a server, for threads and processes."""

    def __init__(self, url: str, secret: str) -> None:
        self.url = f"{url}/api"
        self.http = requests.Session()
        self.http.headers["Authorization"] = f"Bearer {secret}"

    def post(self, path: str, body: Any, key: str | None = None) -> tuple[int, Any]:
        headers = {} if key is None else {"Idempotency-Key": key}
        response = self.http.post(self.url + path, json=body, headers=headers, timeout=60)
        return response.status_code, response.json()

    def get(self, path: str) -> tuple[int, Any]:
        response = self.http.get(self.url + path, timeout=60)
        return response.status_code, response.json()


def message(text: str = "hello", role: str = "user", **fields: Any) -> dict[str, Any]:
    """A message as Bindu stores it."""
    parts = [{"kind": "text", "text": text}]
    return {"kind": "message", "role": role, "message_id": str(uuid4()), "parts": parts, **fields}


def submission(text: str = "hello", **fields: Any) -> dict[str, Any]:
    """A message for a new task of a new context, unless these are said."""
    ids = {name: fields.pop(name, None) or str(uuid4()) for name in ("task_id", "context_id")}
    return {"message": message(text, **ids), **fields}

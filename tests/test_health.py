"""What load balancers ask, and what people get while the database is away (RELIABILITY.md D5)."""

import http.client
import re

import psycopg
import pytest

from tests import environment


def get(port: int, path: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path)
    return connection.getresponse()


@pytest.fixture
def away(committed_db):
    """Takes the test's database away, and gives it back."""
    name = re.search(r"/(test_\w+)", committed_db["DATABASE_URL"])[1]

    def let(connect: bool) -> None:
        superuser = environment.url("postgres", "postgres")
        with psycopg.connect(superuser, autocommit=True) as connection:
            connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {connect}")
            if not connect:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
                )

    yield let
    let(True)


def test_it_is_alive_and_ready(gunicorn):
    assert [get(gunicorn, path).status for path in ("/healthz", "/readyz")] == [200, 200]


@pytest.mark.parametrize("path", ["/readyz", "/sign-in/link/x", "/api/runs"])
def test_without_a_database_it_asks_to_come_back(gunicorn, away, path):
    headers = {"Authorization": "Bearer rf_x"}
    away(False)
    connection = http.client.HTTPConnection("127.0.0.1", gunicorn, timeout=30)
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()

    assert (response.status, response.getheader("Retry-After")) == (503, "5")
    assert response.getheader("X-Request-Id")
    assert get(gunicorn, "/healthz").status == 200


def test_it_serves_again_once_the_database_is_back(gunicorn, away):
    assert get(gunicorn, "/readyz").status == 200
    away(False)
    assert get(gunicorn, "/readyz").status == 503
    away(True)

    assert get(gunicorn, "/readyz").status == 200

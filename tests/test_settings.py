"""A wrong setting names itself and its fix, and nothing starts."""

import os
import re
import subprocess
import sys

import pytest

from project import env
from project.env import SettingError
from tests.conftest import ROOT


def check(**settings: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **settings}
    return subprocess.run(
        [sys.executable, "manage.py", "check"], cwd=ROOT, env=environment, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"PORT": "http"}, "PORT=http is not a number from 1 to 65535. Try PORT=8000."),
        ({"PORT": "0"}, "PORT=0 is not"),
        ({"PORT": "80.5"}, "PORT=80.5 is not a whole number"),
        ({"HOST": "0.0.0.0"}, "Set PUBLIC_URL="),
        ({"PUBLIC_URL": "runs.example.com"}, "PUBLIC_URL=runs.example.com is not an address"),
        ({"PUBLIC_URL": "https://h/path"}, "PUBLIC_URL="),
        ({"PUBLIC_URL": "https://h:x"}, "PUBLIC_URL="),
        ({"TRUSTED_PROXIES": "10.0.0.0/99"}, "TRUSTED_PROXIES"),
        ({"STORAGE_TYPE": "sqlite"}, "STORAGE_TYPE=sqlite is not known. Set it to one of: postgres, memory."),
        ({"RUN_MIGRATIONS_ON_STARTUP": "yes"}, "RUN_MIGRATIONS_ON_STARTUP=yes is neither true nor false"),
        ({"STORAGE__RUN_MIGRATIONS_ON_STARTUP": "1"}, "STORAGE__RUN_MIGRATIONS_ON_STARTUP=1"),
        ({"DATABASE_URL": "mysql://h/d"}, "DATABASE_URL starts with 'mysql'"),
        ({"DATABASE_URL": "postgresql://h"}, "DATABASE_URL names no database"),
        ({"DATABASE_URL": "postgresql://h/d?nonsense=1"}, "DATABASE_URL is not a PostgreSQL address"),
        ({"DATABASE_URL_FILE": "/nowhere/at/all"}, "DATABASE_URL_FILE=/nowhere/at/all cannot be read"),
        ({"WORKER_LEASE": "5"}, "WORKER_LEASE=5 must exceed WORKER_HEARTBEAT=5"),
        ({"WORKER_CONCURRENCY": "nan"}, "WORKER_CONCURRENCY=nan"),
        ({"LOG_LEVEL": "loud"}, "LOG_LEVEL=loud"),
    ],
)
def test_a_wrong_setting_is_one_sentence(settings, says):
    answer = check(**settings)

    assert answer.returncode != 0
    assert says in answer.stderr
    assert answer.stderr.count("\n") == 1


def test_every_setting_is_in_the_example():
    named = {line.lstrip("# ").partition("=")[0] for line in (ROOT / ".env.example").read_text().splitlines()}
    source = (ROOT / "project" / "settings.py").read_text()
    read = set(re.findall(r"env\.\w+\(\s*\"([A-Z_]+)\"", source))

    assert read <= named
    assert {"DATABASE_URL_FILE"} <= named


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "postgresql://u:p@h:5433/d",
            {"USER": "u", "PASSWORD": "p", "HOST": "h", "PORT": "5433", "NAME": "d"},
        ),
        ("postgres://u@h/d", {"USER": "u", "PASSWORD": "", "HOST": "h", "PORT": ""}),
        (
            "postgresql+asyncpg://u:p%40%2F@h/d?ssl=require",
            {"PASSWORD": "p@/", "OPTIONS": {"sslmode": "require"}},
        ),
        ("postgresql://u@h/d?sslmode=verify-full", {"OPTIONS": {"sslmode": "verify-full"}}),
        ("postgresql://u@/d?host=/run/postgresql", {"HOST": "/run/postgresql"}),
        ("postgresql://u@[::1]:5432/d", {"HOST": "::1"}),
    ],
)
def test_a_database_url_is_read_in_every_form(url, expected):
    settings = env.database_from_url(url)

    assert {key: settings[key] for key in expected} == expected


def test_a_secret_may_come_from_a_file_which_wins(tmp_path, monkeypatch):
    path = tmp_path / "url"
    path.write_text("postgresql://file@h/d\n")
    monkeypatch.setenv("DATABASE_URL", "postgresql://plain@h/d")
    monkeypatch.setenv("DATABASE_URL_FILE", str(path))

    assert env.database("DATABASE_URL")["USER"] == "file"


def test_an_unreadable_file_is_an_error(monkeypatch):
    monkeypatch.setenv("SECRET_KEY_FILE", "/nowhere")

    with pytest.raises(SettingError, match="SECRET_KEY_FILE"):
        env.text("SECRET_KEY")

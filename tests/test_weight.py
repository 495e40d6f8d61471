"""What comes over the wire: little, and all of it ours (issue 5, "Done when")."""

import re
from datetime import timedelta
from urllib.parse import urljoin

from django.conf import settings
from django.test import Client
from django.utils import timezone

from tests.pages.helpers import make_task

FIRST_PAGE = 150_000  # bytes, compressed, with styles and scripts
OWN_SCRIPT = 15_000  # bytes, as written
ROWS = 50


def test_a_first_page_is_light(signed_in: Client, owner):
    now = timezone.now()
    for number in range(ROWS):
        make_task(
            owner,
            title=f"Why did release {number} fail on the second cluster, and what is left of the first?",
            status="failed",
            error=f"helm upgrade did not end within {number} s",
            agent=f"agent-{number}",
            created_at=now - timedelta(minutes=number),
            finished_at=now,
        )
    weight, seen = 0, set()
    waiting = ["/"]
    while waiting:
        address = waiting.pop()
        seen.add(address)
        response = signed_in.get(address, headers={"Accept-Encoding": "gzip"})
        assert response.status_code == 200, address
        weight += len(response.content if not response.streaming else b"".join(response))
        if address == "/":
            assert page_of(signed_in).count("<tr id=") == ROWS
            found = re.findall(r'<(?:link|script|img)[^>]* (?:href|src)="([^"]+)"', page_of(signed_in))
            waiting += {urljoin("/", one) for one in found} - seen
    assert {"/static/runfolio.css", "/static/runfolio.js"} <= seen
    assert weight < FIRST_PAGE


def page_of(client: Client) -> str:
    return str(client.get("/").content.decode())


def test_our_scripts_are_small_and_no_framework_is_among_them():
    scripts = list((settings.BASE_DIR / "static").rglob("*.js"))
    assert scripts
    assert sum(script.stat().st_size for script in scripts) < OWN_SCRIPT

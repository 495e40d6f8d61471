"""coding-agent: works through the issues of a few repositories."""

from runs.demo.story import OPENHANDS, Agent, Chance, Told, asks, fails, says, text_file, told, uses
from runs.models import Status

REPOSITORIES = ("payments-api", "web-shop", "ledger-core", "mail-worker", "mobile-backend")
_GREEN, _RED, _OFF = "\x1b[32m", "\x1b[31m", "\x1b[0m"


def flaky_test(chance: Chance) -> Told:
    repository = chance.choice(REPOSITORIES)
    test = chance.choice(
        ("test_retry_backoff", "test_token_refresh", "test_webhook_order", "test_lock_timeout")
    )
    patch = (
        f"--- a/tests/{test}.py\n+++ b/tests/{test}.py\n@@ -31,9 +31,10 @@\n def {test}(clock, client):\n"
        f"-    started = time.monotonic()\n-    client.call()\n-    assert time.monotonic() - started < "
        f"0.5\n+    client.call()\n+    assert clock.slept == [0.1, 0.2, 0.4]\n+    assert "
        f"client.attempts == 4\n"
    )
    return told(
        f"Fix the flaky {test} in {repository}",
        asks(f"{test} in {repository} fails about once in twenty CI runs. Find out why and fix it."),
        uses("grep", {"pattern": test, "path": "tests/"}, f"tests/{test}.py:31:def {test}(clock, client):"),
        uses(
            "read_file",
            {"path": f"tests/{test}.py", "lines": "20-50"},
            "def ...:\n    started = time.monotonic()\n",
            0.2,
        ),
        fails(
            "run",
            {"command": f"pytest tests/{test}.py --count 50"},
            f"{_RED}3 failed{_OFF}, {_GREEN}47 passed{_OFF} in 41.2s",
            41,
        ),
        says(
            "It measures real time. On a busy machine the three waits take longer than the half second it "
            "allows."
        ),
        uses("apply_patch", {"patch": patch}, {"files": 1, "added": 3, "removed": 3}),
        uses(
            "run",
            {"command": f"pytest tests/{test}.py --count 200"},
            f"{_GREEN}200 passed{_OFF} in 9.8s",
            9.8,
        ),
        says(
            f"`{test}` compared wall-clock time. It now asks the fake clock how long was waited, which is "
            f"what the test was about. 200 of 200 runs pass, and it takes a fifth of the time."
        ),
        made=[text_file("fix.patch", patch, "text/x-diff")],
        metadata={"repository": repository, "branch": f"fix/{test.replace('_', '-')}"},
    )


def pagination(chance: Chance) -> Told:
    repository, resource = (
        chance.choice(REPOSITORIES),
        chance.choice(("orders", "invoices", "customers", "refunds")),
    )
    patch = (
        f"--- a/api/{resource}.py\n+++ b/api/{resource}.py\n@@ -12,6 +12,14 @@\n "
        f"@router.get('/{resource}')\n-def list_{resource}(request):\n-    return "
        f"{resource.title()}.objects.all()\n+def list_{resource}(request, after: str | None = None, "
        f"limit: int = 50):\n+    rows = {resource.title()}.objects.order_by('-created_at', '-id')\n+    "
        f"if after:\n+        rows = rows.after(Cursor.parse(after))\n+    return page(rows, min(limit, "
        f"200))\n"
    )
    return told(
        f"GET /{resource} in {repository} loads the whole table: page it",
        asks(
            f"GET /{resource} answers with every row. Page it without breaking clients that send no "
            f"parameters."
        ),
        uses(
            "read_file",
            {"path": f"api/{resource}.py"},
            f"@router.get('/{resource}')\ndef list_{resource}(request): ...",
        ),
        uses(
            "grep",
            {"pattern": f"/{resource}", "path": "clients/"},
            f"clients/dashboard.ts:88: fetch('/{resource}')",
        ),
        uses("apply_patch", {"patch": patch}, {"files": 1, "added": 5, "removed": 2}),
        uses(
            "run",
            {"command": "make check"},
            f"ruff {_GREEN}ok{_OFF}\nmypy {_GREEN}ok{_OFF}\npytest {_GREEN}312 passed{_OFF}",
            74,
        ),
        says(
            f"`GET /{resource}` now gives 50 rows and a cursor, ordered by `(created_at, id)` so that "
            f"rows with the same time are not lost. The dashboard reads only the first rows, so it keeps "
            f"working as it is."
        ),
        made=[text_file("pagination.patch", patch, "text/x-diff")],
        metadata={"repository": repository},
    )


def dependency(chance: Chance) -> Told:
    repository, package = (
        chance.choice(REPOSITORIES),
        chance.choice(("pydantic", "urllib3", "celery", "cryptography")),
    )
    output = (
        f"{_RED}FAILED{_OFF} tests/test_models.py::test_strict_dates - ValidationError: 1 error for "
        f"Invoice\n{_RED}FAILED{_OFF} tests/test_models.py::test_rejects_floats - DID NOT RAISE\n{_RED}2 "
        f"failed{_OFF}, {_GREEN}287 passed{_OFF} in 33.1s"
    )
    error = f"tests fail with the new {package}: 2 of 289"
    return told(
        f"Update {package} in {repository}",
        asks(f"Update {package} to the newest version that the others allow."),
        uses("run", {"command": f"uv lock --upgrade-package {package}"}, f"Updated {package}", 6.1),
        fails("run", {"command": "pytest -q"}, output, 33.1),
        says(
            f"The new {package} is stricter: a date with a time is no date any more, and 1.0 is no whole "
            f"number. Two places rely on the old way. Which is meant is a question for you, so I stopped "
            f"and left the branch."
        ),
        status=Status.FAILED,
        error=error,
        metadata={"repository": repository, "branch": f"deps/{package}"},
    )


def slow_page(chance: Chance) -> Told:
    repository = chance.choice(REPOSITORIES)
    page, before = (
        chance.choice(("order history", "stock list", "team page", "audit log")),
        chance.randint(212, 640),
    )
    return told(
        f"The {page} of {repository} makes {before} queries",
        asks(f"The {page} takes four seconds. The profiler says {before} queries. Please find them."),
        uses(
            "run",
            {"command": "pytest tests/test_pages.py --queries"},
            {"page": page, "queries": before, "ms": 3_980},
            12,
        ),
        uses(
            "grep",
            {"pattern": r"\.customer\.", "path": "templates/"},
            "templates/row.html:7: {{ order.customer.name }}",
        ),
        uses(
            "apply_patch",
            {"patch": "-Order.objects.all()\n+Order.objects.select_related('customer', 'address')\n"},
            {"files": 1},
        ),
        uses(
            "run",
            {"command": "pytest tests/test_pages.py --queries"},
            {"page": page, "queries": 4, "ms": 71},
            11,
        ),
        says(
            f"Each row asked for its customer and address. Now they come with the rows: 4 queries instead "
            f"of {before}, 71 ms."
        ),
        metadata={"repository": repository},
    )


def types(chance: Chance) -> Told:
    repository, errors = chance.choice(REPOSITORIES), chance.randint(11, 48)
    complaint = 'Argument 1 to "rate" has incompatible type "str | None"'
    output = f"billing/tax.py:41: {_RED}error{_OFF}: {complaint}\nFound {errors} errors"
    return told(
        f"Turn on strict types in {repository}/billing ({errors} errors)",
        asks(
            "Turn on strict types for the billing package. No ignores, please, unless there is no other way."
        ),
        fails("run", {"command": "mypy --strict billing"}, output, 19),
        says(
            f"{errors} errors, most of them one: the country of a customer may be missing, and nobody asked."
        ),
        uses("edit", {"path": "billing/tax.py", "replace": "def rate(country: str | None)"}, {"ok": True}),
        uses(
            "run",
            {"command": "mypy --strict billing && pytest billing"},
            f"{_GREEN}Success{_OFF}\n{_GREEN}96 passed{_OFF}",
            37,
        ),
        says(
            "Strict types are on without an ignore. One error was a real bug: an invoice without a "
            "country was taxed with the rate of whoever came before it in the loop. There is a test for "
            "that now."
        ),
        metadata={"repository": repository},
    )


def secret(chance: Chance) -> Told:
    repository, place = (
        chance.choice(REPOSITORIES),
        chance.choice(("deploy.sh", "settings.py", "docker-compose.yml")),
    )
    return told(
        f"Remove the key from {place} in {repository}",
        asks(
            f"The scanner found a key in {place}. Take it out and make the program read it from the "
            f"environment."
        ),
        uses(
            "grep",
            {"pattern": "API_KEY", "path": "."},
            f"{place}:14: API_KEY=•••••••• (masked by the harness)",
        ),
        uses("edit", {"path": place, "replace": "API_KEY=${API_KEY:?set API_KEY}"}, {"ok": True}),
        uses("run", {"command": "make smoke"}, f'{_GREEN}ok{_OFF} starts; without API_KEY: "set API_KEY"', 8),
        says(
            f"`{place}` reads `API_KEY` from the environment and says so when it is missing. The old key "
            f"stays in the history of the repository, so please revoke it; I have no right to do that."
        ),
        metadata={"repository": repository},
    )


def changelog(chance: Chance) -> Told:
    repository, version = chance.choice(REPOSITORIES), f"{chance.randint(2, 5)}.{chance.randint(0, 14)}.0"
    text = (
        f"## {version}\n\n### Added\n\n- Exports say how many rows they hold before they start.\n\n### "
        f"Fixed\n\n- A refund of a cancelled order no longer counts twice.\n- Times in mails are in the "
        f"reader's zone.\n"
    )
    return told(
        f"Write the changelog of {repository} {version}",
        asks(
            f"Write the changelog for {version} from the merged pull requests. It is for users, not for us."
        ),
        uses("git_log", {"since": "last tag", "merges": True}, {"commits": 41, "pull_requests": 13}, 1.1),
        says("13 pull requests, of which 3 are something that a user can notice. The others stay out."),
        says(text),
        made=[text_file("CHANGELOG.md", text, "text/markdown")],
        metadata={"repository": repository},
    )


AGENT = Agent(
    name="coding-agent",
    model="claude-opus-4-5",
    source="openhands",
    instructions="You fix what an issue describes, with a test, and nothing else.",
    scenarios=(flaky_test, pagination, dependency, slow_page, types, secret, changelog),
    raw=OPENHANDS,
)

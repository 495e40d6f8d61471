"""OpenHands itself on our file stores: its EventLog and LocalConversation (CONTRACTS.md 3)."""

import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest

from runs.models import File, Owner, Token
from tests.clients.environments import SCRIPTS, run_script, running
from tests.conftest import ROOT, eventually, own_database, web_server

CHECKS = re.findall(r"^def ([a-z]\w+)\(make\)", (SCRIPTS / "openhands_store.py").read_text(), re.MULTILINE)
KINDS = ("dsn", "http")
SOME = {"a_file_comes_back_as_it_was", "the_marker_tells_the_length", "a_lock_is_held_by_one"}

type Step = Callable[..., Any]


# ── The store by itself ────────────────────────────────────────────────────
@pytest.fixture(scope="module")
def failures(django_db_blocker: Any) -> Iterator[dict[str, dict[str, str]]]:
    """What failed of scripts/openhands_store.py on either store, in one process each."""
    with own_database(django_db_blocker) as settings, web_server(settings) as port:
        token = Token.objects.issue(Owner.objects.create(name="platform"), "tests")[1]
        yield {
            kind: json.loads(
                run_script("openhands", "openhands_store", kind, address, token).splitlines()[-1]
            )
            for kind, address in (
                ("dsn", settings["DATABASE_URL"]),
                ("http", f"http://127.0.0.1:{port}"),
            )
        }


def test_the_checks_are_found() -> None:
    assert SOME - set(CHECKS) == set()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("check", CHECKS)
def test_the_store_does_what_openhands_expects(
    failures: dict[str, dict[str, str]], kind: str, check: str
) -> None:
    assert failures[kind].get(check, "") == ""


# ── Conversations ──────────────────────────────────────────────────────────
@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def step(committed_db: dict[str, str], gunicorn: int, token: str) -> Step:
    """Does a step of scripts/openhands_conversation.py in a process of its own; gives what it told."""
    addresses = {"dsn": committed_db["DATABASE_URL"], "http": f"http://127.0.0.1:{gunicorn}"}

    def take(name: str, kind: str, conversation: str, *arguments: str, begin: bool = False) -> Any:
        given = (name, kind, addresses[kind], token, conversation, *arguments)
        if begin:
            return running("openhands", "openhands_conversation", *given)
        return json.loads(run_script("openhands", "openhands_conversation", *given).splitlines()[-1])

    return take


def test_a_conversation_goes_on_in_another_process(kind: str, step: Step) -> None:
    conversation = str(uuid4())
    first = step("talk", kind, conversation, "Hello")
    assert (first["status"], first["prompt_tokens"]) == ("finished", 300)

    second = step("talk", kind, conversation, "More")

    assert second["kinds"][: len(first["kinds"])] == first["kinds"]
    assert second["kinds"].count("MessageEvent") == 2
    assert (second["status"], second["prompt_tokens"]) == ("finished", 600)


def test_a_conversation_survives_the_death_of_its_process(kind: str, step: Step) -> None:
    conversation = str(uuid4())
    with step("hang", kind, conversation, "Hello", begin=True):
        written = File.objects.filter(namespace__name=conversation, path__startswith="events/event-")
        eventually(lambda: written.count() == 4, 60)

    after = step("talk", kind, conversation, "Are you there?")

    assert after["kinds"][:4] == ["SystemPromptEvent", "MessageEvent", "ActionEvent", "ObservationEvent"]
    assert after["status"] == "finished"


def test_a_fork_stays_in_the_store(kind: str, step: Step) -> None:
    conversation = str(uuid4())
    step("talk", kind, conversation, "Hello")
    forked = step("fork", kind, conversation)
    assert forked["before"] == forked["copied"] == forked["after"]
    copy = step("look", kind, forked["id"])
    assert len(copy["kinds"]) == forked["copied"] + 7
    assert copy["status"] == "finished"


@pytest.mark.parametrize("kinds", ["dsn dsn dsn dsn", "http http http http", "dsn http dsn http"])
def test_four_processes_append_200_events_without_a_gap(kinds: str, step: Step) -> None:
    conversation = str(uuid4())
    with ThreadPoolExecutor() as pool:
        writers = [pool.submit(step, "append", kind, conversation, "50") for kind in kinds.split()]
        told = [writer.result() for writer in writers]
    assert step("count", "dsn", conversation) == {"length": 200, "ids": 200}
    assert max(one["longest"] for one in told) < 20  # nobody waited for the others to be done


def test_a_dead_holder_of_the_lock_delays_the_next_by_less_than_two_seconds(kind: str, step: Step) -> None:
    assert step("outlive", kind, str(uuid4()))["waited"] < 2


def test_what_is_written_under_a_lost_lock_is_refused(step: Step) -> None:
    told = step("lose", "http", str(uuid4()))
    assert len(told["refused"]) == 2
    assert told["there"] == []


def test_the_examples_of_the_page_work(committed_db: dict[str, str], gunicorn: int, token: str) -> None:
    settings = {
        "RUNFOLIO_URL": f"http://127.0.0.1:{gunicorn}",
        "RUNFOLIO_TOKEN": token,
        "RUNFOLIO_DSN": committed_db["DATABASE_URL"],
        "OPENAI_API_KEY": "none",
    }
    page = ROOT / "docs" / "openhands.md"
    printed = run_script("openhands", "openhands_page", str(page), **settings)
    # The system's prompt, and of each message the message, the call and its result.
    assert json.loads(printed.splitlines()[-1]) == [7, 10]

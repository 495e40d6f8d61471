"""Evaluators on a server of the user's, and from the operator's repository (CONTRACTS 1.8)."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runs.evaluators import EvaluationError, Task, Verdict
from runs.evaluators.code import request_of
from runs.evaluators.params import RemoteEvaluator as Settings
from runs.evaluators.remote import RemoteEvaluator
from runs.worker.tools import EvaluatorTools
from tests.evaluators.documents import groups, turn_spans
from tests.local_server import LocalServer, Reply, local_server

INDEX = b"""
evaluators:
  - name: mine
    path: evaluators/mine/mine.py
    tags: ["a", "b"]
"""
PROGRAM = b"import json, sys; print(json.dumps({'score': len(json.load(sys.stdin)['invocations']) / 4}))"


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with local_server() as server:
        yield server


def judged(tools: EvaluatorTools, **settings: Any) -> Verdict:
    return RemoteEvaluator(_definition()).judge(task(tools, **settings))


def problem(tools: EvaluatorTools, **settings: Any) -> str:
    with pytest.raises(EvaluationError) as error:
        judged(tools, **settings)
    return str(error.value)


def task(tools: EvaluatorTools, **settings: Any) -> Task:
    given = {**_definition().model_dump(), **settings}
    turns = groups(*turn_spans(1, "Is it up?", "Yes."))[0].turns
    return Task(turns, (), given, tools=tools)


def _definition() -> Settings:
    return Settings.model_validate({"type": "remote", "name": "mine", "ref": "evaluators/mine/mine.py"})


# A server


def test_a_server_is_sent_what_a_program_is(server: LocalServer) -> None:
    server.replies = [Reply({"score": 0.5, "details": {"why": "so"}})]
    tools = EvaluatorTools(allow=["loopback"])
    settings = {"source": "http", "url": f"{server.url}/judge"}
    assert judged(tools, **settings) == Verdict(0.5, [], {"why": "so"})
    (asked,) = server.asked
    assert (asked.method, asked.path) == ("POST", "/judge")
    assert asked.headers["content-type"] == "application/json"
    assert asked.json == json.loads(request_of(task(tools, **settings)))


def test_a_server_gets_the_credential_that_is_named(server: LocalServer) -> None:
    server.replies = [Reply({"score": 1})]
    tools = EvaluatorTools(allow=["loopback"], credentials={"key": "c4nary"})
    judged(tools, source="http", url=server.url, credential_ref="key")
    assert server.asked[0].headers["authorization"] == "Bearer c4nary"


def test_a_server_that_fails_is_told_of_without_its_words(server: LocalServer) -> None:
    server.replies = [Reply(b"c4nary", 500)]
    said = problem(EvaluatorTools(allow=["loopback"]), source="http", url=f"{server.url}/?token=c4nary")
    assert said == "Custom evaluator 'mine': 127.0.0.1 answered 500"


def test_a_server_that_answers_anything_else_is_told_of(server: LocalServer) -> None:
    server.replies = [Reply(b"<html>")]
    said = problem(EvaluatorTools(allow=["loopback"]), source="http", url=server.url)
    assert said.startswith("Custom evaluator 'mine' produced invalid JSON: ")


def test_a_private_address_that_the_operator_did_not_allow_is_not_asked(server: LocalServer) -> None:
    assert "Custom evaluator 'mine': " in problem(EvaluatorTools(), source="http", url=server.url)
    assert server.asked == []


# The operator's repository


@pytest.fixture
def repository(server: LocalServer) -> LocalServer:
    server.files = {
        "/acme/evaluators/stable/index.yaml": INDEX,
        "/acme/evaluators/stable/evaluators/mine/mine.py": PROGRAM,
        "/acme/evaluators/stable/evaluators/other.py": PROGRAM,
    }
    return server


def github(server: LocalServer, **more: Any) -> EvaluatorTools:
    given = {"allow": ["loopback"], "repository": "acme/evaluators", "branch": "stable", **more}
    return EvaluatorTools(github=server.url, **given)


def test_a_listed_file_is_fetched_and_run(repository: LocalServer) -> None:
    assert judged(github(repository)).score == 0.25


def test_nothing_of_it_stays_on_disk(repository: LocalServer, tmp_path: Path) -> None:
    judged(github(repository, scratch=str(tmp_path)))
    assert list(tmp_path.iterdir()) == []


def test_it_is_fetched_once_for_all_items(repository: LocalServer) -> None:
    tools = github(repository)
    judged(tools)
    judged(tools)
    assert len(repository.asked) == 2


def test_a_private_repository_is_opened_with_its_token(repository: LocalServer) -> None:
    judged(github(repository, github_token="c4nary"))
    assert {asked.headers["authorization"] for asked in repository.asked} == {"token c4nary"}


def test_a_file_that_the_index_does_not_list_is_not_run(repository: LocalServer) -> None:
    said = problem(github(repository), ref="evaluators/other.py")
    assert said.endswith("evaluators/other.py is not listed in index.yaml of acme/evaluators (stable)")
    assert [asked.path for asked in repository.asked] == ["/acme/evaluators/stable/index.yaml"]


@pytest.mark.parametrize(
    ("index", "why"),
    [
        *[(b"[", "is not YAML"), (b"\xff\xfe\xff", "is not YAML"), (b"1", "not listed")],
        *[(b"evaluators: 1", "not listed"), (b"evaluators: [1, {path: [a]}]", "not listed")],
        (b"evaluators: !!python/object/apply:os.system ['true']", "is not YAML"),
    ],
)
def test_an_index_that_is_none_lists_nothing(repository: LocalServer, index: bytes, why: str) -> None:
    repository.files["/acme/evaluators/stable/index.yaml"] = index
    assert why in problem(github(repository))


def test_without_a_repository_none_is_fetched(repository: LocalServer) -> None:
    assert "AGENTEVALS_EVALUATOR_REPO" in problem(github(repository, repository=""))
    assert repository.asked == []


def test_another_source_is_refused() -> None:
    assert "source 'registry' is unknown" in problem(EvaluatorTools(), source="registry")

"""Which evaluators there are: ours, agentevals', and those that other packages bring."""

import json
import logging
import subprocess
import sys

import pytest

from runs.evaluators import EvalConfigError, evaluators, registry
from tests.evaluators.distributions import forget, install
from tests.evaluators.documents import answered, outcome

OURS = {
    "tool_trajectory_avg_score",
    "tool_call_f1",
    "tool_error_rate",
    "response_match_score",
    "response_exact_match",
    "response_contains",
    "response_regex",
    "response_json_schema",
    "turn_count",
    "latency_budget",
    "token_budget",
    "cost_budget",
    "llm_judge",
}
POLITE = """
from runs.evaluators import Config, Task, Verdict

class Words(Config):
    word: str = "please"

class Polite:
    name = "polite"
    description = "Says please."
    default_threshold = 0.9
    needs_eval_case = False
    waits = False
    Config = Words

    def judge(self, task: Task) -> Verdict:
        said = [float(task.config.word in turn.final_text) for turn in task.turns]
        return Verdict(min(said), said)

ready = Polite()
nothing = object()
"""


@pytest.fixture(autouse=True)
def _forgotten():
    yield
    forget()


def test_all_that_can_be_had_is_listed_with_what_a_form_needs():
    listed = {about.name: about for about in evaluators()}
    assert set(listed) == OURS
    assert all(about.description for about in listed.values())
    assert (listed["tool_call_f1"].needs_eval_case, listed["tool_call_f1"].default_threshold) == (True, 0.5)
    assert "maxTokens" in listed["token_budget"].config_schema["properties"]
    json.dumps([about.config_schema for about in listed.values()])


@pytest.mark.parametrize("value", ["polite:Polite", "polite:ready"])
def test_a_package_may_bring_an_evaluator_as_a_class_or_an_instance(monkeypatch, tmp_path, value):
    install(monkeypatch, tmp_path, "polite", POLITE, polite=value)
    assert outcome(answered("yes, please"), "polite").status == "passed"
    assert outcome(answered("yes"), "polite", word="yes").status == "passed"
    assert outcome(answered("yes"), "polite").threshold == 0.9
    assert "polite" in {about.name for about in evaluators()}


def test_the_config_of_anothers_evaluator_is_checked_too(monkeypatch, tmp_path):
    install(monkeypatch, tmp_path, "polite", POLITE, polite="polite:Polite")
    with pytest.raises(EvalConfigError, match=r"polite: config\.word: input should be a valid string"):
        outcome(answered("yes"), "polite", word=5)


def test_a_package_may_not_take_one_of_our_names(monkeypatch, tmp_path, caplog):
    names = dict.fromkeys(("response_contains", "llm_judge", "safety_v1"), "polite:Polite")
    install(monkeypatch, tmp_path, "polite", POLITE, **names)
    assert outcome(answered("yes"), "response_contains", texts=["yes"]).status == "passed"
    assert outcome(answered("yes"), "safety_v1").status == "errored"
    assert {about.name for about in evaluators()} == OURS
    ignored = [
        record.getMessage() for record in caplog.records if "has the name of one of ours" in record.message
    ]
    assert len(ignored) == 3


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("polite:Missing", "broken cannot be loaded from polite:Missing: AttributeError: "),
        ("no_such_module:X", "broken cannot be loaded from no_such_module:X: ModuleNotFoundError: "),
        ("polite:nothing", "TypeError: it has no description, default_threshold, needs_eval_case"),
    ],
)
def test_an_entry_point_that_fails_is_logged_once_and_errors_its_results(
    monkeypatch, tmp_path, caplog, value, said
):
    install(monkeypatch, tmp_path, "polite", POLITE, broken=value)
    with caplog.at_level(logging.ERROR):
        first, second = (outcome(answered("yes"), "broken") for _ in range(2))
    assert first.status == second.status == "errored"
    assert said in (first.error_text or "")
    assert [record.getMessage() for record in caplog.records] == [first.error_text]
    assert "broken" not in {about.name for about in evaluators()}


def test_a_name_that_two_packages_bring_is_nobodys(monkeypatch, tmp_path):
    install(monkeypatch, tmp_path, "polite", POLITE, polite="polite:Polite")
    install(monkeypatch, tmp_path, "rude", POLITE, polite="rude:Polite")
    found = outcome(answered("please"), "polite")
    assert found.error_text == "polite is brought by more than one package: polite:Polite and rude:Polite."


def test_a_package_that_nobody_asks_for_is_not_imported(monkeypatch, tmp_path):
    install(monkeypatch, tmp_path, "polite", POLITE, polite="polite:Polite")
    assert outcome(answered("yes"), "turn_count", maxTurns=1).status == "passed"
    assert "polite" not in sys.modules


def test_no_name_is_ours_and_the_engines():
    assert not registry.FOR_ENGINE & OURS


def test_evaluators_know_neither_django_nor_http_and_import_what_is_slow_when_it_is_needed():
    program = "import sys, runs.evaluators; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    roots = {name.partition(".")[0] for name in loaded.stdout.split()}
    assert not roots & {"django", "requests", "urllib3", "httpx", "rouge_score", "jsonschema", "regex"}

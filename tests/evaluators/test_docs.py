"""docs/evaluators.md: every example of it works, and it tells of every evaluator and setting."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from runs.evaluators import evaluators, validate_eval_config
from runs.evaluators.base import Ran
from tests.evaluators.distributions import forget, install
from tests.evaluators.documents import RUN_ID, Evaluation, answered, outcome

PAGE = (Path(__file__).parents[2] / "docs" / "evaluators.md").read_text()


def examples(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


class Programs:
    """Runs the page's program, wherever the page says it lies."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(self, path, stdin, timeout):
        ran = subprocess.run([sys.executable, self.path], input=stdin, capture_output=True, timeout=timeout)
        return Ran(ran.returncode, ran.stdout, ran.stderr)


@pytest.fixture
def polite(monkeypatch, tmp_path):
    """The package of the page, installed as its pyproject.toml says."""
    points = tomllib.loads(*examples("toml"))["project"]["entry-points"]["runfolio.evaluators"]
    (module,) = {value.partition(":")[0] for value in points.values()}
    install(monkeypatch, tmp_path, module, examples("python")[1], **points)
    yield
    forget()


@pytest.mark.parametrize(
    ("answers", "status"), [(["yes, please", "please do"], "passed"), (["please", "no"], "failed")]
)
def test_the_program_works(tmp_path, answers, status):
    program = tmp_path / "polite.py"
    program.write_text(examples("python")[0])
    params = validate_eval_config(json.loads(examples("json")[0]))
    (found,) = Evaluation(RUN_ID, params, tools=Programs(program)).results(answered(*answers))
    assert (found.status, found.error_text) == (status, None)
    assert len(found.per_invocation_scores) == 2


def test_the_class_works(polite):
    params = validate_eval_config(json.loads(examples("json")[1]))
    (found,) = Evaluation(RUN_ID, params).results(answered("thank you", "no"))
    assert (found.status, found.score) == ("failed", 0.5)
    assert found.details["reason"] == "1 of 2 answers lack “thank”."
    assert outcome(answered("please"), "polite_answer").status == "passed"


def test_every_eval_config_is_valid(polite):
    for example in examples("json"):
        validate_eval_config(json.loads(example))


@pytest.mark.parametrize("about", evaluators(), ids=lambda about: about.name)
def test_each_evaluator_is_in_the_table_with_its_threshold_and_settings(about):
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{about.name}`")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert float(cells[2]) == about.default_threshold
    assert ("¹" in cells[0]) == about.needs_eval_case
    if about.name != "llm_judge":
        assert all(f"`{name}`" in cells[3] for name in about.config_schema.get("properties", {}))

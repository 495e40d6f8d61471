"""Whole documents: our own sample, and others' traces with what agentevals says of them (CONTRACTS 1.12)."""

import json
from pathlib import Path
from typing import Any

import pytest

from runs.evaluators import Evaluation, parse_eval_set, validate_eval_config
from runs.traces import read_traces
from tests.evaluators.documents import RUN_ID

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "samples"

shared = [
    pytest.mark.samples,
    pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/samples, others' data, is not here"),
]


def load(path: Path) -> Any:
    return json.loads(path.read_text())


def judged(document: Any, eval_set: Any, config: Any) -> list[tuple[str, float | None]]:
    params, cases = validate_eval_config(config), parse_eval_set(eval_set)
    evaluation = Evaluation(RUN_ID, params, cases)
    groups = evaluation.groups_of(read_traces(document))
    return [(outcome.status, outcome.score) for outcome in evaluation.results(groups)]


def test_our_sample_passes_as_a_run():
    spec = load(ROOT / "samples" / "run.json")["spec"]
    trajectory, response = judged(spec["target"]["inline"], spec["evalSet"], spec["evalConfig"])
    assert trajectory == ("passed", 1.0)
    assert response == ("passed", pytest.approx(0.76))


def test_our_sample_run_is_made_of_the_other_two_files():
    spec = load(ROOT / "samples" / "run.json")["spec"]
    assert spec["target"] == {"kind": "inline", "inline": load(ROOT / "samples" / "trace.json")}
    assert spec["evalSet"] == load(ROOT / "samples" / "eval_set.json")


@pytest.mark.parametrize(
    ("trace", "cases", "wanted"),
    [
        pytest.param(
            "helm.json",
            "eval_set_helm.json",
            [("passed", 1.0), ("passed", 0.8118811881188119)],
            marks=shared,
        ),
        pytest.param(
            "helm_2.json",
            "eval_set_helm.json",
            [("failed", 0.0), ("failed", pytest.approx(0.2025, abs=1e-4))],
            marks=shared,
        ),
        pytest.param(
            "k8s.json", "evalset_k8s_2026-02-20.json", [("passed", 1.0), ("passed", 1.0)], marks=shared
        ),
        pytest.param(
            "k8s.json",
            "eval_set_helm.json",
            [("failed", 0.0), ("failed", pytest.approx(0.1429, abs=1e-4))],
            marks=shared,
        ),
    ],
)
def test_others_traces_get_the_scores_that_agentevals_gives(trace, cases, wanted):
    both = [
        {"type": "builtin", "name": "tool_trajectory_avg_score"},
        {"type": "builtin", "name": "response_match_score", "threshold": 0.7},
    ]
    assert judged(load(SHARED / trace), load(SHARED / cases), {"evaluators": both}) == wanted

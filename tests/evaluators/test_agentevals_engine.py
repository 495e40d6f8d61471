"""The optional engine. With AGENTEVALS_PYTHON in the environment, also against agentevals itself."""

import json
import os
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from runs.evaluators import EvaluationError
from runs.evaluators.agentevals_engine import available, evaluate

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "samples"
AGENTEVALS = os.environ.get("AGENTEVALS_PYTHON", "")
RUN_ID = UUID("00000000-0000-0000-0000-000000000001")

installed = pytest.mark.skipif(
    not AGENTEVALS, reason="AGENTEVALS_PYTHON names no environment with agentevals"
)
shared = pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/samples, others' data, is not here")

BOTH = [
    {"type": "builtin", "name": "response_match_score", "threshold": 0.7},
    {"type": "builtin", "name": "tool_trajectory_avg_score"},
]


def load(path: Path) -> Any:
    return json.loads(path.read_text())


def evaluated(document: Any, cases: Any = None, evaluators: Any = BOTH, **more: Any) -> Any:
    given = {"python": AGENTEVALS, "timeout": 100.0, **more}
    return evaluate(document, None, cases, {"evaluators": evaluators}, RUN_ID, **given)


@installed
@shared
@pytest.mark.parametrize(
    ("trace", "cases", "wanted"),
    [
        ("helm.json", "eval_set_helm.json", [("passed", 0.8118811881188119), ("passed", 1.0)]),
        ("helm_2.json", "eval_set_helm.json", [("failed", pytest.approx(0.2025, abs=1e-4)), ("failed", 0.0)]),
        ("k8s.json", "evalset_k8s_2026-02-20.json", [("passed", 1.0), ("passed", 1.0)]),
    ],
)
def test_the_figures_are_agentevals_own(trace: str, cases: str, wanted: Any) -> None:
    """CONTRACTS 1.12; in the order of the evalConfig."""
    outcomes, summary = evaluated(load(SHARED / trace), load(SHARED / cases))
    assert [(outcome["status"], outcome["score"]) for outcome in outcomes] == wanted
    assert summary["per_metric"]["response_match_score"]["avg_score"] == outcomes[0]["score"]


@installed
@shared
def test_an_outcome_has_all_that_results_show() -> None:
    outcomes, summary = evaluated(load(SHARED / "helm.json"), load(SHARED / "eval_set_helm.json"))
    assert outcomes[1].pop("latency_ms") >= 0
    assert outcomes[1] == {
        "result_id": "4ce877d6c8eefe1d17da361d6f1e51d31d59d72bee997c0b42ad74bb79e8dd66",
        "item_id": "3e289017fe03ffd7c4145316d2eb3d0d",
        "item_name": "3e289017fe03ffd7c4145316d2eb3d0d",
        "case_id": "helm_list_releases",
        "question": "list all Helm releases",
        "evaluator_name": "tool_trajectory_avg_score",
        "evaluator_type": "builtin",
        "status": "passed",
        "score": 1.0,
        "per_invocation_scores": [1.0],
        "trace_id": "3e289017fe03ffd7c4145316d2eb3d0d",
        "span_id": "fd2888bee9aed2db",
        "details": {
            "comparisons": [
                {
                    "invocation_id": "fd2888bee9aed2db",
                    "expected": [{"name": "helm_list_releases", "args": {}}],
                    "actual": [{"name": "helm_list_releases", "args": {}}],
                    "matched": True,
                }
            ]
        },
        "error_text": None,
        "tokens_used": None,
        "threshold": 0.5,
        "position": 1,
    }
    assert summary["performance_metrics"]["tokens"]["total"] == 3906


@installed
def test_what_may_not_run_there_is_errored_and_the_others_run() -> None:
    sample = load(ROOT / "samples" / "run.json")["spec"]
    outcomes, summary = evaluated(
        sample["target"]["inline"],
        sample["evalSet"],
        [
            {"type": "code", "name": "program", "path": "a.py"},
            {"type": "builtin", "name": "hallucinations_v1"},
            {"type": "builtin", "name": "llm_judge", "rubrics": ["It is polite."]},
            {"type": "builtin", "name": "nowhere"},
            {"type": "builtin", "name": "tool_trajectory_avg_score"},
        ],
    )
    assert [outcome["status"] for outcome in outcomes] == ["errored"] * 4 + ["passed"]
    for outcome, why in zip(
        outcomes,
        [
            "runs builtin evaluators only",
            "AGENTEVALS_NETWORK",
            "refuses its settings",
            "not found in registry.",
        ],
        strict=False,
    ):
        assert why in outcome["error_text"]
    assert outcomes[0]["evaluator_type"] == "code"
    assert summary["result_counts"] == {"passed": 1, "failed": 0, "errored": 4, "skipped": 0}


@installed
def test_a_document_that_it_cannot_read_is_an_error() -> None:
    with pytest.raises(EvaluationError, match=r"^not an OTLP JSON document"):
        evaluated({"a": 1})


@installed
def test_an_engine_that_takes_too_long_is_ended() -> None:
    with pytest.raises(EvaluationError, match=r"^engine agentevals timed out after 0\.5s$"):
        evaluated({"data": []}, timeout=0.5)


@installed
def test_its_version_is_told() -> None:
    assert (available(AGENTEVALS) or "").startswith("0.11")


def test_without_an_engine_it_says_what_to_do(tmp_path: Path) -> None:
    for python in ("", str(tmp_path / "missing"), sys.executable):
        with pytest.raises(
            EvaluationError, match=r"engine agentevals is not installed here: .*AGENTEVALS_PYTHON"
        ):
            evaluated({"data": []}, python=python)


def fake(tmp_path: Path, script: str) -> str:
    """A Python that says it has agentevals 0.11.9, and when it is to evaluate does what `script` does."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nif [ "$2" = -c ]; then echo "0.11.9"; exit; fi\n{script}\n')
    python.chmod(0o755)
    return str(python)


def test_a_broken_engine_says_how_it_ended(tmp_path: Path) -> None:
    python = fake(tmp_path, "echo Traceback >&2; echo 'ImportError: no adk' >&2; exit 1")
    with pytest.raises(EvaluationError, match=r"^engine agentevals ended with code 1: ImportError: no adk$"):
        evaluated({"data": []}, python=python)


def test_another_version_is_refused(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 0.12.0\n")
    python.chmod(0o755)
    with pytest.raises(EvaluationError, match=r"is 0\.12\.0 here, and 0\.11\.x is needed"):
        evaluated({"data": []}, python=str(python))


def test_it_learns_no_secret_but_the_runs_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "c4nary")
    python = fake(
        tmp_path,
        'cat > "$HOME/job"; env > "$HOME/env"; cat "$HOME/job" "$HOME/env" | tr -d \'\\n\' >&2; exit 1',
    )
    with pytest.raises(EvaluationError) as error:
        evaluated({"data": []}, python=python, credentials={"key": "the run's own"})
    assert "the run's own" in str(error.value)
    assert "c4nary" not in str(error.value)

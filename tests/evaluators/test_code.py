"""`code` evaluators: what a program is sent, and what is made of its answer (CONTRACTS 1.8)."""

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from runs.evaluators import EvaluationError, Task, Verdict, parse_eval_set
from runs.evaluators.base import Ran
from runs.evaluators.code import CodeEvaluator, request_of, verdict_of
from runs.evaluators.eval_sets import ExpectedTurn
from runs.evaluators.params import CodeEvaluator as Settings
from runs.traces import Turn, group_turns, read_traces
from runs.worker.tools import EvaluatorTools
from tests.evaluators.documents import case, eval_set, groups, turn_spans

SHARED = Path(__file__).parents[3] / "shared" / "samples"
AGENTEVALS = os.environ.get("AGENTEVALS_PYTHON", "")


def settings(**more: Any) -> Settings:
    return Settings.model_validate({"type": "code", "name": "mine", "path": "mine.py", **more})


def task(tools: Any = None, **more: Any) -> Task:
    """Two turns and what was expected of them."""
    turns = groups(
        *turn_spans(1, "Is it up?", "Yes, it is.", ("ping", '{"host": "a"}'), trace="a" * 32),
        *turn_spans(11, "And now?", "No.", trace="a" * 32),
    )[0].turns
    cases = eval_set(
        case("up", ("Is it up?", "Yes.", [{"name": "ping", "args": {}}]), ("And now?", "No.", []))
    )
    expected = more.pop("expected", cases.cases[0].turns)
    given = settings(**more)
    return Task(turns, expected, given.model_dump(), threshold=given.threshold, tools=tools)


class Answering:
    """Tools whose program answers what it is told to."""

    def __init__(self, stdout: str = "", stderr: str = "", exit_code: int = 0) -> None:
        self.ran = Ran(exit_code, stdout.encode(), stderr.encode())

    def run(self, path: str, stdin: bytes, timeout: float) -> Ran:
        return self.ran


def judged(*ran: Any, **more: Any) -> Verdict:
    return CodeEvaluator(settings(**more)).judge(task(Answering(*ran), **more))


def problem(*ran: Any) -> str:
    with pytest.raises(EvaluationError) as error:
        judged(*ran)
    return str(error.value)


# The request


def test_it_works(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import json, sys\n"
        "asked = json.load(sys.stdin)\n"
        "ok = [i['final_response'] == e['final_response'] for i, e in\n"
        "      zip(asked['invocations'], asked['expected_invocations'])]\n"
        "print(json.dumps({'score': sum(ok) / len(ok), 'per_invocation_scores': list(map(float, ok)),\n"
        "                  'details': {'wanted': asked['config']['wanted']}}))"
    )
    tools = EvaluatorTools(folders=[str(tmp_path)])
    verdict = CodeEvaluator(settings()).judge(task(tools, config={"wanted": 1}))
    assert verdict == Verdict(0.5, [0.0, 1.0], {"wanted": 1})


def test_the_request_has_what_the_protocol_names() -> None:
    sent = json.loads(request_of(task(threshold=0.7, config={"k": "v"})))
    assert list(sent) == [
        *("protocol_version", "metric_name", "threshold", "config", "invocations", "expected_invocations")
    ]
    assert (sent["protocol_version"], sent["metric_name"]) == ("1.1", "mine")
    assert (sent["threshold"], sent["config"]) == (0.7, {"k": "v"})
    first = sent["invocations"][0]
    assert (first["user_content"], first["final_response"]) == ("Is it up?", "Yes, it is.")
    assert first["intermediate_steps"]["tool_calls"][0]["args"] == {"host": "a"}
    assert first["performance_metrics"]["counts"] == {"llm_calls": 2, "tool_calls": 1, "invocations": 2}
    assert sent["expected_invocations"][0]["final_response"] == "Yes."


def test_without_an_eval_case_nothing_is_expected() -> None:
    assert json.loads(request_of(task(expected=())))["expected_invocations"] is None


def test_half_a_surrogate_pair_is_sent_as_a_replacement_character() -> None:
    sent = json.loads(request_of(task(config={"broken": "\ud83d", "whole": "\ud83d\ude00"})).decode())
    assert sent["config"] == {"broken": "\ufffd", "whole": "😀"}


# The answer


def test_a_status_goes_before_the_threshold() -> None:
    assert judged('{"score": 1, "status": "FAILED"}').status == "failed"
    assert judged('{"score": 0, "status": "PASSED"}').status == "passed"
    assert judged('{"score": 1, "status": "NOT_EVALUATED"}').status == "skipped"


def test_without_a_status_the_score_decides() -> None:
    assert judged('{"score": 0.25}') == Verdict(0.25, [])


@pytest.mark.parametrize(
    "answer",
    [
        *("[]", "{}", "1", '{"score": 2}', '{"score": -0.1}', '{"score": "0.5"}', '{"score": true}'),
        *('{"score": null}', '{"score": NaN}', '{"score": 1, "status": "passed"}', "log line\n{}"),
        *('{"score": 1, "details": []}', '{"score": 1, "per_invocation_scores": [NaN]}', '{"score": 1'),
        *('{"score": 1, "per_invocation_scores": ["1"]}', '{"score": 1, "per_invocation_scores": null}'),
    ],
)
def test_anything_else_is_no_verdict(answer: str) -> None:
    assert problem(answer).startswith("Custom evaluator 'mine' produced invalid JSON: ")


def test_bytes_that_are_no_utf8_are_no_verdict() -> None:
    with pytest.raises(EvaluationError, match=r"produced invalid JSON"):
        verdict_of(task(), b'{"score": 1, "details": {"a": "\xff"}}')


# What went wrong, in the words of the reference


def test_a_program_that_fails_says_why() -> None:
    assert problem("", "boom\n", 3) == "Custom evaluator 'mine' exited with code 3: boom"
    assert problem('{"score": 1}', "", 1) == "Custom evaluator 'mine' exited with code 1"


def test_of_a_long_complaint_the_end_is_kept() -> None:
    assert problem("", "x" * 100_000 + "the cause", 1).endswith("xthe cause")
    assert len(problem("", "x" * 100_000, 1)) < 5000


def test_a_silent_program_is_told_of() -> None:
    assert problem(" \n") == "Custom evaluator 'mine' produced no output on stdout"
    assert problem("", "hm\n").endswith("produced no output on stdout\nEvaluator stderr:\nhm")


def test_a_program_that_takes_too_long_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import time; time.sleep(60)")
    tools = EvaluatorTools(folders=[str(tmp_path)])
    began = time.monotonic()
    with pytest.raises(EvaluationError, match=r"^Custom evaluator 'mine' timed out after 1s$"):
        CodeEvaluator(settings()).judge(task(tools, timeout=1))
    assert time.monotonic() - began < 3


def test_a_program_outside_the_operators_folders_is_told_of() -> None:
    with pytest.raises(
        EvaluationError, match=r"^Custom evaluator 'mine' is not run: EVALUATOR_FOLDERS is empty"
    ):
        CodeEvaluator(settings()).judge(task(EvaluatorTools()))


def test_another_executor_is_refused() -> None:
    with pytest.raises(EvaluationError, match=r"executor 'docker' is unknown"):
        judged('{"score": 1}', executor="docker")


# Beside the reference

DUMPS = """
import asyncio, json, sys, pathlib
from agentevals.adk_bridge import load_eval_set_from_dict
from agentevals.config import EvalParams
from agentevals.loader import load_traces_from_obj
from agentevals.runner import run_evaluation_from_traces
trace, cases, program = sys.argv[1:]
read = lambda path: json.loads(pathlib.Path(path).read_text())
params = EvalParams.model_validate({"evaluators": [{"type": "code", "name": "mine", "path": program}]})
traces, cases = load_traces_from_obj(read(trace)), load_eval_set_from_dict(read(cases))
asyncio.run(run_evaluation_from_traces(traces, params, cases))
"""

PROGRAM = """
import pathlib, sys
pathlib.Path(__file__).with_name("asked.json").write_text(sys.stdin.read())
print('{"score": 1}')
"""


@pytest.mark.skipif(not AGENTEVALS, reason="AGENTEVALS_PYTHON names no environment with agentevals")
@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/samples, others' data, is not here")
@pytest.mark.parametrize(
    ("trace", "cases"),
    [
        ("helm.json", "eval_set_helm.json"),
        ("helm_2.json", "eval_set_helm.json"),
        ("k8s.json", "evalset_k8s_2026-02-20.json"),
    ],
)
def test_programs_are_sent_what_agentevals_sends(tmp_path: Path, trace: str, cases: str) -> None:
    program = tmp_path / "mine.py"
    program.write_text(PROGRAM)
    command = [AGENTEVALS, "-c", DUMPS, str(SHARED / trace), str(SHARED / cases), str(program)]
    subprocess.run(command, check=True, capture_output=True)
    theirs = json.loads((tmp_path / "asked.json").read_text())

    (group,) = group_turns(read_traces(json.loads((SHARED / trace).read_text())), "trace")
    wanted = parse_eval_set(json.loads((SHARED / cases).read_text()))
    assert wanted
    ours = json.loads(request_of(as_task(group.turns, wanted.cases[0].turns)))
    assert comparable(ours) == comparable(theirs)


def as_task(turns: list[Turn], expected: tuple[ExpectedTurn, ...]) -> Task:
    return Task(turns, expected, settings().model_dump())


def comparable(sent: dict[str, Any]) -> dict[str, Any]:
    """Without what our turns and eval cases do not keep: each model call's own time and tokens, and of
    what was expected the ids and the tools' results."""
    for invocation in sent["invocations"]:
        del invocation["performance_metrics"]["latency"]["llm_calls"]
        del invocation["performance_metrics"]["tokens"]["per_llm_call"]
    for invocation in sent["expected_invocations"]:
        del invocation["intermediate_steps"]["tool_responses"]
        for call in invocation["intermediate_steps"]["tool_calls"]:
            del call["id"]
    return sent

"""Evaluators that live elsewhere: a server that is asked, or a file of the operator's repository that is
fetched and run (CONTRACTS 1.8; issue 4, point 5). Both speak the protocol of `code` evaluators."""

from typing import ClassVar, Protocol, runtime_checkable

from runs.evaluators.base import Config as NoConfig
from runs.evaluators.base import EvaluationError, Ran, Task, ToolError, Tools, Verdict
from runs.evaluators.code import called, request_of, verdict_of, verdict_of_program
from runs.evaluators.params import RemoteEvaluator as Settings
from runs.evaluators.tool_errors import ProgramError


@runtime_checkable
class RemoteTools(Protocol):
    """Tools that can also run what the operator's repository has."""

    def run_remote(self, ref: str, stdin: bytes, timeout: float) -> Ran: ...


class RemoteEvaluator:
    """Source `http` posts the request to `url`, with the credential as a bearer token where one is
    named; source `github` runs the file `ref`."""

    description = "Asks a server of yours for its verdict, or runs a file of your evaluators' repository."
    needs_eval_case = False
    waits: ClassVar[bool] = True
    Config = NoConfig  # its `config` is handed on as it came

    def __init__(self, settings: Settings) -> None:
        self.name = settings.name
        self.default_threshold = settings.threshold

    def judge(self, task: Task) -> Verdict:
        if task.tools is None:
            raise EvaluationError("remote evaluators cannot be reached here")
        match task.settings["source"]:
            case "http":
                return verdict_of(task, _asked(task, task.tools))
            case "github":
                return verdict_of_program(task, _fetched_and_run(task, task.tools))
            case source:
                raise EvaluationError(f"source {source!r} is unknown; remote evaluators are http or github")


def _asked(task: Task, tools: Tools) -> bytes:
    settings = task.settings
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if name := settings.get("credential_ref"):
        headers["Authorization"] = f"Bearer {tools.credential(name)}"
    try:
        return tools.post(settings["url"], request_of(task), headers, settings["timeout"])
    except ToolError as error:
        raise EvaluationError(f"{called(task)}: {error}") from None


def _fetched_and_run(task: Task, tools: Tools) -> Ran:
    if not isinstance(tools, RemoteTools):
        raise EvaluationError("remote evaluators cannot be fetched here")
    try:
        return tools.run_remote(task.settings["ref"], request_of(task), task.settings["timeout"])
    except ProgramError as error:
        raise EvaluationError(f"{called(task)} {error}") from None
    except ToolError as error:
        raise EvaluationError(f"{called(task)}: {error}") from None

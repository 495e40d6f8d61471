"""What evaluators may do to the world: the Tools of runs/evaluators/base.py, within the operator's rules."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

from runs.evaluators.base import Ran, ToolError
from runs.evaluators.tool_errors import BadStatus
from runs.outgoing import Answer, Outgoing, OutgoingError, host_of
from runs.worker.programs import Limits, run_program

GITHUB = "https://raw.githubusercontent.com"
_FETCH_TIMEOUT = 30.0  # seconds, for a file of the evaluators' repository
_INDEX = "index.yaml"


@dataclass(frozen=True)
class EvaluatorTools:
    """Made of plain data, so that it can be made in the evaluators' process.

    `folders` is EVALUATOR_FOLDERS, `allow` OUTGOING_ALLOW; `credentials` are the values of the run's
    credentialRefs by their names there. `repository` ("owner/name") and `branch` say where remote
    evaluators come from, `github_token` opens it where it is private; "" for none (CONTRACTS.md 1.8).
    `python` runs .py programs; working folders are made in `scratch`, by default where temporary files go.
    """

    folders: Sequence[str] = ()
    allow: Sequence[str] = ()
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)
    limits: Limits = field(default_factory=Limits)
    repository: str = ""
    branch: str = "main"
    github_token: str = field(default="", repr=False)
    github: str = GITHUB
    python: str = sys.executable
    scratch: str | None = None

    def post(self, url: str, body: bytes, headers: Mapping[str, str], timeout: float) -> bytes:
        """Raises BadStatus for an answer that is no 2xx, ToolError for none at all."""
        try:
            return _body(url, self._outgoing.post(url, body, headers, timeout=timeout))
        except OutgoingError as error:
            raise ToolError(str(error)) from None

    def get(self, url: str, headers: Mapping[str, str], timeout: float) -> bytes:
        """Raises as `post` does."""
        try:
            return _body(url, self._outgoing.get(url, headers, timeout=timeout))
        except OutgoingError as error:
            raise ToolError(str(error)) from None

    def run(self, path: str, stdin: bytes, timeout: float) -> Ran:
        return self._run(path, stdin, timeout, self.folders)

    def run_remote(self, ref: str, stdin: bytes, timeout: float) -> Ran:
        """Runs the file `ref` of the operator's repository, which its index must list.

        What the index or the file says is asked for once and holds for all items of the run.
        """
        if not self.repository:
            raise ToolError("AGENTEVALS_EVALUATOR_REPO names no repository to fetch remote evaluators from")
        if ref not in self._index:
            raise ToolError(f"{ref} is not listed in {_INDEX} of {self.repository} ({self.branch})")
        with TemporaryDirectory(prefix="runfolio-remote-", dir=self.scratch) as folder:
            program = Path(folder).resolve() / Path(ref).name
            program.write_bytes(self._fetched(ref))
            return self._run(str(program), stdin, timeout, [folder])

    def credential(self, name: str) -> str:
        if name not in self.credentials:
            raise ToolError(f"the run's credentialRefs have no {name!r}")
        return self.credentials[name]

    def _run(self, path: str, stdin: bytes, timeout: float, folders: Sequence[str]) -> Ran:
        return run_program(
            path, stdin, timeout, self.limits, folders, python=self.python, scratch=self.scratch
        )

    def _fetched(self, ref: str) -> bytes:
        if ref not in self._files:
            headers = {"Authorization": f"token {self.github_token}"} if self.github_token else {}
            path = "/".join(quote(part, safe="") for part in [*self.branch.split("/"), *ref.split("/")])
            self._files[ref] = self.get(f"{self.github}/{self.repository}/{path}", headers, _FETCH_TIMEOUT)
        return self._files[ref]

    @cached_property
    def _outgoing(self) -> Outgoing:
        return Outgoing(self.allow)

    @cached_property
    def _files(self) -> dict[str, bytes]:
        return {}

    @cached_property
    def _index(self) -> frozenset[str]:
        import yaml  # takes its time, and few runs have a remote evaluator

        try:
            found = yaml.safe_load(self._fetched(_INDEX))
        except (yaml.YAMLError, UnicodeDecodeError):
            raise ToolError(f"{_INDEX} of {self.repository} is not YAML") from None
        entries = found.get("evaluators") if isinstance(found, dict) else None
        listed = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
        return frozenset(entry["path"] for entry in listed if isinstance(entry.get("path"), str))


def _body(url: str, answer: Answer) -> bytes:
    if 200 <= answer.status < 300:
        return answer.body
    again = answer.headers.get("retry-after", "")
    raise BadStatus(f"{host_of(url)} answered {answer.status}", answer.status, again)

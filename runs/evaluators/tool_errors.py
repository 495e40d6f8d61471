"""The tool errors that an evaluator can tell apart."""

from runs.evaluators.base import ToolError


class BadStatus(ToolError):
    """The other side answered, but not with success.

    `status` is HTTP's, `retry_after` the header's text, "" without one. The text names host and status,
    never the body, which could hold what is not meant for whoever reads results.
    """

    def __init__(self, message: str, status: int, retry_after: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class ProgramError(ToolError):
    """A program was refused or ended. The text goes on from the program's name: "timed out after 1s"."""

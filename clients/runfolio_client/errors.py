"""What can go wrong with a call. Each names the operation and what it was about."""

from __future__ import annotations


class RunfolioError(Exception):
    """Any failure of a call to Runfolio."""


class OperationTimeout(RunfolioError, TimeoutError):
    """Runfolio could not be reached, or did not answer, for as long as the caller wanted to wait.

    Whether a write has happened is then not known; the same write sent anew may happen twice.
    """


class BrokenOff(RunfolioError):
    """The connection broke each time the request was sent, although Runfolio answers others.

    Likely it is larger than Runfolio takes (MAX_BODY_BYTES there), and the answer that says so got lost.
    """


class AnswerError(RunfolioError):
    """Runfolio answered, and the answer is no. The attributes say what it said."""

    def __init__(
        self, operation: str, status: int, code: str, message: str, field: str | None, request_id: str | None
    ) -> None:
        super().__init__(f"{operation}: {message} (HTTP {status}, {code})")
        self.operation = operation
        self.status = status  # of HTTP
        self.code = code  # a word for programs, such as task_final
        self.message = message  # a sentence for people
        self.field = field  # of what was sent, where one of it is to blame
        self.request_id = request_id  # names the request in Runfolio's log


class NotFound(AnswerError):
    """There is no such thing, or it is not the token's owner's."""

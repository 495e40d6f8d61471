"""Who calls the API: a token, never the session cookie (DESIGN.md 3.12)."""

from django.http import HttpRequest
from ninja.errors import HttpError
from ninja.security import HttpBearer

from runs.models import Token


class ApiRequest(HttpRequest):
    """A request by a client; its token says whose data it reads and writes."""

    auth: Token


class TokenAuth(HttpBearer):
    """`Authorization: Bearer <token>`: 401 without a good one, 403 where it lacks the scope."""

    def __init__(self, scope: Token.Scope) -> None:
        super().__init__()
        self.scope = scope

    def authenticate(self, request: HttpRequest, token: str) -> Token | None:
        found = Token.objects.authenticate(token)
        if found and not found.may(self.scope):
            raise HttpError(403, f"This token lacks the scope {self.scope.value!r}.")
        return found

"""Who calls the API: a token, never the session cookie (DESIGN.md 3.12)."""

from django.http import HttpRequest
from ninja.errors import HttpError
from ninja.security import HttpBearer

from runs.models import Action, Token, may
from runs.models.access import scope_of


class ApiRequest(HttpRequest):
    """A request by a client; its token says whose data it reads and writes."""

    auth: Token


class TokenAuth(HttpBearer):
    """`Authorization: Bearer <token>`: 401 without a good one, 403 where it lacks the scope for `action`."""

    def __init__(self, action: Action) -> None:
        super().__init__()
        self.action = action

    def authenticate(self, request: HttpRequest, token: str) -> Token | None:
        found = Token.objects.authenticate(token)
        if found and not may(found, self.action):
            raise HttpError(403, f"{self.action.label} needs a token with the scope {scope_of(self.action)}.")
        return found

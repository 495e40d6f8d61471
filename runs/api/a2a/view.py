"""The one address of the JSON-RPC: who asks, what for, and whether that token may (CONTRACTS.md 2.5)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from runs.access import token_only
from runs.api.a2a import contexts, pushes, tasks
from runs.api.a2a.caller import Answer, Caller
from runs.api.a2a.params import Params
from runs.api.a2a.rpc import Code, RpcError, RpcRequest, Unreadable, answer, read_request, refusal
from runs.models import Action, Token, may
from runs.models.access import scope_of


@dataclass(frozen=True, slots=True)
class Method:
    """What a method does, and what its token must be allowed."""

    action: Action
    call: Callable[[Caller, Params], Answer]


METHODS: Mapping[str, Method] = {
    "tasks/get": Method(Action.VIEW, tasks.get),
    "tasks/list": Method(Action.VIEW, tasks.list_),
    "tasks/cancel": Method(Action.CANCEL, tasks.cancel),
    "tasks/feedback": Method(Action.RATE, tasks.give_feedback),
    "contexts/list": Method(Action.VIEW, contexts.list_),
    "contexts/clear": Method(Action.DELETE, contexts.clear),
    # The answers hold the token that the client gave us, so reading alone is not enough for any of them.
    "tasks/pushNotificationConfig/set": Method(Action.SUBMIT, pushes.set_),
    "tasks/pushNotificationConfig/get": Method(Action.SUBMIT, pushes.get),
    "tasks/pushNotificationConfig/list": Method(Action.SUBMIT, pushes.list_),
    "tasks/pushNotificationConfig/delete": Method(Action.SUBMIT, pushes.delete),
}
_NOT_HERE = ("message/send", "message/stream")


@csrf_exempt
@token_only
@require_POST
def rpc(request: HttpRequest) -> HttpResponse:
    """An answer or a refusal, in Bindu's shape and with its HTTP status."""
    asked: RpcRequest | None = None
    try:
        token = _token(request)
        asked = read_request(request.body)
        method = _method(asked.method, token)
        given = method.call(Caller(token, request.GET.get("namespace")), Params(asked.params))
    except RpcError as error:
        request_id = None if asked is None or isinstance(error, Unreadable) else asked.id
        refused = JsonResponse(refusal(request_id, error), status=error.status)
        if error.code == Code.NO_TOKEN:
            refused["WWW-Authenticate"] = "Bearer"
        return refused
    return HttpResponse(
        answer(asked.id, given.result), content_type="application/json", headers=given.headers
    )


def _token(request: HttpRequest) -> Token:
    kind, _, secret = request.headers.get("Authorization", "").partition(" ")
    token = Token.objects.authenticate(secret.strip()) if kind.lower() == "bearer" else None
    if token is None:
        raise RpcError(
            Code.NO_TOKEN, "Send a good token of Runfolio's as 'Authorization: Bearer <token>'.", 401
        )
    return token


def _method(name: str, token: Token) -> Method:
    if name in _NOT_HERE:
        raise RpcError(
            Code.UNSUPPORTED,
            f"{name} is not done here: Runfolio keeps what agents did and runs none. Send the message to the "
            "agent itself; its task appears here once the agent writes to Runfolio.",
        )
    if name == "tasks/resubscribe":  # in Bindu's schema, with nobody who does it
        raise RpcError(Code.NO_SUCH_METHOD, "tasks/resubscribe is not implemented; use tasks/get.", 404)
    if name not in METHODS:
        raise Unreadable(f"there is no method {name[:100]!r}; there are {', '.join(METHODS)}")
    method = METHODS[name]
    if not may(token, method.action):
        needed = scope_of(method.action)
        raise RpcError(Code.NO_SCOPE, f"{method.action.label} needs a token with the scope {needed}.", 403)
    return method

"""Errors that no view made: in the shape of the protocol whose path was asked for (DESIGN.md 3.14)."""

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.csrf import requires_csrf_token

from runs.rpc_status import status_response

RETRY_AFTER = 5  # seconds

AGENTEVALS_PATHS = (
    *("/api/runs", "/api/evaluate", "/api/convert", "/api/validate/", "/api/streaming/", "/stream/"),
    *("/api/metrics", "/api/health", "/api/config", "/api/debug/"),
)

_TITLES = {
    400: "This request cannot be read",
    403: "This is not allowed",
    404: "Nothing is here",
    405: "This is not how it is asked",
    413: "That is too large",
    500: "Something broke here",
    503: "Not right now",
}


class Refused(Exception):
    """Why a request of our own REST API is refused; `field` is what to change, where it is one thing."""

    def __init__(self, status: int, code: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.field = status, code, field

    def shown(self, request: HttpRequest) -> dict[str, str | None]:
        return {"code": self.code, "message": str(self), "field": self.field, "request_id": _id(request)}


def refusal(request: HttpRequest, refused: Refused) -> HttpResponse:
    """In our own shape, which only our own paths have."""
    return JsonResponse({"error": refused.shown(request)}, status=refused.status)


def response(request: HttpRequest, status: int, message: str) -> HttpResponse:
    """`message` as the path's protocol says it: agentevals' JSON on its paths, JSON-RPC at /a2a, our own
    JSON on other API paths, else a page."""
    if request.path.startswith("/v1/"):
        return status_response(request, status, message)
    if request.path == "/a2a" or request.path.startswith("/a2a/"):
        return _json_rpc(status, message)
    if is_agentevals(request):
        return JsonResponse({"detail": message}, status=status)
    if request.path.startswith("/api/"):
        return refusal(request, Refused(status, _code(status), message))
    context = {
        "status": status,
        "title": _TITLES.get(status, "Error"),
        "message": message,
        "request_id": _id(request),
    }
    return render(request, "error.html", context, status=status)


def is_agentevals(request: HttpRequest) -> bool:
    """Whether the path is one of agentevals' own."""
    return request.path.startswith(AGENTEVALS_PATHS)


def unavailable(
    request: HttpRequest, message: str = "The database does not answer. Try again in a few seconds."
) -> HttpResponse:
    answer = response(request, 503, message)
    answer["Retry-After"] = str(RETRY_AFTER)
    return answer


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return response(request, 400, "Something in this request cannot be read.")


@requires_csrf_token
def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Django's text for this is about settings; people need to know what to do."""
    return response(
        request, 403, "This form was open for too long, or came from another site. Load the page again."
    )


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """`exception` is PermissionDenied, whose text says why where we raised it (models.NotAllowed)."""
    return response(request, 403, str(exception) or "You may not do this.")


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return response(request, 404, "There is nothing at this address, or it is not yours to see.")


def server_error(request: HttpRequest) -> HttpResponse:
    return response(request, 500, "This is our fault. The log names it by the request id.")


def _json_rpc(status: int, message: str) -> HttpResponse:
    """Nobody has read the request's id, so none is in it. The numbers are Bindu's (CONTRACTS.md 2.5)."""
    code = {400: -32700, 401: -32009, 403: -32013, 404: -32601, 405: -32600, 413: -32600}.get(status, -32603)
    error = {"code": code, "message": message}
    return JsonResponse({"jsonrpc": "2.0", "id": None, "error": error}, status=status)


def _code(status: int) -> str:
    return _CODES.get(status, "error")


_CODES = {
    400: "bad_request",
    401: "unauthenticated",
    403: "not_allowed",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    422: "invalid",
    503: "unavailable",
}


def _id(request: HttpRequest) -> str:
    return str(request.META.get("REQUEST_ID", ""))

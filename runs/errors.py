"""Errors that no view made: in the shape of the protocol whose path was asked for (DESIGN.md 3.14)."""

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.csrf import requires_csrf_token

RETRY_AFTER = 5  # seconds

_TITLES = {
    400: "This request cannot be read",
    403: "This is not allowed",
    404: "Nothing is here",
    405: "This is not how it is asked",
    413: "That is too large",
    500: "Something broke here",
    503: "Not right now",
}


def response(request: HttpRequest, status: int, message: str) -> HttpResponse:
    """`message` as agentevals' JSON below /api/runs, as our own on other API paths, else as a page."""
    if request.path.startswith("/api/runs"):
        return JsonResponse({"detail": message}, status=status)
    if request.path.startswith("/api/"):
        error = {"code": _code(status), "message": message, "field": None, "request_id": _id(request)}
        return JsonResponse({"error": error}, status=status)
    context = {
        "status": status,
        "title": _TITLES.get(status, "Error"),
        "message": message,
        "request_id": _id(request),
    }
    return render(request, "error.html", context, status=status)


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


def _code(status: int) -> str:
    return {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}.get(
        status, "unavailable" if status == 503 else "error"
    )


def _id(request: HttpRequest) -> str:
    return str(request.META.get("REQUEST_ID", ""))

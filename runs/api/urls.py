"""`/api/`: the routers of every protocol that speaks JSON over REST, and their OpenAPI page at /api/docs."""

from typing import cast

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import URLPattern
from django.views.decorators.http import require_safe
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, ValidationError

from runs import access, errors
from runs.api import agentevals, contexts, convert, evaluate, files, live, push, sinks, tasks
from runs.api.bodies import Unreadable, missing
from runs.api.docs import with_docs_policy
from runs.api.uploads import MissingField
from runs.errors import Refused

api = NinjaAPI(
    title="Runfolio",
    version="1",
    description="Send the token as `Authorization: Bearer <token>`. Times are UTC.",
    docs_decorator=with_docs_policy,
    urls_namespace="api",
)
api.add_router("/runs", agentevals.router)
api.add_router("/tasks", tasks.router)
api.add_router("/contexts", contexts.router)
api.add_router("/files", files.router)
api.add_router("/evaluate", evaluate.router)
api.add_router("/streaming", live.router)
api.add_router("/sinks", sinks.router)
api.add_router("", convert.router)
api.add_router("", push.router)


@api.exception_handler(AuthenticationError)
def _unauthenticated(request: HttpRequest, error: AuthenticationError) -> HttpResponse:
    answer = errors.response(request, 401, "Send a good token as 'Authorization: Bearer <token>'.")
    answer["WWW-Authenticate"] = "Bearer"
    return answer


@api.exception_handler(ValidationError)
def _invalid(request: HttpRequest, error: ValidationError) -> HttpResponse:
    """Without pydantic's `ctx`, which may hold what is no JSON."""
    if not errors.is_agentevals(request):
        first = error.errors[0]
        field = str(first["loc"][-1])
        return errors.refusal(request, Refused(422, "invalid", f"{field}: {first['msg']}.", field))
    shown = [{"type": one["type"], "loc": list(one["loc"]), "msg": one["msg"]} for one in error.errors]
    return JsonResponse({"detail": shown}, status=422)


@api.exception_handler(HttpError)
def _error(request: HttpRequest, error: HttpError) -> HttpResponse:
    return errors.response(request, error.status_code, str(error))


@api.exception_handler(Refused)
def _refused(request: HttpRequest, error: Refused) -> HttpResponse:
    return errors.refusal(request, error)


@api.exception_handler(MissingField)
def _missing(request: HttpRequest, error: MissingField) -> HttpResponse:
    return JsonResponse({"detail": [missing(error.name)]}, status=422)


@api.exception_handler(Unreadable)
def _unreadable(request: HttpRequest, error: Unreadable) -> HttpResponse:
    return JsonResponse({"detail": error.errors}, status=422)


_DOCS = ("openapi-json", "openapi-view", "api-root")

urlpatterns = cast(list[URLPattern], api.urls[0])
for pattern in urlpatterns:
    view = cast(access.View, pattern.callback)
    pattern.callback = access.public(require_safe(view)) if pattern.name in _DOCS else access.token_only(view)

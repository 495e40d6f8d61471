"""`/api/`: the routers of every protocol that speaks JSON over REST, and their OpenAPI page at /api/docs."""

from typing import cast

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import URLPattern
from django.views.decorators.http import require_safe
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, ValidationError

from runs import access
from runs.api import agentevals
from runs.api.docs import with_docs_policy

api = NinjaAPI(
    title="Runfolio",
    version="1",
    description="Send the token as `Authorization: Bearer <token>`. Times are UTC.",
    docs_decorator=with_docs_policy,
    urls_namespace="api",
)
api.add_router("/runs", agentevals.router)


@api.exception_handler(AuthenticationError)
def _unauthenticated(request: HttpRequest, error: AuthenticationError) -> HttpResponse:
    answer = JsonResponse({"detail": "Send a good token as 'Authorization: Bearer <token>'."}, status=401)
    answer["WWW-Authenticate"] = "Bearer"
    return answer


@api.exception_handler(ValidationError)
def _invalid(request: HttpRequest, error: ValidationError) -> HttpResponse:
    """Without pydantic's `ctx`, which may hold what is no JSON."""
    shown = [{"type": one["type"], "loc": list(one["loc"]), "msg": one["msg"]} for one in error.errors]
    return JsonResponse({"detail": shown}, status=422)


_DOCS = ("openapi-json", "openapi-view", "api-root")

urlpatterns = cast(list[URLPattern], api.urls[0])
for pattern in urlpatterns:
    view = cast(access.View, pattern.callback)
    pattern.callback = access.public(require_safe(view)) if pattern.name in _DOCS else access.token_only(view)

from django.contrib import admin
from django.urls import include, path

from runs import errors, health
from runs.api import live, otlp
from runs.api import urls as api_urls
from runs.api.a2a.card import card
from runs.api.a2a.view import rpc
from runs.pages import urls as page_urls

urlpatterns = [
    path("healthz", health.alive, name="healthz"),
    path("readyz", health.ready, name="readyz"),
    path("metrics", health.metrics, name="metrics"),
    path("api/", include((api_urls.urlpatterns, "api"), namespace="api")),
    path("v1/traces", otlp.traces, name="otlp_traces"),
    path("v1/logs", otlp.logs, name="otlp_logs"),
    path("stream/ui-updates", live.ui_updates, name="ui_updates"),
    path(".well-known/agent.json", card, name="agent_card"),
    path("a2a/.well-known/agent.json", card),
    path("a2a", rpc, name="a2a"),
    path("a2a/", rpc),  # a client's base address with a slash
    path("admin/", admin.site.urls),
    path("", include(page_urls)),
]

handler400 = errors.bad_request
handler403 = errors.forbidden
handler404 = errors.not_found
handler500 = errors.server_error

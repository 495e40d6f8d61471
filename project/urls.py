from django.contrib import admin
from django.urls import include, path

from runs import errors, health
from runs.api import urls as api_urls
from runs.pages import urls as page_urls

urlpatterns = [
    path("healthz", health.alive, name="healthz"),
    path("readyz", health.ready, name="readyz"),
    path("metrics", health.metrics, name="metrics"),
    path("api/", include((api_urls.urlpatterns, "api"), namespace="api")),
    path("admin/", admin.site.urls),
    path("", include(page_urls)),
]

handler400 = errors.bad_request
handler403 = errors.forbidden
handler404 = errors.not_found
handler500 = errors.server_error

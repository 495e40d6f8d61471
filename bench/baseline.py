"""The addresses of the product, and beside them the plain page that its own are measured against."""

from django.http import HttpResponse
from django.template import engines
from django.urls import include, path

from project.urls import handler400, handler403, handler404, handler500
from runs import access
from runs.access import SignedInRequest
from runs.models import Membership, Run

__all__ = ["handler400", "handler403", "handler404", "handler500", "urlpatterns"]

_COLUMNS = ("title", "agent", "status", "created_at", "score", "event_count")
_CELLS = "".join(f"<td>{{{{ run.{column} }}}}</td>" for column in _COLUMNS)
_PAGE = engines["django"].from_string(
    "<!doctype html><html lang=en><title>Runs</title><table>"
    f"{{% for run in runs %}}<tr>{_CELLS}</tr>{{% endfor %}}</table></html>"
)


@access.signed_in
def plain(request: SignedInRequest) -> HttpResponse:
    """One indexed query and 50 rows of 6 cells, by the template engine that comes with Django."""
    owner = Membership.objects.filter(user=request.user).values("owner_id")[:1]
    kept = Run.objects.filter(owner=owner, deleted_at=None).newest_first()
    return HttpResponse(_PAGE.render({"runs": kept.only(*_COLUMNS)[:50]}, request))


urlpatterns = [path("plain", plain), path("", include("project.urls"))]

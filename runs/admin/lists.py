"""Lists over tables of any size: no count of all rows, no DISTINCT, no payload, no sort without an index."""

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar, cast
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.options import IS_POPUP_VAR
from django.contrib.admin.views.main import IGNORED_PARAMS, ChangeList
from django.core.paginator import Paginator
from django.db import connection, models
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from runs.models import Owner

MOST = 10_000  # rows that a list counts and pages through: a deeper OFFSET would read all before it
MANY_OWNERS = 100
FEWEST_DIGITS = 4  # of a UUID, to be searched by its beginning

_BIG_NUMBER = 18  # digits that a bigint surely holds


class BoundedPaginator(Paginator):
    """Counts no further than `MOST` rows; the list says that there are more (`ListPage.size`)."""

    @cached_property
    def count(self) -> int:
        rows = cast(QuerySet[Any], self.object_list).order_by().values("pk")[: MOST + 1]
        return min(rows.aggregate(rows=Count("pk"))["rows"], MOST + 1)

    @cached_property
    def num_pages(self) -> int:
        return max(1, -(-min(self.count, MOST) // self.per_page))


class ListPage(ChangeList):
    """A page of a list in the one order that an index keeps."""

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        """Sorting a big table by any column would read all of it, so `?o=` is passed over."""
        return list(self.model_admin.get_ordering(request))

    @property
    def size(self) -> str:
        """How many rows there are, as exactly as that is known without counting them all."""
        if self.result_count <= MOST:
            return _counted(self.result_count, self.opts)
        if self.query or self.get_filters_params():
            return f"more than {_counted(MOST, self.opts)}; search or filter to see further back"
        estimate = max(_estimated_rows(self.opts.db_table), MOST)
        return f"about {_counted(estimate, self.opts)}; the list goes back over {MOST:,}"


class DeletedFilter(admin.SimpleListFilter):
    """What is put away shows only where it is asked for; so the list has an index of its own."""

    title = "deleted"
    parameter_name = "deleted"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple[str, str]]:
        return [("yes", "Deleted"), ("all", "All")]

    def choices(self, changelist: ChangeList) -> Any:
        first, *others = super().choices(changelist)
        return [{**first, "display": "Not deleted"}, *others]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() == "all":
            return queryset
        return queryset.filter(deleted_at__isnull=self.value() != "yes")


class BigTableAdmin(admin.ModelAdmin):
    """Base for tables that grow without end."""

    paginator = BoundedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # each facet is a count
    list_per_page = 50
    list_max_show_all = 200
    sortable_by = ()
    ordering: ClassVar[Any] = ("-id",)
    ordering_in_run: ClassVar[Any] = ("-id",)
    payloads: ClassVar[Sequence[str]] = ()
    search_fields: ClassVar[Any] = ("id",)  # that there is a search; `find` does it
    lookups: ClassVar[Sequence[str]] = ("id__exact", "run__id__exact", "run__exact")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer(*self.payloads)

    def get_ordering(self, request: HttpRequest) -> Any:
        in_run = "run__id__exact" in request.GET or "run__exact" in request.GET
        return self.ordering_in_run if in_run else self.ordering

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return ListPage

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """What the list's own filters and links ask, and nothing that would read the whole table."""
        filters = self.get_list_filter(request)
        filtered = [one if isinstance(one, str) else getattr(one, "parameter_name", "") for one in filters]
        return lookup in (*self.lookups, *IGNORED_PARAMS) or lookup.partition("__")[0] in filtered

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        found = self.find(term)
        return (queryset.none() if found is None else queryset.filter(found)), False

    def find(self, term: str) -> Q | None:
        """The rows that a search means, by an index; None: none can be meant."""
        return number_is("id", term)


class OfOwnerAdmin(BigTableAdmin):
    """Tables whose list indexes begin with the owner."""

    ordering = ("-created_at", "-id")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Every row has an owner, so naming them all hides nothing and lets PostgreSQL use those indexes."""
        owners = list(Owner.objects.values_list("pk", flat=True)[: MANY_OWNERS + 1])
        rows = super().get_queryset(request)
        if len(owners) == 1:
            return rows.filter(owner=owners[0])
        return rows.filter(owner__in=owners) if len(owners) <= MANY_OWNERS else rows


def uuid_starts(path: str, term: str) -> Q | None:
    """The UUIDs that begin with the digits of `term`: a range, so that the primary key finds them."""
    digits = term.replace("-", "").lower()
    if not re.fullmatch(rf"[0-9a-f]{{{FEWEST_DIGITS},32}}", digits):
        return None
    return Q(**{f"{path}__gte": UUID(digits.ljust(32, "0")), f"{path}__lte": UUID(digits.ljust(32, "f"))})


def number_is(path: str, term: str) -> Q | None:
    return Q(**{path: int(term)}) if re.fullmatch(rf"[0-9]{{1,{_BIG_NUMBER}}}", term) else None


def change_link(model: type[models.Model], pk: object, text: str) -> SafeString:
    return format_html(
        '<a href="{}">{}</a>', reverse(f"admin:runs_{model._meta.model_name}_change", args=[pk]), text
    )


def list_link(model: type[models.Model], text: str, **filters: object) -> SafeString:
    query = {f"{name}__id__exact": str(value) for name, value in filters.items()}
    url = reverse(f"admin:runs_{model._meta.model_name}_changelist", query=query)
    return format_html('<a href="{}">{}</a>', url, text)


def is_popup(request: HttpRequest) -> bool:
    return IS_POPUP_VAR in request.GET or IS_POPUP_VAR in request.POST


def _counted(number: int, opts: Any) -> str:
    return f"{number:,} {opts.verbose_name if number == 1 else opts.verbose_name_plural}"


def _estimated_rows(table: str) -> int:
    """What PostgreSQL's statistics say; -1 where it has not looked yet."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT reltuples::bigint FROM pg_class WHERE oid = %s::regclass", [table])
        return int(cursor.fetchone()[0])

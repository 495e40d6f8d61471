"""Files that agents keep here, and who writes them just now, to be looked at."""

from django.contrib import admin
from django.db.models import Q

from runs.admin.corrections import ReadOnlyAdmin
from runs.admin.lists import number_is
from runs.models import File, FileLock, FileNamespace


@admin.register(FileNamespace)
class FileNamespaceAdmin(ReadOnlyAdmin):
    list_display = ("id", "name", "owner", "version", "unread", "updated_at")
    list_select_related = ("owner",)
    search_help_text = "Its number, or its whole name."
    shown = ("owner", "name", "version", "read_version", "unread", "created_at", "updated_at")

    def find(self, term: str) -> Q | None:
        return _number_or(term, Q(name=term))


@admin.register(File)
class FileAdmin(ReadOnlyAdmin):
    payloads = ("content",)
    list_display = ("id", "path", "namespace", "size", "updated_at")
    list_select_related = ("namespace",)
    search_help_text = "Its number, or the whole name of its namespace."
    shown = ("namespace", "path", "size", "updated_at")

    def find(self, term: str) -> Q | None:
        return _number_or(term, Q(namespace__name=term))


@admin.register(FileLock)
class FileLockAdmin(ReadOnlyAdmin):
    list_display = ("id", "path", "namespace", "key", "until")
    list_select_related = ("namespace",)
    search_help_text = "Its number, or the whole name of its namespace."
    shown = ("namespace", "path", "key", "until", "next_key", "next_until")

    def find(self, term: str) -> Q | None:
        return _number_or(term, Q(namespace__name=term))


def _number_or(term: str, named: Q) -> Q:
    number = number_is("id", term)
    return named if number is None else named | number

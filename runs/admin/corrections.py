"""Correcting a row: with a reason, only the fields that changed, never over somebody else's change."""

from collections.abc import Sequence
from typing import Any, ClassVar, cast

from django import forms
from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.contrib.admin.utils import flatten_fieldsets
from django.contrib.admin.widgets import ForeignKeyRawIdWidget
from django.core.exceptions import ObjectDoesNotExist, ValidationError
from django.db import DataError, IntegrityError, models, transaction
from django.db.models import QuerySet
from django.db.models.functions import Cast, Left
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.text import Truncator

from runs.admin.json_field import MOST_EDITABLE, JsonField, Shown, full_value, has_exact, sizes
from runs.admin.lists import BigTableAdmin
from runs.exact import split_exact
from runs.models import Change, Run, Token, User, correction

REASON = "reason"
CHANGES_SHOWN = 50
_PREVIEW = 300  # characters of an old or a new value

_SENTENCES = {
    "run_running_is_claimed": "Only a worker makes an evaluation run: choose queued, and one takes it.",
    "run_final_is_finished": "A final status needs the time it finished at; any other must have none.",
    "run_status": "There is no such status.",
    "session_key": "This owner has a session with this source and key already.",
    "feedback_rating": "A rating is a whole number from 1 to 5, or nothing.",
    "feedback_once": "This author has rated this run by this criterion already.",
}


class PlainText(forms.CharField):
    """Text as it is in the column: browsers send CR LF for a line's end, which is no change."""

    def __init__(self, *, rows: int = 1, **kwargs: Any) -> None:
        area = forms.Textarea(attrs={"class": "vLargeTextField", "rows": rows, "dir": "auto"})
        super().__init__(widget=area, strip=False, **kwargs)

    def to_python(self, value: Any) -> str | None:
        text = super().to_python(value)
        return text.replace("\r\n", "\n") if isinstance(text, str) else text

    def has_changed(self, initial: Any, data: Any) -> bool:
        return self.to_python(initial or "") != self.to_python(data or "")


class RawId(ForeignKeyRawIdWidget):
    """Looks the related row up without its payloads."""

    def label_and_url_for_value(self, value: Any) -> tuple[str, str]:
        model = self.rel.model
        known: QuerySet[Any] = model._base_manager.only("pk", *_label_fields(model))
        try:
            found = known.get(pk=value)
        except (ValueError, ValidationError, ObjectDoesNotExist):
            return "", ""
        url = reverse(f"admin:runs_{model._meta.model_name}_change", args=[found.pk])
        return Truncator(str(found)).words(14), url


class CorrectionForm(forms.ModelForm):
    """The fields of one row, and why they are corrected.

    What a field held when the page was opened comes back with it: so an untouched field is never written,
    and one that changed meanwhile is not overwritten.
    """

    reason = forms.CharField(
        max_length=2000,
        widget=forms.Textarea(attrs={"class": "vLargeTextField", "rows": 2}),
        help_text="Why this is corrected. It is kept with the change.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in self._corrigible():
            self.fields[name].show_hidden_initial = True
            if has_exact(self._meta.model, name):
                self.initial[name] = full_value(self.instance, name)

    @property
    def corrected(self) -> list[str]:
        """The names of the fields that the person changed."""
        return [name for name in self.changed_data if name != REASON]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        for name in self._corrigible():
            if name in self.corrected:
                self._refuse_stale(name)
            elif not isinstance(self.fields[name], forms.ModelChoiceField):
                # What the page showed may be old; rules that look at several fields look at the row.
                cleaned[name] = full_value(self.instance, name)
        return cleaned

    def write(self, user: User, request_id: str) -> None:
        """Writes the corrected fields and no other. The triggers keep what was there."""
        with correction(user.actor, self.cleaned_data[REASON], request_id):
            self._update()
            self.follow_up()

    def consequences(self) -> dict[str, Any]:
        """Further columns that the corrected ones decide."""
        return {}

    def follow_up(self) -> None:
        """What is written after the row, such as counters that it takes part in."""

    def _corrigible(self) -> list[str]:
        return [name for name in self.fields if name != REASON]

    def _update(self) -> None:
        type(self.instance)._base_manager.filter(pk=self.instance.pk).update(**self._columns())

    def _columns(self) -> dict[str, Any]:
        columns: dict[str, Any] = {}
        for name in self.corrected:
            columns[name] = self.cleaned_data[name]
            if has_exact(self._meta.model, name):
                columns[name], columns[f"{name}_exact"] = split_exact(columns[name])
        return {**columns, **self.consequences()}

    def _refuse_stale(self, name: str) -> None:
        bound = self[name]
        hidden = bound.field.hidden_widget()
        shown = hidden.value_from_datadict(self.data, self.files, bound.html_initial_name)
        if bound.field.has_changed(bound.initial, shown):
            now = Truncator(str(bound.field.prepare_value(bound.initial))).chars(200)
            self.add_error(
                name,
                f"This has changed since, and is {now or 'empty'} now. Load the page again.",
            )

    def validate_constraints(self) -> None:
        """PostgreSQL judges them, in `_try_to_write`: it has them all, and we have sentences for them."""

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]
        if not self.errors and self.corrected:
            self._try_to_write()

    def _try_to_write(self) -> None:
        """Writes and takes it back: what only PostgreSQL refuses is an error of the form as well."""
        try:
            with transaction.atomic():
                with correction("trial", "trial"):
                    self._update()
                transaction.set_rollback(True)
        except (IntegrityError, DataError) as error:
            self.add_error(None, sentence(error))


def sentence(error: Exception) -> str:
    """A person's words for what PostgreSQL refused."""
    diagnosis = getattr(error.__cause__, "diag", None)
    name = getattr(diagnosis, "constraint_name", None) or ""
    message = getattr(diagnosis, "message_primary", None) or str(error)
    return _SENTENCES.get(name, f"The database refuses this: {message}.")


class ReadOnlyAdmin(BigTableAdmin):
    """Base for what nobody edits by hand: all is shown, payloads in lines or by their size."""

    shown: ClassVar[Sequence[str]] = ()

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def get_fields(self, request: HttpRequest, obj: models.Model | None = None) -> list[Any]:
        return _in_rows(_readable(obj, self.shown))

    def get_readonly_fields(self, request: HttpRequest, obj: models.Model | None = None) -> list[Any]:
        return _readable(obj, self.shown)


class CorrectionAdmin(ReadOnlyAdmin):
    """Base for what may be corrected; `editable` can be, `shown` is what else there is."""

    form = CorrectionForm
    change_form_template = "admin/correction_form.html"
    editable: ClassVar[Sequence[str]] = ()

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return ModelAdmin.has_change_permission(self, request, obj)

    def get_fieldsets(self, request: HttpRequest, obj: models.Model | None = None) -> Any:
        record = ("Record", {"fields": _in_rows(_readable(obj, self.shown))})
        if not self.has_change_permission(request, obj):
            return [(None, {"fields": _readable(obj, self.get_editable(obj))}), record]
        large = self._too_large(obj)
        fields = [Shown(name, large[name]) if name in large else name for name in self.get_editable(obj)]
        return [(None, {"fields": fields}), ("Correction", {"fields": [REASON]}), record]

    def get_editable(self, obj: models.Model | None) -> Sequence[str]:
        return self.editable

    def get_readonly_fields(self, request: HttpRequest, obj: models.Model | None = None) -> list[Any]:
        fields = flatten_fieldsets(self.get_fieldsets(request, obj))
        editable = set(self.get_editable(obj)) if self.has_change_permission(request, obj) else set()
        return [field for field in fields if field != REASON and field not in editable]

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """Held while it is corrected, so that what the form compared is what it overwrites."""
        found = super().get_object(request, object_id, from_field)
        if found is None or request.method != "POST":
            return found
        self._hold(found)
        return super().get_object(request, object_id, from_field)

    def formfield_for_dbfield(self, db_field: Any, request: Any, **kwargs: Any) -> Any:
        about = {"label": str(db_field.verbose_name).capitalize(), "help_text": db_field.help_text}
        if isinstance(db_field, models.JSONField):
            return JsonField(exact=has_exact(self.model, db_field.name), nullable=db_field.null, **about)
        if isinstance(db_field, models.TextField | models.CharField) and not db_field.choices:
            about |= {"required": not db_field.blank, "max_length": db_field.max_length}
            return PlainText(empty_value=None if db_field.null else "", **about)
        if isinstance(db_field, models.ForeignKey):
            return self._related(db_field, **about)
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    def _related(self, db_field: Any, **about: Any) -> forms.ModelChoiceField:
        target = db_field.remote_field.model
        return forms.ModelChoiceField(
            target._base_manager.only("pk", *_label_fields(target)),
            required=not db_field.blank,
            widget=RawId(db_field.remote_field, self.admin_site),
            **about,
        )

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        obj.corrected = form.corrected
        if form.corrected:
            form.write(cast(User, request.user), request.META["REQUEST_ID"])

    def construct_change_message(self, request: HttpRequest, form: Any, *args: Any, **kwargs: Any) -> Any:
        labels = [str(form.fields[name].label or name) for name in form.corrected]
        return [{"changed": {"fields": labels}}] if labels else []

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        return super().log_change(request, obj, message) if message else None

    def response_change(self, request: HttpRequest, obj: Any) -> HttpResponse:
        if obj.corrected:
            return super().response_change(request, obj)
        self.message_user(request, "Nothing was changed, so nothing was written.", messages.INFO)
        return HttpResponseRedirect(request.get_full_path())

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        obj = kwargs.get("obj")
        if obj is not None and request.user.has_perm("runs.view_change"):
            context["changes"] = changes_of(obj)
        return super().render_change_form(request, context, *args, **kwargs)

    def _hold(self, row: Any) -> None:
        """The run before what belongs to it: the order in which the store's verbs lock."""
        run_id = getattr(row, "run_id", None)
        if run_id is not None:
            Run.objects.select_for_update(of=("self",)).only("pk").get(pk=run_id)
        self.model._base_manager.select_for_update(of=("self",)).only("pk").get(pk=row.pk)

    def _too_large(self, obj: models.Model | None) -> dict[str, int]:
        return {} if obj is None else _large(obj, self.get_editable(obj))


def changes_of(row: models.Model) -> list[dict[str, Any]]:
    """The newest corrections of a row, with the beginnings of what was and what is."""
    rows = Change.objects.filter(object_type=row._meta.db_table, object_id=str(row.pk)).order_by("-id")
    text = models.TextField()
    preview = {name: Left(Cast(name, text), _PREVIEW) for name in ("old", "new")}
    columns = ("id", "at", "actor", "reason", "field")
    found = list(rows.values(*columns, before=preview["old"], after=preview["new"])[:CHANGES_SHOWN])
    names = names_of({change["actor"] for change in found})
    return [{**change, "who": names.get(change["actor"], change["actor"])} for change in found]


def names_of(actors: set[str]) -> dict[str, str]:
    """How people and tokens among these actors are called."""
    names: dict[str, str] = {}
    for prefix, model in (("user", User), ("token", Token)):
        kind = f"{prefix}:"
        ids = [actor.removeprefix(kind) for actor in actors if actor.startswith(kind)]
        rows: QuerySet[Any] = model._base_manager.filter(pk__in=[key for key in ids if key.isdecimal()])
        names.update({row.actor: row.display_name for row in rows})
    return names


def _readable(obj: models.Model | None, fields: Sequence[str]) -> list[Any]:
    """Payloads in lines, or by their size where that is too large."""
    if obj is None:
        return list(fields)
    large = _large(obj, fields)
    json_fields = {field.name for field in obj._meta.fields if isinstance(field, models.JSONField)}
    return [Shown(name, large.get(name)) if name in json_fields or name in large else name for name in fields]


def _in_rows(fields: list[Any]) -> list[Any]:
    """Short facts four in a row, payloads in rows of their own."""
    short = [field for field in fields if not isinstance(field, Shown)]
    rows: list[Any] = [tuple(short[start : start + 4]) for start in range(0, len(short), 4)]
    return [*rows, *(field for field in fields if isinstance(field, Shown))]


def _large(obj: models.Model, fields: Sequence[str]) -> dict[str, int]:
    """Those of these fields whose text is too large for a page, and their bytes."""
    unbounded = {f.name for f in obj._meta.fields if isinstance(f, models.JSONField | models.TextField)}
    known: dict[str, int] = obj.__dict__.setdefault("_bytes_of", {})  # a page asks several times
    known.update(sizes(obj, [name for name in fields if name in unbounded and name not in known]))
    return {name: known[name] for name in fields if known.get(name, 0) > MOST_EDITABLE}


def _label_fields(model: Any) -> list[str]:
    """What `str()` of a row reads."""
    columns = {field.name for field in model._meta.fields}
    return [name for name in ("title", "key", "name", "username") if name in columns]

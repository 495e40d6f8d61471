"""Who may do what: people, owners, memberships, tokens and sign-in links."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.options import ActionLocation
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from runs.admin.lists import BigTableAdmin
from runs.first_start import sign_in_link
from runs.models import Deletion, Membership, Owner, Run, Session, SignInLink, Token, Upload, User

RIGHTS = ("is_staff", "is_superuser", "groups", "user_permissions")


@admin.register(User)
class UserAdmin(DjangoUserAdmin):
    """People. Only superusers give rights, or touch other superusers."""

    actions = ("make_sign_in_link",)
    show_facets = admin.ShowFacets.NEVER

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> Any:
        return super().get_readonly_fields(request, obj) if _is_superuser(request) else RIGHTS

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return super().has_change_permission(request, obj) and _may_touch(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return super().has_delete_permission(request, obj) and _may_touch(request, obj)

    def get_actions(
        self, request: HttpRequest, action_location: ActionLocation = ActionLocation.CHANGE_LIST
    ) -> dict[str, Any]:
        """A link signs in as anybody, and a list's delete asks about no single person: superusers only."""
        return super().get_actions(request, action_location) if _is_superuser(request) else {}

    @admin.action(description="Make a link that signs the person in once")
    def make_sign_in_link(self, request: HttpRequest, queryset: QuerySet[User]) -> HttpResponse | None:
        people = list(queryset.filter(is_active=True)[:2])
        if len(people) != 1:
            self.message_user(request, "Choose one active person.", messages.WARNING)
            return None
        note = "Whoever opens it within a day can sign in with it, once."
        return secret_page(self, request, f"Sign-in link of {people[0]}", sign_in_link(people[0]), note)


@admin.register(Owner)
class OwnerAdmin(BigTableAdmin):
    ordering = ("name",)
    list_display = ("name", "created_at")
    readonly_fields = ("created_at",)
    search_help_text = "The whole name, or its number."
    actions = None

    def has_delete_permission(self, request: HttpRequest, obj: Owner | None = None) -> bool:
        """Not while there is history, which goes by retention, nor while it is known what of it went."""
        used = obj is not None and any(
            model._base_manager.filter(owner=obj).exists() for model in (Session, Run, Deletion)
        )
        return super().has_delete_permission(request, obj) and not used

    def find(self, term: str) -> Q | None:
        number = super().find(term)
        return Q(name=term) if number is None else Q(name=term) | number


@admin.register(Membership)
class MembershipAdmin(BigTableAdmin):
    list_display = ("user", "owner", "role")
    list_select_related = ("user", "owner")
    list_filter = ("role",)
    raw_id_fields = ("user", "owner")
    search_help_text = "The whole name of a person or an owner."

    def find(self, term: str) -> Q | None:
        return Q(user__username=term) | Q(owner__name=term)


class TokenForm(forms.ModelForm):
    scopes = forms.MultipleChoiceField(
        choices=Token.Scope.choices, widget=forms.CheckboxSelectMultiple, initial=Token.Scope.values
    )


@admin.register(Token)
class TokenAdmin(BigTableAdmin):
    """API tokens. The secret is shown when one is issued and never again; the hash is shown nowhere."""

    form = TokenForm
    list_display = ("name", "owner", "prefix", "scopes", "last_used_at", "expires_at", "revoked_at")
    list_select_related = ("owner",)
    raw_id_fields = ("owner",)
    search_help_text = "The first characters of a token, or its whole name."
    actions = ("revoke",)

    def find(self, term: str) -> Q | None:
        return Q(name=term) | Q(prefix=term[: Token._meta.get_field("prefix").max_length])

    def get_fields(self, request: HttpRequest, obj: Token | None = None) -> Any:
        if obj is None:
            return ("owner", "name", "scopes", "expires_at")
        return ("name", "scopes", "expires_at", *self.get_readonly_fields(request, obj))

    def get_readonly_fields(self, request: HttpRequest, obj: Token | None = None) -> Any:
        return ("owner", "prefix", "created_at", "last_used_at", "revoked_at") if obj else ()

    def has_delete_permission(self, request: HttpRequest, obj: Token | None = None) -> bool:
        """The record names tokens: they are revoked and stay."""
        return False

    def save_model(self, request: HttpRequest, obj: Token, form: Any, change: bool) -> None:
        if change:
            changed = [name for name in form.changed_data if name in form.cleaned_data]
            if changed:
                obj.save(update_fields=changed)
            return
        chosen = form.cleaned_data
        issued, secret = Token.objects.issue(
            chosen["owner"], chosen["name"], chosen["scopes"], chosen["expires_at"]
        )
        obj.__dict__.update(issued.__dict__)
        request.issued_secret = secret  # type: ignore[attr-defined]

    def response_add(self, request: HttpRequest, obj: Token, post_url_continue: Any = None) -> HttpResponse:
        """On the page itself, since a message would lie in a cookie or in the database until it is read."""
        note = "Copy it now: only its hash is kept, so that it is never shown again."
        return secret_page(self, request, f"Token {obj.name}", request.issued_secret, note)  # type: ignore[attr-defined]

    @admin.action(description="Revoke the chosen tokens", permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[Token]) -> None:
        for token in queryset.filter(revoked_at=None):
            self.log_change(request, token, "Revoked.")
        count = queryset.filter(revoked_at=None).update(revoked_at=Now())
        self.message_user(request, f"{count} revoked: they let nobody in any more.", messages.SUCCESS)


@admin.register(SignInLink)
class SignInLinkAdmin(BigTableAdmin):
    """Links that sign in once; made by the action on people, deleted here to take one back."""

    list_display = ("user", "created_at", "expires_at", "used_at")
    list_select_related = ("user",)
    fields = readonly_fields = ("user", "created_at", "expires_at", "used_at")
    search_help_text = "Its number, or the whole name of a person."

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: SignInLink | None = None) -> bool:
        return False

    def find(self, term: str) -> Q | None:
        number = super().find(term)
        return Q(user__username=term) if number is None else Q(user__username=term) | number


@admin.register(Upload)
class UploadAdmin(BigTableAdmin):
    """Files that were checked and may be submitted yet; after a day they go by themselves."""

    ordering = ("-id",)
    list_display = ("name", "kind", "person", "created_at")
    list_select_related = ("person",)
    fields = readonly_fields = ("name", "kind", "person", "created_at")
    search_help_text = "The whole name of a file or a person."

    def get_queryset(self, request: HttpRequest) -> QuerySet[Upload]:
        return super().get_queryset(request).defer("content")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Upload | None = None) -> bool:
        return False

    def find(self, term: str) -> Q | None:
        return Q(name=term) | Q(person__username=term)


def secret_page(
    model_admin: admin.ModelAdmin, request: HttpRequest, title: str, secret: str, note: str
) -> TemplateResponse:
    """A page that shows a secret this once."""
    context = {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.opts,
        "title": title,
        "secret": secret,
        "note": note,
    }
    return TemplateResponse(request, "admin/secret.html", context)


def _is_superuser(request: HttpRequest) -> bool:
    return bool(request.user.is_superuser)


def _may_touch(request: HttpRequest, person: User | None) -> bool:
    return _is_superuser(request) or person is None or not person.is_superuser

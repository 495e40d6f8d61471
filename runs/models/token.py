"""Tokens: how agents and harnesses prove whose data they write."""

import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import connection, models
from django.db.models import F, Q
from django.db.models.functions import Now, TruncMinute

from runs.models.owner import Owner

PREFIX_LENGTH = 10


class TokenManager(models.Manager["Token"]):
    def issue(
        self, owner: Owner, name: str, scopes: Sequence[str] | None = None, expires_at: datetime | None = None
    ) -> tuple["Token", str]:
        """A new token and its secret, which is shown now and never again: only its hash is kept."""
        secret = f"rf_{secrets.token_urlsafe(32)}"
        token = self.create(
            owner=owner,
            name=name,
            scopes=list(scopes or Token.Scope.values),
            prefix=secret[:PREFIX_LENGTH],
            hash=_hash(secret),
            expires_at=expires_at,
        )
        return token, secret

    def authenticate(self, secret: str) -> "Token | None":
        """The token of this secret while it is good.

        The lookup is by SHA-256 of 256 random bits: its time tells nothing about the secret
        (RELIABILITY.md S9). In SQL, because every request of the API begins with it, and Django takes longer
        to write such a statement than PostgreSQL to answer it.
        """
        of_token, of_owner = _columns(Token), _columns(Owner)
        with connection.cursor() as cursor:
            cursor.execute(_good(of_token, of_owner), [_hash(secret)])
            row = cursor.fetchone()
        if row is None:
            return None
        token = Token.from_db(connection.alias, of_token, row[1 : len(of_token) + 1])
        token.owner = Owner.from_db(connection.alias, of_owner, row[len(of_token) + 1 :])
        if row[0]:
            token.note_use()
        return token


# Keeps the minute of the last use: more would be a write for every read.
_STALE = Q(last_used_at=None) | Q(last_used_at__lt=TruncMinute(Now()))


class Token(models.Model):
    """A client's key: one owner, some scopes."""

    class Scope(models.TextChoices):
        READ = "read"
        WRITE = "write"

    owner = models.ForeignKey(Owner, on_delete=models.CASCADE, related_name="tokens")
    name = models.CharField(max_length=200)
    scopes = ArrayField(models.CharField(max_length=20, choices=Scope))
    prefix = models.CharField(
        max_length=PREFIX_LENGTH, help_text="The first characters, to tell tokens apart."
    )
    hash = models.CharField(max_length=64, unique=True, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar = TokenManager()

    class Meta:
        db_table = "token"
        ordering = [F("created_at").desc()]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    @property
    def actor(self) -> str:
        """How the record names this client for good."""
        return f"token:{self.pk}"

    @property
    def display_name(self) -> str:
        return f"token {self.name}"

    def note_use(self) -> None:
        Token.objects.filter(_STALE, pk=self.pk).update(last_used_at=Now())


@cache
def _good(of_token: Sequence[str], of_owner: Sequence[str]) -> str:
    """The token of a hash with its owner, while it is good, and first whether its last use is to be noted."""
    columns = [*(f"token.{one}" for one in of_token), *(f"owner.{one}" for one in of_owner)]
    return (
        "SELECT last_used_at IS NULL OR last_used_at < date_trunc('minute', now()), "
        f"{', '.join(columns)} FROM token JOIN owner ON owner.id = token.owner_id "
        "WHERE hash = %s AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())"
    )


@cache
def _columns(model: type[models.Model]) -> tuple[str, ...]:
    return tuple(str(field.column) for field in model._meta.concrete_fields)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()

"""People who sign in, and the links that let them in once."""

import hashlib
import secrets
from datetime import UTC, timedelta, tzinfo
from typing import ClassVar
from zoneinfo import ZoneInfo

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone


class User(AbstractUser):
    """A person. What they may see is in their memberships, not here."""

    time_zone = models.CharField(
        max_length=64, blank=True, default="", db_default="", help_text="Such as Europe/Berlin; empty is UTC."
    )

    class Meta(AbstractUser.Meta):
        db_table = "user"
        swappable = "AUTH_USER_MODEL"

    @property
    def actor(self) -> "str":
        """How the record names this person for good: a username may change, this does not."""
        return f"user:{self.pk}"

    @property
    def zone(self) -> tzinfo:
        """In which times are shown and typed; UTC where the name is of no zone that is known here."""
        try:
            return ZoneInfo(self.time_zone) if self.time_zone else UTC
        except (ValueError, OSError):
            return UTC

    @property
    def display_name(self) -> str:
        return self.get_full_name() or self.get_username()


class SignInLinkManager(models.Manager["SignInLink"]):
    def issue(self, user: User, valid_for: timedelta = timedelta(days=1)) -> str:
        """A new secret for `user`'s link; only its hash is kept."""
        secret = secrets.token_urlsafe(24)
        self.create(user=user, hash=_hash(secret), expires_at=timezone.now() + valid_for)
        return secret

    def find(self, secret: str) -> "SignInLink | None":
        """The link of this secret while it is good; looking does not use it up."""
        usable = self.filter(hash=_hash(secret), used_at=None, expires_at__gt=Now(), user__is_active=True)
        return usable.select_related("user").first()

    def use(self, secret: str) -> User | None:
        """Uses the link up: of two who come at once, one gets the person and the other None."""
        link = self.find(secret)
        if link and self.filter(pk=link.pk, used_at=None).update(used_at=Now()):
            return link.user
        return None


class SignInLink(models.Model):
    """A link that signs one person in once (issue 2)."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="sign_in_links")
    hash = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar = SignInLinkManager()

    class Meta:
        db_table = "sign_in_link"
        ordering = [F("created_at").desc()]

    def __str__(self) -> str:
        return f"link of {self.user}"


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()

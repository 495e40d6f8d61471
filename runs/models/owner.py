"""Owners, and the people who belong to them."""

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from runs.models import triggers


class Owner(models.Model):
    """Whose data a session is (DESIGN.md 2)."""

    name = models.CharField(max_length=200, unique=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    signing_secret = models.BinaryField(
        null=True, editable=False, help_text="What its deliveries are signed with, sealed."
    )

    class Meta:
        db_table = "owner"
        ordering = ["name"]
        triggers = [triggers.alterations("alterations", ["name"])]

    def __str__(self) -> str:
        return self.name


class Membership(models.Model):
    """A person's role for an owner."""

    class Role(models.TextChoices):
        VIEWER = "viewer"
        REVIEWER = "reviewer"
        OPERATOR = "operator"
        ADMIN = "admin"

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    owner = models.ForeignKey(Owner, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=20, choices=Role)

    class Meta:
        db_table = "membership"
        constraints = [
            models.UniqueConstraint(fields=["user", "owner"], name="membership_once"),
            models.CheckConstraint(
                condition=Q(role__in=["viewer", "reviewer", "operator", "admin"]), name="membership_role"
            ),
        ]
        triggers = [triggers.note_membership()]

    def __str__(self) -> str:
        return f"{self.user}, {self.role} of {self.owner}"

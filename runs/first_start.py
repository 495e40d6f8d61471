"""What the first start makes, and every start makes sure of (issue 2)."""

import os
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.db import transaction

from runs.models import Membership, Owner, SignInLink, Token, User

ADMIN = "admin"
DEFAULT_OWNER = "default"


@dataclass(frozen=True, slots=True)
class FirstStart:
    """What the banner of `manage.py up` says."""

    user: User
    token_file: Path
    link: str


def first_start(data: Path) -> FirstStart:
    """Makes the person, the owner and the token that a new database lacks, and a link that signs in once."""
    with transaction.atomic():
        user = _admin()
        owner = _owner(user)
        token_file = _token(owner, data / "token")
        link = sign_in_link(user)
    return FirstStart(user, token_file, link)


def sign_in_link(user: User) -> str:
    """The address of a new one-time link for `user`."""
    return f"{settings.PUBLIC_URL}/sign-in/link/{SignInLink.objects.issue(user)}"


def write_secret(path: Path, secret: str) -> None:
    """Writes a file that only its owner can read, at once or not at all."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"{secret}\n")
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def _admin() -> User:
    """The first administrator, else `admin` without a password, which can be set behind the link."""
    user = User.objects.filter(is_superuser=True, is_active=True).order_by("pk").first()
    if user is None:
        user = User.objects.create_superuser(ADMIN)
    return user


def _owner(user: User) -> Owner:
    owner = Owner.objects.order_by("pk").first() or Owner.objects.create(name=DEFAULT_OWNER)
    Membership.objects.get_or_create(user=user, owner=owner, defaults={"role": Membership.Role.ADMIN})
    return owner


def _token(owner: Owner, path: Path) -> Path:
    """Keeps the token of the file while it works, else puts a new one there."""
    kept = path.read_text().strip() if path.exists() else ""
    if not kept or Token.objects.authenticate(kept) is None:
        _, secret = Token.objects.issue(owner, "first start")
        write_secret(path, secret)
    return path

"""What the command line gives to whoever lost the way in."""

import os
import subprocess
import sys
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from runs.first_start import first_start
from runs.models import Membership, Owner, SignInLink, Token, User
from tests.conftest import ROOT


def output_of(*command: str) -> str:
    out = StringIO()
    call_command(*command, stdout=out)
    return out.getvalue().strip()


# ── First start ────────────────────────────────────────────────────────────
def test_the_first_start_makes_a_person_an_owner_and_a_token(db, tmp_path):
    made = first_start(tmp_path)

    user, owner = User.objects.get(), Owner.objects.get()
    assert (user.username, user.is_superuser, user.has_usable_password()) == ("admin", True, False)
    assert Membership.objects.filter(user=user, owner=owner, role="admin").exists()
    assert Token.objects.authenticate(made.token_file.read_text().strip()).owner == owner
    assert SignInLink.objects.use(made.link.rpartition("/")[2]) == user


def test_nobody_else_can_read_the_token(db, tmp_path):
    path = first_start(tmp_path).token_file

    assert path.stat().st_mode & 0o777 == 0o600


def test_a_later_start_keeps_what_is_there(db, tmp_path):
    first = first_start(tmp_path)
    before = first.token_file.read_text()

    second = first_start(tmp_path)

    assert second.token_file.read_text() == before
    assert second.link != first.link
    assert [model.objects.count() for model in (User, Owner, Membership, Token)] == [1, 1, 1, 1]


@pytest.mark.parametrize("broken", ["", "rf_not_ours", None])
def test_a_token_file_that_does_not_work_is_made_again(db, tmp_path, broken):
    path = first_start(tmp_path).token_file
    path.unlink() if broken is None else path.write_text(broken)

    first_start(tmp_path)

    assert Token.objects.authenticate(path.read_text().strip())


# ── sign_in_link ───────────────────────────────────────────────────────────
def test_a_link_signs_in_once(alice):
    secret = output_of("sign_in_link", "alice").rpartition("/")[2]

    assert SignInLink.objects.use(secret) == alice
    assert SignInLink.objects.use(secret) is None


def test_a_link_for_nobody_says_who_there_is(alice):
    with pytest.raises(CommandError, match="there are: alice"):
        call_command("sign_in_link", "bob")


# ── create_token ───────────────────────────────────────────────────────────
def test_a_token_is_made_for_the_only_owner(owner):
    token = Token.objects.authenticate(output_of("create_token", "--scope", "read", "--days", "7"))

    assert (token.owner, token.scopes) == (owner, ["read"])
    assert token.expires_at


def test_the_owner_must_be_named_where_there_are_several(owner, stranger):
    with pytest.raises(CommandError, match="--owner; there are: elsewhere, platform"):
        call_command("create_token")

    assert Token.objects.authenticate(output_of("create_token", "--owner", "platform")).owner == owner


def test_only_the_hash_of_a_token_is_kept(owner):
    secret = output_of("create_token")

    token = Token.objects.get()
    assert secret not in str(vars(token))
    assert secret.startswith(token.prefix)


# ── migrate ────────────────────────────────────────────────────────────────
def test_migrations_are_complete(db):
    call_command("makemigrations", "--check", "--dry-run", verbosity=0)


def test_migrating_again_changes_nothing(committed_db):
    call_command("migrate", verbosity=0)


# ── Without a database ─────────────────────────────────────────────────────
def test_a_command_that_needs_what_does_not_run_says_so_in_one_line(tmp_path):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("DATABASE_")}
    answer = subprocess.run(
        [sys.executable, "manage.py", "create_token"],
        cwd=ROOT,
        env={**environment, "RUNFOLIO_DATA": str(tmp_path)},
        capture_output=True,
        text=True,
    )

    assert answer.returncode == 1
    assert (
        answer.stderr
        == f"runfolio: Nothing runs on {tmp_path}. Start it with make up, or set DATABASE_URL.\n"
    )

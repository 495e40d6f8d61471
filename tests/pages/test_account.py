from datetime import timedelta

from django.utils import timezone

from runs.models import Token, User


def test_it_works(signed_in):
    assert b"Signs in as" in signed_in.get("/account").content


def test_the_name_is_saved(signed_in, alice):
    signed_in.post("/account/name", {"first_name": "Alice", "last_name": "Ahn"})
    alice.refresh_from_db()
    assert alice.display_name == "Alice Ahn"


def test_a_new_password_keeps_this_session(signed_in, alice):
    form = {"old_password": "correct horse", "new_password1": "battery-9-st", "new_password2": "battery-9-st"}
    assert signed_in.post("/account/password", form).status_code == 302
    assert signed_in.get("/account").status_code == 200
    alice.refresh_from_db()
    assert alice.check_password("battery-9-st")
    assert alice.password.startswith("argon2")


def test_a_wrong_old_password_is_said_beside_its_field(signed_in, alice):
    form = {"old_password": "x", "new_password1": "battery-9-st", "new_password2": "battery-9-st"}
    answer = signed_in.post("/account/password", form)
    assert answer.status_code == 422
    assert b"id_old_password_error" in answer.content


def test_the_theme_is_on_every_page(signed_in):
    signed_in.post("/account/theme", {"theme": "dark"})
    assert b'data-theme="dark"' in signed_in.get("/submit").content
    signed_in.post("/account/theme", {"theme": "system"})
    assert b"data-theme" not in signed_in.get("/submit").content


def test_a_strange_theme_is_not_written_into_the_page(signed_in):
    signed_in.cookies["runfolio-theme"] = '"><script>alert(1)</script>'
    assert b"alert" not in signed_in.get("/account").content


def test_a_tokens_secret_is_shown_once(signed_in, owner):
    answer = signed_in.post("/account/tokens", {"name": "ci", "owner": owner.pk})
    token = Token.objects.get(name="ci")
    assert token.scopes == ["read"]
    secret = answer.context["secret"]
    assert secret.encode() in answer.content
    assert secret.encode() not in signed_in.get("/account").content


def test_a_revoked_token_lets_nobody_in(signed_in, owner):
    token, secret = Token.objects.issue(owner, "ci")
    signed_in.post(f"/account/tokens/{token.pk}/revoke")
    assert Token.objects.authenticate(secret) is None


def test_tokens_of_other_owners_are_not_there(strangers_client, owner):
    token, secret = Token.objects.issue(owner, "another owner's")
    page = strangers_client.get("/account").content
    assert b"another owner" not in page
    assert token.prefix.encode() not in page
    assert strangers_client.post(f"/account/tokens/{token.pk}/revoke").status_code == 404
    assert Token.objects.authenticate(secret) == token
    form = {"name": "mine", "owner": owner.pk}
    assert strangers_client.post("/account/tokens", form).status_code == 422


def test_one_who_may_not_administer_is_not_led_to_the_admin(signed_in, admin_client):
    assert b"/admin/" not in signed_in.get("/account").content
    assert b"/admin/" in admin_client.get("/account").content
    assert User.objects.filter(is_staff=True).count() == 1


def test_times_are_in_the_zone_that_was_chosen(signed_in, alice):
    signed_in.post("/account/zone", {"zone": "Asia/Kathmandu"})
    alice.refresh_from_db()
    assert alice.time_zone == "Asia/Kathmandu"
    assert b"+0545" in signed_in.get("/account").content


def test_utc_is_the_zone_of_whoever_chooses_none(signed_in, alice):
    for chosen in ("Asia/Kathmandu", "UTC", ""):
        signed_in.post("/account/zone", {"zone": chosen})
    alice.refresh_from_db()
    assert alice.time_zone == ""


def test_a_zone_that_there_is_not_is_refused_beside_its_field(signed_in, alice):
    answer = signed_in.post("/account/zone", {"zone": "Mars/Olympus"})
    assert answer.status_code == 422
    assert b"id_zone_error" in answer.content
    alice.refresh_from_db()
    assert alice.time_zone == ""


def test_a_token_may_expire(signed_in, owner):
    signed_in.post("/account/tokens", {"name": "ci", "owner": owner.pk, "days": "30"})
    left = Token.objects.get(name="ci").expires_at - timezone.now()
    assert timedelta(days=29) < left <= timedelta(days=30)


def test_a_token_that_has_expired_is_marked(signed_in, owner):
    Token.objects.issue(owner, "old", expires_at=timezone.now() - timedelta(days=1))
    assert b"expired" in signed_in.get("/account").content

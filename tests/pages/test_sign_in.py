from runs.models import SignInLink, User

WRONG = {"username": "alice", "password": "wrong"}


def test_it_works(client, alice):
    answer = client.post("/sign-in", {"username": "alice", "password": "correct horse"})
    assert answer.status_code == 302
    assert answer["Location"] == "/"


def test_a_page_asks_first(client, db):
    answer = client.get("/sessions")
    assert answer["Location"] == "/sign-in?next=/sessions"


def test_a_part_of_an_open_page_is_refused_rather_than_replaced_by_the_sign_in_page(client, db):
    answer = client.get("/", headers={"HX-Request": "true", "HX-Target": "list"})
    assert answer.status_code == 403
    assert "You are not signed in any more." in answer.content.decode()


def test_it_goes_on_to_where_one_wanted(client, alice):
    form = {"username": "alice", "password": "correct horse", "next": "/sessions"}
    assert client.post("/sign-in", form)["Location"] == "/sessions"


def test_it_never_goes_to_another_site(client, alice):
    for address in ("https://evil.example/", "//evil.example", "javascript:alert(1)"):
        form = {"username": "alice", "password": "correct horse", "next": address}
        assert client.post("/sign-in", form)["Location"] == "/"
        client.logout()


def test_a_wrong_password_says_so_and_not_whether_the_name_exists(client, alice):
    for name in ("alice", "nobody"):
        answer = client.post("/sign-in", {**WRONG, "username": name})
        assert b"Name or password is wrong." in answer.content


def test_nothing_of_it_is_cached(client, db):
    assert "no-store" in client.get("/sign-in")["Cache-Control"]


def test_too_many_tries_have_to_wait(client, alice):
    answers = [client.post("/sign-in", WRONG) for _ in range(10)]
    assert answers[-1].status_code == 429
    assert b"Wait 15 minutes" in answers[-1].content
    assert client.post("/sign-in", {**WRONG, "password": "correct horse"}).status_code == 429


def test_signing_out_needs_a_post(signed_in):
    assert signed_in.get("/sign-out").status_code == 405
    assert signed_in.post("/sign-out")["Location"] == "/sign-in"
    assert signed_in.get("/").status_code == 302


def test_a_link_shows_a_button_and_is_not_used_up_by_looking(client, alice):
    address = f"/sign-in/link/{SignInLink.objects.issue(alice)}"
    assert b"Sign in as" in client.get(address).content
    assert b"alice" in client.get(address).content


def test_a_link_signs_in_once_with_a_new_session(client, alice):
    address = f"/sign-in/link/{SignInLink.objects.issue(alice)}"
    client.session.save()
    before = client.session.session_key
    assert client.post(address)["Location"] == "/"
    assert client.session.session_key != before
    client.post("/sign-out")
    answer = client.post(address)
    assert answer.status_code == 404
    assert b"This link is used up" in answer.content
    assert b"manage.py sign_in_link" in answer.content


def test_whoever_has_no_password_may_set_one_after_the_link(client, db):
    user = User.objects.create_user("newcomer")
    answer = client.post(f"/sign-in/link/{SignInLink.objects.issue(user)}", follow=True)
    assert answer.redirect_chain == [("/account", 302)]
    assert b"You have no password yet." in answer.content


def test_a_surrogate_in_a_link_is_only_a_bad_link(client, db):
    assert client.get("/sign-in/link/%ED%A0%80").status_code == 404

"""What a run's page shows of its webhooks and of what they were told."""

import pytest
from django.test import Client
from django.utils import timezone

from runs.models import Delivery, Membership, Run, User, Webhook
from runs.models.webhook import add_sinks
from tests.pages.helpers import make_task

SECRET = "hunter2hunter2"
SINK = {
    "kind": "http_webhook",
    "url": f"https://hooks.example.com/in?token={SECRET}",
    "headers": {"Authorization": f"Bearer {SECRET}"},
}


@pytest.fixture
def told(make_run):
    """A run with one webhook, and a delivery of each state."""
    run = make_run()
    add_sinks(run, [SINK])
    hook = Webhook.objects.get()
    ended = timezone.now()
    for state in ("delivered", "dead", "waiting"):
        Delivery.objects.create(
            run=run,
            webhook=hook,
            phase="partial",
            body="{}",
            state=state,
            tries=3,
            status_code=503,
            error="the receiver answered 503" if state != "delivered" else "",
            ended_at=ended if state != "waiting" else None,
        )
    return run


def read(client: Client, run: Run, query: str = "") -> str:
    return client.get(f"/runs/{run.pk}?tab=deliveries{query}").content.decode()


def delivery(state: str) -> Delivery:
    return Delivery.objects.get(state=state)


def test_it_works(signed_in, told):
    page = read(signed_in, told)
    assert "?tab=deliveries" in page
    for words in ("Delivered", "Given up", "Waiting", "the receiver answered 503", "hooks.example.com"):
        assert words in page
    assert str(delivery("dead").message_id) in page


def test_no_secret_of_a_webhook_is_shown(signed_in, told):
    assert SECRET not in read(signed_in, told)


def test_the_newest_are_on_top_and_older_ones_a_page_further(signed_in, told):
    hook = Webhook.objects.get()
    last = delivery("waiting")
    Delivery.objects.bulk_create(
        Delivery(run=told, webhook=hook, phase="partial", body="{}") for _ in range(60)
    )
    page = read(signed_in, told)
    assert page.count('<th scope="row">partial') == 50
    older = page.split("?tab=deliveries&amp;before=")[1].split('"')[0]
    assert str(last.message_id) not in page
    assert str(last.message_id) in read(signed_in, told, f"&before={older}")


def test_a_run_without_webhooks_has_no_such_tab(signed_in, make_run):
    assert 'href="?tab=deliveries"' not in read(signed_in, make_run())


def test_a_task_with_a_webhook_has_one(signed_in, owner):
    run = make_task(owner)
    add_sinks(run, [SINK])
    assert "Nothing has been told yet." in read(signed_in, run)


@pytest.mark.parametrize("state", ["dead", "delivered"])
def test_what_is_over_is_sent_again(signed_in, told, state):
    one = delivery(state)
    answer = signed_in.post(f"/runs/{told.pk}/deliveries/{one.pk}/resend")
    assert answer["Location"] == f"/runs/{told.pk}?tab=deliveries"
    one.refresh_from_db()
    assert (one.state, one.tries, one.ended_at) == ("waiting", 0, None)


def test_what_waits_is_left_alone(signed_in, told):
    one = delivery("waiting")
    signed_in.post(f"/runs/{told.pk}/deliveries/{one.pk}/resend")
    one.refresh_from_db()
    assert one.tries == 3
    assert f"/deliveries/{one.pk}/resend" not in read(signed_in, told)


def test_nobody_is_sent_to_another_site_afterwards(signed_in, told):
    address = f"/runs/{told.pk}/deliveries/{delivery('dead').pk}/resend"
    answer = signed_in.post(address, {"next": "https://elsewhere.example/"})
    assert answer["Location"].startswith("/runs/")


def test_a_delivery_of_another_run_is_not_found(signed_in, told, make_run):
    another = make_run()
    answer = signed_in.post(f"/runs/{another.pk}/deliveries/{delivery('dead').pk}/resend")
    assert answer.status_code == 404
    assert delivery("dead").tries == 3


def test_a_stranger_cannot(strangers_client, told):
    address = f"/runs/{told.pk}/deliveries/{delivery('dead').pk}/resend"
    assert strangers_client.post(address).status_code == 404


def test_a_viewer_sees_them_and_may_not_send_again(told, owner):
    viewer = User.objects.create_user("viewer")
    Membership.objects.create(user=viewer, owner=owner, role="viewer")
    client = Client()
    client.force_login(viewer, backend="django.contrib.auth.backends.ModelBackend")
    page = read(client, told)
    assert "Given up" in page
    assert "Resend" not in page
    assert client.post(f"/runs/{told.pk}/deliveries/{delivery('dead').pk}/resend").status_code == 403

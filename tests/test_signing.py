"""Webhook signatures; the vectors were computed with the package standardwebhooks 1.1.0."""

import base64
from datetime import UTC, datetime, timedelta

import pytest

from runs.signing import new_secret, signed_headers, verify

SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
AT = datetime(2026, 11, 20, 23, 0, 49, 216781, tzinfo=UTC)
BODY = b'{"phase":"final","run_id":"7f1c"}'


@pytest.fixture
def headers():
    return signed_headers(SECRET, "msg_7f1c", AT, BODY)


def test_a_delivery_carries_id_time_and_signature(headers):
    assert headers == {
        "webhook-id": "msg_7f1c",
        "webhook-timestamp": "1795215649",
        "webhook-signature": "v1,vTHicZMAcGiYMFy0ZEZEs7ALABUqvBc9nkC3BJrNK2s=",
    }


@pytest.mark.parametrize(
    ("secret", "message_id", "timestamp", "body", "signature"),
    [
        (
            SECRET,
            "msg_7f1c",
            1795215649,
            '{"text":"grün \N{GRINNING FACE}"}'.encode(),
            "v1,Xqv4t7ip8XJe50ZjiaDDJlReFu4p5m/1cmo5Xlq2wSU=",
        ),
        (
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1614265330,
            b'{"test": 2432232314}',
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        ),
    ],
)
def test_signatures_equal_those_of_the_reference(secret, message_id, timestamp, body, signature):
    at = datetime.fromtimestamp(timestamp, UTC)

    assert signed_headers(secret, message_id, at, body)["webhook-signature"] == signature


def test_a_new_secret_has_256_bits_and_no_twin():
    prefix, _, key = new_secret().partition("_")

    assert (prefix, len(base64.b64decode(key, validate=True))) == ("whsec", 32)
    assert new_secret() != new_secret()


def test_what_was_signed_is_believed(headers):
    assert verify(SECRET, headers, BODY, AT)


def test_names_of_headers_may_come_in_any_case(headers):
    assert verify(SECRET, {name.title(): value for name, value in headers.items()}, BODY, AT)


def test_one_fitting_signature_of_several_is_enough(headers):
    headers["webhook-signature"] = f"v1,AAAA v1a,BBBB {headers['webhook-signature']}"

    assert verify(SECRET, headers, BODY, AT)


def test_a_changed_body_is_not_believed(headers):
    assert not verify(SECRET, headers, BODY + b" ", AT)


def test_another_secret_is_not_believed(headers):
    assert not verify(new_secret(), headers, BODY, AT)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("webhook-id", "msg_7f1d"),
        ("webhook-timestamp", "1795215650"),
        ("webhook-timestamp", ""),
        ("webhook-timestamp", "1795215649.2"),
        ("webhook-timestamp", "٣"),
        ("webhook-timestamp", "9" * 5000),
        ("webhook-signature", ""),
        ("webhook-signature", "vTHicZMAcGiYMFy0ZEZEs7ALABUqvBc9nkC3BJrNK2s="),
        ("webhook-signature", "v1,ümlaut"),
    ],
)
def test_a_changed_header_is_not_believed(headers, name, value):
    assert not verify(SECRET, {**headers, name: value}, BODY, AT)


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_missing_header_is_not_believed(headers, name):
    del headers[name]

    assert not verify(SECRET, headers, BODY, AT)


@pytest.mark.parametrize("seconds", [-300, 299])
def test_clocks_may_differ_by_five_minutes(headers, seconds):
    assert verify(SECRET, headers, BODY, AT.replace(microsecond=0) + timedelta(seconds=seconds))


@pytest.mark.parametrize("seconds", [-301, 301])
def test_an_old_delivery_cannot_be_sent_again(headers, seconds):
    assert not verify(SECRET, headers, BODY, AT.replace(microsecond=0) + timedelta(seconds=seconds))


def test_an_id_with_a_full_stop_is_not_signed():
    with pytest.raises(ValueError, match="full stop"):
        signed_headers(SECRET, "msg.1", AT, BODY)


def test_the_text_of_one_delivery_is_not_believed_as_another():
    # "x.1795215649.1795215650.tail" is one text, however it is cut.
    headers = signed_headers(SECRET, "x", AT, b"1795215650.tail")
    cut = {**headers, "webhook-id": "x.1795215649", "webhook-timestamp": "1795215650"}

    assert verify(SECRET, headers, b"1795215650.tail", AT)
    assert not verify(SECRET, cut, b"tail", AT)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_c2hvcnQ=", "whsec_!" * 8, "whsec_" + "QUFB" * 22])
def test_a_secret_that_is_none_is_refused_without_being_shown(secret):
    with pytest.raises(ValueError, match="24 to 64 bytes") as refusal:
        signed_headers(secret, "msg_1", AT, BODY)

    assert "QUFB" not in str(refusal.value)

"""Signatures."""

from __future__ import annotations

import base64

from app.delivery.signing import sign, signed_headers
from app.destinations.requests import Request


def test_the_reference_vector_of_the_specification_is_reproduced() -> None:
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signature = sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_each_attempt_is_signed_at_its_own_time_under_one_id() -> None:
    request = Request("POST", "https://example.com", {"webhook-id": "msg_1"}, b"{}", sign_with=b"k" * 24)
    first, second = signed_headers(request, 1_700_000_000_999), signed_headers(request, 1_700_000_300_000)
    assert (first["webhook-timestamp"], second["webhook-timestamp"]) == ("1700000000", "1700000300")
    assert first["webhook-id"] == second["webhook-id"] == "msg_1"
    assert first["webhook-signature"] != second["webhook-signature"]


def test_a_request_without_a_key_is_sent_as_it_is() -> None:
    request = Request("POST", "https://example.com", {"a": "b"}, b"{}")
    assert signed_headers(request, 1) == {"a": "b"}

"""An answer that repeats our credentials loses them before it is read."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.delivery.scrubbing import scrubbed
from app.destinations.requests import Request, Response

KEY = "SG.0123456789abcdef"
PAIR = base64.b64encode(f"site-id-1:{KEY}".encode()).decode()


def answer(body: str, header: str = "") -> Response:
    return Response(400, {"retry-after": header} if header else {}, body.encode(), 0)


@pytest.mark.parametrize(
    ("secret_header", "repeated"),
    [
        (f"Bearer {KEY}", f'{{"error":"bad header Authorization: Bearer {KEY}"}}'),
        (f"Bearer {KEY}", f"the key {KEY} is not known"),
        (f"Klaviyo-API-Key {KEY}", f"{KEY}{KEY}"),
        (KEY, f"Api-Key={KEY}"),
        (f"Basic {PAIR}", f"Basic {PAIR}"),
        (f"Basic {PAIR}", f"user site-id-1 with password {KEY}"),
    ],
)
def test_what_was_sent_to_prove_who_we_are_is_taken_out(secret_header: str, repeated: str) -> None:
    request = Request("POST", "https://x.example", {}, b"{}", secret_headers={"authorization": secret_header})
    read = scrubbed(answer(repeated, repeated), request)
    assert KEY not in read.body.decode() + read.headers["retry-after"]
    assert PAIR not in read.body.decode() + read.headers["retry-after"]
    assert "[removed]" in read.body.decode()


@given(st.binary(max_size=200))
def test_an_answer_without_credentials_stays_as_it_is(body: bytes) -> None:
    response = Response(200, {}, body, 0)
    request = Request("POST", "https://x.example", {}, b"{}", secret_headers={"authorization": f"Bearer {KEY}"})
    assert scrubbed(response, request) is response or KEY.encode() in body or b"Bearer " in body
    assert scrubbed(response, Request("POST", "https://x.example", {}, b"{}")) is response

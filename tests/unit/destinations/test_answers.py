"""Answers are read whatever they are, and what is kept of their words is short, printable and without addresses."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.destinations.answers import dict_at, int_at, json_of, list_at, read_status, reason_of, text_at, words_of
from app.destinations.limits import Limits, Window
from app.destinations.outcomes import Down, DownCause, Reading, Split, Throttled, Unavailable
from app.destinations.requests import Response
from tidings.state.v1 import outbox_pb2


def answer(status: int, body: object = b"", headers: dict[str, str] | None = None) -> Response:
    return Response(status, headers or {}, body if isinstance(body, bytes) else orjson.dumps(body), 0)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"errors": [{"field": "x", "message": "wrong"}]}, "400: wrong"),
        ({"title": "Invalid", "detail": "The resource is wrong"}, "400: The resource is wrong"),
        ({"status": "error", "message": "no\nsuch\x00thing"}, "400: no such thing"),
        ({"errors": ["plain"]}, "400: plain"),
        (b"<html>Bad gateway</html>", "400: <html>Bad gateway</html>"),
        (b"\xff\xfe", "400: ��"),
        (b"", "400"),
        ({"detail": "ann.b+c@shop.example has signed up, as has bob%40shop.example"}, "400: *** has signed up, as has ***"),
    ],
)
def test_a_reason_is_the_status_and_the_platforms_words_without_addresses(body: object, reason: str) -> None:
    assert reason_of(answer(400, body)) == reason


@given(st.binary(max_size=3000), st.integers(100, 599))
def test_any_answer_has_a_short_printable_reason(body: bytes, status: int) -> None:
    reason = reason_of(answer(status, body))
    assert reason.isprintable()
    assert len(reason) < 200


@pytest.mark.parametrize("address", ["ann@x.example", "ann@@x", "a@b@c", "ann%40x.example", "ann+1@x", "änn@x.example"])
def test_what_looks_like_an_address_is_masked_even_if_it_is_none(address: str) -> None:
    assert words_of(f"bad: {address}, sorry") == "bad: ***, sorry"


def test_a_long_name_in_an_address_is_masked_as_a_whole() -> None:
    assert words_of("a" * 200 + "@x.example is bad") == "*** is bad"


@given(st.recursive(st.none() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.sampled_from("ab"), v)))
def test_any_json_can_be_asked_for_anything(value: object) -> None:
    assert isinstance(dict_at(value, "a"), dict)
    assert isinstance(list_at(value, "a", "b"), list)
    assert isinstance(text_at(value, "b"), str)
    assert isinstance(int_at(value), int)


def test_what_is_no_json_is_none() -> None:
    for noise in (b"", b"\xff", b"{", b"[" * 5_000, b"1e999999"):
        assert json_of(answer(200, noise)) is None


@pytest.mark.parametrize(
    ("status", "reading"),
    [
        (401, Down(DownCause.AUTH, "401")),
        (403, Down(DownCause.AUTH, "403")),
        (402, Down(DownCause.CONFIGURATION, "402")),
        (404, Down(DownCause.CONFIGURATION, "404")),
        (410, Down(DownCause.GONE, "410")),
        (408, Unavailable("408")),
        (413, Split("413", outbox_pb2.DEAD_REASON_TOO_LARGE)),
        (400, Split("400")),
        (422, Split("422")),
        (429, Throttled("429", None)),
        (502, Unavailable("502")),
        (503, Unavailable("503")),
        (200, Unavailable("200")),
        (302, Unavailable("302: redirects are not followed; is base_url right?")),
    ],
)
def test_a_status_means_what_all_platforms_agree_on(status: int, reading: Reading) -> None:
    assert read_status(answer(status)) == reading


def test_a_503_that_says_when_asks_for_fewer_requests() -> None:
    assert read_status(answer(503, headers={"retry-after": "7"})) == Throttled("503", 7_000)


def test_settings_narrow_limits_and_never_widen_them() -> None:
    limits = Limits(4, people=100, windows=(Window(10, 1),))
    assert limits.narrowed(None, None) == limits
    assert limits.narrowed(500, None).people == 100
    assert limits.narrowed(5, 0.5).people == 5
    assert limits.narrowed(5, 0.5).windows == (Window(10, 1), Window(1, 2))
    assert limits.narrowed(None, 2.5).windows[-1] == Window(2, 0.8)

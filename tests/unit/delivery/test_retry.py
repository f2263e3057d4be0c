"""The retry schedule."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.delivery.retry import SCHEDULE_MS, GiveUp, RetryAt, jitter_of, next_attempt, pause_ms
from app.destinations.requests import Response
from app.destinations.retry_after import MAX_RETRY_AFTER_MS, retry_after_ms

_NOW = 1_700_000_000_000


def test_the_schedule_is_the_specifications() -> None:
    assert [timedelta(milliseconds=wait) for wait in SCHEDULE_MS] == [
        timedelta(0), timedelta(seconds=5), timedelta(minutes=5), timedelta(minutes=30),
        *(timedelta(hours=h) for h in (2, 5, 10, 14, 20, 24)),
    ]
    assert timedelta(milliseconds=sum(SCHEDULE_MS)) == timedelta(hours=75, minutes=35, seconds=5)


def test_without_jitter_the_waits_are_the_schedules_and_the_tenth_failure_is_the_last() -> None:
    assert [next_attempt(n, _NOW, jitter=0) for n in range(1, 10)] == [RetryAt(_NOW + wait) for wait in SCHEDULE_MS[1:]]
    assert next_attempt(10, _NOW, jitter=0) == GiveUp()


@given(st.integers(1, 9), st.floats(0, 1, exclude_max=True))
def test_jitter_makes_a_wait_longer_by_at_most_a_fifth(failures: int, jitter: float) -> None:
    decision = next_attempt(failures, _NOW, jitter=jitter)
    assert isinstance(decision, RetryAt)
    assert SCHEDULE_MS[failures] <= decision.at_ms - _NOW <= SCHEDULE_MS[failures] * 1.2 + 1


def test_what_the_target_asked_for_holds_where_it_is_later() -> None:
    assert next_attempt(1, _NOW, jitter=0, after_ms=60_000) == RetryAt(_NOW + 60_000)
    assert next_attempt(2, _NOW, jitter=0, after_ms=60_000) == RetryAt(_NOW + 300_000)


@given(st.text(), st.text(), st.integers(0, 2**63), st.integers(0, 10))
def test_jitter_is_repeatable_and_below_one(target: str, user: str, version: int, attempts: int) -> None:
    jitter = jitter_of(target, user, version, attempts)
    assert 0 <= jitter < 1
    assert jitter == jitter_of(target, user, version, attempts)


def test_jitter_spreads_users() -> None:
    assert len({round(jitter_of("inbox", f"user-{i}", 1, 1), 2) for i in range(2000)}) > 95


def test_a_pause_is_what_was_asked_but_never_nothing() -> None:
    assert pause_ms(120_000, 1, jitter=0.5) == 120_000
    assert pause_ms(0, 1, jitter=0.5) == 1000


def test_silent_throttling_doubles_the_pause_up_to_five_minutes() -> None:
    assert [pause_ms(None, n, jitter=0) for n in (1, 2, 3, 7, 1000)] == [5_000, 10_000, 20_000, 300_000, 300_000]


@pytest.mark.parametrize(
    ("header", "expected_ms"),
    [
        ("120", 120_000), ("0", 0), (" 7 ", 7_000), ("999999", MAX_RETRY_AFTER_MS), ("9" * 5000, MAX_RETRY_AFTER_MS),
        ("Tue, 14 Nov 2023 22:13:50 GMT", 30_000), ("Tue, 14 Nov 2023 22:13:10 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", MAX_RETRY_AFTER_MS),
        ("Tuesday, 14-Nov-23 22:13:50 GMT", 30_000),
        ("", None), ("soon", None), ("-5", None), ("1.5", None), ("\u0663", None),
        ("Tue, 99 Nov 2023 22:13:50 GMT", None), ("99999999999999 Jan 1", None),
    ],
)
def test_retry_after_is_read_in_seconds_and_as_a_date_up_to_its_cap(header: str, expected_ms: int | None) -> None:
    assert retry_after_ms(Response(503, {"retry-after": header}, b"", _NOW)) == expected_ms


@given(st.text(max_size=60))
def test_any_retry_after_header_is_read_without_error(header: str) -> None:
    asked = retry_after_ms(Response(503, {"retry-after": header}, b"", _NOW))
    assert asked is None or 0 <= asked <= MAX_RETRY_AFTER_MS

"""A rate limit that nobody declared is found, used and kept to, over ten simulated minutes in which there is always something to send."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import pytest

from tests.unit.delivery.hidden_limits import TEN_MINUTES_MS, FixedWindow, Hidden, RollingWindow, TokenBucket, run

#: What an issue asks for: so much of the limit is used, and so few requests are throttled.
USED, THROTTLED = 0.90, 0.02

_SHORT: list[Callable[[], Hidden]] = [
    lambda: FixedWindow(20, 1_000),
    lambda: RollingWindow(20, 1_000),
    lambda: TokenBucket(20, 1_000),
    lambda: FixedWindow(200, 10_000),
    lambda: RollingWindow(200, 10_000),
    lambda: TokenBucket(20, 1_000, burst_ms=10_000),
]
_NAMES = ["fixed-1s", "rolling-1s", "bucket-1s", "fixed-10s", "rolling-10s", "bucket-10s"]


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("says", ["seconds", "nothing"])
@pytest.mark.parametrize("hidden", _SHORT, ids=_NAMES)
def test_nine_tenths_of_a_hidden_limit_are_used_and_few_requests_throttled(
    hidden: Callable[[], Hidden], says: Literal["seconds", "nothing"], workers: int
) -> None:
    outcome = run(hidden(), workers=workers, says=says, concurrency=8)
    print(f"used {outcome.used:.3f}, throttled {outcome.throttled_share:.4f}")
    assert outcome.used >= USED
    assert outcome.throttled_share < THROTTLED


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("hidden", [FixedWindow, RollingWindow])
def test_a_limit_by_the_minute_is_used_too_where_the_destination_says_how_long_to_wait(
    hidden: Callable[[float, int], Hidden], workers: int
) -> None:
    outcome = run(hidden(600, 60_000), workers=workers, concurrency=8)
    assert outcome.used >= USED
    assert outcome.throttled_share < THROTTLED


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("hidden", _SHORT, ids=_NAMES)
def test_a_limit_that_is_halved_costs_few_throttled_requests(hidden: Callable[[], Hidden], workers: int) -> None:
    outcome = run(hidden(), workers=workers, factors=(1, 0.5), concurrency=8)
    print(f"used {outcome.used:.3f}, throttled {outcome.throttled_share:.4f}")
    assert outcome.used >= USED
    assert outcome.throttled_share < THROTTLED


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("hidden", _SHORT, ids=_NAMES)
def test_a_limit_that_is_doubled_is_found_and_used_within_a_minute_or_two(hidden: Callable[[], Hidden], workers: int) -> None:
    outcome = run(hidden(), workers=workers, factors=(1, 2), concurrency=8)
    later = outcome.used_between(TEN_MINUTES_MS // 2 + 100_000, TEN_MINUTES_MS)
    print(f"used {outcome.used:.3f}, at last {later:.3f}, throttled {outcome.throttled_share:.4f}")
    assert outcome.used >= 0.85
    assert later >= USED
    assert outcome.throttled_share < THROTTLED


def test_who_never_throttles_is_never_limited() -> None:
    """A thousand times what one destination could take: nothing waits but for places on the wire."""
    outcome = run(TokenBucket(1e9, 1_000), concurrency=8)
    assert outcome.throttled == 0
    assert outcome.taken > 8 * TEN_MINUTES_MS / 100  # eight at once, an answer in 77 ms on average

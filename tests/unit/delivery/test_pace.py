"""How far ahead users are claimed."""

from __future__ import annotations

from app.delivery.pace import CLAIMS_PER_REQUEST, PACE_MS, Pace


def test_nobody_is_claimed_ahead_of_a_target_that_confirmed_nothing() -> None:
    assert Pace(32).ahead(1_000_000) == 0


def test_as_many_are_claimed_ahead_as_were_confirmed_lately() -> None:
    pace = Pace(32)
    for at_ms in range(1000, 1100, 10):
        pace.confirmed(at_ms)
    assert pace.ahead(1100) == 10
    assert pace.ahead(1000 + PACE_MS + 45) == 5
    assert pace.ahead(1100 + PACE_MS) == 0


def test_there_is_a_limit_for_the_fastest_target() -> None:
    pace = Pace(4)
    for _ in range(1000):
        pace.confirmed(1000)
    assert pace.ahead(1000) == 4 * CLAIMS_PER_REQUEST


def test_a_clock_that_is_set_back_leaves_no_confirmations_in_the_future() -> None:
    pace = Pace(4)
    pace.confirmed(1_000_000)
    assert pace.ahead(5_000) == 0
    pace.confirmed(5_000)
    assert pace.ahead(5_001) == 1

"""When a failed delivery is tried again: the schedule of the Standard Webhooks specification, as a pure decision."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

_SECOND, _MINUTE, _HOUR = 1000, 60_000, 3_600_000

#: The wait before each attempt, from the failure of the one before (Standard Webhooks, "Deliverability and reliability"): 75 h 35 min.
SCHEDULE_MS = (
    0, 5 * _SECOND, 5 * _MINUTE, 30 * _MINUTE, 2 * _HOUR, 5 * _HOUR, 10 * _HOUR, 14 * _HOUR, 20 * _HOUR, 24 * _HOUR,
)
#: A wait is made longer by up to this share of itself, so that an outage's victims do not come back in one wave; never shorter.
JITTER = 0.2

#: The pause of a whole target that asked for fewer requests: at least the first, even if it says "0"; without a word from it the
#: pause doubles with each such answer in a row, up to the second.
MIN_PAUSE_MS = 1 * _SECOND
SILENT_PAUSE_MS = 5 * _SECOND
MAX_SILENT_PAUSE_MS = 5 * _MINUTE


@dataclass(frozen=True, slots=True)
class RetryAt:
    """The next attempt may start then."""

    at_ms: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The schedule is at its end."""


def next_attempt(failed_attempts: int, now_ms: int, *, jitter: float, after_ms: int = 0) -> RetryAt | GiveUp:
    """What follows the ``failed_attempts``-th failure (1 is the first), which happened at ``now_ms``.

    ``jitter`` is in [0, 1). ``after_ms`` is what the target asked for; the later of the two counts.
    """
    if failed_attempts >= len(SCHEDULE_MS):
        return GiveUp()
    wait_ms = round(SCHEDULE_MS[failed_attempts] * (1 + JITTER * jitter))
    return RetryAt(now_ms + max(wait_ms, after_ms))


def longest_wait_ms(failed_attempts: int) -> int:
    """No wait of the schedule's after so many failures is longer; what the target itself asks for may be."""
    return round(SCHEDULE_MS[min(failed_attempts, len(SCHEDULE_MS) - 1)] * (1 + JITTER))


def pause_ms(asked_ms: int | None, throttles_in_a_row: int, *, jitter: float) -> int:
    """How long a target that asked for fewer requests gets none; ``throttles_in_a_row`` is 1 for the first."""
    if asked_ms is not None:
        return max(asked_ms, MIN_PAUSE_MS)
    wait_ms = min(SILENT_PAUSE_MS * 2 ** min(throttles_in_a_row - 1, 10), MAX_SILENT_PAUSE_MS)
    return round(wait_ms * (1 + JITTER * jitter))


def jitter_of(*parts: str | int) -> float:
    """A number in [0, 1) that differs between users and attempts, and is the same whoever asks."""
    digest = blake2b("\0".join(str(part) for part in parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64

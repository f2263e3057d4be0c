"""What a worker keeps up with for good: the greatest rate at which neither events nor deliveries pile up.

A backlog is worked off faster than that, since a user's list is then ranked and delivered once for several events. Here every list that
changes is delivered within a moment, so this is the capacity that a share of which latencies are measured at.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

#: The first rate tried, and how much more each next one is.
FIRST_RATE = 100.0
STEP = 1.2
#: For how long each rate is held, and the last part of it in which nothing may have piled up.
HOLD_SECONDS = 8.0
WATCH_SECONDS = 3.0
#: What may wait, in seconds' worth of events; more has piled up.
WAITING_SECONDS = 0.5
_LOOK_SECONDS = 0.25


class Load(Protocol):
    """The flow of events, whose rate can be set, and what waits behind it."""

    rate: float

    async def waiting(self) -> float:
        """Events that were not read yet, and users whose list was not delivered yet."""


async def find_capacity(load: Load, say: Callable[[str], None], sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> float:
    """Events a second; 0 when not even the first rate is kept up with. The flow stands still afterwards."""
    rate, kept = FIRST_RATE, 0.0
    while True:
        say(f"looking for what is kept up with: {rate:,.0f} events/s")
        load.rate = rate
        await sleep(HOLD_SECONDS - WATCH_SECONDS)
        looks: list[float] = []
        until = time.monotonic() + WATCH_SECONDS
        for _ in range(round(WATCH_SECONDS / _LOOK_SECONDS)):
            looks.append(await load.waiting())
            await sleep(min(_LOOK_SECONDS, max(0.0, until - time.monotonic())))
        if sorted(looks)[len(looks) // 2] > WAITING_SECONDS * rate:
            load.rate = 0.0
            return kept
        kept, rate = rate, rate * STEP

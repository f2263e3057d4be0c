"""What a worker keeps up with for good: the greatest rate at which neither events nor deliveries pile up.

A backlog is worked off faster than that, since a user's list is then ranked and delivered once for several events. Here every list that
changes is delivered within a moment, so this is the capacity that a share of which latencies are measured at.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

#: The first rate tried; how much more the next ones are while all is kept up with, and once one was not.
FIRST_RATE = 100.0
STRIDE, STEP = 1.8, 1.15
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


async def find_capacity(
    load: Load, say: Callable[[str], None], sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    until_idle: Callable[[], Awaitable[None]] | None = None,
) -> float:
    """Events a second; 0 when not even the first rate is kept up with. The flow stands still afterwards.

    In strides up to a rate that is not kept up with, and, once what piled up is worked off, in smaller steps from the last one that was.
    """
    kept, rate, too_much = 0.0, FIRST_RATE, 0.0
    while not too_much or rate < too_much:
        say(f"looking for what is kept up with: {rate:,.0f} events/s")
        if await _keeps_up(load, rate, sleep):
            kept, rate = rate, rate * (STEP if too_much else STRIDE)
        elif too_much or not kept:
            break
        else:
            too_much, rate = rate, kept * STEP
            load.rate = 0.0
            if until_idle is not None:
                await until_idle()
    load.rate = 0.0
    return kept


async def _keeps_up(load: Load, rate: float, sleep: Callable[[float], Awaitable[None]]) -> bool:
    load.rate = rate
    await sleep(HOLD_SECONDS - WATCH_SECONDS)
    looks: list[float] = []
    until = time.monotonic() + WATCH_SECONDS
    for _ in range(round(WATCH_SECONDS / _LOOK_SECONDS)):
        looks.append(await load.waiting())
        await sleep(min(_LOOK_SECONDS, max(0.0, until - time.monotonic())))
    return sorted(looks)[len(looks) // 2] <= WAITING_SECONDS * rate

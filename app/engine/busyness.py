"""Whether the event loop's thread has much to do: then what may wait for company does, and one write is made of many.

A unit of work has a price of its own (a write to the changelog, one to RocksDB), whatever is in it. While little goes on that price is paid
for the shortest way; where the core is wanted for a good part of the time, small units would fill it long before the records do.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

#: Between two looks: a few a second, since each reads a file.
LOOK_SECONDS = 0.25
#: What counts is an average that forgets in about so long; a look after a longer pause counts for itself.
MEMORY_SECONDS = 1.0
#: From this part of a core on the loop is busy, and down to that one it stays so: what is saved meanwhile must not end the saving.
BUSY_FROM, BUSY_ABOVE = 0.4, 0.15
#: Where Linux tells how long the calling thread ran, and how long it waited for a core, in ns.
_SCHEDULE = "/proc/thread-self/schedstat"


def seconds_wanted() -> float:
    """For how long the calling thread has run or waited for a core; where only the former is known, that.

    Beside other programs on the same core, a thread that always has something to do gets a part of it: what it ran says little by itself.
    """
    try:
        with open(_SCHEDULE, "rb") as file:
            ran_ns, waited_ns, _ = file.read().split()
    except (OSError, ValueError):
        return time.thread_time()
    return (int(ran_ns) + int(waited_ns)) / 1e9


class Busyness:
    """Asked from one thread, as often as anybody likes; it looks by itself, and runs nothing in between."""

    def __init__(self, wanted: Callable[[], float] = seconds_wanted, clock: Callable[[], float] = time.monotonic) -> None:
        """``wanted``: seconds of a core that were wanted so far; ``clock``: seconds."""
        self._wanted = wanted
        self._clock = clock
        self._last: tuple[float, float] | None = None
        self._share = 0.0
        self._is_busy = False

    @property
    def share(self) -> float:
        """Of a core, from 0 to 1, of late."""
        self._look()
        return self._share

    @property
    def is_busy(self) -> bool:
        """Whether what may wait for company should."""
        self._look()
        return self._is_busy

    def _look(self) -> None:
        now = self._clock()
        if self._last is None:
            self._last = now, self._wanted()
            return
        if (passed := now - self._last[0]) < LOOK_SECONDS:
            return
        wanted = self._wanted()
        share = min(1.0, max(0.0, (wanted - self._last[1]) / passed))
        self._last = now, wanted
        self._share += (share - self._share) * (1.0 if passed >= MEMORY_SECONDS else -math.expm1(-passed / MEMORY_SECONDS))
        self._is_busy = self._share >= (BUSY_ABOVE if self._is_busy else BUSY_FROM)

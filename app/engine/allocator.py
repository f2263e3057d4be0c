"""Memory goes back to the system: what is free, and, of a worker that does nothing, what is kept for the next record.

With another C library than glibc, which has no such call, nothing that is free is given back.

glibc gives back what is free at the end of its heap alone. After a backlog, which takes a hundred megabytes for some minutes, there is
always something behind them that stays. And Python gives back the arenas of its small objects only when all in them is free: what is kept
decoded lies in all of them, between what came and went, and holds them for good unless it is forgotten once in a while. To read it again
costs some 20 us for each object, which somebody who comes back after a pause does not notice.

What is deliberately absent: a fixed M_MMAP_THRESHOLD, by which large blocks would be mapped and given back one by one. It doubles the page
faults of the full path, two to four percent of its processor time. And M_ARENA_MAX: the arenas of RocksDB's threads take 8 MiB together.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Hashable

#: Seconds between two times that free memory is given back, at least. It takes some 10 ms, so it is done when nothing waits.
GIVE_BACK_EVERY_SECONDS = 30


def give_back() -> bool:
    """All pages with nothing in them go back to the system. Returns whether any did."""
    try:
        malloc_trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # TypeError: a system whose programs have no name for themselves
        return False
    malloc_trim.argtypes, malloc_trim.restype = [ctypes.c_size_t], ctypes.c_int
    return bool(malloc_trim(0))


class FreeMemory:
    """Given back now and then. ``forget`` what is kept decoded; ``clock``: seconds."""

    def __init__(
        self,
        give_back: Callable[[], bool] = give_back,
        clock: Callable[[], float] = time.monotonic,
        forget: Callable[[], None] = lambda: None,
    ) -> None:
        self._give_back = give_back
        self._clock = clock
        self._forget = forget
        self._given_at = clock()
        self._position: Hashable = object()

    def look(self, *, is_quiet: bool, position: Hashable) -> None:
        """To be told often whether nothing waits, and something that changes with all that is done: where nothing was from one time to
        the next, what is kept is forgotten before what is free is given back.
        """
        if is_quiet and (now := self._clock()) - self._given_at >= GIVE_BACK_EVERY_SECONDS:
            if position == self._position:
                self._forget()
            self._given_at, self._position = now, position
            self._give_back()

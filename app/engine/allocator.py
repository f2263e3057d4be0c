"""Free memory goes back to the system. With another C library than glibc, which has no such call, nothing is done.

glibc gives back what is free at the end of its heap alone. After a backlog, which takes a hundred megabytes for some minutes, there is
always something behind them that stays.

What is deliberately absent: a fixed M_MMAP_THRESHOLD, by which large blocks would be mapped and given back one by one. It doubles the page
faults of the full path, two to four percent of its processor time. And M_ARENA_MAX: the arenas of RocksDB's threads take 8 MiB together.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable

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
    """Given back now and then. ``clock``: seconds."""

    def __init__(self, give_back: Callable[[], bool] = give_back, clock: Callable[[], float] = time.monotonic) -> None:
        self._give_back = give_back
        self._clock = clock
        self._given_at = clock()

    def look(self, *, is_quiet: bool) -> None:
        """To be told often whether nothing waits."""
        if is_quiet and (now := self._clock()) - self._given_at >= GIVE_BACK_EVERY_SECONDS:
            self._give_back()
            self._given_at = now

"""glibc's allocator, told how a worker uses memory. With another C library, which has no such calls, nothing is done.

A worker writes megabytes at once and keeps kilobytes for long. Left to itself, glibc puts both side by side: once a large block is free,
small ones are put into its place, and what lies between them never goes back to the system. And it gives back what is free at the end of
its heap alone, also after a backlog that took a hundred megabytes for a minute.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from typing import Any

#: Blocks from so many bytes on are mapped by themselves, and go back to the system as soon as they are free: what RocksDB takes for
#: memtables at once, batches on their way to the broker, answers of the broker. It is where glibc begins, before it learns to keep them.
MAPPED_BYTES = 128 * 1024
#: Seconds between two times that free memory is given back, at least. It takes some 10 ms, so it is done when nothing waits.
GIVE_BACK_EVERY_SECONDS = 30
#: malloc.h: M_MMAP_THRESHOLD.
_MMAP_THRESHOLD = -3


def map_large_blocks() -> bool:
    """From now on, in this process. Returns whether the allocator does it."""
    mallopt = _call("mallopt", ctypes.c_int, ctypes.c_int)
    return mallopt is not None and mallopt(_MMAP_THRESHOLD, MAPPED_BYTES) == 1


def give_back() -> bool:
    """All pages with nothing in them go back to the system. Returns whether any did."""
    malloc_trim = _call("malloc_trim", ctypes.c_size_t)
    return malloc_trim is not None and malloc_trim(0) == 1


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


def _call(name: str, *arguments: Any) -> Any:
    """A function of the C library that answers an int; None where there is none."""
    try:
        function = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):  # TypeError: a system whose programs have no name for themselves
        return None
    function.argtypes, function.restype = arguments, ctypes.c_int
    return function

"""Even spacing with room for a burst: the generic cell rate algorithm (ITU-T I.371), in milliseconds."""

from __future__ import annotations

import math


class Spacing:
    """At most ``(t + burst_ms) / interval_ms`` requests in any stretch of t ms; the interval is given with each, for it may change."""

    def __init__(self, burst_ms: float) -> None:
        self._burst_ms = burst_ms
        #: When the next were due if all were evenly spaced; it lies ahead by what a burst took in advance.
        self._due_ms = 0.0
        self._seen_ms = 0

    def wait_ms(self, now_ms: int, interval_ms: float) -> int:
        """Until the next, which needs so long for itself, may go."""
        self._see(now_ms)
        ahead_ms = self._due_ms - now_ms
        return math.ceil(ahead_ms - max(0.0, self._burst_ms - interval_ms)) if ahead_ms > 0 else 0

    def took(self, now_ms: int, interval_ms: float) -> None:
        self._see(now_ms)
        self._due_ms = max(self._due_ms, now_ms) + interval_ms

    def no_burst(self, at_ms: float, interval_ms: float) -> None:
        """Time spent waiting for something else, until then, saves up nothing for a burst."""
        self._due_ms = max(self._due_ms, at_ms + max(0.0, self._burst_ms - interval_ms))

    def _see(self, now_ms: int) -> None:
        if now_ms < self._seen_ms:  # the clock was set back
            self._due_ms -= self._seen_ms - now_ms
        self._seen_ms = now_ms

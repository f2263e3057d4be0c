"""How far ahead of its requests a target's users are claimed: as many as it confirmed lately, so that claims never pile up behind it."""

from __future__ import annotations

from collections import deque

#: What was confirmed within so long says what will be sent within so long: a claim then waits for half a second, not for a hanging target.
PACE_MS = 500
#: Claims that may wait for each request that may be on the wire. More of them would make the outbox writes no cheaper.
CLAIMS_PER_REQUEST = 7


class Pace:
    """Remembers the moments of the last confirmations, as many as may be claimed ahead."""

    def __init__(self, concurrency: int) -> None:
        self._confirmed_at_ms: deque[int] = deque(maxlen=CLAIMS_PER_REQUEST * concurrency)

    def confirmed(self, now_ms: int) -> None:
        """The target took one more."""
        self._confirmed_at_ms.append(now_ms)

    def ahead(self, now_ms: int) -> int:
        """How many users may be claimed beyond those for whom a request can start at once."""
        moments = self._confirmed_at_ms
        while moments and not now_ms - PACE_MS <= moments[0] <= now_ms:  # a clock that was set back leaves none that lie ahead of it
            moments.popleft()
        return len(moments)

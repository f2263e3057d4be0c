"""How far ahead of its requests a target's users are claimed: as many as it took lately, so that claims never pile up behind it."""

from __future__ import annotations

from collections import deque

#: What was confirmed within so long says what will be sent within so long: a claim then waits for half a second, not for a hanging target.
PACE_MS = 500
#: Claims that may wait for each request that may be on the wire. More of them would make the outbox writes no cheaper.
CLAIMS_PER_REQUEST = 7
#: Full requests of many people that may wait as claims.
REQUESTS_AHEAD = 2


class Pace:
    """Remembers when how many people were confirmed, for as long as it counts."""

    def __init__(self, concurrency: int, people: int = 1) -> None:
        """``people``: in one request at most."""
        self._most = max(CLAIMS_PER_REQUEST * concurrency, REQUESTS_AHEAD * people if people > 1 else 0)
        #: (moment, people), at most one for each millisecond, and their sum.
        self._confirmed: deque[tuple[int, int]] = deque()
        self._sum = 0

    def confirmed(self, now_ms: int, people: int = 1) -> None:
        """The target took so many more."""
        self._sum += people
        moments = self._confirmed
        if moments and moments[-1][0] == now_ms:
            people += moments.pop()[1]
        moments.append((now_ms, people))
        if len(moments) > PACE_MS + 1:
            self._sum -= moments.popleft()[1]

    def ahead(self, now_ms: int) -> int:
        """How many users may be claimed beyond those for whom a request can start at once."""
        moments = self._confirmed
        while moments and not now_ms - PACE_MS <= moments[0][0] <= now_ms:  # a clock that was set back leaves none that lie ahead of it
            self._sum -= moments.popleft()[1]
        return min(self._most, self._sum)

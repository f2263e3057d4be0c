"""Heavy steps take turns on the event loop: between two of them it goes round some times, and urgent ones go first.

Without this every agent and every timer does a step in the same round of the loop, and whatever takes many small steps (a request, a fetch,
a write and its acknowledgement, six rounds each) waits for all of them at each.
"""

from __future__ import annotations

import asyncio
from collections import deque

#: What a step may take before its rest waits for the next turn. A record more is always finished.
STEP_SECONDS = 0.02
#: Rounds of the loop between two steps: what is ready gets so far with its small ones. An empty round takes some microseconds.
ROUNDS = 10
#: Urgent steps that go before an ordinary one that waits: urgent work that never ends takes three quarters of the turns, not all.
URGENT_IN_A_ROW = 3


class Turns:
    """``take`` returns when it is the caller's turn, which lasts until it awaits something."""

    def __init__(self) -> None:
        self._urgent: deque[asyncio.Future[None]] = deque()
        self._ordinary: deque[asyncio.Future[None]] = deque()
        self._urgent_in_a_row = 0
        self._taken = False
        self._rounds_left = 0

    async def take(self, *, urgent: bool = False) -> None:
        """In the order of asking, but for urgent ones. Whoever is cancelled while it waits loses nothing but its own turn."""
        loop = asyncio.get_running_loop()
        if not self._taken:
            self._taken, self._rounds_left = True, ROUNDS
            loop.call_soon(self._give)
            return
        turn: asyncio.Future[None] = loop.create_future()
        (self._urgent if urgent else self._ordinary).append(turn)
        await turn

    def _give(self) -> None:
        """Called in every round of the loop while turns are taken."""
        self._rounds_left -= 1
        if self._rounds_left <= 0:
            turn = self._next()
            if turn is None:
                self._taken = False
                return
            turn.set_result(None)  # whoever waits for it runs in the next round
            self._rounds_left = ROUNDS
        asyncio.get_running_loop().call_soon(self._give)

    def _next(self) -> asyncio.Future[None] | None:
        for queue in (self._urgent, self._ordinary):
            while queue and queue[0].done():
                queue.popleft()  # cancelled
        if self._urgent and not (self._ordinary and self._urgent_in_a_row >= URGENT_IN_A_ROW):
            self._urgent_in_a_row += 1
            return self._urgent.popleft()
        self._urgent_in_a_row = 0
        return self._ordinary.popleft() if self._ordinary else None

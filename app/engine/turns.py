"""Heavy steps take turns on the event loop: between two of them it goes round some times, and urgent ones go first.

Without this every agent and every timer does a step in the same round of the loop, and whatever takes many small steps (a request, a fetch,
a write and its acknowledgement, six rounds each) waits for all of them at each. But small steps make small batches, which cost more: so
turns are taken, and steps are short, only while something urgent goes on, and for a while after it.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from enum import IntEnum

#: What a step may take before its rest waits for the next turn. A record more is always finished.
STEP_SECONDS = 0.02
#: Rounds of the loop between two steps: what is ready gets so far with its small ones. An empty round takes some microseconds.
ROUNDS = 10
#: What a step may take while nothing urgent goes on, and everybody takes one in each round: what the broker answers (256 kB a round at
#: most) is still read in time, on a slow machine, too.
CALM_STEP_SECONDS = 0.05
#: How long after the last urgent step others' are short.
HURRY_SECONDS = 1.0


class Priority(IntEnum):
    """Who goes first where several wait. What is patient is cheaper the later it comes, for it is done once for all that came before."""

    URGENT = 0
    ORDINARY = 1
    PATIENT = 2


#: Turns of others that a waiting step lets pass at most: work that never ends leaves room for what comes after it.
LETS_PASS = {Priority.URGENT: 0, Priority.ORDINARY: 3, Priority.PATIENT: 6}


class Turns:
    """``take`` returns when it is the caller's turn, which lasts until it awaits something."""

    def __init__(self) -> None:
        self._waiting: dict[Priority, deque[asyncio.Future[None]]] = {priority: deque() for priority in Priority}
        #: Turns of others since the priority's last one, while somebody waited for its next.
        self._passed = dict.fromkeys(Priority, 0)
        self._taken = False
        self._rounds_left = 0
        self._hurry_until = -math.inf

    def hurry(self) -> None:
        """Something urgent goes on."""
        self._hurry_until = asyncio.get_running_loop().time() + HURRY_SECONDS

    @property
    def step_seconds(self) -> float:
        """How long a step may take now."""
        return STEP_SECONDS if asyncio.get_running_loop().time() < self._hurry_until else CALM_STEP_SECONDS

    async def take(self, priority: Priority = Priority.ORDINARY) -> None:
        """Within a priority, in the order of asking. Whoever is cancelled while it waits loses nothing but its own turn."""
        loop = asyncio.get_running_loop()
        if priority is Priority.URGENT:
            self.hurry()
        elif loop.time() >= self._hurry_until:
            await asyncio.sleep(0)  # an agent's stream does not wait while it has batches, and others want the loop between two of them
            return
        if not self._taken:
            self._taken, self._rounds_left = True, ROUNDS
            loop.call_soon(self._give)
            return
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting[priority].append(turn)
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
        for queue in self._waiting.values():
            while queue and queue[0].done():
                queue.popleft()  # cancelled
        waiting = [priority for priority in Priority if self._waiting[priority]]
        if not waiting:
            return None
        first = next((priority for priority in reversed(waiting) if self._passed[priority] >= LETS_PASS[priority]), waiting[0])
        for priority in waiting:
            self._passed[priority] += 1
        self._passed[first] = 0
        return self._waiting[first].popleft()

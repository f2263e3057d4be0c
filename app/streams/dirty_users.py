"""One partition's users who wait for their ranking, in rounds by when they became dirty.

Each user waits from their own first event on, not from somebody else's: long enough for the items' answers to come, so that a click costs
one ranking and one delivery, not two.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from app.engine import Unit

#: Users in one round: a worker that comes and goes ranks at least these, and what caused them need not be read again by the next.
MAX_ROUND_USERS = 256


class Round:
    """Users who became dirty one shortly after another."""

    __slots__ = ("_held_by", "ranked", "since", "users")

    def __init__(self, since: float) -> None:
        #: User id → when Kafka received the first event that is not answered yet, in ms since 1970.
        self.users: dict[bytes, int] = {}
        #: When the first of them became dirty.
        self.since = since
        #: What the acknowledgement of their events waits for.
        self.ranked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._held_by: asyncio.Future[None] | None = None

    def hold(self, unit: Unit[Any]) -> None:
        """Let the unit's records be seen through when this round was ranked."""
        if self._held_by is not unit.done:
            self._held_by = unit.done
            unit.hold(self.ranked)


class DirtyUsers:
    """Rounds, oldest first. A user stands in one of them, the first one, until it is taken."""

    def __init__(self, span_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        #: How long a round takes in users.
        self.span_seconds = span_seconds
        self._clock = clock
        self._rounds: deque[Round] = deque()
        self._round_of: dict[bytes, Round] = {}

    def __len__(self) -> int:
        return len(self._round_of)

    def __iter__(self) -> Iterator[Round]:
        return iter(self._rounds)

    @property
    def oldest(self) -> Round | None:
        return self._rounds[0] if self._rounds else None

    def add(self, unit: Unit[Any], user: bytes, caused_at_ms: int) -> None:
        """The user's list may change, by what ``unit`` did. The earliest cause counts."""
        round_ = self._round_of.get(user)
        if round_ is None:
            round_ = self._round_of[user] = self._newest()
            round_.users[user] = caused_at_ms
        elif caused_at_ms < round_.users[user]:
            round_.users[user] = caused_at_ms
        round_.hold(unit)

    def take(self) -> Round:
        """The oldest round. Who becomes dirty from now on is ranked again."""
        round_ = self._rounds.popleft()
        for user in round_.users:
            del self._round_of[user]
        return round_

    def _newest(self) -> Round:
        now = self._clock()
        newest = self._rounds[-1] if self._rounds else None
        if newest is None or now - newest.since >= self.span_seconds or len(newest.users) >= MAX_ROUND_USERS:
            newest = Round(now)
            self._rounds.append(newest)
        return newest

"""Users for whom a target's lane has no room: they stand in the outbox, and are looked for there when the lane has room again.

What a lane holds is bounded so, however many users become due at a target that hangs. Who was left out is not known, only in which
partitions somebody was; so a search (search.py) goes through a partition of the outbox by its keys, takes in whoever is due until the
lane is full, and goes on from there the next time.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

#: A partition is looked through from its beginning no more often: it costs some ten microseconds an entry.
PAUSE_MS = 10_000


@dataclass(slots=True)
class _Rest:
    """What is left out of one partition."""

    #: When somebody of them may first be due, in ms since 1970; 0: now.
    at_ms: int
    #: How often somebody was left out: as many users at most.
    users: int = 0
    #: The user from whom on to look.
    first: str = ""


class LeftOut:
    """By partition."""

    def __init__(self) -> None:
        self._rests: dict[int, _Rest] = {}
        #: When the partition was last looked through from its beginning.
        self._begun_at_ms: dict[int, int] = {}

    def __bool__(self) -> bool:
        return bool(self._rests)

    @property
    def users(self) -> int:
        """About how many: whoever was left out twice counts twice, until the partition is looked through."""
        return sum(rest.users for rest in self._rests.values())

    def add(self, partition: int, at_ms: int = 0) -> None:
        """Somebody, who may be due then."""
        rest = self._rests.get(partition)
        if rest is None:
            rest = self._rests[partition] = _Rest(at_ms)
        rest.at_ms = min(rest.at_ms, at_ms)
        rest.users += 1

    def next(self, now_ms: int) -> int | None:
        """A partition that should be looked through now."""
        return next((partition for partition, rest in self._rests.items() if self._from_ms(partition, rest) <= now_ms), None)

    def _from_ms(self, partition: int, rest: _Rest) -> int:
        return rest.at_ms if rest.first else max(rest.at_ms, self._begun_at_ms.get(partition, -PAUSE_MS) + PAUSE_MS)

    def begin(self, partition: int, now_ms: int) -> str:
        """It is looked through now, from the user on who is returned. Whoever is left out from here on is left out anew."""
        rest = self._rests.pop(partition, None) or _Rest(0)
        if not rest.first:
            self._begun_at_ms[partition] = now_ms
        return rest.first

    def go_on_at(self, partition: int, user_id: str) -> None:
        """The search ended before this user."""
        self.add(partition)
        self._rests[partition].first = user_id

    def forget(self, partitions: Collection[int]) -> None:
        for partition in partitions:
            self._rests.pop(partition, None)
            self._begun_at_ms.pop(partition, None)

    def set_back(self, by_ms: int) -> None:
        """The clock was: all times lie as far ahead as they did."""
        for rest in self._rests.values():
            rest.at_ms = max(0, rest.at_ms - by_ms)
        self._begun_at_ms = {partition: at_ms - by_ms for partition, at_ms in self._begun_at_ms.items()}

"""How often the batches of a source may be handed out: records that need not be applied at once are applied together. And how late what is
handed out is, for whoever waits while more of it comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from time import monotonic

from faust.types import TP

from app.streams.topics import TopicNames

#: While a worker is busy, what need not happen at once happens at moments so far apart, the same for all partitions: their batches are then
#: written with one request. A list is some such steps away from its click, and they must fit into a quarter of a second.
BUSY_STEP_SECONDS = 0.04
#: So many records of a partition that wait for such a moment are a batch by themselves.
BUSY_STEP_RECORDS = 500


class SourcePace:
    """At most one batch of each partition of ``topic`` in every interval of ``interval_seconds``, which are the same ones for all
    partitions: what a write costs is then paid once for all in it.

    ``may_read`` is for EngineApp.may_read, the last of those; ``is_behind`` says of which partitions too much waits for that, and
    ``look_again`` is called when a partition that had to wait may be read. There is a pace while ``is_needed``.
    """

    def __init__(
        self,
        topic: str,
        interval_seconds: float,
        is_behind: Callable[[TP], bool],
        look_again: Callable[[], None],
        clock: Callable[[], float] = monotonic,
        is_needed: Callable[[], bool] = lambda: True,
    ) -> None:
        self._topic = topic
        self._interval_seconds = interval_seconds
        self._is_behind = is_behind
        self._look_again = look_again
        self._clock = clock
        self._is_needed = is_needed
        self._next: dict[int, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def may_read(self, tp: TP) -> bool:
        """To be asked right before a batch is taken: the answer yes starts the partition's next wait."""
        if tp.topic != self._topic or not self._is_needed():
            return True
        now = self._clock()
        wait = self._next.get(tp.partition, now) - now
        if wait > 0 and not self._is_behind(tp):
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(wait, self._over)
            return False
        self._next[tp.partition] = next_moment(now, self._interval_seconds)
        return True

    def _over(self) -> None:
        self._timer = None
        self._look_again()


def next_moment(now: float, step: float) -> float:
    """The first multiple of ``step`` after ``now``, both in seconds."""
    moment = (now // step + 1.0) * step
    return moment if moment > now else moment + step


def users_delay(delay_seconds: Callable[[str, int], float], names: TopicNames, held: Collection[int]) -> Callable[[int], float]:
    """How late, in seconds, what makes the lists of a partition's users is applied: their events, what items answer to them, or the visits
    that are answered here. ``delay_seconds`` is of a topic's partition, ``held`` what this worker owns.
    """

    def of_partition(partition: int) -> float:
        places = [(names.events, partition), (names.neighbours, partition), *((names.visits, place) for place in held)]
        return max(delay_seconds(*place) for place in places)

    return of_partition

"""How often the batches of a source may be handed out: records that need not be applied at once are applied together. And how late what is
handed out is, for whoever waits while more of it comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from time import monotonic

from faust.types import TP

from app.streams.topics import TopicNames


class SourcePace:
    """At most one batch of each partition of ``topic`` in ``interval_seconds``: what a write costs is then paid once for all in it.

    ``may_read`` is for EngineApp.may_read, the last of those; ``is_behind`` says of which partitions too much waits for that, and
    ``look_again`` is called when a partition that had to wait may be read.
    """

    def __init__(
        self,
        topic: str,
        interval_seconds: float,
        is_behind: Callable[[TP], bool],
        look_again: Callable[[], None],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._topic = topic
        self._interval_seconds = interval_seconds
        self._is_behind = is_behind
        self._look_again = look_again
        self._clock = clock
        self._next: dict[int, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def may_read(self, tp: TP) -> bool:
        """To be asked right before a batch is taken: the answer yes starts the partition's next wait."""
        if tp.topic != self._topic:
            return True
        now = self._clock()
        wait = self._next.get(tp.partition, now) - now
        if wait > 0 and not self._is_behind(tp):
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(wait, self._over)
            return False
        self._next[tp.partition] = now + self._interval_seconds
        return True

    def _over(self) -> None:
        self._timer = None
        self._look_again()


def users_delay(delay_seconds: Callable[[str, int], float], names: TopicNames, held: Collection[int]) -> Callable[[int], float]:
    """How late, in seconds, what makes the lists of a partition's users is applied: their events, what items answer to them, or the visits
    that are answered here. ``delay_seconds`` is of a topic's partition, ``held`` what this worker owns.
    """

    def of_partition(partition: int) -> float:
        places = [(names.events, partition), (names.neighbours, partition), *((names.visits, place) for place in held)]
        return max(delay_seconds(*place) for place in places)

    return of_partition

"""Where logs end, and when they did: by that a copy of a partition is known to be current, or to be how old.

Of a partition whose log is read here the reader knows. Of one that others read, of which only a copy is here, the broker is asked.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping
from time import time_ns
from typing import Any

import aiokafka
from aiokafka.errors import KafkaError
from faust.types import TP

from app.engine.changelog_reader import changelog_reader

logger = logging.getLogger(__name__)

#: Between two questions.
ASK_EVERY_SECONDS = 0.5
#: What an answer may take.
ANSWER_SECONDS = 5.0
#: Ends of one partition that are remembered: of a log that always grows two to five minutes exactly, and what was before with gaps, which
#: make a copy seem older than it is. One that is behind all of them is of unknown age.
MAX_ENDS = 600


class LogEnds:
    """Knows the ends of some partitions' logs over the last minutes."""

    def __init__(self) -> None:
        #: By partition, ends with the last moment at which each was the end, both growing.
        self._ends: dict[TP, list[tuple[int, int]]] = {}

    def note(self, tp: TP, end: int, at_ms: int) -> None:
        """The log ended there at that moment. What contradicts later knowledge is left out: some brokers understate an end."""
        ends = self._ends.setdefault(tp, [])
        if ends and end < ends[-1][0]:
            self._note_late(ends, end, at_ms)
            return
        if ends and at_ms < ends[-1][1]:
            return
        if ends and end == ends[-1][0]:
            ends.pop()
        _make_room(ends)
        ends.append((end, at_ms))

    def _note_late(self, ends: list[tuple[int, int]], end: int, at_ms: int) -> None:
        """Of what was before the latest that is known."""
        index = bisect_right(ends, end, key=lambda entry: entry[0])
        if at_ms > ends[index][1] or (index and at_ms <= ends[index - 1][1]):
            return
        if index and ends[index - 1][0] == end:
            ends[index - 1] = (end, at_ms)
        else:
            ends.insert(index, (end, at_ms))
            _make_room(ends)

    def lag(self, tp: TP, next_offset: int) -> int | None:
        """Records between an offset and the last known end; None when none is known."""
        ends = self._ends.get(tp)
        return max(0, ends[-1][0] - next_offset) if ends else None

    def current_to_ms(self, tp: TP, next_offset: int) -> int | None:
        """The last moment at which the log is known to have held nothing at or above the offset; None when none is."""
        ends = self._ends.get(tp)
        if not ends:
            return None
        index = bisect_right(ends, next_offset, key=lambda entry: entry[0])
        return ends[index - 1][1] if index else None

    async def follow(
        self,
        client: Mapping[str, Any],
        partitions: Collection[TP],
        read_here: Callable[[TP], tuple[int, int] | None],
        is_wanted: Callable[[TP], bool],
    ) -> None:
        """Learn until cancelled. ``read_here``: what a reader of this process knows of a partition; ``is_wanted``: whether to ask
        otherwise.

        A broker that does not answer is asked again: meanwhile copies grow old, which is what they do.
        """
        while True:
            try:
                async with changelog_reader(client, [aiokafka.TopicPartition(*tp) for tp in partitions], 0) as reader:
                    # It is for questions alone.
                    reader.pause(*reader.assignment())
                    while True:
                        await self._learn(reader, partitions, read_here, is_wanted)
                        await asyncio.sleep(ASK_EVERY_SECONDS)
            except (KafkaError, OSError, TimeoutError) as exc:
                logger.debug("the ends of the logs are not told: %r", exc)
                await asyncio.sleep(ASK_EVERY_SECONDS)

    async def _learn(
        self,
        reader: aiokafka.AIOKafkaConsumer,
        partitions: Collection[TP],
        read_here: Callable[[TP], tuple[int, int] | None],
        is_wanted: Callable[[TP], bool],
    ) -> None:
        unknown = []
        for tp in partitions:
            if (known := read_here(tp)) is not None:
                self.note(tp, *known)
            elif is_wanted(tp):
                unknown.append(aiokafka.TopicPartition(*tp))
        if unknown:
            asked_at_ms = time_ns() // 1_000_000
            async with asyncio.timeout(ANSWER_SECONDS):
                ends = await reader.end_offsets(unknown)
            for place, end in ends.items():
                self.note(TP(place.topic, place.partition), end, asked_at_ms)


def _make_room(ends: list[tuple[int, int]]) -> None:
    """For one more: the oldest stay, thinned out, for an owner that works off a long backlog is behind all others. So does the latest."""
    if len(ends) >= MAX_ENDS:
        del ends[1 : MAX_ENDS // 2 : 2]

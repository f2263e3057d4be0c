"""What a new owner is told of the log of a source partition: where it begins and ends, and how old its tables are by that.

Who is behind has reached no end that anybody told of. But the record that it goes on with was not in the log before it was made: until
then, what it has was all there was.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from contextlib import suppress
from operator import itemgetter
from time import time_ns
from typing import NamedTuple

import aiokafka
from faust.types import TP

#: What the records that a recovered partition goes on with may be waited for: until then nobody knows how old it is.
FIRST_MADE_SECONDS = 0.5


class SourceLog(NamedTuple):
    """A source partition's log, as it was told while its tables were recovered."""

    beginning: int
    #: None where the broker's word on it cannot be trusted.
    end: int | None
    #: When that was its end, in ms since 1970.
    asked_at_ms: int
    #: Offsets from the committed one on, and when their records were made.
    made: Sequence[tuple[int, int]] = ()

    def ends(self, applied: int) -> list[tuple[int, int]]:
        """Where the log ended, and a moment at which it ended there or before: for whoever has applied it up to ``applied``.

        What is between the applied ones and the next record, nobody is shown.
        """
        ends = [] if self.end is None else [(self.end, self.asked_at_ms)]
        index = min(bisect_left(self.made, applied, key=itemgetter(0)), len(self.made) - 1)
        if index >= 0:
            offset, made_at_ms = self.made[index]
            ends.append((min(applied, offset), min(made_at_ms, self.asked_at_ms)))
        return ends


async def source_logs(
    reader: aiokafka.AIOKafkaConsumer, committed: Mapping[TP, int | None], first_made_seconds: float = FIRST_MADE_SECONDS
) -> dict[TP, SourceLog]:
    """How the logs of these partitions, to which ``reader`` is assigned, are now; ``committed``: from where each is read on."""
    places = {tp: aiokafka.TopicPartition(*tp) for tp in committed}
    beginnings = await reader.beginning_offsets(places.values())
    asked_at_ms = time_ns() // 1_000_000
    ends = await reader.end_offsets(places.values())
    made: dict[aiokafka.TopicPartition, list[tuple[int, int]]] = {}
    if first_made_seconds:
        starts = {place: beginnings[place] if (offset := committed[tp]) is None else offset for tp, place in places.items()}
        behind = {place: start for place, start in starts.items() if beginnings[place] <= start < ends[place]}
        with suppress(TimeoutError):
            async with asyncio.timeout(first_made_seconds):
                await _first_made(reader, behind, made)
    return {tp: SourceLog(beginnings[place], ends[place], asked_at_ms, made.get(place, ())) for tp, place in places.items()}


async def _first_made(
    reader: aiokafka.AIOKafkaConsumer, starts: Mapping[aiokafka.TopicPartition, int],
    made: dict[aiokafka.TopicPartition, list[tuple[int, int]]],
) -> None:
    """Offsets from these on, as many as one fetch brings, and when their records were made (ms since 1970)."""
    reader.pause(*(place for place in reader.assignment() if place not in starts))
    for place, start in starts.items():
        reader.seek(place, start)
    while left := [place for place in starts if place not in made]:
        for place, records in (await reader.getmany(*left, timeout_ms=200)).items():
            made[place] = [(record.offset, record.timestamp) for record in records]
            reader.pause(place)

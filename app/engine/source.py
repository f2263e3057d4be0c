"""Reads the source partitions of one generation, from their committed offsets, and hands them out as batches.

A reader lives as long as one assignment: it is made after recovery with the exact positions to start from and closed at the next
rebalance, so no record of one assignment can be taken for one of another. A partition gets its next batch only while it has room (few
units in flight), which bounds memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import aiokafka
from aiokafka.errors import OffsetOutOfRangeError
from faust.types import TP

from app.engine.batch import BatchMessage
from app.engine.recovery import close_consumer
from app.errors import StateError

#: Fetched at once for one partition, and so at most buffered here beside what aiokafka holds.
FETCH_BYTES = 1 << 20


class SourceReader:
    """``deliver(message)`` is awaited for each batch; ``has_room(tp)`` says whether the partition may have one more."""

    def __init__(
        self,
        client: Mapping[str, Any],
        positions: Mapping[TP, int],
        *,
        generation: int,
        batch_max_records: int,
        deliver: Callable[[BatchMessage], Awaitable[None]],
        has_room: Callable[[TP], bool],
    ) -> None:
        self._positions = dict(positions)
        self._generation = generation
        self._batch_max_records = batch_max_records
        self._deliver = deliver
        self._has_room = has_room
        self._fetched: dict[TP, list[Any]] = {tp: [] for tp in positions}
        self._taken = dict.fromkeys(positions, 0)
        #: Of the last record handed out, in ms since 1970.
        self._timestamps: dict[TP, int] = {}
        self._room = asyncio.Event()
        self._consumer = aiokafka.AIOKafkaConsumer(
            **client, group_id=None, enable_auto_commit=False, auto_offset_reset="none", max_partition_fetch_bytes=FETCH_BYTES
        )

    @property
    def partitions(self) -> list[TP]:
        return list(self._positions)

    def room_made(self) -> None:
        """A unit ended somewhere: look again."""
        self._room.set()

    def lag(self, tp: TP) -> int | None:
        """Records between what was handed out and the broker's end, None before the first fetch."""
        highwater = self._consumer.highwater(aiokafka.TopicPartition(tp.topic, tp.partition))
        return None if highwater is None else max(0, highwater - self._positions[tp])

    def delay_ms(self, tp: TP, now_ms: int) -> int:
        """How old the last record handed out was at ``now_ms``; 0 before the first, and when all was handed out."""
        if not self.lag(tp) or (timestamp := self._timestamps.get(tp)) is None:
            return 0
        return max(0, now_ms - timestamp)

    async def run(self) -> None:
        """Read until cancelled. Raises StateError when records were deleted before they were applied."""
        consumer = self._consumer
        partitions = {tp: aiokafka.TopicPartition(tp.topic, tp.partition) for tp in self._positions}
        consumer.assign(list(partitions.values()))
        fetch: asyncio.Task[Any] | None = None
        wanted: set[TP] = set()
        try:
            await consumer.start()
            for tp, position in self._positions.items():
                consumer.seek(partitions[tp], position)
            while True:
                self._room.clear()
                await self._hand_out()
                empty = {tp for tp, records in self._fetched.items() if not records}
                if fetch is not None and not fetch.done() and not empty <= wanted:
                    fetch.cancel()  # waits for others only; safe, as records are taken from aiokafka's buffer without an await in between
                    await asyncio.wait({fetch})
                if fetch is None or fetch.done():
                    if fetch is not None and not fetch.cancelled():
                        self._take(fetch)
                        fetch = None
                        continue
                    fetch, wanted = None, empty
                    if empty:
                        fetch = asyncio.create_task(consumer.getmany(*(partitions[tp] for tp in empty), timeout_ms=1000))
                room = asyncio.create_task(self._room.wait())
                try:
                    await asyncio.wait({t for t in (fetch, room) if t is not None}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    room.cancel()
        finally:
            if fetch is not None:
                fetch.cancel()
            await close_consumer(consumer)

    def _take(self, fetch: asyncio.Task[Any]) -> None:
        try:
            got = fetch.result()
        except OffsetOutOfRangeError as exc:
            raise StateError(
                f"records at {exc.args} are gone from the log, though they were not applied: retention deleted them. "
                "Raise the topic's retention.ms; to accept the loss, move the group's committed offset to the log's start."
            ) from exc
        for tp, records in got.items():
            self._fetched[TP(tp.topic, tp.partition)] = records

    async def _hand_out(self) -> None:
        """A batch for each partition that has records and room, round after round."""
        size = self._batch_max_records
        progress = True
        while progress:
            progress = False
            for tp, records in self._fetched.items():
                if not records or not self._has_room(tp):
                    continue
                start = self._taken[tp]
                chunk = records[start : start + size]
                if start + size >= len(records):
                    self._fetched[tp], self._taken[tp] = [], 0
                else:
                    self._taken[tp] = start + size
                self._positions[tp] = chunk[-1].offset + 1
                self._timestamps[tp] = chunk[-1].timestamp
                await self._deliver(BatchMessage(tp, chunk, self._generation))
                progress = True

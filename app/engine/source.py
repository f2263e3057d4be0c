"""Reads the source partitions of one generation, from their committed offsets, and hands them out as batches.

A reader lives as long as one assignment: it is made after recovery with the exact positions to start from and closed at the next
rebalance, so no record of one assignment can be taken for one of another. A partition gets its next batch only while it has room (few
units in flight), and is fetched only while little of it waits here, which bounds memory.

While records come, the broker collects them for some milliseconds before it answers: what many events cause then comes as one batch for
each partition, not as one for each event. It answers at once when much is there, and when nothing had come for a while. Whoever is busy
(busyness.py) lets it collect for longer.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from itertools import accumulate, chain
from typing import Any

import aiokafka
from aiokafka.errors import CorruptRecordException, OffsetOutOfRangeError
from faust.types import TP

from app.engine.batch import BatchMessage, bytes_of
from app.engine.changelog_reader import close_consumer
from app.errors import StateError

#: Fetched at once for one partition, and, of all partitions together, as far as LEAST_FETCH_BYTES for each allow. Unpacked, small records
#: take some six times as much. (A producer's compressed batch is unpacked as a whole, however large it becomes.)
FETCH_BYTES = 1 << 20
READ_AHEAD_BYTES = 16 << 20
LEAST_FETCH_BYTES = 64 << 10
#: What one answer of the broker may bring, of all partitions together. A busy loop reads some 256 kB in a round, and an answer that is not
#: read when the request times out is asked for again from its beginning.
ANSWER_BYTES = 1 << 20
#: Values of one batch: a record may stand for hundreds of changes, and nothing else runs while a batch is applied.
BATCH_BYTES = 512 << 10
#: Batches of one partition that wait here when it is fetched no further: beside what one fetch brings, nothing more is held.
BATCHES_AHEAD = 2
#: With so much to give, the broker answers whatever it was told to wait: some hundred events, or a batch of one partition.
ENOUGH_BYTES = 64 << 10
#: With no more records than this left, a partition is at the end of its log: the age of what was handed out says nothing.
FEW_RECORDS = 1_000
#: So many times the linger the broker may collect for a worker that is busy.
BUSY_LINGERS = 2
#: Records are on their way while a look of so long, in times of the linger, brings some.
IDLE_AFTER_LINGERS = 6


class SourceReader:
    """``deliver(message)`` is awaited for each batch; ``has_room(tp)`` says whether the partition may have one more.

    ``client``'s fetch_max_wait_ms is for how long the broker may hold a fetch while nothing comes; ``linger_ms``, while something does.
    """

    def __init__(
        self,
        client: Mapping[str, Any],
        positions: Mapping[TP, int],
        *,
        generation: int,
        batch_max_records: int,
        linger_ms: int,
        deliver: Callable[[BatchMessage], Awaitable[None]],
        has_room: Callable[[TP], bool],
        is_busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self._positions = dict(positions)
        self._generation = generation
        self._batch_max_records = batch_max_records
        self._linger_ms = linger_ms
        self._deliver = deliver
        self._has_room = has_room
        self._is_busy = is_busy
        #: Records that were fetched, how many of them were handed out, and the bytes of the rest.
        self._fetched: dict[TP, list[Any]] = {tp: [] for tp in positions}
        self._taken = dict.fromkeys(positions, 0)
        self._bytes = dict.fromkeys(positions, 0)
        self._paused: set[TP] = set()
        #: Of the last record handed out, in ms since 1970.
        self._timestamps: dict[TP, int] = {}
        #: Offset and timestamp of the first record of the batch handed out last.
        self._began: dict[TP, tuple[int, int]] = {}
        self._room = asyncio.Event()
        self._consumer = aiokafka.AIOKafkaConsumer(
            **client, group_id=None, enable_auto_commit=False, auto_offset_reset="none", isolation_level="read_uncommitted",
            max_partition_fetch_bytes=fetch_bytes(len(positions)), fetch_max_bytes=ANSWER_BYTES,
        )
        self._idle_wait_ms = self._consumer._fetch_max_wait_ms

    @property
    def partitions(self) -> list[TP]:
        return list(self._positions)

    @property
    def linger_ms(self) -> int:
        """How long the broker may hold a fetch now, while something comes."""
        return self._linger_ms * (BUSY_LINGERS if self._is_busy() else 1)

    def room_made(self) -> None:
        """A unit ended somewhere: look again."""
        self._room.set()

    def position(self, tp: TP) -> int:
        """The offset after the last record handed out."""
        return self._positions[tp]

    def waiting(self, tp: TP) -> int:
        """Records that were fetched and not handed out."""
        return len(self._fetched[tp]) - self._taken[tp]

    @property
    def waiting_bytes(self) -> int:
        """Of all values that were fetched and not handed out."""
        return sum(self._bytes.values())

    def lag(self, tp: TP) -> int | None:
        """Records between what was handed out and the broker's end, None before the first fetch."""
        highwater = self._consumer.highwater(aiokafka.TopicPartition(tp.topic, tp.partition))
        return None if highwater is None else max(0, highwater - self._positions[tp])

    def end(self, tp: TP) -> tuple[int, int] | None:
        """The broker's end of the partition, and when it was so, in ms since 1970; None before the first fetch."""
        place = aiokafka.TopicPartition(tp.topic, tp.partition)
        end, at_ms = self._consumer.highwater(place), self._consumer.last_poll_timestamp(place)
        return None if end is None or at_ms is None else (end, at_ms)

    def began(self, tp: TP) -> tuple[int, int] | None:
        """Offset and timestamp (ms since 1970) of the first record of the batch handed out last; None before the first batch."""
        return self._began.get(tp)

    def delay_ms(self, tp: TP, now_ms: int) -> int:
        """How far behind the log the partition is handed out, in time; 0 when it keeps up.

        Where many records are left, the age of the last one handed out; where few are, that of the next one, if it was fetched: the last
        one may have come long before it.
        """
        left = self.lag(tp) or 0
        if left > FEW_RECORDS:
            timestamp = self._timestamps.get(tp)
        else:
            timestamp = self._fetched[tp][self._taken[tp]].timestamp if self.waiting(tp) else None
        return 0 if timestamp is None else max(0, now_ms - timestamp)

    async def run(self) -> None:
        """Read until cancelled. Raises StateError when records were deleted before they were applied."""
        consumer, tasks = self._consumer, set[asyncio.Task[None]]()
        consumer.assign([aiokafka.TopicPartition(tp.topic, tp.partition) for tp in self._positions])
        try:
            await consumer.start()
            consumer._fetcher._records = Unwrapped(consumer._fetcher._records)
            for tp, position in self._positions.items():
                consumer.seek(aiokafka.TopicPartition(tp.topic, tp.partition), position)
            tasks = {asyncio.create_task(self._fetch()), asyncio.create_task(self._hand_out())}
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await close_consumer(consumer)

    async def _fetch(self) -> None:
        wait_ms = self._idle_wait_ms
        while True:
            got = await self._next(wait_ms)
            # aiokafka sends the next request when this coroutine waits: how long it may linger, and for which partitions it asks, is
            # decided before.
            if got:
                linger_ms = self.linger_ms
                self._let_linger(ENOUGH_BYTES, linger_ms)
                wait_ms = IDLE_AFTER_LINGERS * linger_ms
            else:
                self._let_linger(1, self._idle_wait_ms)
                wait_ms = 1000
            for place, records in got.items():
                tp = TP(place.topic, place.partition)
                self._bytes[tp] += bytes_of(records)
                if left := self._fetched[tp]:
                    records = left[self._taken[tp] :] + records
                self._fetched[tp], self._taken[tp] = records, 0
                if self._is_well_stocked(tp):
                    self._paused.add(tp)
                    self._consumer.pause(place)
            self._room.set()

    async def _next(self, wait_ms: int) -> dict[aiokafka.TopicPartition, list[Any]]:
        try:
            got: dict[aiokafka.TopicPartition, list[list[Any]]] = await self._consumer.getmany(timeout_ms=wait_ms)  # see Unwrapped
        except OffsetOutOfRangeError as exc:
            raise StateError(
                f"records at {exc.args} are gone from the log, though they were not applied: retention deleted them. "
                "Raise the topic's retention.ms; to accept the loss, move the group's committed offset to the log's start."
            ) from exc
        return {place: list(chain.from_iterable(batches)) for place, batches in got.items()}

    def _let_linger(self, enough_bytes: int, wait_ms: int) -> None:
        # aiokafka has no call for it, and reads both for every request.
        fetcher = self._consumer._fetcher
        fetcher._fetch_min_bytes, fetcher._fetch_max_wait_ms = enough_bytes, wait_ms

    async def _hand_out(self) -> None:
        """A batch for each partition that has records and room, round after round."""
        while True:
            await self._room.wait()
            self._room.clear()
            progress = True
            while progress:
                progress = False
                for tp in self._positions:
                    if self._fetched[tp] and self._has_room(tp):
                        await self._deliver(BatchMessage(tp, self._take(tp), self._generation))
                        progress = True

    def _take(self, tp: TP) -> list[Any]:
        """A partition's next batch."""
        records, start = self._fetched[tp], self._taken[tp]
        chunk = records[start : start + self._batch_max_records]
        size = self._bytes[tp] if len(chunk) == len(records) - start else bytes_of(chunk)
        if size > BATCH_BYTES:
            sizes = list(accumulate(bytes_of((record,)) for record in chunk))
            last = bisect_left(sizes, BATCH_BYTES)
            chunk, size = chunk[: last + 1], sizes[last]
        end = start + len(chunk)
        self._bytes[tp] -= size
        if end == len(records):
            self._fetched[tp], self._taken[tp] = [], 0
        else:
            self._taken[tp] = end
        self._positions[tp] = chunk[-1].offset + 1
        self._timestamps[tp] = chunk[-1].timestamp
        self._began[tp] = chunk[0].offset, chunk[0].timestamp
        if tp in self._paused and not self._is_well_stocked(tp):
            self._paused.discard(tp)
            self._consumer.resume(aiokafka.TopicPartition(tp.topic, tp.partition))
        return chunk

    def _is_well_stocked(self, tp: TP) -> bool:
        return self.waiting(tp) >= BATCHES_AHEAD * self._batch_max_records or self._bytes[tp] >= BATCHES_AHEAD * BATCH_BYTES


class Unwrapped(OrderedDict[Any, Any]):
    """What aiokafka's fetcher has fetched. It would make an object of eleven attributes of each record, one by one; the record itself has
    what agents ask for: offset, timestamp, key and value. So what is asked for here are lists of records, one for each batch of the log.
    """

    def __setitem__(self, place: Any, fetched: Any) -> None:
        if (records := getattr(fetched, "_partition_records", None)) is not None:
            fetched._partition_records = WholeBatches(
                records._records, records.next_fetch_offset, records._check_crcs, f"{place.topic}/{place.partition}"
            )
            records._records_iterator = None  # or the two would keep each other, and all that was fetched
        super().__setitem__(place, fetched)


class WholeBatches:
    """The batches of one fetched partition, as lists of the records from ``next_fetch_offset`` on, which grows with each. Like aiokafka's
    PartitionRecords, for a reader of all that is in the log.

    Raises CorruptRecordException at a batch whose checksum is another.
    """

    def __init__(self, unread: Any, next_fetch_offset: int, check_crcs: bool, place: str) -> None:
        self._unread = unread
        self.next_fetch_offset = next_fetch_offset
        self._check_crcs = check_crcs
        self._place = place

    def __iter__(self) -> Iterator[list[Any]]:
        while self._unread.has_next():
            batch = self._unread.next_batch()
            if self._check_crcs and not batch.validate_crc():
                raise CorruptRecordException(f"a batch of {self._place} has another checksum than its records")
            if not batch.is_control_batch:
                records = list(batch)
                if records and records[0].offset < self.next_fetch_offset:  # a broker sends the whole batch that the offset is in
                    records = [record for record in records if record.offset >= self.next_fetch_offset]
                if records:
                    yield records
            # Not the last record's: what compaction removed behind it would be fetched again for ever.
            self.next_fetch_offset = max(self.next_fetch_offset, batch.next_offset)


def fetch_bytes(partitions: int) -> int:
    """What a fetch may bring of each of so many partitions, so that all that is fetched has a bound."""
    return max(LEAST_FETCH_BYTES, min(FETCH_BYTES, READ_AHEAD_BYTES // max(1, partitions)))

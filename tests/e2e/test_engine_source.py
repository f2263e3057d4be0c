"""The reader of source partitions on real brokers: where it starts, how far it runs ahead, what a cancellation leaves."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from contextlib import suppress
from typing import Any

import aiokafka
import pytest
from faust.types import TP

from app.engine.app import ROOM
from app.engine.batch import BatchMessage
from app.engine.source import BATCH_BYTES, SourceReader
from app.errors import StateError
from tests.brokers.apache_kafka import ApacheKafka
from tests.e2e.engine_worlds import admin_of, client_of, make_topics, own_name


async def filled_topic(broker: Any, counts: dict[int, int], padding: int = 0) -> str:
    topic = own_name("events")
    await make_topics(broker, topic, partitions=len(counts))
    async with aiokafka.AIOKafkaProducer(**client_of(broker)) as producer:
        for partition, count in counts.items():
            for n in range(count):
                await producer.send(topic, b"%d" % n + bytes(padding), partition=partition)
    return topic


class Reading:
    """A reader whose deliveries are kept, and which has room while less than ROOM batches are neither written nor forgotten."""

    def __init__(self, broker: Any, positions: dict[TP, int], batch_max_records: int = 7, **client: Any) -> None:
        self.got: dict[int, list[int]] = defaultdict(list)
        self.sizes: list[int] = []
        self.unwritten: dict[TP, int] = defaultdict(int)
        self.most_unwritten = 0
        self.writes_at_once = True
        self._more = asyncio.Event()
        self.reader = SourceReader(
            client_of(broker, fetch_max_wait_ms=20, **client), positions, generation=4,
            batch_max_records=batch_max_records, linger_ms=5, deliver=self._deliver, has_room=lambda tp: self.unwritten[tp] < ROOM,
        )  # fmt: skip
        self.task = asyncio.create_task(self.reader.run())

    async def _deliver(self, message: BatchMessage) -> None:
        assert message.generation_id == 4
        assert message.offset == message.records[-1].offset
        self.got[message.partition] += [record.offset for record in message.records]
        self.sizes.append(len(message.records))
        self._more.set()
        self.unwritten[message.tp] += 1
        self.most_unwritten = max(self.most_unwritten, self.unwritten[message.tp])
        if self.writes_at_once:
            asyncio.get_running_loop().call_soon(self.write, message.tp)

    def write(self, tp: TP) -> None:
        self.unwritten[tp] -= 1
        self.reader.room_made()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(20):
            while sum(map(len, self.got.values())) < count and not self.task.done():
                self._more.clear()
                await asyncio.wait([self.task, more := asyncio.ensure_future(self._more.wait())], return_when=asyncio.FIRST_COMPLETED)
                more.cancel()

    async def stop(self) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task


async def test_each_partition_is_read_from_its_position(broker: Any) -> None:
    topic = await filled_topic(broker, {0: 50, 1: 20})
    reading = Reading(broker, {TP(topic, 0): 33, TP(topic, 1): 0})
    await reading.until(17 + 20)
    await asyncio.sleep(0.1)
    await reading.stop()

    assert reading.got == {0: list(range(33, 50)), 1: list(range(20))}
    assert max(reading.sizes) == 7
    assert reading.reader.lag(TP(topic, 0)) == 0


async def test_a_partition_never_has_more_batches_unwritten_than_there_is_room_for_and_goes_on_when_there_is(broker: Any) -> None:
    topic = await filled_topic(broker, {0: 100, 1: 30})
    reading = Reading(broker, {TP(topic, 0): 0, TP(topic, 1): 0})
    reading.writes_at_once = False
    await reading.until(4 * 7)
    await asyncio.sleep(0.3)
    assert reading.got == {0: list(range(14)), 1: list(range(14))}

    reading.write(TP(topic, 1))
    await reading.until(5 * 7)
    await asyncio.sleep(0.1)
    assert reading.got == {0: list(range(14)), 1: list(range(21))}, "one partition's want of room does not stop another"

    reading.writes_at_once = True
    for tp, count in list(reading.unwritten.items()):
        for _ in range(count):
            reading.write(tp)
    await reading.until(130)
    await reading.stop()
    assert reading.got == {0: list(range(100)), 1: list(range(30))}
    assert reading.most_unwritten == ROOM


async def test_a_worker_that_is_busy_with_every_round_gets_its_records_before_the_request_times_out(broker: Any) -> None:
    """A client reads some 256 kB in a round of the event loop, and a request that timed out is sent once more from its beginning."""
    topic = await filled_topic(broker, dict.fromkeys(range(4), 200), padding=5_000)
    reading = Reading(broker, {TP(topic, partition): 0 for partition in range(4)}, 500, request_timeout_ms=2000)

    async def work() -> None:
        while True:
            time.sleep(0.1)  # noqa: ASYNC251  it is what holds up the loop
            await asyncio.sleep(0)

    working = asyncio.create_task(work())
    await reading.until(800)
    working.cancel()
    await reading.stop()
    assert reading.got == {partition: list(range(200)) for partition in range(4)}


async def test_a_batch_of_large_records_ends_before_they_are_many(broker: Any) -> None:
    topic = await filled_topic(broker, {0: 20, 1: 0}, padding=BATCH_BYTES // 3)
    reading = Reading(broker, {TP(topic, 0): 0, TP(topic, 1): 0})
    await reading.until(20)
    await reading.stop()

    assert reading.got == {0: list(range(20))}
    assert max(reading.sizes) == 3


async def test_a_partition_is_as_late_as_the_record_that_waits_and_at_its_end_it_is_not_late(broker: Any) -> None:
    topic = own_name("events")
    await make_topics(broker, topic, partitions=1)
    async with aiokafka.AIOKafkaProducer(**client_of(broker)) as producer:
        for n in range(30):
            await producer.send(topic, b"%d" % n, partition=0, timestamp_ms=1000 * n)
    place = TP(topic, 0)
    reading = Reading(broker, {place: 0})
    reading.writes_at_once = False
    await reading.until(2 * 7)
    assert reading.reader.delay_ms(place, now_ms=60_000) == 60_000 - 14_000
    reading.writes_at_once = True
    for _ in range(2):
        reading.write(place)
    await reading.until(30)
    assert reading.reader.delay_ms(place, now_ms=60_000) == 0, "however old the last one was"
    await reading.stop()


async def test_readers_cancelled_at_any_point_lose_nothing_and_repeat_only_what_was_not_delivered(broker: Any) -> None:
    topic = await filled_topic(broker, {0: 200, 1: 100})
    got: dict[int, list[int]] = {0: [], 1: []}
    for turn in range(40):
        reading = Reading(broker, {TP(topic, p): len(offsets) for p, offsets in got.items()}, batch_max_records=5)
        await reading.until(min(1 + 3 * turn, 300 - sum(map(len, got.values()))))
        await reading.stop()
        for partition, offsets in reading.got.items():
            got[partition] += offsets
        if got == {0: list(range(200)), 1: list(range(100))}:
            break

    assert got == {0: list(range(200)), 1: list(range(100))}


async def test_records_that_arrive_while_it_waits_are_handed_out_soon(broker: Any) -> None:
    topic = await filled_topic(broker, {0: 0, 1: 0})
    reading = Reading(broker, {TP(topic, 0): 0, TP(topic, 1): 0})
    await asyncio.sleep(0.5)
    async with aiokafka.AIOKafkaProducer(**client_of(broker)) as producer:
        await producer.send_and_wait(topic, b"1", partition=1)
        async with asyncio.timeout(2):
            await reading.until(1)
    await reading.stop()

    assert reading.got == {1: [0]}


@pytest.mark.kafka
async def test_records_deleted_before_they_were_applied_stop_it_and_the_error_says_what_to_do(apache_kafka: ApacheKafka) -> None:
    topic = await filled_topic(apache_kafka, {0: 50})
    async with admin_of(apache_kafka) as admin:
        await admin.delete_records({aiokafka.TopicPartition(topic, 0): aiokafka.admin.RecordsToDelete(before_offset=30)})
    reading = Reading(apache_kafka, {TP(topic, 0): 10})
    with pytest.raises(StateError, match=r"retention\.ms"):
        async with asyncio.timeout(20):
            await reading.task
    assert reading.got == {}

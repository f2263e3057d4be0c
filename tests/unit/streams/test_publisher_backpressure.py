"""What the publisher does with callers while the broker takes nothing: bounded time, bounded memory, and nothing by halves."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any, NamedTuple

import pytest
from aiokafka.errors import KafkaTimeoutError

from app.errors import BrokerError
from app.streams.publisher import Publisher, Record

SECONDS = 0.2


class Written(NamedTuple):
    offset: int


class Batch:
    def __init__(self, most: int) -> None:
        self.keys: list[bytes] = []
        self._most = most

    def append(self, *, timestamp: int, key: bytes, value: bytes | None) -> object:
        if len(self.keys) == self._most:
            return None
        self.keys.append(key)
        return self

    def close(self) -> None:
        """Nothing."""


class SlowBroker:
    """A connection and its producer: takes batches of a few records for the partitions that are open, and acknowledges them."""

    def __init__(self, *is_open: int, records_in_batch: int = 2) -> None:
        self.open = set(is_open)
        self._records_in_batch = records_in_batch
        self.log: dict[int, list[bytes]] = defaultdict(list)

    async def producer(self) -> SlowBroker:
        return self

    def create_batch(self) -> Batch:
        return Batch(self._records_in_batch)

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> asyncio.Future[Written]:
        await asyncio.sleep(0.02)
        if partition not in self.open:
            raise KafkaTimeoutError
        acknowledged: asyncio.Future[Written] = asyncio.get_running_loop().create_future()
        acknowledged.set_result(Written(len(self.log[partition])))
        self.log[partition] += batch.keys
        return acknowledged

    async def close(self) -> None:
        """Nothing."""

    @property
    def everything(self) -> list[bytes]:
        return sorted(key for keys in self.log.values() for key in keys)


def publisher_of(broker: Any, **kwargs: Any) -> Publisher:
    return Publisher("nowhere", "events", 2, request_timeout_seconds=SECONDS, connection=broker, **kwargs)


def records(name: str, *partitions: int) -> list[Record]:
    return [Record(b"%s-%d" % (name.encode(), n), b"x" * 100, partition) for n, partition in enumerate(partitions)]


async def refused(publisher: Publisher, *requests: list[Record]) -> None:
    answers = await asyncio.gather(*(publisher.publish_records(request) for request in requests), return_exceptions=True)
    assert all(isinstance(answer, BrokerError) for answer in answers), answers


async def test_of_a_refused_request_everything_is_written_in_the_end_or_nothing() -> None:
    broker = SlowBroker(0)
    publisher = publisher_of(broker)
    await refused(
        publisher,
        records("first", 1, 1),  # on its way, and kept there
        records("halved", 0, 1),  # one half is written at once
        records("queued", 1, 1),  # nothing of it was on its way
    )
    assert broker.everything == [b"halved-0"]
    broker.open.add(1)
    assert len(await publisher.publish_records(records("accepted", 0, 1))) == 2

    assert broker.everything == [b"accepted-0", b"accepted-1", b"first-0", b"first-1", b"halved-0", b"halved-1"]
    assert publisher._buffered_bytes == 0
    await publisher.stop()


async def test_a_large_request_goes_in_as_a_whole_or_not_at_all() -> None:
    """It is longer than a step, and there is room for some of its steps only."""
    broker = SlowBroker()
    publisher = publisher_of(broker, max_buffered_bytes=500_000)
    in_the_way = asyncio.create_task(publisher.publish_records(records("early", *[1] * 1_000)))
    await asyncio.sleep(0.01)
    await refused(publisher, records("large", *[0] * 2_500))
    with pytest.raises(BrokerError):
        await in_the_way
    broker.open |= {0, 1}
    assert len(await publisher.publish_records(records("later", 0))) == 1

    assert [key for key in broker.everything if key.startswith(b"large")] == []
    await publisher.stop()


@pytest.mark.parametrize("rounds", range(1, 6))
async def test_a_request_that_is_cancelled_while_it_is_queued_is_not_there_by_halves(rounds: int) -> None:
    broker = SlowBroker(0, 1, records_in_batch=700)
    publisher = publisher_of(broker)
    request = asyncio.create_task(publisher.publish_records(records("large", *[0] * 2_500)))
    for _ in range(rounds):  # some of it is queued
        await asyncio.sleep(0)
    request.cancel()
    await asyncio.wait({request})
    async with asyncio.timeout(5):
        while publisher._buffered_bytes:  # noqa: ASYNC110  the test has no event of its own to wait for
            await asyncio.sleep(0.01)

    assert len(broker.everything) in (0, 2_500)
    await publisher.stop()


async def test_what_waits_never_takes_more_than_its_room_however_many_call() -> None:
    publisher, most = publisher_of(SlowBroker(), max_buffered_bytes=10_000), 0

    async def look() -> None:
        nonlocal most
        while True:
            most = max(most, publisher._buffered_bytes)
            await asyncio.sleep(0)

    looking = asyncio.create_task(look())
    began = asyncio.get_running_loop().time()
    await refused(publisher, *[records(f"call-{n}", n % 2) for n in range(500)])
    assert asyncio.get_running_loop().time() - began < 10 * SECONDS
    looking.cancel()
    assert 5_000 < most <= 10_000
    await publisher.stop()
    assert publisher._buffered_bytes == 0


async def test_a_publisher_stops_though_nobody_takes_what_was_on_its_way() -> None:
    publisher = publisher_of(SlowBroker())
    await refused(publisher, records("late", 0, 1))
    async with asyncio.timeout(2):
        await publisher.stop()
    assert publisher._buffered_bytes == 0

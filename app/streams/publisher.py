"""Publisher: writes events and products to Kafka and returns when they are acknowledged.

One batch per partition is on the wire and one waits behind it; whatever arrives meanwhile travels together in the next. So
a thousand callers with one event each cost about as much as one caller with a thousand, and records of one user keep their order.

A caller who gave up leaves nothing by halves: where none of its records was on its way to the broker none will be, and where one was, the
others follow as soon as the broker takes them. Only the end of the process, or of the connection, can cut in between.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaTimeoutError
from aiokafka.partitioner import murmur2
from aiokafka.producer.message_accumulator import BatchBuilder

from app.errors import BrokerError
from app.settings import Settings
from app.streams.kafka_client import kafka_client
from app.streams.producer_connection import ProducerConnection
from app.streams.topics import TopicNames
from tidings.events.v1.event_pb2 import Event

#: Bytes accepted and not yet settled; a caller waits for room, at most the request time-out.
MAX_BUFFERED_BYTES = 32 * 1024**2
#: A record's share of the buffer beside its key and value.
_RECORD_OVERHEAD_BYTES = 100
#: Records that enter the queues at once, and such steps of `publish_many` that wait for their acknowledgement.
_STEP_RECORDS = 1_000
_MAX_STEPS_IN_FLIGHT = 32


class Position(NamedTuple):
    """Where an event was written. The offset is -1 where the broker had it already and no longer knows where."""

    partition: int
    offset: int


class Record(NamedTuple):
    """A record as it goes to Kafka; without a partition the key decides, and without a value the key is gone."""

    key: bytes
    value: bytes | None
    partition: int | None = None


@lru_cache(maxsize=100_000)
def partition_of(key: bytes, partitions: int) -> int:
    """Kafka's default partitioner, so that any client sends a user to the same partition."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


class Publisher:
    """An idempotent producer for one topic, connected at the first use (or by ``start``).

    ``idempotent=False`` is for the embedded broker, which has no producer ids: there a retry inside the client may write a record twice,
    which the event id makes harmless.

    When BrokerError says that nothing was acknowledged in time, the events may still be written later: send them again
    with the same event ids.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        topic: str,
        partitions: int,
        *,
        idempotent: bool = True,
        request_timeout_seconds: float = 10,
        max_buffered_bytes: int = MAX_BUFFERED_BYTES,
        clock: Callable[[], int] = _wall_clock_ms,
        client: Mapping[str, Any] | None = None,
        connection: ProducerConnection | None = None,
    ) -> None:
        """``connection``: another than one to ``bootstrap_servers``."""
        self.topic = topic
        self.partitions = partitions
        self._bootstrap_servers = bootstrap_servers
        arguments = {**(client or {}), "bootstrap_servers": bootstrap_servers, "request_timeout_ms": int(request_timeout_seconds * 1000)}
        self._connection = connection or ProducerConnection(
            arguments, topic, partitions, idempotent=idempotent, request_timeout_seconds=request_timeout_seconds
        )
        self._timeout = request_timeout_seconds
        self._max_buffered_bytes = max_buffered_bytes
        self._clock = clock
        self._queues: dict[int, deque[_Entry]] = {}
        self._pumps: dict[int, asyncio.Task[None]] = {}
        self._buffered_bytes = 0
        self._room = asyncio.Event()
        self._stopped = False

    @classmethod
    def of_events(cls, settings: Settings) -> Publisher:
        """The publisher of the events topic."""
        return cls._of(settings, TopicNames.of(settings.kafka).events)

    @classmethod
    def of_products(cls, settings: Settings) -> Publisher:
        """The publisher of the products topic."""
        return cls._of(settings, TopicNames.of(settings.kafka).products)

    @classmethod
    def of_delivery_commands(cls, settings: Settings) -> Publisher:
        """The publisher of the delivery-commands topic."""
        return cls._of(settings, TopicNames.of(settings.kafka).delivery_commands)

    @classmethod
    def of_destinations(cls, settings: Settings) -> Publisher:
        """The publisher of the destinations topic."""
        return cls._of(settings, TopicNames.of(settings.kafka).destinations)

    @classmethod
    def _of(cls, settings: Settings, topic: str) -> Publisher:
        kafka = settings.kafka
        return cls(
            kafka.bootstrap_servers, topic, kafka.partitions,
            idempotent=not kafka.allow_unfenced, request_timeout_seconds=kafka.request_timeout_seconds, client=kafka_client(kafka),
        )

    async def __aenter__(self) -> Publisher:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Connects and checks the topic. Raises BrokerError, which names the address or the topic."""
        await self._connection.producer()

    async def publish(self, events: Sequence[Event]) -> list[Position]:
        """Writes the events, keyed by user id, and returns their positions in the same order once all are acknowledged.

        Raises BrokerError when that did not happen within the request time-out: some may be written then, or still be written.
        """
        return await self.publish_records([_record(event) for event in events])

    async def publish_records(self, records: Sequence[Record]) -> list[Position]:
        """The same for records as they are: what was read from a dead letter, or made by a test."""
        request, queued, size = _Request(len(records)), 0, _size_of(records)
        try:
            async with asyncio.timeout(self._timeout):
                await self._reserve(size)
                try:
                    while queued < len(records):
                        step = records[queued : queued + _STEP_RECORDS]
                        self._enqueue(request, step, queued)
                        queued += len(step)
                        await asyncio.sleep(0)  # the event loop has other users too
                except BaseException:
                    self._leave(request, records, queued)
                    raise
                return await request.settled
        except TimeoutError:
            raise BrokerError(
                f"Kafka at {self._bootstrap_servers} acknowledged nothing on {self.topic} within {self._timeout:g} s; "
                "the records may still be written: send them again as they are, an event with the same event id"
            ) from None

    async def publish_many(
        self, events: Iterable[Event], *, acknowledged: Callable[[int], None] | None = None, give_up_after_seconds: float = 60
    ) -> int:
        """Writes any number of events at full speed and returns their count; order per user is kept."""
        return await self.publish_all(map(_record, events), acknowledged=acknowledged, give_up_after_seconds=give_up_after_seconds)

    async def publish_all(
        self, records: Iterable[Record], *, acknowledged: Callable[[int], None] | None = None, give_up_after_seconds: float = 60
    ) -> int:
        """The same for records as they are; they are asked for as they can be sent, so that a file need not be in memory.

        ``acknowledged`` is called with the number of records that each step added. Raises BrokerError when nothing moves for
        ``give_up_after_seconds``: longer than the request time-out, for a broker that restarts should not end a replay.
        """
        iterator, steps, count = iter(records), deque[_Request](), 0
        try:
            while True:
                step = list(islice(iterator, _STEP_RECORDS))
                while steps and (not step or len(steps) >= _MAX_STEPS_IN_FLIGHT):
                    async with asyncio.timeout(give_up_after_seconds):
                        done = len(await steps[0].settled)
                    steps.popleft()
                    count += done
                    if acknowledged is not None:
                        acknowledged(done)
                if not step:
                    return count
                steps.append(_Request(len(step)))
                async with asyncio.timeout(give_up_after_seconds):
                    await self._reserve(_size_of(step))
                self._enqueue(steps[-1], step)
        except TimeoutError:
            raise BrokerError(
                f"Kafka at {self._bootstrap_servers} acknowledged nothing on {self.topic} for {give_up_after_seconds:g} s, "
                f"after {count} records"
            ) from None
        finally:
            for request in steps:
                request.give_up()

    async def stop(self) -> None:
        """Waits for what is on the wire, at most the request time-out, and closes. What was not acknowledged is reported to its caller."""
        self._stopped = True
        pumps = list(self._pumps.values())
        if pumps:
            await asyncio.wait(pumps, timeout=self._timeout)
        for pump in self._pumps.values():
            pump.cancel()
        await self._connection.close()
        for partition in list(self._queues):
            self._fail_queue(partition, BrokerError("the publisher was stopped"))

    # ------------------------------------------------------------------ queues

    async def _reserve(self, size: int) -> None:
        """Wait for room for so many bytes, and take it: a request goes in as a whole or not at all."""
        while self._buffered_bytes and self._buffered_bytes + size > self._max_buffered_bytes:
            self._room.clear()
            await self._room.wait()
        if self._stopped:
            raise BrokerError("the publisher was stopped")
        self._buffered_bytes += size

    def _leave(self, request: _Request, records: Sequence[Record], queued: int) -> None:
        """The caller goes before all of its records are queued."""
        request.give_up()
        if request.begun:
            self._enqueue(request, records[queued:], queued)
        else:
            self._free(_size_of(records[queued:]))

    def _enqueue(self, request: _Request, records: Sequence[Record], first_place: int = 0) -> None:
        """There is room for them."""
        now_ms = self._clock()
        for place, record in enumerate(records, first_place):
            partition = partition_of(record.key, self.partitions) if record.partition is None else record.partition
            queue = self._queues.get(partition)
            if queue is None:
                queue = self._queues[partition] = deque()
            queue.append(_Entry(request, place, record.key, record.value, now_ms))
            if partition not in self._pumps:
                self._pumps[partition] = asyncio.create_task(self._pump(partition), name=f"publish {self.topic}/{partition}")

    async def _pump(self, partition: int) -> None:
        """Sends one partition's queue, batch after batch, until it is empty."""
        queue = self._queues[partition]
        producer = None
        try:
            while queue:
                producer = await self._connection.producer()
                builder = producer.create_batch()
                taken: list[_Entry] = []
                while queue:
                    entry = queue[0]
                    if entry.request.is_dropped:
                        self._release([queue.popleft()])
                    elif builder.append(timestamp=entry.timestamp_ms, key=entry.key, value=entry.value) is None:
                        break
                    else:
                        entry.request.begun = True
                        taken.append(queue.popleft())
                if taken:
                    builder.close()
                    await self._submit(producer, builder, taken, partition)
        except asyncio.CancelledError:
            raise
        except BrokerError as exc:
            self._fail_queue(partition, exc)
        except Exception as exc:
            self._connection.abandon(producer, exc)
            self._fail_queue(partition, self._connection.described(exc, partition))
        finally:
            del self._pumps[partition]

    async def _submit(self, producer: AIOKafkaProducer, builder: BatchBuilder, entries: list[_Entry], partition: int) -> None:
        """Hands a batch over as soon as there is a place behind the one on the wire."""
        try:
            while True:
                try:
                    acknowledged = await producer.send_batch(builder, self.topic, partition=partition)
                    break
                except KafkaTimeoutError:  # no place yet: the broker is away, and the one on the wire is being retried
                    if self._stopped and all(entry.request.settled.done() for entry in entries):
                        self._release(entries)
                        return
        except BaseException:
            self._queues[partition].extendleft(reversed(entries))  # to be failed with the rest of the queue
            raise
        acknowledged.add_done_callback(lambda done: self._settle(done, entries, producer, partition))

    def _settle(self, done: asyncio.Future[Any], entries: list[_Entry], producer: AIOKafkaProducer, partition: int) -> None:
        self._release(entries)
        exc = asyncio.CancelledError() if done.cancelled() else done.exception()
        if exc is None:
            base = done.result().offset
            for index, entry in enumerate(entries):
                entry.request.acknowledge(entry.place, Position(partition, base + index if base >= 0 else -1))
            return
        # After a failed batch the broker expects its sequence numbers for ever: only a new producer can go on.
        self._connection.abandon(producer, exc)
        for entry in entries:
            entry.request.fail(self._connection.described(exc, partition))

    def _fail_queue(self, partition: int, exc: BrokerError) -> None:
        queue = self._queues[partition]
        entries = list(queue)
        queue.clear()
        self._release(entries)
        for entry in entries:
            entry.request.fail(exc)

    def _release(self, entries: Sequence[_Entry]) -> None:
        self._free(sum(_size(entry.key, entry.value) for entry in entries))

    def _free(self, size: int) -> None:
        self._buffered_bytes -= size
        self._room.set()


class _Request:
    """One call of publish: settled with all positions, or with the first error."""

    __slots__ = ("_missing", "_positions", "begun", "settled")

    def __init__(self, size: int) -> None:
        #: Some of it is on its way to the broker, and may be written.
        self.begun = False
        self.settled: asyncio.Future[list[Position]] = asyncio.get_running_loop().create_future()
        self._positions: list[Position] = [Position(-1, -1)] * size
        self._missing = size
        if not size:
            self.settled.set_result([])

    def acknowledge(self, place: int, position: Position) -> None:
        self._positions[place] = position
        self._missing -= 1
        if not self._missing and not self.settled.done():
            self.settled.set_result(self._positions)

    def fail(self, exc: BrokerError) -> None:
        if not self.settled.done():
            self.settled.set_exception(exc)

    @property
    def is_dropped(self) -> bool:
        """Its caller has gone, and none of it was on its way."""
        return not self.begun and self.settled.done()

    def give_up(self) -> None:
        """Nobody waits any more; and a failure is not reported as unseen."""
        if not self.settled.cancel() and not self.settled.cancelled():
            self.settled.exception()


class _Entry(NamedTuple):
    request: _Request
    place: int
    key: bytes
    value: bytes | None
    timestamp_ms: int


def _size(key: bytes, value: bytes | None) -> int:
    return len(key) + len(value or b"") + _RECORD_OVERHEAD_BYTES


def _size_of(records: Sequence[Record]) -> int:
    return sum(_size(record.key, record.value) for record in records)


def _record(event: Event) -> Record:
    return Record(event.user_id.encode(), event.SerializeToString())

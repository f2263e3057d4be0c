"""The writer: one Kafka producer in which every table partition writes under a producer id and epoch of its own.

A partition's producer id belongs to the partition (InitProducerId with the transactional id ``<application>-<partition>``), its epoch
grows with each owner. The broker refuses a batch of an older epoch as soon as the log has seen a newer one, transactional or not. So the
first thing a new owner writes to each changelog is a marker; once it is acknowledged, nothing of the previous owner can be appended,
however late it wakes up, and the marker's offset is the end up to which to recover. No transaction is ever opened. Outputs travel under
the producer's own id.

What it does not fence, see recovery.py and the streams: records sent to other topics (they must be harmless when repeated) and HTTP.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from time import monotonic, time_ns
from typing import Any, NamedTuple

import aiokafka
from aiokafka import errors as kafka_errors
from aiokafka.client import ConnectionGroup, CoordinationType
from aiokafka.producer.transaction_manager import TransactionManager
from aiokafka.protocol.transaction import InitProducerIdRequest

from app.errors import BrokerError, FencedError, ProduceError

#: A log forgets a producer that was silent for a day (producer.id.expiration.ms), and the coordinator a transactional id that was not
#: initialised for seven (transactional.id.expiration.ms): a new producer id would then fence nobody.
RENEW_AFTER_SECONDS = 12 * 3600.0
#: One changelog batch must fit: the units are cut at a quarter of it (EngineOptions.batch_max_bytes).
MAX_BATCH_BYTES = 8 * 1024**2
#: One output batch: brokers accept 1 MiB by default.
OUTPUT_BATCH_BYTES = 900_000

_RETRIED = (
    kafka_errors.CoordinatorNotAvailableError,
    kafka_errors.CoordinatorLoadInProgressError,
    kafka_errors.NotCoordinatorError,
    kafka_errors.ConcurrentTransactions,
    kafka_errors.NodeNotReadyError,
    kafka_errors.RequestTimedOutError,
    kafka_errors.KafkaConnectionError,
)
#: How a broker says that it gives no producer ids at all; the embedded one does so with the first.
_NO_SUCH_THING = (kafka_errors.UnknownError, kafka_errors.UnsupportedVersionError, kafka_errors.IncompatibleBrokerVersion)


@dataclass(frozen=True)
class Epoch:
    producer_id: int
    epoch: int


class Appended(NamedTuple):
    """A batch that all replicas have: the offset of its first record, how many they are, and when they were made, in ms since 1970, as
    whoever reads them is told.
    """

    first: int
    records: int
    made_at_ms: int


class PartitionEpochs(TransactionManager):
    """aiokafka asks for the sequence number of a batch's partition and then for the producer id: answer with that partition's own."""

    def __init__(self) -> None:
        super().__init__(None, 60_000)
        self._owned: dict[aiokafka.TopicPartition, Epoch] = {}
        self._asked: aiokafka.TopicPartition | None = None

    def own(self, partitions: Iterable[aiokafka.TopicPartition], epoch: Epoch) -> None:
        """Batches of these partitions carry this epoch from now on, counted from zero."""
        for tp in partitions:
            self._owned[tp] = epoch
            self._sequence_numbers[tp] = 0

    def sequence_number(self, tp: aiokafka.TopicPartition) -> int:
        self._asked = tp
        return super().sequence_number(tp)

    def _current(self) -> Epoch:
        return self._owned.get(self._asked) or Epoch(self._pid_and_epoch.pid, self._pid_and_epoch.epoch)

    @property
    def producer_id(self) -> int:
        return self._current().producer_id

    @property
    def producer_epoch(self) -> int:
        return self._current().epoch


class Writer:
    """Writes record batches; ``fenced`` says whether the broker keeps one writer per partition."""

    def __init__(self, client: Mapping[str, Any], application_id: str, *, request_timeout_seconds: float, allow_unfenced: bool) -> None:
        self._client_settings = dict(client)
        self._application_id = application_id
        self._timeout = request_timeout_seconds
        self._allow_unfenced = allow_unfenced
        self._held: dict[int, Epoch] = {}
        self._renewed: dict[int, float] = {}
        self._places: dict[aiokafka.TopicPartition, asyncio.Lock] = {}
        self._changelogs: list[str] = []
        self.fenced = False
        self._epochs: PartitionEpochs
        self._producer: aiokafka.AIOKafkaProducer | None = None

    async def start(self, changelogs: Iterable[str]) -> None:
        """Connect and find out what the broker can do. Raises BrokerError when it can do too little."""
        self._changelogs = list(changelogs)
        self.fenced = await self._broker_gives_producer_ids()
        if not self.fenced and not self._allow_unfenced:
            raise BrokerError(
                "this broker gives no producer ids, so a paused worker could overwrite the state of its successor and a retried write "
                "could be appended twice. Use Apache Kafka, or set kafka.allow_unfenced = true for a trial on the embedded broker."
            )
        producer = self._new_producer(enable_idempotence=self.fenced)
        if self.fenced:
            # aiokafka never gives up a batch that it retries, but does so with one that finds no leader for the request time-out, which is
            # what a restarting broker looks like. Waiting is right here: nothing is acknowledged meanwhile.
            producer._message_accumulator._batch_ttl = math.inf
            self._epochs = PartitionEpochs()
            producer._txn_manager = producer._sender._txn_manager = producer._message_accumulator._txn_manager = self._epochs
        pause_between_questions(producer)
        await producer.start()
        self._producer = producer

    def _new_producer(self, **settings: Any) -> aiokafka.AIOKafkaProducer:
        return aiokafka.AIOKafkaProducer(
            **self._client_settings, acks="all", max_batch_size=MAX_BATCH_BYTES, max_request_size=2 * MAX_BATCH_BYTES, **settings
        )

    async def _broker_gives_producer_ids(self) -> bool:
        """Raises BrokerError when there is no telling: one that gives none now may do so when its coordinator is back."""
        probe = self._new_producer(enable_idempotence=False)
        await probe.start()
        try:
            await self._init_producer_id(probe, f"{self._application_id}-probe")
        except _NO_SUCH_THING:
            return False
        except kafka_errors.KafkaError as exc:
            raise BrokerError(f"the broker was asked for a producer id and refused: {exc!r}") from exc
        finally:
            await probe.stop()
        return True

    async def stop(self) -> None:
        """Close the connections. A batch that the broker has not taken within the request time-out was for nobody: nothing waits for it."""
        if self._producer is not None:
            with suppress(TimeoutError):  # aiokafka by itself would wait for the broker without end
                await asyncio.wait_for(self._producer.stop(), self._timeout)

    def oldest_wait_seconds(self) -> float:
        """For how long the oldest batch waits that the broker has not acknowledged; 0 when none does."""
        if self._producer is None:
            return 0.0
        accumulator = self._producer._message_accumulator
        waiting = [batch._ctime for batch in accumulator._pending_batches]
        waiting += [queue[0]._ctime for queue in accumulator._batches.values() if queue]
        return monotonic() - min(waiting) if waiting else 0.0

    async def own(self, partitions: Iterable[int]) -> None:
        """Take the next epoch of each partition number. The previous owner is fenced from a changelog by the first batch written to it.

        A batch of a former ownership that still waits here goes first, under its old epoch: ProduceError when it is not gone in time.
        """
        partitions = list(partitions)
        await self._wait_until_sent([aiokafka.TopicPartition(topic, p) for topic in self._changelogs for p in partitions])
        if self.fenced:
            await asyncio.gather(*(self._take_epoch(p) for p in partitions))

    async def _wait_until_sent(self, places: Iterable[aiokafka.TopicPartition]) -> None:
        assert self._producer is not None
        queued, deadline = self._producer._message_accumulator._batches, monotonic() + self._timeout
        for place in places:
            while queued.get(place):  # numbered and stamped with an epoch only when it leaves this queue
                if monotonic() > deadline:
                    raise ProduceError(f"{place.topic}/{place.partition} takes no batch from before the rebalance; this worker stops")
                await asyncio.sleep(0.05)

    async def _take_epoch(self, partition: int, *, after: Epoch | None = None) -> None:
        """The partition's next epoch; with ``after``, only if nobody took one in between, since what they wrote is not known here."""
        assert self._producer is not None
        epoch = await self._init_producer_id(self._producer, f"{self._application_id}-{partition}")
        if after is not None and epoch != Epoch(after.producer_id, after.epoch + 1):
            raise FencedError(f"partition {partition} had another owner since epoch {after.epoch}; this worker was paused, and stops")
        self._epochs.own((aiokafka.TopicPartition(topic, partition) for topic in self._changelogs), epoch)
        self._held[partition] = epoch
        self._renewed[partition] = monotonic()

    async def _init_producer_id(self, producer: aiokafka.AIOKafkaProducer, transactional_id: str) -> Epoch:
        """The partition's producer id with its next epoch. Waits for the coordinator within the request time-out."""
        client, deadline = producer.client, monotonic() + self._timeout
        while True:
            try:
                node = await client.coordinator_lookup(CoordinationType.TRANSACTION, transactional_id)
                if not await client.ready(node, group=ConnectionGroup.COORDINATION):
                    raise kafka_errors.NodeNotReadyError(node)
                answer = await client.send(
                    node,
                    InitProducerIdRequest(transactional_id=transactional_id, transaction_timeout_ms=60_000),
                    group=ConnectionGroup.COORDINATION,
                )
                if (error := kafka_errors.for_code(answer.error_code)) is not kafka_errors.NoError:
                    raise error(transactional_id)
                return Epoch(answer.producer_id, answer.producer_epoch)
            except _RETRIED as exc:
                if monotonic() > deadline:
                    raise BrokerError(f"no producer id for {transactional_id} within {self._timeout:g} s: {exc!r}") from exc
                await asyncio.sleep(0.1)
                await client.force_metadata_update()

    async def renew_if_old(self, partition: int) -> bool:
        """Take the next epoch twice a day; True if it was time. The caller then writes a marker, so that the logs know it.

        Raises FencedError when the partition had another owner meanwhile.
        """
        if not self.fenced or monotonic() - self._renewed[partition] <= RENEW_AFTER_SECONDS:
            return False
        await self._take_epoch(partition, after=self._held[partition])
        return True

    async def write_batch(self, topic: str, partition: int, records: Iterable[tuple[bytes, bytes | None]]) -> Appended:
        """Append all records as one batch, atomically; returns once all replicas have them.

        Raises FencedError when a newer owner exists, ProduceError for anything else that kept them from being acknowledged.
        """
        assert self._producer is not None
        batch, place, now_ms = self._producer.create_batch(), aiokafka.TopicPartition(topic, partition), _now_ms()
        if not _append(batch, records, now_ms):
            raise ProduceError(f"a batch for {topic}/{partition} is above {MAX_BATCH_BYTES} bytes: lower worker.batch_max_bytes")
        batch.close()
        acknowledged = await self._written(batch, place)
        appended_at_ms = acknowledged.timestamp or -1  # the broker's own time, where the topic is set so
        return Appended(int(acknowledged.offset), batch.record_count(), appended_at_ms if appended_at_ms > 0 else now_ms)

    async def write_all(self, outputs: Mapping[tuple[str, int], list[tuple[bytes | None, bytes | None]]]) -> None:
        """Append records to any topics, in order within each partition; returns when all are acknowledged."""
        if not outputs:
            return
        sent = {place: self._send_run(place, records) for (t, p), records in outputs.items() for place in (aiokafka.TopicPartition(t, p),)}
        try:
            await _decided(sent.values())
        finally:
            for future in sent.values():
                if isinstance(future, asyncio.Task):
                    future.cancel()  # does nothing to one that is done; a batch that was placed goes its way
        for place, future in sent.items():
            if future.done():  # all, or one failed
                _acknowledged(future, place)

    def _send_run(self, place: aiokafka.TopicPartition, records: list[tuple[bytes | None, bytes | None]]) -> asyncio.Future[Any]:
        """The future of the last of the batches that the records make: without a task where one batch takes all and has a place."""
        if (acknowledgement := self._joined(place, records)) is not None:
            return acknowledgement
        batch, rest = self._filled(place, records, 0)
        if rest == len(records) and (acknowledgement := self._placed(batch, place)) is not None:
            return acknowledgement
        return asyncio.ensure_future(self._write_run(place, records, batch, rest))

    def _joined(self, place: aiokafka.TopicPartition, records: list[tuple[bytes | None, bytes | None]]) -> asyncio.Future[Any] | None:
        """Put records into the batch that another unit left here and the producer has not taken yet; None where there is none."""
        assert self._producer is not None
        waiting = self._producer._message_accumulator._batches.get(place)
        if not waiting or (last := waiting[-1]).retry_count:
            return None  # one that was sent before has its number, and must be sent again as it was
        builder = last._builder
        if builder.closed() or builder.size() + sum(_weight(key, value) for key, value in records) > OUTPUT_BATCH_BYTES:
            return None
        if not _append(builder, records, _now_ms()):
            raise ProduceError(f"a record for {place.topic}/{place.partition} is above {MAX_BATCH_BYTES} bytes")
        return last.future

    async def _write_run(
        self, place: aiokafka.TopicPartition, records: list[tuple[bytes | None, bytes | None]], batch: Any, rest: int
    ) -> Any:
        while rest < len(records):
            await self._written(batch, place)
            batch, rest = self._filled(place, records, rest)
        return await asyncio.shield(await self._queued(batch, place))

    def _filled(self, place: aiokafka.TopicPartition, records: list[tuple[bytes | None, bytes | None]], start: int) -> tuple[Any, int]:
        """A batch of the records from ``start`` on, as many as one takes, and the index after the last of them."""
        assert self._producer is not None
        batch, size, end = self._producer.create_batch(), 0, start
        for key, value in islice(records, start, None):
            size += _weight(key, value)
            if size > OUTPUT_BATCH_BYTES and end > start:
                break
            end += 1
        if not _append(batch, islice(records, start, end), _now_ms()):
            raise ProduceError(f"a record for {place.topic}/{place.partition} is above {MAX_BATCH_BYTES} bytes")
        if end < len(records):
            batch.close()
        return batch, end  # the last is left open: see _joined

    async def _written(self, batch: Any, place: aiokafka.TopicPartition) -> Any:
        """The batch's acknowledgement, with the offset of its first record, once it is there."""
        acknowledgement = self._placed(batch, place)
        if acknowledgement is None:
            acknowledgement = await self._queued(batch, place)
        await _decided((acknowledgement,))
        return _acknowledged(acknowledgement, place)

    def _placed(self, batch: Any, place: aiokafka.TopicPartition) -> asyncio.Future[Any] | None:
        """What aiokafka's send_batch does where it has nothing to wait for, without its coroutines; None where it has."""
        assert self._producer is not None
        lock = self._places.get(place)  # there is one once a batch went to this place the long way, which finds its topic
        accumulator = self._producer._message_accumulator
        if lock is None or lock.locked() or accumulator._batches.get(place) or accumulator._closed or accumulator._exception is not None:
            return None
        return accumulator._append_batch(batch, place).future

    async def _queued(self, batch: Any, place: aiokafka.TopicPartition) -> asyncio.Future[Any]:
        """Place a batch in the producer's queue, which holds one waiting batch per partition, in the order of asking."""
        assert self._producer is not None
        was_answered = False
        async with self._places.setdefault(place, asyncio.Lock()):
            while True:
                try:
                    return await self._producer.send_batch(batch, place.topic, partition=place.partition)
                except kafka_errors.KafkaTimeoutError:
                    continue  # not queued: the batch before it has not left yet, as while the broker is away
                except kafka_errors.UnknownTopicOrPartitionError as exc:
                    # aiokafka says so as well where nobody answered its question. Only who answers for a whole time-out is believed: a
                    # broker that has just come back may not know all topics yet.
                    is_answered = await self._producer.client.force_metadata_update()
                    if was_answered and is_answered:
                        raise ProduceError(f"Kafka has no {place.topic}/{place.partition}: create it with `tidings topics`") from exc
                    was_answered = is_answered
                except kafka_errors.KafkaError as exc:
                    raise _refused(exc, place) from exc


def pause_between_questions(producer: aiokafka.AIOKafkaProducer) -> None:
    """Let a producer whose brokers are all away ask them ten times a second: aiokafka asks again at once, thousands of times, and takes a
    core from a broker that starts on the same machine.
    """
    client = producer.client
    ask = client._metadata_update

    async def ask_and_pause(*args: Any) -> bool:
        if await ask(*args):
            return True
        await asyncio.sleep(0.1)
        return False

    client._metadata_update = ask_and_pause


def _append(batch: Any, records: Iterable[tuple[bytes | None, bytes | None]], now_ms: int) -> bool:
    """Put records into an aiokafka BatchBuilder without its own steps for each, which serialise what is bytes here. False if one has no
    room; then the batch is not to be used.
    """
    append, number = batch._builder.append, batch._relative_offset
    for key, value in records:
        if append(number, now_ms, key, value, []) is None:
            return False
        number += 1
    batch._relative_offset = number
    return True


def _now_ms() -> int:
    return time_ns() // 1_000_000


def _weight(key: bytes | None, value: bytes | None) -> int:
    """What a record takes in a batch, at most."""
    return len(key or b"") + len(value or b"") + 64


def _decided(futures: Collection[asyncio.Future[Any]]) -> asyncio.Future[None]:
    """Done when all are, or one failed. Cancelling it cancels none of them: the producer does not expect that."""
    decided, left = asyncio.get_running_loop().create_future(), len(futures)

    def count(future: asyncio.Future[Any]) -> None:
        nonlocal left
        left -= 1
        if not decided.done() and (left == 0 or future.cancelled() or future.exception() is not None):
            decided.set_result(None)

    for future in futures:
        future.add_done_callback(count)
    return decided


def _acknowledged(acknowledgement: asyncio.Future[Any], place: aiokafka.TopicPartition) -> Any:
    try:
        acknowledged = acknowledgement.result()
    except kafka_errors.KafkaError as exc:
        raise _refused(exc, place) from exc
    if acknowledged.offset < 0:
        raise ProduceError(f"{place.topic}/{place.partition} acknowledged a batch without its offset; the log's end is unknown")
    return acknowledged


def _refused(exc: kafka_errors.KafkaError, place: aiokafka.TopicPartition) -> FencedError | ProduceError:
    if isinstance(exc, kafka_errors.ProducerFenced | kafka_errors.InvalidProducerEpoch):
        return FencedError(f"{place.topic}/{place.partition} has a newer owner; this worker was paused or cut off, and stops")
    return ProduceError(f"{place.topic}/{place.partition} did not acknowledge a batch: {exc!r}")

"""A producer's connection: made at the first use, replaced when it fails, and closed whatever state it is in."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, KafkaError, UnknownTopicOrPartitionError

from app.engine.fence import pause_between_questions
from app.errors import BrokerError
from app.streams.broker_refusal import why_refused

#: Bytes of a RecordBatch: a quarter of what a broker takes by default (message.max.bytes), so a batch is never refused for its size.
MAX_BATCH_BYTES = 256 * 1024
#: How long a topic that is being created may take to appear.
_TOPIC_APPEARS_SECONDS = 5


class ProducerConnection:
    """One producer for one topic at a time."""

    def __init__(
        self, client: Mapping[str, Any], topic: str, partitions: int, *, idempotent: bool, request_timeout_seconds: float
    ) -> None:
        self._client = dict(client)
        self._bootstrap_servers = client["bootstrap_servers"]
        self._topic = topic
        self._partitions = partitions
        self._idempotent = idempotent
        self._timeout = request_timeout_seconds
        self._producer: AIOKafkaProducer | None = None
        self._connecting = asyncio.Lock()
        self._abandoned: set[asyncio.Task[None]] = set()

    async def producer(self) -> AIOKafkaProducer:
        """Raises BrokerError, which names the address or the topic."""
        if self._producer is not None:
            return self._producer
        async with self._connecting:
            if self._producer is None:
                self._producer = await self._connect()
            return self._producer

    def abandon(self, producer: AIOKafkaProducer | None, reason: BaseException) -> None:
        """Lets go of a producer that failed, with all that it still holds; the next batch connects anew."""
        if producer is None or producer is not self._producer:
            return
        self._producer = None
        task = asyncio.create_task(_close(producer, 0, reason))
        self._abandoned.add(task)
        task.add_done_callback(self._abandoned.discard)

    async def close(self) -> None:
        """Waits for what is on the wire, at most the request time-out."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await _close(producer, self._timeout)
        if self._abandoned:
            await asyncio.wait(list(self._abandoned))

    def described(self, exc: BaseException, partition: int | None = None) -> BrokerError:
        """What a failure means, in words for the person who runs Tidings."""
        place = self._topic if partition is None else f"{self._topic}/{partition}"
        match exc:
            case UnknownTopicOrPartitionError():
                return BrokerError(f"Kafka at {self._bootstrap_servers} has no topic {self._topic}: create it with `tidings topics`")
            case TimeoutError():
                return BrokerError(f"Kafka at {self._bootstrap_servers} did not answer within {self._timeout:g} s")
            case _ if partition is None:
                return BrokerError(f"cannot write to Kafka at {self._bootstrap_servers}: {_words(exc)}")
            case _:
                return BrokerError(f"Kafka at {self._bootstrap_servers} did not take a batch for {place}: {_words(exc)}")

    async def _connect(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            **self._client, acks="all", enable_idempotence=self._idempotent, max_batch_size=MAX_BATCH_BYTES, linger_ms=0,
        )
        if self._idempotent:
            # aiokafka never gives up a batch that it retries, but does so with one that finds no leader for the request time-out: that is
            # what a restarting broker looks like, and the batches after it would all be out of sequence.
            producer._message_accumulator._batch_ttl = math.inf
        try:
            async with asyncio.timeout(self._timeout):
                pause_between_questions(producer)
                await producer.start()
            found = await self._partitions_found(producer)
            if len(found) != self._partitions:
                raise BrokerError(
                    f"{self._topic} has {len(found)} partitions, but the settings say {self._partitions}: "
                    "correct kafka.partitions, or create the topic anew with `tidings topics`"
                )
        except KafkaConnectionError as exc:
            await _close(producer, 1)
            raise BrokerError(f"cannot write to {self._topic}: {await why_refused(self._client) or _words(exc)}") from exc
        except (TimeoutError, KafkaError, OSError) as exc:
            await _close(producer, 1)
            raise self.described(exc) from exc
        except BaseException:
            await _close(producer, 1)
            raise
        return producer

    async def _partitions_found(self, producer: AIOKafkaProducer) -> set[int]:
        """aiokafka asks again and again for a topic that is not there: a few seconds are enough even if it was made just now."""
        try:
            async with asyncio.timeout(min(self._timeout, _TOPIC_APPEARS_SECONDS)):
                return await producer.partitions_for(self._topic)
        except TimeoutError:
            raise UnknownTopicOrPartitionError from None


def _words(exc: BaseException) -> str:
    return str(exc) or type(exc).__name__


async def _close(producer: AIOKafkaProducer, grace_seconds: float, reason: BaseException | None = None, cancel_seconds: float = 5) -> None:
    """Closes a producer even when its batches can no longer be delivered.

    ``stop`` alone would wait for them for ever, as an idempotent producer never gives a batch up; so its sender is ended first
    (private in aiokafka, hence the bound on its version) and then what is left is failed.
    """
    with suppress(TimeoutError, KafkaError):
        async with asyncio.timeout(grace_seconds):
            await producer.flush()
    sender = producer._sender.sender_task
    if sender is not None:
        sender.cancel()
        await asyncio.wait([sender], timeout=cancel_seconds)
    words = f"given up after another batch failed: {_words(reason)}" if reason is not None else "the publisher stopped"
    producer._message_accumulator.fail_all(KafkaError(words))
    with suppress(TimeoutError, KafkaError, OSError):
        async with asyncio.timeout(cancel_seconds):
            await producer.stop()

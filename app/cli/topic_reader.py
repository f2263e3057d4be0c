"""Reads a topic from its beginning to its end as it was when the reading began, without joining a group."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaConnectionError, KafkaError

from app.errors import BrokerError, CommandError
from app.settings import KafkaSettings
from app.streams.broker_refusal import why_refused
from app.streams.kafka_client import kafka_client

_FETCH_BYTES = 8 * 1024 * 1024
#: Of one poll; on the embedded broker, silence for this long is the end. Such polls are bounded, for a topic that keeps growing.
_QUIET_MS = 500
_MAX_END_POLLS = 20


async def read_topic(kafka: KafkaSettings, topic: str, partition: int | None = None) -> AsyncGenerator[ConsumerRecord, None]:
    """Every record of the topic, or of one partition, oldest first within a partition.

    Raises CommandError without the topic, BrokerError when the broker does not answer.
    """
    consumer = AIOKafkaConsumer(
        **kafka_client(kafka),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=kafka.fetch_max_wait_ms,
        max_partition_fetch_bytes=_FETCH_BYTES,
    )
    try:
        async with asyncio.timeout(kafka.request_timeout_seconds + 2):
            await consumer.start()
            if topic not in await consumer.topics():
                raise CommandError(f"there is no topic {topic} on {kafka.bootstrap_servers}: run `tidings topics create`")
            # Asked for by number: a broker that creates what it is asked about has already been asked for the list.
            numbers = range(kafka.partitions) if partition is None else [partition]
            partitions = [TopicPartition(topic, number) for number in numbers]
            consumer.assign(partitions)
        ends = await _ends(consumer, partitions, kafka)
        await consumer.seek_to_beginning(*partitions)
        async for record in _records_before(consumer, ends, kafka.request_timeout_seconds):
            yield record
    except (KafkaError, TimeoutError, OSError) as exc:
        if isinstance(exc, KafkaConnectionError) and (refusal := await why_refused(kafka_client(kafka))):
            raise BrokerError(f"cannot read {topic}: {refusal}") from exc
        said = str(exc) or type(exc).__name__
        raise BrokerError(f"cannot read {topic} from Kafka at {kafka.bootstrap_servers} ({said}): is it running?") from exc
    finally:
        await consumer.stop()


async def _ends(consumer: AIOKafkaConsumer, partitions: list[TopicPartition], kafka: KafkaSettings) -> dict[TopicPartition, int]:
    async with asyncio.timeout(kafka.request_timeout_seconds):
        ends: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
    if kafka.allow_unfenced:
        # The embedded broker says an end that lies behind by up to a batch: what still comes after it tells the true one.
        for partition, end in ends.items():
            consumer.seek(partition, end)
        for _ in range(_MAX_END_POLLS):
            if not await consumer.getmany(timeout_ms=_QUIET_MS):
                break
        ends = {partition: await consumer.position(partition) for partition in partitions}
    return ends


async def _records_before(
    consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int], timeout_seconds: float
) -> AsyncGenerator[ConsumerRecord, None]:
    """Every record below its partition's end. Raises TimeoutError when nothing comes for that long."""
    waited_since = asyncio.get_running_loop().time()
    while True:
        async with asyncio.timeout(timeout_seconds):
            if all([await consumer.position(partition) >= end for partition, end in ends.items()]):
                return
        fetched = await consumer.getmany(timeout_ms=_QUIET_MS, max_records=1000)
        if fetched:
            waited_since = asyncio.get_running_loop().time()
        elif asyncio.get_running_loop().time() - waited_since > timeout_seconds:
            raise TimeoutError(f"nothing came for {timeout_seconds:g} s")
        for partition, records in fetched.items():
            for record in records:
                if record.offset < ends[partition]:
                    yield record

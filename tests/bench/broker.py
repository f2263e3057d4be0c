"""The one broker that all systems are measured on: topics made, filled, read back and removed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.bench.workload import Record

#: Records in one batch of a filled topic: what a busy producer with a few milliseconds of linger makes.
BATCH_RECORDS = 200


async def create_topic(bootstrap_servers: str, topic: str, partitions: int, configs: Mapping[str, str] | None = None) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=dict(configs or {}))])
        for _ in range(50):  # a created topic takes a moment to show in the metadata
            if topic in await admin.list_topics():
                return
            await asyncio.sleep(0.1)
        raise RuntimeError(f"{topic} was created but does not appear")
    finally:
        await admin.close()


async def delete_topics(bootstrap_servers: str, name: str) -> None:
    """Remove every topic that has ``name`` in its name, so that the broker does not compact what nobody reads."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        if topics := [topic for topic in await admin.list_topics() if name in topic]:
            await admin.delete_topics(topics)
    finally:
        await admin.close()


async def fill(bootstrap_servers: str, topic: str, records: Iterable[Record]) -> dict[int, int]:
    """Append the records in batches; returns where each partition ends, once all are acknowledged."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, acks="all", max_batch_size=1 << 20)
    await producer.start()
    try:
        ends: dict[int, int] = {}
        open_batches: dict[int, object] = {}
        for partition, key, value in records:
            batch = open_batches.get(partition)
            if batch is None:
                batch = open_batches[partition] = producer.create_batch()
            batch.append(key=key, value=value, timestamp=None)  # type: ignore[attr-defined]  # aiokafka names no type for it
            ends[partition] = ends.get(partition, 0) + 1
            if batch.record_count() == BATCH_RECORDS:  # type: ignore[attr-defined]
                await producer.send_batch(open_batches.pop(partition), topic, partition=partition)
        for partition, batch in open_batches.items():
            await producer.send_batch(batch, topic, partition=partition)
        await producer.flush()
        return ends
    finally:
        await producer.stop()


async def read_back(bootstrap_servers: str, topic: str) -> dict[bytes, bytes]:
    """The state that a changelog holds: the last value of each key, without deleted keys and without the engine's own (``__``)."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest", max_partition_fetch_bytes=8 << 20)
    await consumer.start()  # without a group every partition is assigned
    try:
        ends = await consumer.end_offsets(consumer.assignment())
        state: dict[bytes, bytes] = {}
        while waiting := [part for part in ends if await consumer.position(part) < ends[part]]:
            for records in (await consumer.getmany(*waiting, timeout_ms=1000)).values():
                for record in records:
                    if record.value is None:
                        state.pop(record.key, None)
                    elif not record.key.startswith(b"__"):
                        state[record.key] = record.value
        return state
    finally:
        await consumer.stop()

"""How far a group has come, for the peers that do not say where they are."""

from __future__ import annotations

from confluent_kafka import Consumer, TopicPartition

from tests.bench.protocol import Assignment

_SECONDS = 10.0


def committed_positions(run: Assignment) -> dict[int, int]:
    consumer = Consumer({"bootstrap.servers": run.bootstrap_servers, "group.id": run.name})
    try:
        partitions = [TopicPartition(run.topic, partition) for partition in range(run.partitions)]
        return {found.partition: found.offset for found in consumer.committed(partitions, _SECONDS)}
    finally:
        consumer.close()


def end_positions(run: Assignment) -> dict[int, int]:
    """Of the topic: where a system has come that ends when it has read everything."""
    consumer = Consumer({"bootstrap.servers": run.bootstrap_servers, "group.id": f"{run.name}-ends"})
    try:
        return {p: consumer.get_watermark_offsets(TopicPartition(run.topic, p), _SECONDS)[1] for p in range(run.partitions)}
    finally:
        consumer.close()

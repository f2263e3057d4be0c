"""Topics and writers of a test's own, on either broker."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiokafka
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from app.engine.fence import Writer


def own_name(what: str = "t") -> str:
    return f"{what}-{uuid.uuid4().hex[:8]}"


def client_of(broker: Any, **settings: Any) -> dict[str, Any]:
    return {"bootstrap_servers": broker.bootstrap_servers, "request_timeout_ms": 10_000, **settings}


@asynccontextmanager
async def admin_of(broker: Any) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def make_topics(broker: Any, *names: str, partitions: int = 2, **configs: str) -> None:
    async with admin_of(broker) as admin:
        answer = await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=configs) for name in names])
        assert all(code == 0 for _, code, *_ in answer.topic_errors), answer


@asynccontextmanager
async def writer_of(
    broker: Any, application: str, *changelogs: str, allow_unfenced: bool = False, request_timeout_seconds: float = 10
) -> AsyncIterator[Writer]:
    client = client_of(broker, request_timeout_ms=int(request_timeout_seconds * 1000))
    writer = Writer(client, application, request_timeout_seconds=request_timeout_seconds, allow_unfenced=allow_unfenced)
    await writer.start(changelogs)
    try:
        yield writer
    finally:
        await writer.stop()


async def contents(broker: Any, topic: str, partition: int, count: int) -> list[tuple[bytes | None, bytes | None]]:
    """The first ``count`` records of a partition."""
    place = aiokafka.TopicPartition(topic, partition)
    reader = aiokafka.AIOKafkaConsumer(**client_of(broker), group_id=None, auto_offset_reset="earliest")
    reader.assign([place])
    await reader.start()
    try:
        found: list[Any] = []
        while len(found) < count:
            for records in (await reader.getmany(place, timeout_ms=500)).values():
                found += records
        return [(record.key, record.value) for record in found]
    finally:
        await reader.stop()

"""What an outbox and profiles look like from the log: entries written to the changelogs as a worker writes them, and commands read back."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition

from app.settings import KafkaSettings
from app.streams.publisher import Publisher, Record
from app.streams.topics import TopicNames
from tidings.internal.v1.delivery_command_pb2 import DeliveryCommand
from tidings.state.v1.outbox_pb2 import DeadReason, Delivery, OutboxEntry
from tidings.state.v1.profile_pb2 import Profile

from .conftest import Installation

HOUR_MS = 3_600_000


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def dead(target: str, reason: str, age_ms: int = 0, **fields: object) -> Delivery:
    return Delivery(
        target=target, desired_version=4, confirmed_version=2, confirmed_at_ms=now_ms() - 10 * HOUR_MS, abandoned_version=4,
        abandoned_at_ms=now_ms() - age_ms, dead_reason=DeadReason.Value(f"DEAD_REASON_{reason.upper()}"), **fields,
    )  # fmt: skip


def fine(target: str) -> Delivery:
    return Delivery(target=target, desired_version=4, confirmed_version=4, confirmed_at_ms=now_ms() - HOUR_MS)


def entry(user_id: str, *deliveries: Delivery) -> OutboxEntry:
    made = OutboxEntry(user_id=user_id, deliveries=deliveries, list_digest=7)
    made.update.user_id, made.update.version, made.update.ranked_at_ms = user_id, 4, now_ms() - HOUR_MS
    made.update.recommendations.add(product_id="red-shoes", score=1.0)
    return made


def with_targets(installation: Installation, directory: Path, *names: str, url: str = "https://crm.example/hook") -> Installation:
    """The same installation, with these webhooks in its settings file."""
    (directory / "secret").write_text("whsec_" + "QUJD" * 10)
    lines = []
    for name in names:
        lines += ["[[targets]]", f'name = "{name}"', f'url = "{url}"', f'secret = "file:{directory / "secret"}"', "allow_http = true"]
    file = directory / "tidings.toml"
    file.write_text("[delivery]\nallow_networks = " + json.dumps(["127.0.0.0/8"]) + "\n" + "\n".join(lines) + "\n")
    return replace(installation, environment={**installation.environment, "TIDINGS_SETTINGS": str(file)})


def write_table(kafka: KafkaSettings, table: str, records: Sequence[tuple[str, bytes | None]], *, marks: bool = True) -> None:
    """Records as they come in a table's changelog, in this order; the last of a key counts. ``marks``: with the engine's among them."""

    async def publish() -> None:
        topic = TopicNames.of(kafka).changelogs[table]
        async with Publisher(kafka.bootstrap_servers, topic, kafka.partitions, idempotent=not kafka.allow_unfenced) as publisher:
            await publisher.publish_all(Record(key.encode(), value) for key, value in records)
            if marks:
                await publisher.publish_records([Record(b"__owner", b"\xff", number) for number in range(kafka.partitions)])

    asyncio.run(publish())


def write_outbox(installation: Installation, *entries: OutboxEntry) -> None:
    assert installation.tidings("topics", "create").exit_code == 0
    write_table(installation.settings.kafka, "outbox", [(one.user_id, one.SerializeToString()) for one in entries])


def write_profiles(installation: Installation, *profiles: Profile) -> None:
    assert installation.tidings("topics", "create").exit_code == 0
    write_table(installation.settings.kafka, "profiles", [(one.user_id, one.SerializeToString()) for one in profiles])


def records_of(kafka: KafkaSettings, topic: str) -> list[tuple[int, bytes, bytes]]:
    """What stands on a topic: (partition, key, value)."""

    async def read() -> list[tuple[int, bytes, bytes]]:
        consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap_servers, auto_offset_reset="earliest", fetch_max_wait_ms=100)
        await consumer.start()
        consumer.assign([TopicPartition(topic, number) for number in range(kafka.partitions)])
        found: list[tuple[int, bytes, bytes]] = []
        while batch := await consumer.getmany(timeout_ms=1000):
            found += [(record.partition, record.key or b"", record.value or b"") for records in batch.values() for record in records]
        await consumer.stop()
        return found

    return asyncio.run(read())


def commands_now(installation: Installation) -> list[tuple[str, str, str]]:
    """(action, user, target) of every command on the topic, sorted."""
    kafka = installation.settings.kafka
    found = [DeliveryCommand.FromString(value) for _, _, value in records_of(kafka, TopicNames.of(kafka).delivery_commands)]
    assert all(abs(command.issued_at_ms - time.time() * 1000) < 60_000 for command in found)
    return sorted((command.WhichOneof("action") or "", command.user_id, command.target) for command in found)

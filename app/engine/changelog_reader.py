"""Readers of changelogs: a consumer without a group, and what brings copies up to date from the records that it reads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import aiokafka

from app.engine.store import Database

#: Fetched at once for one changelog partition.
FETCH_BYTES = 4 << 20
#: The same of all changelog partitions that one reader reads, as far as LEAST_FETCH_BYTES for each allow.
READ_AHEAD_BYTES = 64 << 20
LEAST_FETCH_BYTES = 256 << 10
#: What a consumer may take to close its connections.
CLOSE_SECONDS = 5.0


class changelog_reader:
    """A consumer without a group, assigned to these partitions."""

    def __init__(
        self, client: Mapping[str, Any], partitions: list[aiokafka.TopicPartition], read_ahead_bytes: int = READ_AHEAD_BYTES
    ) -> None:
        """``read_ahead_bytes``: what may be fetched and not taken yet, as far as LEAST_FETCH_BYTES for each partition allow."""
        self._consumer = aiokafka.AIOKafkaConsumer(
            **client, group_id=None, enable_auto_commit=False, auto_offset_reset="earliest",
            max_partition_fetch_bytes=fetch_bytes(len(partitions), read_ahead_bytes),
        )
        self._partitions = partitions

    async def __aenter__(self) -> aiokafka.AIOKafkaConsumer:
        self._consumer.assign(self._partitions)
        try:
            await self._consumer.start()
        except BaseException:
            await close_consumer(self._consumer)
            raise
        return self._consumer

    async def __aexit__(self, *exc_info: object) -> None:
        await close_consumer(self._consumer)


class Changelogs:
    """Brings databases up to date from their changelogs. ``discard(database, why)`` empties one that contradicts its own."""

    def __init__(
        self,
        reader: aiokafka.AIOKafkaConsumer,
        databases: Mapping[aiokafka.TopicPartition, Database],
        discard: Callable[[Database, str], None],
    ) -> None:
        self._reader = reader
        self._databases = databases
        self._discard = discard
        self._beginnings: dict[aiokafka.TopicPartition, int] = {}

    async def seek(self) -> None:
        """To the last record that each database holds, so that it is read again and compared; to the beginning for an empty one."""
        self._beginnings = await self._reader.beginning_offsets(list(self._databases))
        for tp, database in self._databases.items():
            beginning = self._beginnings[tp]
            if database.offset is not None and database.offset + 1 < beginning:
                self._discard(database, contradiction(database, f"and {tp.topic}/{tp.partition} begins at {beginning}"))
            self._reader.seek(tp, beginning if database.offset is None else max(database.offset, beginning))

    def apply(self, tp: aiokafka.TopicPartition, records: Sequence[Any]) -> int:
        """Write what the database does not hold yet; returns how many records that were.

        A database is an exact prefix of its changelog, so its last record (compaction may have removed it) is what it holds of that key.
        Where it is not, the database is of another log, or this one was cut: it begins anew.
        """
        database = self._databases[tp]
        held = database.offset
        if held is not None and records[0].offset <= held:
            last = records[0]
            if last.offset == held and not _is_held_by(database, last):
                self._discard(database, contradiction(database, f"whose record at {held} in {tp.topic}/{tp.partition} is another one"))
                self._reader.seek(tp, self._beginnings[tp])
                return 0
            records = [record for record in records if record.offset > held]
        if records:
            database.write([(record.key, record.value) for record in records], records[-1].offset, records[-1].timestamp)
        return len(records)


def _is_held_by(database: Database, last: Any) -> bool:
    """Whether this is its last record. What it says is not enough: another log may have come to the same mark at the same offset."""
    return database.get(last.key) == last.value and database.made_at_ms in (None, last.timestamp)


def contradiction(database: Database, what: str) -> str:
    return f"it holds its changelog up to offset {database.offset}, {what}: the topic was made anew or cut, or is another cluster's"


def fetch_bytes(partitions: int, read_ahead_bytes: int = READ_AHEAD_BYTES) -> int:
    """What a fetch may bring of each of so many changelog partitions. A batch that is larger comes all the same, by itself."""
    return max(LEAST_FETCH_BYTES, min(FETCH_BYTES, read_ahead_bytes // max(1, partitions)))


async def close_consumer(consumer: Any) -> None:
    """Stop a consumer without a group, which has nothing to hand back.

    Raises nothing: while the broker is away aiokafka lets the cancellation of its own fetches out of ``stop``, and whoever took that for
    his own would end in silence instead of with the error that led here.
    """
    stopping = asyncio.ensure_future(consumer.stop())
    stopping.add_done_callback(lambda done: done.cancelled() or done.exception())
    await asyncio.wait({stopping}, timeout=CLOSE_SECONDS)

"""The last value of each key of a compacted topic, put together on disk: the memory is the same for a thousand keys and for a million."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

from rich.console import Console

from app.cli.topic_reader import read_topic
from app.engine.store import HIDDEN_PREFIX, Database
from app.errors import CommandError
from app.settings import KafkaSettings
from app.streams.publisher import partition_of

#: Records of the topic written to disk at once, and between two words on how far it is.
_STEP_RECORDS = 1_000
_CACHE_BYTES = 8 * 1024**2

#: What is worth keeping of a key's value; None: nothing.
Keep = Callable[[bytes, bytes], bytes | None]


class LatestValues:
    """What was kept, by key."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values in the order of the keys, as often as it is asked for."""
        return self._database.items()


@asynccontextmanager
async def latest_values(
    kafka: KafkaSettings, topic: str, keep: Keep, *, keys: Collection[bytes] | None = None
) -> AsyncIterator[LatestValues]:
    """Read the topic up to its end as it is now; ``keep`` sees every record that has a value and is not the engine's own, so also those
    that a later one replaces. With ``keys``, these alone, from their partitions alone. A table's changelog is such a topic.

    Raises CommandError without the topic or without room on disk, BrokerError when the broker does not answer.
    """
    console = Console(stderr=True)
    partitions = [None] if keys is None else sorted({partition_of(key, kafka.partitions) for key in keys})
    with tempfile.TemporaryDirectory(prefix="tidings-") as directory:
        database = Database(Path(directory) / "latest", _CACHE_BYTES)
        try:
            with console.status(f"reading {topic}") as status:
                count = 0
                for partition in partitions:
                    async with aclosing(_steps(kafka, topic, partition)) as steps:
                        async for step in steps:
                            _write(database, [(key, value and keep(key, value)) for key, value in step if keys is None or key in keys])
                            count += len(step)
                            status.update(f"reading {topic}: {count:,} records")
            yield LatestValues(database)
        finally:
            database.close()


def _write(database: Database, values: list[tuple[bytes, bytes | None]]) -> None:
    try:
        database.write(values, 0)
    except Exception as exc:  # rocksdict raises the bare class
        raise CommandError(f"cannot write to {database.path.parent}: {exc}. TMPDIR names another place with more room") from exc


async def _steps(kafka: KafkaSettings, topic: str, partition: int | None) -> AsyncGenerator[list[tuple[bytes, bytes | None]], None]:
    step: list[tuple[bytes, bytes | None]] = []
    async with aclosing(read_topic(kafka, topic, partition)) as records:
        async for record in records:
            if record.key is None or record.key.startswith(HIDDEN_PREFIX):
                continue
            step.append((record.key, record.value))
            if len(step) >= _STEP_RECORDS:
                yield step
                step = []
    yield step

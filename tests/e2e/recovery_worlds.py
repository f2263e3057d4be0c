"""Workers as recovery sees them, on either broker: databases on disk, a writer, a group that assigns and has committed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiokafka
from faust.types import TP

from app.engine.fence import Appended, Writer
from app.engine.recovery import Recovery
from app.engine.store import Database
from app.engine.table import MARK_PREFIX, PartitionState
from app.metrics import REGISTRY
from tests.e2e.engine_worlds import admin_of, client_of, make_topics, own_name, writer_of
from tests.unit.engine.worlds import COUNTERS

MARK = MARK_PREFIX + b"source"


def mark(next_offset: int) -> bytes:
    return next_offset.to_bytes(8, "big")


def records_read() -> int:
    """Changelog records that recoveries and standbys of this process have taken over."""
    return int(REGISTRY.get_sample_value("tidings_recovered_records_total", {"table": "counters"}) or 0)


class OpenTable:
    """A table's side of recovery: databases on disk, states over them."""

    def __init__(self, name: str, changelog: str, directory: Path) -> None:
        self.name, self.changelog_topic_name, self.store = name, changelog, self
        self.databases: dict[int, Database] = {}
        self.states: dict[int, PartitionState[Any]] = {}
        self._directory = directory

    def open(self, partition: int) -> Database:
        if partition not in self.databases:
            self.databases[partition] = Database(self._directory / f"{self.name}-{partition}.db", 8 << 20)
        return self.databases[partition]

    @property
    def open_partitions(self) -> set[int]:
        return set(self.databases)

    def opened(self, partition: int) -> Database | None:
        return self.databases.get(partition)

    def close_others(self, keep: set[int]) -> None:
        for partition in set(self.databases) - keep:
            self.databases.pop(partition).close()

    def take_over(self, partitions: set[int]) -> None:
        self.states = {p: PartitionState(p, self.open(p), COUNTERS, {}, 100) for p in partitions}

    def state(self, partition: int) -> PartitionState[Any]:
        return self.states[partition]


class Fleetmate:
    """A worker as recovery sees one: a writer, tables, a group that assigns and has committed."""

    def __init__(self, broker: Any, writer: Writer, table: OpenTable, committed: int | None) -> None:
        async def nothing(*_: Any, **__: Any) -> None:
            """Faust is told."""

        async def forever(*_: Any) -> None:
            await asyncio.Event().wait()

        async def begin(partitions: set[int]) -> None:
            self.begun.set()

        async def committed_offsets(partitions: list[TP]) -> dict[TP, int | None]:
            return dict.fromkeys(partitions, committed)

        self.table = table
        self.begun, self.failed = asyncio.Event(), asyncio.Event()
        self.failure: BaseException | None = None
        self.actives: set[int] = set()
        self.standbys: set[int] = set()
        changelog = table.changelog_topic_name
        assignor = SimpleNamespace(
            assigned_actives=lambda: {TP(topic, p) for topic in (changelog, "source") for p in self.actives},
            assigned_standbys=lambda: {TP(changelog, p) for p in self.standbys},
        )
        consumer = SimpleNamespace(committed_offsets=committed_offsets, resume_flow=lambda: None)
        self.app: Any = SimpleNamespace(
            writer=writer,
            client=client_of(broker),
            worker_name="me",
            sources={"source": table},
            consumer=consumer,
            assignor=assignor,
            owner_offsets={},
            begin_generation=begin,
            read_sources=forever,
            fail=self._fail,
            flow_control=SimpleNamespace(resume=lambda: None),
            on_rebalance_complete=SimpleNamespace(send=nothing),
            _fetcher=SimpleNamespace(maybe_start=nothing),
            on_rebalance_end=lambda: None,
        )
        ready: Callable[[], None] = lambda: None  # noqa: E731 - Faust is told
        tables = SimpleNamespace(changelog_topics={changelog}, values=lambda: [table], on_actives_ready=ready, on_standbys_ready=ready)
        self.recovery = Recovery(self.app, tables)

    def _fail(self, exc: BaseException) -> None:
        self.failure = exc
        self.failed.set()

    async def assigned(self, actives: set[int], standbys: set[int] = frozenset()) -> None:  # type: ignore[assignment]
        """Rebalanced, and recovered or failed."""
        self.actives, self.standbys = actives, set(standbys)
        self.begun.clear()
        await self.recovery.on_rebalance(set(), set(), set(), 1)
        waits = [asyncio.ensure_future(event.wait()) for event in (self.begun, self.failed)]
        async with asyncio.timeout(20):
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    async def stop(self) -> None:
        await self.recovery.on_stop()
        self.table.close_others(set())


class Fleet:
    """One changelog with two partitions, and workers with directories of their own."""

    def __init__(self, broker: Any, changelog: str, tmp_path: Path) -> None:
        self.broker, self.changelog, self.tmp_path = broker, changelog, tmp_path
        self.application = own_name()

    @asynccontextmanager
    async def worker(self, directory: str = "a", committed: int | None = None) -> AsyncIterator[Fleetmate]:
        (self.tmp_path / directory).mkdir(exist_ok=True)
        async with writer_of(self.broker, self.application, self.changelog, allow_unfenced=True, request_timeout_seconds=2) as writer:
            worker = Fleetmate(self.broker, writer, OpenTable("counters", self.changelog, self.tmp_path / directory), committed)
            try:
                yield worker
            finally:
                await worker.stop()

    async def write(self, *batches: list[tuple[bytes, bytes | None]], partition: int = 0) -> Appended:
        """As a former owner. Returns how the last batch was appended."""
        async with writer_of(self.broker, self.application, self.changelog, allow_unfenced=True, request_timeout_seconds=2) as writer:
            await writer.own([partition])
            *_, last = [await writer.write_batch(self.changelog, partition, batch) for batch in batches]
        return last


async def make_source(broker: Any) -> None:
    """A source topic that is longer than any mark here; the tests of one broker share it."""
    async with admin_of(broker) as admin:
        if "source" in await admin.list_topics():
            return
    await make_topics(broker, "source")
    async with aiokafka.AIOKafkaProducer(**client_of(broker)) as producer:
        for n in range(40):
            await producer.send_and_wait("source", b"%d" % n, partition=n % 2)

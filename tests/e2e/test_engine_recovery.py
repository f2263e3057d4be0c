"""Recovery on real brokers: up to the marker and no further, standbys that follow, and state that contradicts the log refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiokafka
import pytest
from faust.types import TP

from app.engine.fence import Writer
from app.engine.recovery import Recovery
from app.engine.store import Database
from app.engine.table import MARK_PREFIX, OWNER_KEY, PartitionState
from app.errors import FencedError, StateError
from tests.e2e.engine_worlds import admin_of, client_of, make_topics, own_name, writer_of
from tests.unit.engine.worlds import COUNTERS

MARK = MARK_PREFIX + b"source"


def mark(next_offset: int) -> bytes:
    return next_offset.to_bytes(8, "big")


@pytest.fixture(params=[pytest.param("embedded", marks=pytest.mark.embedded), pytest.param("kafka", marks=pytest.mark.kafka)])
def broker(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue("embedded_broker" if request.param == "embedded" else "apache_kafka")


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

    async def write(self, *batches: list[tuple[bytes, bytes | None]], partition: int = 0) -> None:
        """As a former owner."""
        async with writer_of(self.broker, self.application, self.changelog, allow_unfenced=True, request_timeout_seconds=2) as writer:
            await writer.own([partition])
            for batch in batches:
                await writer.write_batch(self.changelog, partition, batch)


@pytest.fixture
async def fleet(broker: Any, tmp_path: Path) -> Fleet:
    changelog = own_name("changelog")
    await make_topics(broker, changelog)
    await make_source(broker)
    return Fleet(broker, changelog, tmp_path)


async def make_source(broker: Any) -> None:
    """A source topic that is longer than any mark here; the tests of one broker share it."""
    async with admin_of(broker) as admin:
        if "source" in await admin.list_topics():
            return
    await make_topics(broker, "source")
    async with aiokafka.AIOKafkaProducer(**client_of(broker)) as producer:
        for n in range(40):
            await producer.send_and_wait("source", b"%d" % n, partition=n % 2)


async def test_a_new_owner_recovers_everything_up_to_its_marker(fleet: Fleet) -> None:
    await fleet.write([(b"a", b"1"), (MARK, mark(3))], [(b"a", b"1,2"), (b"b", b"5"), (MARK, mark(5))], [(b"b", None), (MARK, mark(6))])
    async with fleet.worker(committed=6) as worker:
        await worker.assigned({0})

        assert worker.failure is None
        state = worker.table.state(0)
        assert (state.read(b"a"), state.read(b"b"), state.applied(b"source")) == (b"1,2", None, 6)
        assert worker.table.databases[0].get(OWNER_KEY).startswith(b"me ")
        assert worker.app.owner_offsets == {("counters", 0): 8}
        assert worker.table.databases[0].offset == 7, "of the marker"


async def test_a_directory_that_is_kept_is_read_on_from_where_it_is(fleet: Fleet) -> None:
    await fleet.write([(b"a", b"1"), (MARK, mark(1))])
    async with fleet.worker() as worker:
        await worker.assigned({0})
    await fleet.write([(b"a", b"1,2"), (MARK, mark(2))])
    async with fleet.worker() as worker:
        await worker.assigned({0})

        assert worker.table.state(0).read(b"a") == b"1,2"
        assert worker.table.databases[0].offset == 5


async def test_two_empty_partitions_are_recovered_at_once(fleet: Fleet) -> None:
    async with fleet.worker() as worker:
        await worker.assigned({0, 1})

        assert worker.failure is None
        assert sorted(worker.table.states) == [0, 1]


async def test_a_standby_follows_the_changelog_as_it_grows(fleet: Fleet) -> None:
    await fleet.write([(b"a", b"1"), (MARK, mark(1))], partition=1)
    async with fleet.worker() as worker:
        await worker.assigned({0}, standbys={1})
        await fleet.write([(b"a", b"1,2"), (MARK, mark(2))], partition=1)
        async with asyncio.timeout(10):
            while worker.table.databases[1].get(b"a") != b"1,2":  # noqa: ASYNC110 - RocksDB sets no event
                await asyncio.sleep(0.02)

        assert worker.table.databases[1].get(MARK) == mark(2)
        assert 1 not in worker.table.states, "a standby is not owned"
        await worker.assigned({0, 1})
        assert worker.table.state(1).read(b"a") == b"1,2"


async def test_an_empty_table_under_a_committed_offset_is_refused(fleet: Fleet) -> None:
    async with fleet.worker(committed=7) as worker:
        await worker.assigned({0})

        assert isinstance(worker.failure, StateError)
        assert "applied up to 0, but 7 is committed" in str(worker.failure)
        assert "Restore the changelog" in str(worker.failure)


async def test_a_directory_of_another_cluster_is_refused(fleet: Fleet) -> None:
    (fleet.tmp_path / "a").mkdir()
    foreign = Database(fleet.tmp_path / "a" / "counters-0.db", 8 << 20)
    foreign.write([(b"x", b"9")], changelog_offset=1000)
    foreign.close()
    async with fleet.worker() as worker:
        await worker.assigned({0})

        assert isinstance(worker.failure, StateError)
        assert "Remove" in str(worker.failure)


@pytest.mark.parametrize("is_standby", [False, True])
async def test_a_directory_of_another_cluster_is_refused_though_its_offset_exists_here_too(fleet: Fleet, is_standby: bool) -> None:
    """The last record that it holds is not the one that the changelog has at that offset."""
    await fleet.write([(b"a", b"1"), (b"b", b"2"), (MARK, mark(3))], [(b"a", b"1,2"), (MARK, mark(5))])
    (fleet.tmp_path / "a").mkdir()
    foreign = Database(fleet.tmp_path / "a" / "counters-0.db", 8 << 20)
    foreign.write([(b"x", b"9")], changelog_offset=0)
    foreign.write([(b"b", b"3")], changelog_offset=1)
    foreign.close()
    async with fleet.worker() as worker:
        await worker.assigned(set() if is_standby else {0}, {0} if is_standby else set())
        async with asyncio.timeout(10):
            await worker.failed.wait()

        assert isinstance(worker.failure, StateError)
        assert "another cluster's" in str(worker.failure)
        assert str(fleet.tmp_path / "a") in str(worker.failure)


async def test_a_rebalance_in_the_middle_of_a_recovery_begins_anew(fleet: Fleet) -> None:
    await fleet.write([(b"%d" % n, b"1") for n in range(1000)], [(MARK, mark(9))])
    async with fleet.worker(committed=9) as worker:
        for pause in (0.0, 0.01, 0.03, 0.1):
            worker.actives = {0}
            await worker.recovery.on_rebalance(set(), set(), set(), 1)
            await asyncio.sleep(pause)
            worker.recovery.on_partitions_revoked(set())
        await worker.assigned({0})

        assert worker.failure is None
        assert sum(1 for _ in worker.table.databases[0].items()) == 1000
        assert worker.table.state(0).applied(b"source") == 9


@pytest.mark.kafka
async def test_a_former_owner_can_write_nothing_more_once_the_new_one_has_recovered(apache_kafka: Any, tmp_path: Path) -> None:
    changelog = own_name("changelog")
    await make_topics(apache_kafka, changelog)
    fleet = Fleet(apache_kafka, changelog, tmp_path)
    async with fleet.worker("a") as old, fleet.worker("b") as new:
        await old.assigned({0})
        await new.assigned({0})
        with pytest.raises(FencedError):
            await old.app.writer.write_batch(changelog, 0, [(b"a", b"late")])
        await new.app.writer.write_batch(changelog, 0, [(b"a", b"1")])

"""What stands in for the broker's clients, RocksDB and Faust, so that the rest of the engine runs as it is."""

from __future__ import annotations

import asyncio
import math
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from faust.types import TP

from app.delivery.ledger import Change
from app.engine.app import LEASE_SHARE, EngineApp
from app.engine.commit import Committer, Unit, Unwritten
from app.engine.consumer import GroupConsumer
from app.engine.recovery import Recovery
from app.engine.table import OWNER_KEY, Codec, Table
from app.engine.turns import Priority, Turns
from app.errors import NotOwnedError
from app.streams.outbox_store import TableOutboxStore
from app.streams.publish_shares import Shares
from tests.agents.worlds import Record
from tests.simulation.broker_clients import LogReader, SimWriter, records_of
from tests.simulation.world import SESSION_MS
from tests.unit.engine.worlds import DictDatabase

if TYPE_CHECKING:
    from tests.simulation.process import Process


#: What the settings say.
REQUEST_TIMEOUT_SECONDS = 10


class SimDatabase(DictDatabase):
    """It never contradicts its changelog, so that it is never set aside."""

    path = Path("disk/database")
    aside = None

    def forget_aside(self) -> None:
        """There is nothing."""


class SimStore:
    """EngineStore over a disk that outlives the process."""

    def __init__(self, disk: dict[tuple[str, int], SimDatabase], table: str) -> None:
        self._disk = disk
        self._table = table
        self._open: dict[int, SimDatabase] = {}

    def open(self, partition: int) -> SimDatabase:
        database = self._open.get(partition)
        if database is None:
            database = self._open[partition] = self._disk.setdefault((self._table, partition), SimDatabase())
        return database

    def opened(self, partition: int) -> SimDatabase | None:
        return self._open.get(partition)

    @property
    def open_partitions(self) -> set[int]:
        return set(self._open)

    def close_others(self, keep: set[int]) -> None:
        for partition in [p for p in self._open if p not in keep]:
            del self._open[partition]


class SimTable:
    """Table without Faust's."""

    state = Table.state
    owned = Table.owned
    give_up = Table.give_up

    def __init__(
        self,
        process: Process,
        disk: dict[tuple[str, int], SimDatabase],
        name: str,
        codec: Codec[Any],
        hidden: Mapping[bytes, Any] = {},
    ) -> None:
        self.name = name
        self.codec = codec
        self.hidden = dict(hidden)
        self.changelog_topic_name = process.world.names.changelogs[name]
        self.cache_bytes = process.world.random.choice([500, 1 << 20])
        self.store = SimStore(disk, name)
        self._states: dict[int, Any] = {}
        self._process = process

    def take_over(self, partitions: set[int]) -> None:
        Table.take_over(self, partitions)  # type: ignore[arg-type]
        self._process.flaws.spoil(self._states.values())


class SimOutboxStore:
    """The outbox as delivery sees it, which looks whether what it calls durable is."""

    def __init__(self, process: Process, store: TableOutboxStore) -> None:
        self._world = process.world
        self._name = process.name
        self._store = store
        self.partition_of, self.entry, self.scan = store.partition_of, store.entry, store.scan

    async def write(self, partition: int, changes: Mapping[str, Change]) -> bool:
        log = self._world.logs[self._world.names.changelogs["outbox"], partition]
        known, before = {user for user in changes if user.encode() in log.latest}, len(log.records)
        is_durable = await self._store.write(partition, changes)
        if is_durable:
            written = {key for key, _, _ in log.records[before:]}
            for user in known:
                if user.encode() not in written:
                    self._world.violate(f"{self._name} takes for durable what it did not write about {user}")
        return is_durable


class SimTables(dict[str, SimTable]):
    """TableManager, as far as the engine asks."""

    recovery: Any = None

    @property
    def changelog_topics(self) -> list[str]:
        return [table.changelog_topic_name for table in self.values()]


class SimMessage:
    """BatchMessage without Faust's."""

    __slots__ = ("acked", "generation", "offset", "partition", "records", "topic", "tp")

    def __init__(self, tp: TP, records: list[Record], generation: int) -> None:
        self.tp, self.topic, self.partition = tp, tp.topic, tp.partition
        self.records = records
        self.offset = records[-1].offset
        self.generation = generation
        self.acked = False


class SimEvent:
    """Faust's event of it."""

    __slots__ = ("message", "value")

    def __init__(self, message: SimMessage) -> None:
        self.message = message
        self.value: Any = None

    def ack(self) -> None:
        self.message.acked = True


class SimConsumer:
    """GroupConsumer's bookkeeping, without the member."""

    undecided = GroupConsumer.undecided
    forget_delivered = GroupConsumer.forget_delivered
    wait_empty = GroupConsumer.wait_empty

    def __init__(self, process: Process, app: SimApp) -> None:
        self.app = app
        self._process = process
        self._delivered: dict[TP, Any] = {}
        self._seen_through: dict[TP, int] = {}
        self._acked: defaultdict[TP, list[int]] = defaultdict(list)
        self._acked_index: defaultdict[TP, set[int]] = defaultdict(set)
        self._committed_offset: dict[TP, int] = {}
        self.is_committing = False
        #: What was handed out in this generation.
        self._handed_out: list[SimMessage] = []

    def begin_at(self, positions: Mapping[TP, int]) -> None:
        self._handed_out = []
        GroupConsumer.begin_at(self, positions)  # type: ignore[arg-type]

    def deliver(self, message: SimMessage) -> Any:
        self._handed_out.append(message)
        return GroupConsumer.deliver(self, message)  # type: ignore[arg-type]

    def _new_offset(self, tp: TP) -> int | None:
        return self._process.flaws.new_offset(self, tp)

    def callback(self, message: SimMessage) -> Awaitable[None]:
        return self.app.queues[message.topic].put(message)

    def seconds_since_heartbeat(self) -> float:
        return (self._process.world.elapsed_ms - self._process.heartbeat_at_ms) / 1000

    async def committed_offsets(self, places: Iterable[TP]) -> dict[TP, int | None]:
        places, committed = list(places), self._process.world.committed
        return await self._process.through("asks what is committed", lambda: {tp: committed.get(tuple(tp)) for tp in places})

    def delivered(self) -> list[Any]:
        return [queue for queue in self._delivered.values() if queue]

    @property
    def may_commit(self) -> bool:
        """Whether anything could come of it. Faust commits now and then, whether the oldest batches are acknowledged or not."""
        if self._process.world.is_calm:
            return not self.is_committing and any(queue[0].acked for queue in self.delivered())
        return not self.is_committing and any(message.acked for queue in self.delivered() for message in queue)

    async def commit_and_end_transactions(self) -> None:
        await self.commit()

    async def commit(self) -> None:
        self.is_committing = True
        try:
            offsets = {tp: offset for tp in self._delivered if (offset := self._new_offset(tp)) is not None}
            for message in self._handed_out:
                if not message.acked and message.offset < offsets.get(message.tp, 0):
                    said = f"{message.topic} up to {message.offset}, which is not seen through"
                    self._process.world.violate(f"{self._process.name} commits over {said}")
            if offsets:
                group, generation = self._process.world.group, self._process.generation
                committed = self._process.world.committed

                def effect() -> None:
                    if group.may_commit(self._process, generation):
                        committed.update({tuple(tp): offset for tp, offset in offsets.items()})

                said = ", ".join(f"{tp.topic.split('.')[1]}/{tp.partition} {offset}" for tp, offset in offsets.items())
                await self._process.through(f"commits {said}", effect, is_write=True)
        finally:
            self.is_committing = False


class SimRecovery(Recovery):
    """Recovery over logs in memory."""

    #: Nobody asks how old an answer is.
    first_made_seconds = 0.0

    def __init__(self, process: Process, app: SimApp) -> None:
        super().__init__(app, app.tables)
        self._process = process

    def _reader(self, places: Any, read_ahead_bytes: int = 0) -> Any:
        return LogReader(self._process, places)

    def _marker(self) -> tuple[tuple[bytes, bytes], ...]:
        return ((OWNER_KEY, f"{self._process.name} {self._process.generation}".encode()),)

    async def _tell_faust(self) -> None:
        """Nobody asks."""

    async def _recover(self, committed: Any) -> Any:
        read = await super()._recover(committed)
        if self._process.flaws.versions_ignore_the_owner:
            self.app.owner_offsets = dict.fromkeys(self.app.owner_offsets, 1)
        return read

    async def _read_changelogs(self, behind: Any) -> Any:
        if self._process.flaws.recovers_without_the_tail:
            behind = {place: (database, max(1, end - 2), counter) for place, (database, end, counter) in behind.items()}
        return await super()._read_changelogs(behind)


class SimTurns(Turns):
    """A step is as long as it may be, or one record."""

    def __init__(self, process: Process) -> None:
        super().__init__()
        self._random = process.world.random

    @property
    def step_seconds(self) -> float:
        return self._random.choice((math.inf, math.inf, -1.0))


class SourceReader:
    """What source.SourceReader holds; the scheduler hands out."""

    def __init__(self, positions: Mapping[TP, int]) -> None:
        self.positions = dict(positions)

    def room_made(self) -> None:
        """The scheduler looks by itself."""


class SimApp:
    """EngineApp without Faust's app."""

    _apply = EngineApp._apply
    _written = EngineApp._written
    _deliver = EngineApp._deliver
    apply_to = EngineApp.apply_to
    begin_generation = EngineApp.begin_generation
    has_room = EngineApp.has_room
    room_made = EngineApp.room_made
    lease_is_good = EngineApp.lease_is_good
    _lease_seconds = LEASE_SHARE * SESSION_MS / 1000
    reader_client: Mapping[str, Any] = {}

    def __init__(self, process: Process) -> None:
        random = process.world.random
        self._process = process
        self.worker_name = process.name
        batch_max_bytes = random.choice([0, 500, 1 << 20])
        timeout = 0 if process.flaws.gives_up_without_waiting else REQUEST_TIMEOUT_SECONDS
        self.options = SimpleNamespace(batch_max_bytes=batch_max_bytes, request_timeout_seconds=timeout, block_cache_bytes=1 << 20)
        self.unwritten_bytes = Unwritten(random.choice([1, 500, 1 << 20]))
        self.tables = SimTables()
        self.sources: dict[str, SimTable] = {}
        self.queues: dict[str, asyncio.Queue[SimMessage]] = {}
        self.agents: list[Callable[[], Any]] = []
        self.owner_offsets: dict[tuple[str, int], int] = {}
        self.ends_at_take_over: dict[TP, list[tuple[int, int]]] = {}
        self.on_owned: list[Any] = []
        self.on_given_up: list[Any] = []
        self.may_read: list[Any] = []
        self.before_stop: list[Any] = []
        self.turns = SimTurns(process)
        self.committers: dict[tuple[str, int], Committer] = {}
        self.unwritten: Counter[TP] = Counter()
        self.steps: Counter[str] = Counter()
        self.followed: Counter[int] = Counter()
        self.reader: SourceReader | None = None
        self.writer = SimWriter(process)
        self.consumer = SimConsumer(process, self)
        self.assignor = SimpleNamespace(actives=set(), standbys=set())
        self.assignor.assigned_actives = lambda: self.assignor.actives
        self.assignor.assigned_standbys = lambda: self.assignor.standbys
        self.recovery = self.tables.recovery = SimRecovery(process, self)

    def add_table(self, table: SimTable) -> SimTable:
        self.tables[table.name] = table
        return table

    def fail(self, exc: BaseException) -> None:
        self._process.fail(exc)

    def delay_seconds(self, topic: str, partition: int) -> float:
        return 0.0

    async def give_up(self) -> None:
        world, began_ms, committers = self._process.world, self._process.world.elapsed_ms, list(self.committers.values())
        await EngineApp.give_up(self)  # type: ignore[arg-type]
        had_time = self._process.failure is None and world.elapsed_ms - began_ms < REQUEST_TIMEOUT_SECONDS * 1000
        if had_time and any(committer.is_busy for committer in committers):
            world.violate(f"{self.worker_name} gives up without waiting for what is being written")

    def _see_through(self, event: Any, holds: list[asyncio.Future[Any]]) -> None:
        if self._process.flaws.acknowledges_before_the_ranking:
            holds = []
        EngineApp._see_through(self, event, holds)  # type: ignore[arg-type]

    def batched_agent(
        self, name: str, table: SimTable, topics: list[str], apply: Callable[[Unit[Any]], None], *, urgent: bool = False
    ) -> None:
        (topic,) = topics
        apply = self._process.flaws.agent(name, apply)
        self.sources[topic] = table
        queue = self.queues[topic] = asyncio.Queue()
        priority = Priority.URGENT if urgent else Priority.ORDINARY

        async def run() -> None:
            while True:
                message = await queue.get()
                if message.generation != self._process.generation:
                    continue  # as Faust's stream does
                event = SimEvent(message)
                if self._process.flaws.acknowledges_before_the_changelog:
                    event.ack()
                with suppress(NotOwnedError):
                    await self._apply(table, event, apply, priority)

        self.agents.append(run)

    async def read_sources(self, positions: Mapping[TP, int], generation: int) -> None:
        self.consumer.begin_at(positions)
        self.reader = reader = SourceReader(positions)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            if self.reader is reader:
                self.reader = None

    def hand_out(self, tp: TP, count: int) -> None:
        """A batch for the agent."""
        assert self.reader is not None
        world, start = self._process.world, self.reader.positions[tp]
        stop = min(world.end(*tp), start + count)
        self.reader.positions[tp] = stop
        with self._process.loop.entered(), suppress(StopIteration):
            self._deliver(SimMessage(tp, records_of(world, *tp, start, stop), self._process.generation)).send(None)  # it waits for nothing


class SimShares(Shares):
    """Shares, read from the world's log."""

    async def follow(self) -> None:
        app: Any = self._app
        reader = LogReader(app._process, [TP(self._topic, p) for p in range(self._partitions)])
        while True:
            for records in (await reader.getmany(timeout_ms=0)).values():
                for record in records:
                    self._broadcast._apply(record.key, record.value)
            if not reader.is_behind:
                self._add_up()

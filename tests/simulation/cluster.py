"""A fleet without a broker: topics in lists, workers whose every write waits for the scheduler, and faults between any two steps.

What is real: agents, ranking, PartitionState, Unit, apply_records, Committer. What stands in: the broker (it refuses the append of
an older epoch and the commit of an older term), RocksDB (a dict), Faust's delivery and commits (in order, acknowledged batches only).
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from app.domain.held_neighbours import HeldNeighbours
from app.domain.models import GlobalModels
from app.domain.ranking import rank
from app.domain.recommendations import Recommendation
from app.engine.app import ROOM
from app.engine.commit import Committer, Unit, apply_records
from app.engine.store import HIDDEN_PREFIX
from app.engine.table import OWNER_KEY, Codec, PartitionState
from app.errors import FencedError, NotOwnedError, ProduceError, StateError
from app.streams.fold_items import ITEMS, FoldItems
from app.streams.fold_profiles import PROFILES, SHARE, SHARE_KEY, FoldProfiles
from app.streams.keep_neighbours import NEIGHBOURS, KeepNeighbours
from app.streams.rank_users import OUTBOX, rank_slice
from tests.agents.worlds import NAMES, NOW_MS, Record
from tests.unit.engine.worlds import DictDatabase
from tidings.state.v1.profile_pb2 import Profile

MODELS = GlobalModels.of([])


def rank_five(profile: Profile, held: HeldNeighbours | None, now_ms: int) -> list[Recommendation]:
    """The lists of the simulation: short, so that they change often."""
    return rank(profile, held or HeldNeighbours(), MODELS, now_ms, 5)

TARGETS = ["shop"]


@dataclass(frozen=True)
class SimTable:
    name: str
    codec: Codec[Any]
    sources: tuple[str, ...] = ()
    hidden: dict[bytes, Codec[Any]] = field(default_factory=dict)

    @property
    def changelog_topic_name(self) -> str:
        return NAMES.changelogs[self.name]


TABLES = {
    table.name: table
    for table in (
        SimTable("profiles", PROFILES, (NAMES.events,), {SHARE_KEY: SHARE}),
        SimTable("items", ITEMS, (NAMES.visits,)),
        SimTable("neighbours", NEIGHBOURS, (NAMES.neighbours,)),
        SimTable("outbox", OUTBOX),
    )
}


@dataclass(frozen=True)
class Flaws:
    """Ways to break the engine, so that a test can see the simulation fail."""

    marks_are_dropped: bool = False
    visits_have_no_mark: bool = False
    acknowledges_before_the_changelog: bool = False
    acknowledges_before_the_ranking: bool = False
    outputs_follow_the_changelog: bool = False
    zombies_may_write: bool = False
    recovers_to_an_end_asked_before_the_marker: bool = False
    versions_ignore_the_owner: bool = False


class Log:
    """One partition of a topic: keys and values, and the newest epoch it has seen."""

    def __init__(self) -> None:
        self.records: list[tuple[bytes | None, bytes | None]] = []
        self.epoch = 0

    def append(self, records: Iterable[tuple[bytes | None, bytes | None]], epoch: int | None = None) -> int:
        if epoch is not None:
            if epoch < self.epoch:
                raise FencedError("a newer epoch was seen")
            self.epoch = epoch
        first = len(self.records)
        self.records += records
        return first


class Broker:
    """Logs by (topic, partition), committed offsets, and for each partition number its epoch and the term of its owner."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self.logs: defaultdict[tuple[str, int], Log] = defaultdict(Log)
        self.committed: dict[tuple[str, int], int] = {}
        self.epochs: Counter[int] = Counter()
        self.terms: Counter[int] = Counter()

    def compacted(self, table: str, partition: int) -> dict[bytes, bytes]:
        """What a changelog holds for each visible key."""
        return _visible(_latest(self.logs[NAMES.changelogs[table], partition].records))


def _latest(records: Iterable[tuple[bytes | None, bytes | None]]) -> dict[bytes, bytes]:
    latest = dict(records)
    return {key: value for key, value in latest.items() if key is not None and value is not None}


def _visible(values: dict[bytes, bytes]) -> dict[bytes, bytes]:
    return {key: value for key, value in values.items() if not key.startswith(HIDDEN_PREFIX) or key == SHARE_KEY}


class Worker:
    """One process: its disk outlives it. Whatever it sends waits in ``gates`` until the scheduler lets it through, or not."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.paused = False
        self.failure: BaseException | None = None
        self.owners: dict[int, Owner] = {}
        self.gates: list[tuple[asyncio.Future[Any], Callable[[], Any]]] = []
        self.disk: defaultdict[tuple[str, int], DictDatabase] = defaultdict(DictDatabase)

    async def through(self, effect: Callable[[], Any]) -> Any:
        gate = asyncio.get_running_loop().create_future()
        self.gates.append((gate, effect))
        return await gate

    def fail(self, exc: BaseException) -> None:
        self.failure = self.failure or exc

    async def die(self) -> None:
        """SIGKILL, or its own decision: memory is gone, the disk stays, and it is started again."""
        owners, self.owners = self.owners, {}
        for gate, _ in self.gates:
            gate.cancel()
        self.gates.clear()
        for owner in owners.values():
            await owner.stop()
        self.failure, self.paused = None, False


class SimWriter:
    """Stands for fence.Writer: the same calls, each append let through by the scheduler."""

    def __init__(self, worker: Worker, broker: Broker, epoch: int, random: Random, flaws: Flaws) -> None:
        self._worker, self._broker, self._random = worker, broker, random
        self._epoch = None if flaws.zombies_may_write else epoch

    async def renew_if_old(self, partition: int) -> None:
        """Nothing grows old here."""

    async def write_batch(self, topic: str, partition: int, records: Iterable[tuple[bytes, bytes | None]]) -> tuple[int, int]:
        batch, log = list(records), self._broker.logs[topic, partition]
        return await self._worker.through(lambda: log.append(batch, self._epoch)), len(batch)

    async def write_all(self, outputs: dict[tuple[str, int], list[tuple[bytes | None, bytes | None]]]) -> None:
        await asyncio.gather(*(self._write_run(self._broker.logs[place], records) for place, records in outputs.items()))

    async def _write_run(self, log: Log, records: list[tuple[bytes | None, bytes | None]]) -> None:
        start = 0
        while start < len(records):
            end = self._random.randint(start + 1, len(records))
            await self._worker.through(lambda chunk=records[start:end]: log.append(chunk))
            start = end


class OutputsLast(SimWriter):
    """A flaw: the outputs are kept back until the changelog has the mark that suppresses them."""

    async def write_all(self, outputs: dict[tuple[str, int], list[tuple[bytes | None, bytes | None]]]) -> None:
        self._kept = outputs

    async def write_batch(self, topic: str, partition: int, records: Iterable[tuple[bytes, bytes | None]]) -> tuple[int, int]:
        answer = await super().write_batch(topic, partition, records)
        kept, self._kept = getattr(self, "_kept", {}), {}
        await super().write_all(kept)
        return answer


class Markless(PartitionState[Any]):
    """A flaw: marks are not kept."""

    __slots__ = ("_dropped",)

    def advance(self, source: bytes, next_offset: int) -> None:
        """Forgets."""


class VisitsMarkless(PartitionState[Any]):
    """A flaw: what is dropped by the visits' own offsets is, what is repeated under new ones is not."""

    __slots__ = ()

    def applied(self, source: bytes) -> int:
        return 0 if b"/" in source else super().applied(source)


class Ranking:
    """Users to be ranked, as RankUsers keeps them: ``done()`` is what their events' acknowledgement waits for."""

    def __init__(self) -> None:
        self.users: dict[bytes, int] = {}
        self.left: list[tuple[bytes, int]] | None = None
        self.unit: Unit[Any] | None = None

    def done(self) -> bool:
        return self.left == [] and (self.unit is None or _written(self.unit))


@dataclass
class Batch:
    """What Faust sees as one message."""

    end: int
    units: list[Unit[Any]]
    flaws: Flaws

    @property
    def written(self) -> bool:
        return all(_written(unit) for unit in self.units)

    @property
    def acknowledged(self) -> bool:
        if self.flaws.acknowledges_before_the_changelog:
            return True
        return self.written and (self.flaws.acknowledges_before_the_ranking or all(h.done() for unit in self.units for h in unit.holds))


def _written(unit: Unit[Any]) -> bool:
    return unit.done.done() and not unit.done.cancelled() and unit.done.exception() is None


class Owner:
    """One partition number on the worker that owns it, or believes it does: recovery, then units, ranking and commits."""

    def __init__(self, worker: Worker, broker: Broker, partition: int, random: Random, flaws: Flaws) -> None:
        self.worker, self.broker, self.partition, self.random, self.flaws = worker, broker, partition, random, flaws
        broker.terms[partition] += 1
        self.term = broker.terms[partition]
        self.recovered = self.leaving = False
        self.states: dict[str, PartitionState[Any]] = {}
        self.committers: dict[str, Committer] = {}
        self.positions: dict[str, int] = {}
        self.batches: dict[str, deque[Batch]] = {}
        self.waiting, self.ranking = Ranking(), None
        self._least_version = 0
        self._agents = {
            "profiles": FoldProfiles(NAMES, broker.partitions, self._dirty).apply,
            "items": FoldItems(NAMES).apply,
            "neighbours": KeepNeighbours(NAMES, broker.partitions, self._dirty).apply,
        }
        self._task = asyncio.create_task(self._guarded_recovery())

    @property
    def is_current(self) -> bool:
        return self.broker.terms[self.partition] == self.term

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})
        for committer in self.committers.values():
            await committer.stop()

    # Recovery, in the order of app/engine/recovery.py -----------------------------------------------------------------------

    async def _guarded_recovery(self) -> None:
        try:
            await self._recover()
        except asyncio.CancelledError:
            raise
        except Exception as exc:
            self.worker.fail(exc)

    async def _recover(self) -> None:
        sources = [source for table in TABLES.values() for source in table.sources]
        committed = await self.worker.through(lambda: {s: self.broker.committed.get((s, self.partition), 0) for s in sources})
        epoch = await self.worker.through(self._take_epoch)
        writer = (OutputsLast if self.flaws.outputs_follow_the_changelog else SimWriter)(
            self.worker, self.broker, epoch, self.random, self.flaws
        )
        marker = [(OWNER_KEY, f"{self.worker.name} {self.term}".encode())]
        ends = {name: len(self.broker.logs[t.changelog_topic_name, self.partition].records) for name, t in TABLES.items()}
        written = await asyncio.gather(*(writer.write_batch(t.changelog_topic_name, self.partition, marker) for t in TABLES.values()))
        if not self.flaws.recovers_to_an_end_asked_before_the_marker:
            ends = {name: first + 1 for name, (first, _) in zip(TABLES, written, strict=True)}
        for name, table in TABLES.items():
            await self._read_changelog(table, ends[name])
        kind = Markless if self.flaws.marks_are_dropped else VisitsMarkless if self.flaws.visits_have_no_mark else PartitionState
        cache = self.random.choice([2, 1000])
        for name, table in TABLES.items():
            state = kind(self.partition, self.worker.disk[name, self.partition], table.codec, table.hidden, cache)  # type: ignore[arg-type]
            self.states[name] = state
            for source in table.sources:
                if committed[source] > state.applied(source.encode()) and not self.flaws.marks_are_dropped:
                    raise StateError(f"{source} committed up to {committed[source]}, applied up to {state.applied(source.encode())}")
                self.positions[source], self.batches[source] = committed[source], deque()
            self.committers[name] = committer = Committer(table, state, writer, self.worker.fail)  # type: ignore[arg-type]
            committer.start()
        self._least_version = 1 if self.flaws.versions_ignore_the_owner else ends["outbox"]
        self.recovered = True

    def _take_epoch(self) -> int:
        self.broker.epochs[self.partition] += 1
        return self.broker.epochs[self.partition]

    async def _read_changelog(self, table: SimTable, end: int) -> None:
        database = self.worker.disk[table.name, self.partition]
        log = self.broker.logs[table.changelog_topic_name, self.partition]
        while (start := 0 if database.offset is None else database.offset + 1) < end:
            stop = self.random.randint(start + 1, len(log.records))
            chunk = await self.worker.through(lambda a=start, b=stop: log.records[a:b])
            database.write(chunk, start + len(chunk) - 1)

    # Steps, each chosen by the scheduler ------------------------------------------------------------------------------------

    def may_deliver(self) -> list[str]:
        if not self.recovered or self.leaving:
            return []
        logs, place = self.broker.logs, self.partition
        return [s for s, position in self.positions.items() if position < len(logs[s, place].records) and self._has_room(s)]

    def _has_room(self, source: str) -> bool:
        batches = self.batches[source]
        return len(batches) < ROOM or sum(not batch.written for batch in batches) < ROOM

    def deliver(self, source: str) -> None:
        start = self.positions[source]
        raw = self.broker.logs[source, self.partition].records[start : start + self.random.randint(1, 8)]
        records = [Record(source, self.partition, start + n, NOW_MS + start + n, key, value) for n, (key, value) in enumerate(raw)]
        name = next(table.name for table in TABLES.values() if source in table.sources)
        limit = self.random.choice([0, 500, 1 << 20])
        try:
            steps = apply_records(self.states[name], source, records, self._agents[name], self.committers[name].submit, limit)
            units = [unit for unit, _ in steps]
        except NotOwnedError:
            return  # its committer met a failure; the worker is about to stop
        self.positions[source] = start + len(records)
        self.batches[source].append(Batch(start + len(records), units, self.flaws))

    def _dirty(self, unit: Unit[Any], user: bytes, caused_at_ms: int) -> None:
        if not unit.holds:
            unit.hold(self.waiting)  # type: ignore[arg-type]  # done() is all that is asked of it
        self.waiting.users.setdefault(user, caused_at_ms)

    def may_rank(self) -> bool:
        if self.ranking is not None:
            return self.ranking.unit is None or _written(self.ranking.unit)
        return self.recovered and bool(self.waiting.users)

    def rank(self) -> None:
        """One slice: the next one only when the one before is written."""
        if self.ranking is None:
            self.ranking, self.waiting = self.waiting, Ranking()
            self.ranking.left = list(self.ranking.users.items())
        ranking, size = self.ranking, self.random.randint(1, 3)
        assert ranking.left is not None
        slice_, ranking.left = ranking.left[:size], ranking.left[size:]
        if not slice_:
            self.ranking = None
            return
        ranking.unit = unit = Unit(self.states["outbox"])
        rank_slice(
            unit, slice_, self.states["profiles"].get, self.states["neighbours"].get, rank_five, now_ms=NOW_MS,
            targets=TARGETS, updates_topic=NAMES.updates, least_version=self._least_version,
        )  # fmt: skip
        try:
            self.committers["outbox"].submit(unit)
        except NotOwnedError:
            unit.done.set_exception(ProduceError("the worker is about to stop"))
            unit.done.exception()

    def may_commit(self) -> bool:
        return any(batches and batches[0].acknowledged for batches in self.batches.values())

    def commit(self) -> None:
        """The longest prefix of acknowledged batches; the coordinator refuses it from a member of an older term."""
        for source, batches in self.batches.items():
            end = None
            while batches and batches[0].acknowledged:
                end = batches.popleft().end
            if end is not None and self.is_current:
                self.broker.committed[source, self.partition] = end

    @property
    def is_idle(self) -> bool:
        if not self.recovered or self.may_deliver() or any(self.batches.values()):
            return False
        return not self.waiting.users and self.ranking is None

"""Brings the tables of a new assignment up to date, with a reader of its own, and keeps standbys warm.

For each assignment: take the next epoch of every partition, write the owner's marker to every changelog, read each changelog from what
the local store has up to the marker, check that the recovered marks reach the committed offsets, and only then let the sources flow. The
next rebalance cancels all of it.

A local store that contradicts its changelog (it is further than the log's end, its last record is another one, or the log begins after it)
is made again from the changelog. If that does not reach what is committed, the worker stops, and what was here before is kept aside.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from time import monotonic, time_ns
from typing import Any

import aiokafka
from faust.types import TP
from mode import Service

from app import metrics
from app.engine.changelog_reader import READ_AHEAD_BYTES, Changelogs, changelog_reader, contradiction
from app.engine.copies import Copies
from app.engine.positions import start_position
from app.engine.source_log import FIRST_MADE_SECONDS, SourceLog, source_logs
from app.engine.store import Database
from app.engine.table import OWNER_KEY, Table
from app.errors import BrokerError, StateError

logger = logging.getLogger(__name__)

#: Between two notes of how current the standbys' copies are.
NOTE_SECONDS = 0.25
#: Between two looks at which copies have stayed long enough.
CLOSE_CHECK_SECONDS = 10.0
#: Between two looks at the age of the epochs.
RENEWAL_CHECK_SECONDS = 3600.0


class Recovery(Service):
    """Stands where Faust's own recovery stands in the table manager."""

    #: What the records that a recovered partition goes on with may be waited for.
    first_made_seconds = FIRST_MADE_SECONDS

    def __init__(self, app: Any, tables: Any, **kwargs: Any) -> None:
        self.app = app
        self.tables = tables
        #: Set once, with the first recovery: what Faust's services wait for.
        self.completed = asyncio.Event()
        self.in_recovery = False
        self.actives: set[int] = set()
        self.standbys: set[int] = set()
        #: How far the copies are that are here.
        self.copies = Copies()
        self._owned: set[int] = set()
        self._task: asyncio.Task[None] | None = None
        super().__init__(**kwargs)

    # Called by Faust -------------------------------------------------------------------------------------------------

    def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """A rebalance began: stop reading. What was read is finished before the partitions are given up (EngineApp.give_up)."""
        self._cancel()

    async def on_rebalance(self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0) -> None:
        changelogs = self.tables.changelog_topics
        self._cancel()
        self.in_recovery = True
        self.actives = self._co_partitioned(self.app.assignor.assigned_actives(), changelogs)
        self.standbys = {tp.partition for tp in self.app.assignor.assigned_standbys() if tp.topic in changelogs} - self.actives
        self._task = asyncio.create_task(self._run(generation_id), name=f"generation {generation_id}")

    def _co_partitioned(self, assigned: set[TP], changelogs: set[str]) -> set[int]:
        """The partition numbers assigned here, which are the same for every source topic and every changelog, or nothing would fit."""
        by_topic: dict[str, set[int]] = {topic: set() for topic in (*changelogs, *self.app.sources)}
        for tp in assigned:
            if tp.topic in by_topic:
                by_topic[tp.topic].add(tp.partition)
        numbers = set().union(*by_topic.values())
        if odd := sorted(topic for topic, partitions in by_topic.items() if partitions != numbers):
            self.app.fail(StateError(f"topics with other partitions than the rest, or missing: {odd}. See `tidings topics check`"))
        return numbers

    def flush_buffers(self) -> None:
        """There are none."""

    async def on_stop(self) -> None:
        if (task := self._task) is not None:
            self._cancel()
            await asyncio.wait({task}, timeout=10)

    # ------------------------------------------------------------------------------------------------------------------

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self, generation: int) -> None:
        try:
            metrics.REBALANCES.inc()
            began = monotonic()
            committed = await self._committed()
            read, logs = await self._recover(committed)
            metrics.RECOVERY.set(monotonic() - began)
            metrics.PARTITIONS.labels("active").set(len(self.actives))
            metrics.PARTITIONS.labels("standby").set(len(self.standbys))
            try:
                positions = self._take_over(committed, logs)
            except StateError:
                # Whoever was replaced while it recovered reads what its successor applied, of records that came after the ends were told.
                positions = self._take_over(committed, await self._source_logs(committed))
            await self.app.begin_generation(self.actives)
            logger.info(
                "generation %d: own partitions %s, standby for %s, recovered in %.1f s from %d changelog records",
                generation,
                sorted(self.actives),
                sorted(self.standbys),
                monotonic() - began,
                read,
            )
            self.in_recovery = False
            await self._tell_faust()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.app.read_sources(positions, generation))
                tasks.create_task(self._follow_standbys())
                tasks.create_task(self._close_in_time())
                tasks.create_task(self._keep_fence())
        except asyncio.CancelledError:
            raise
        except BaseExceptionGroup as group:
            self.app.fail(group.exceptions[0])
        except Exception as exc:
            self.app.fail(exc)

    async def _recover(self, committed: Mapping[TP, int | None]) -> tuple[int, dict[TP, SourceLog]]:
        """How many records were read, and how the logs of the source partitions are."""
        writer = self.app.writer
        tables: list[Table[Any]] = list(self.tables.values())
        await writer.own(self.actives)
        await self._close_others()
        databases = {}
        for table in tables:
            for p in self.actives:
                databases[table, p] = table.store.open(p)
                await asyncio.sleep(0)  # each takes some 10 ms, in which nobody is answered
        markers = await asyncio.gather(*(writer.write_batch(t.changelog_topic_name, p, self._marker()) for t, p in databases))
        ends = {place: marker.first + 1 for place, marker in zip(databases, markers, strict=True)}
        self.app.owner_offsets = {(table.name, p): end for (table, p), end in ends.items()}
        behind: dict[aiokafka.TopicPartition, tuple[Database, int, Any]] = {}
        for (table, p), database in databases.items():
            end = ends[table, p]
            if database.offset is not None and database.offset >= end:
                database.set_aside(contradiction(database, f"but {table.changelog_topic_name}/{p} ends at {end}"))
            behind[aiokafka.TopicPartition(table.changelog_topic_name, p)] = (database, end, metrics.RECOVERED.labels(table.name))
        async with asyncio.TaskGroup() as tasks:
            # Not before the markers are there: until then, another may apply more than the end that was told.
            logs = tasks.create_task(self._source_logs(committed))
            read = await self._read_changelogs(behind)
        return read, logs.result()

    async def _read_changelogs(self, behind: dict[aiokafka.TopicPartition, tuple[Database, int, Any]]) -> int:
        read = 0
        if not behind:
            return read
        async with self._reader(list(behind)) as reader:
            changelogs = Changelogs(reader, {tp: database for tp, (database, _, _) in behind.items()}, Database.set_aside)
            await changelogs.seek()
            while behind:
                for tp, records in (await reader.getmany(*behind, timeout_ms=200)).items():
                    count = changelogs.apply(tp, records)
                    behind[tp][2].inc(count)
                    read += count
                    await asyncio.sleep(0)  # let the HTTP server answer in between
                for tp, (database, end, _) in list(behind.items()):
                    if database.offset is not None and database.offset + 1 >= end:
                        del behind[tp]
        return read

    async def _committed(self) -> dict[TP, int | None]:
        """What the group committed of each source partition. To be asked before the markers are written: whatever was committed until then
        is marked in a changelog below its marker, so a table that does not reach it lost records, even if this worker is replaced in the
        middle.
        """
        return await self.app.consumer.committed_offsets([TP(topic, p) for topic in self.app.sources for p in sorted(self.actives)])

    async def _source_logs(self, committed: Mapping[TP, int | None]) -> dict[TP, SourceLog]:
        if not committed:
            return {}
        async with self._reader([aiokafka.TopicPartition(*tp) for tp in committed], 0) as reader:
            return await source_logs(reader, committed, self.first_made_seconds)

    def _take_over(self, committed: Mapping[TP, int | None], logs: Mapping[TP, SourceLog]) -> dict[TP, int]:
        """The tables are owned from here on. Where each source partition is read from; StateError where that would lose events."""
        for table in self.tables.values():
            table.take_over(self.actives)
        self._owned = set(self.actives)
        applied = {tp: self.app.sources[tp.topic].state(tp.partition).applied(tp.topic.encode()) for tp in committed}
        if not self.app.writer.fenced:
            logs = {tp: log._replace(end=None) for tp, log in logs.items()}  # the embedded broker, which understates it
        self.app.ends_at_take_over = {tp: log.ends(applied[tp]) for tp, log in logs.items()}
        positions = {}
        for tp, offset in committed.items():
            table, log = self.app.sources[tp.topic], logs[tp]
            try:
                positions[tp] = start_position(
                    f"{tp.topic}/{tp.partition}",
                    table.name,
                    committed=offset,
                    applied=applied[tp],
                    beginning=log.beginning,
                    end=log.end,
                )
            except StateError as exc:
                if (aside := table.store.open(tp.partition).aside) is None:
                    raise
                raise StateError(f"{exc} What this worker had of {table.changelog_topic_name}/{tp.partition} is kept in {aside}") from exc
        for table in self.tables.values():
            for partition in self.actives:
                table.store.open(partition).forget_aside()
        return positions

    async def _tell_faust(self) -> None:
        app = self.app
        await app.on_rebalance_complete.send()
        app.flow_control.resume()
        app.consumer.resume_flow()
        await app._fetcher.maybe_start()
        self.completed.set()
        self.tables.on_actives_ready()
        self.tables.on_standbys_ready()
        app.on_rebalance_end()

    async def _keep_fence(self) -> None:
        """Renew the epochs of partitions, quiet ones too, before anybody forgets them."""
        while True:
            await asyncio.sleep(RENEWAL_CHECK_SECONDS)
            for partition in sorted(self.actives):
                try:
                    is_renewed = await self.app.writer.renew_if_old(partition)
                except BrokerError as exc:
                    logger.warning("epoch of partition %d not renewed this time: %s", partition, exc)
                    continue
                if is_renewed:
                    for table in self.tables.values():
                        await self.app.writer.write_batch(table.changelog_topic_name, partition, self._marker())

    def _reader(self, places: list[aiokafka.TopicPartition], read_ahead_bytes: int = READ_AHEAD_BYTES) -> AbstractAsyncContextManager[Any]:
        return changelog_reader(self.app.client, places, read_ahead_bytes)

    # Copies -----------------------------------------------------------------------------------------------------------

    def whole_at_ms(self, partition: int) -> int | None:
        """The last moment, in ms since 1970, at which the copies here of all tables' partition held all of their changelogs."""
        offsets = {}
        for table in self.tables.values():
            if (database := table.store.opened(partition)) is None:
                return None
            offsets[table.name] = database.offset
        return self.copies.whole_at_ms(partition, offsets)

    def given_up(self) -> None:
        """Nothing is owned here from now on: what was is whole as of the last word that nobody else wrote it."""
        if not self._owned:
            return  # nor ever was: there was no heartbeat yet
        owned_at_ms = _now_ms() - int(self.app.consumer.seconds_since_heartbeat() * 1000)
        for table in self.tables.values():
            for partition in self._owned:
                if (database := table.store.opened(partition)) is not None:
                    self.copies.holds_all(partition, table.name, database.offset, owned_at_ms)
        self._owned = set()

    async def _note_followed(
        self, reader: aiokafka.AIOKafkaConsumer, followed: Mapping[aiokafka.TopicPartition, tuple[str, Database]]
    ) -> None:
        """Which of the copies hold all that the broker said to be in their changelogs when it last answered."""
        for place, (table, database) in followed.items():
            end, at_ms = reader.highwater(place), reader.last_poll_timestamp(place)
            if end is not None and at_ms is not None and await reader.position(place) >= end:
                self.copies.holds_all(place.partition, table, database.offset, at_ms)

    async def _close_in_time(self) -> None:
        while True:
            await asyncio.sleep(CLOSE_CHECK_SECONDS)
            await self._close_others()

    async def _close_others(self) -> None:
        """All copies but those that are assigned, or were until a moment ago."""
        tables: list[Table[Any]] = list(self.tables.values())
        opened: set[int] = set().union(*(table.store.open_partitions for table in tables))
        stay = self.copies.stay(self.actives | self.standbys, opened, monotonic())
        for table in tables:
            table.store.close_others(stay)
            await asyncio.sleep(0)  # what is in memory is written out

    def _marker(self) -> tuple[tuple[bytes, bytes], ...]:
        # The time makes it unlike any other owner's, of whatever cluster.
        return ((OWNER_KEY, f"{self.app.worker_name} {time_ns()}".encode()),)

    async def _follow_standbys(self) -> None:
        """Apply the changelogs of standby partitions as they grow, until the next rebalance."""
        databases: dict[aiokafka.TopicPartition, tuple[Database, Any]] = {}
        followed: dict[aiokafka.TopicPartition, tuple[str, Database]] = {}
        for table in self.tables.values():
            for p in self.standbys:
                place, database = aiokafka.TopicPartition(table.changelog_topic_name, p), table.store.open(p)
                databases[place] = database, metrics.RECOVERED.labels(table.name)
                followed[place] = table.name, database
                await asyncio.sleep(0)
        if not databases:
            return
        async with self._reader(list(databases)) as reader:
            changelogs = Changelogs(reader, {tp: database for tp, (database, _) in databases.items()}, Database.throw_away)
            await changelogs.seek()
            noted = 0.0
            while True:
                for tp, records in (await reader.getmany(timeout_ms=int(NOTE_SECONDS * 1000))).items():
                    databases[tp][1].inc(changelogs.apply(tp, records))
                    await asyncio.sleep(0)
                if monotonic() - noted >= NOTE_SECONDS:
                    await self._note_followed(reader, followed)
                    noted = monotonic()


def _now_ms() -> int:
    return time_ns() // 1_000_000

"""A Faust app whose agents work on batches: ``batched_agent`` binds a plain function to a table and its source topics."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, TypeVar

import faust
from faust.auth import OAuthCredentials
from faust.sensors import Monitor
from faust.stores import STORES
from faust.tables.manager import TableManager
from faust.transport.drivers import TRANSPORTS
from faust.types import TP

from app import metrics
from app.engine.assignor import EngineAssignor
from app.engine.batch import BatchMessage, BatchSchema
from app.engine.busyness import Busyness
from app.engine.commit import Committer, Unit, Unwritten, apply_records
from app.engine.fence import Writer
from app.engine.recovery import Recovery
from app.engine.source import SourceReader
from app.engine.store import flushes_keep_up
from app.engine.table import PartitionState, Table
from app.engine.turns import Priority, Turns
from app.errors import BrokerError, NotOwnedError

logger = logging.getLogger(__name__)

R = TypeVar("R")

TRANSPORTS.aliases["engine"] = "app.engine.consumer:EngineTransport"
STORES.aliases["engine"] = "app.engine.store:EngineStore"

#: Batches of one source partition that may be applied and not yet written: one on its way, one being made.
ROOM = 2
#: Batches of one source partition that may wait for their acknowledgement and commit. They hold an offset each, no records.
MAX_UNDECIDED = 2_000
#: Between two looks at whether a slow disk has taken what was written, while nothing is read for it.
DISK_LOOK_SECONDS = 0.05
#: The part of the session time-out, counted from the last good heartbeat, in which a worker may act as owner towards the outside.
LEASE_SHARE = 0.7


@dataclass(frozen=True)
class EngineOptions:
    """What the engine adds to Faust's own settings."""

    bootstrap_servers: str
    batch_max_records: int = 5000
    #: Changed state, in bytes, after which a unit ends: well below fence.MAX_BATCH_BYTES, since the estimate is made before encoding.
    batch_max_bytes: int = 2_000_000
    block_cache_bytes: int = 96 * 1024**2
    #: How long the broker may hold a fetch: while nothing comes, and while something does (source.py).
    fetch_max_wait_ms: int = 100
    fetch_linger_ms: int = 15
    request_timeout_seconds: float = 10
    allow_unfenced: bool = False
    #: By table whose keys are deleted: how long after its last write a local copy may be used. A changelog tells of deletions for a while.
    max_copy_age_ms: Mapping[str, int] = field(default_factory=dict)
    #: Further settings of every Kafka client (TLS, SASL).
    client: Mapping[str, Any] = field(default_factory=dict)


def _group_credentials(client: Mapping[str, Any]) -> faust.auth.CredentialsT | None:
    """The TLS and SASL arguments of a Kafka client in the form that Faust's group member takes."""
    context = client.get("ssl_context")
    match client.get("security_protocol", "PLAINTEXT"):
        case "SSL":
            return faust.SSLCredentials(context)
        case "SASL_PLAINTEXT" | "SASL_SSL" if tokens := client.get("sasl_oauth_token_provider"):
            return OAuthCredentials(oauth_cb=tokens, ssl_context=context)
        case "SASL_PLAINTEXT" | "SASL_SSL":
            return faust.SASLCredentials(
                username=client["sasl_plain_username"],
                password=client["sasl_plain_password"],
                mechanism=client["sasl_mechanism"],
                ssl_context=context,
            )
        case _:
            return None


class EngineMonitor(Monitor):
    """Faust's figures, but those by event: an event is a batch here, and what is worth knowing of it is in app/metrics.py."""

    def on_message_in(self, *_: Any) -> None:
        """Nothing."""

    def on_message_out(self, *_: Any) -> None:
        """Nothing."""

    def on_stream_event_in(self, *_: Any) -> None:
        """Nothing."""

    def on_stream_event_out(self, *_: Any) -> None:
        """Nothing."""


class EngineTableManager(TableManager):
    """Faust's table manager with the engine's recovery."""

    @property
    def recovery(self) -> Any:
        if self._recovery is None:
            self._recovery = Recovery(  # type: ignore[assignment]  # it stands in for Faust's without being one
                self.app, self, beacon=self.beacon, loop=self.loop
            )
        return self._recovery

    async def on_stop(self) -> None:
        await self.app.give_up()
        await super().on_stop()


class EngineApp(faust.App):
    """``fail`` is called with what stops the process; by default it crashes the app as Faust does."""

    def __init__(
        self, id: str, *, options: EngineOptions, worker_name: str, fail: Callable[[BaseException], None] | None = None, **kwargs: Any
    ) -> None:
        self.options = options
        self.worker_name = worker_name
        #: Source topic → the table its records are applied to.
        self.sources: dict[str, Table[Any]] = {}
        #: (table, partition) → offset of the owner's marker in the changelog, plus one: grows with each owner.
        self.owner_offsets: dict[tuple[str, int], int] = {}
        #: Called with the partitions owned, after recovery and before the sources flow; and before they are given up.
        self.on_owned: list[Callable[[set[int]], Awaitable[None]]] = []
        self.on_given_up: list[Callable[[], Awaitable[None]]] = []
        #: Asked before a source partition is read further: backpressure of what follows from its records.
        self.may_read: list[Callable[[TP], bool]] = []
        #: Called when the app is told to stop, while everything still works.
        self.before_stop: list[Callable[[], Awaitable[None]]] = []
        #: For whatever takes long: an agent's step takes one by itself.
        self.turns = Turns()
        #: Of the event loop.
        self.busyness = Busyness()
        #: (table, partition) → who writes it, while it is owned.
        self.committers: dict[tuple[str, int], Committer] = {}
        #: What their units made and is not written.
        self.unwritten_bytes = Unwritten(room_made=self.room_made)
        self._disk_timer: asyncio.TimerHandle | None = None
        #: Batches that were handed to their agent and are not written.
        self.unwritten: Counter[TP] = Counter()
        #: Steps that the agent of each source topic made.
        self.steps: Counter[str] = Counter()
        #: By partition, steps of what its batches wait for when they are written (``Unit.hold``): told by whoever makes them.
        self.followed: Counter[int] = Counter()
        #: Of the generation at work.
        self.reader: SourceReader | None = None
        #: Of what is owned: where its log ended, and a moment, in ms since 1970, at which it ended there or before.
        self.ends_at_take_over: dict[TP, list[tuple[int, int]]] = {}
        self._fail = fail
        self.client: dict[str, Any] = {
            "bootstrap_servers": options.bootstrap_servers,
            "request_timeout_ms": int(options.request_timeout_seconds * 1000),
            **options.client,
        }
        self.reader_client = {**self.client, "fetch_max_wait_ms": options.fetch_max_wait_ms}
        self.writer = Writer(
            self.client, id, request_timeout_seconds=options.request_timeout_seconds, allow_unfenced=options.allow_unfenced
        )
        servers = ";".join(f"engine://{server}" for server in options.bootstrap_servers.split(","))
        super().__init__(
            id,
            broker=servers,
            broker_credentials=_group_credentials(self.client),
            store="engine://",
            TableManager=EngineTableManager,
            Monitor=EngineMonitor,
            PartitionAssignor=EngineAssignor,
            topic_disable_leader=True,
            topic_allow_declare=True,
            agent_supervisor="mode.CrashingSupervisor",
            web_enabled=False,
            stream_wait_empty=True,
            key_serializer="raw",
            value_serializer="raw",
            **kwargs,
        )
        self.on_partitions_revoked.connect(self.give_up)

    # Topology ----------------------------------------------------------------------------------------------------------

    def batched_agent(
        self, name: str, table: Table[Any], topics: list[str], apply: Callable[[Unit[Any]], None], *, urgent: bool = False
    ) -> None:
        """``apply(unit)`` is called with runs of records of any of ``topics``, which are partitioned like ``table``.

        What is ``urgent`` goes before what is not, whenever both wait.
        """
        for topic in topics:
            assert topic not in self.sources, f"{topic} feeds one table only"
            self.sources[topic] = table
        channel = self.topic(
            *topics,
            partitions=table.partitions,
            maxsize=1024,
            schema=BatchSchema(key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"),
        )

        priority = Priority.URGENT if urgent else Priority.ORDINARY

        async def run(stream: Any) -> None:
            async for event in stream.noack().events():
                try:
                    await self._apply(table, event, apply, priority)
                except NotOwnedError:
                    continue  # revoked while it waited for its turn: its next owner reads it again
                except asyncio.CancelledError:
                    raise
                except BaseException as exc:
                    self.fail(exc)
                    raise

        self.agent(channel, name=name)(run)

    async def _apply(self, table: Table[Any], event: Any, apply: Callable[[Unit[Any]], None], priority: Priority) -> None:
        """A batch, in steps that take turns with the others'. Whoever reads it again after it was broken off skips what is applied."""
        message: BatchMessage = event.message
        place = table.name, message.partition
        await self.turns.take(priority)
        state, committer = table.state(message.partition), self.committers.get(place)
        if committer is None:
            raise NotOwnedError(f"partition {message.partition} of table {table.name} is being given up")
        steps = apply_records(
            state, message.topic, message.records, apply, committer.add, self.options.batch_max_bytes, step_seconds=self.turns.step_seconds
        )
        units: list[Unit[Any]] = []
        while True:
            try:
                unit, is_last = next(steps)
            except BaseException:
                committer.halt()
                raise
            units.append(unit)
            self.steps[message.topic] += 1
            if is_last:
                break
            await self.unwritten_bytes.room()
            await self.turns.take(priority)
            if self.committers.get(place) is not committer:
                raise NotOwnedError(f"partition {message.partition} of table {table.name} was given up")
        committer.complete()
        units[-1].done.add_done_callback(partial(self._written, event, units))  # they are written in order

    def _written(self, event: Any, units: list[Unit[Any]], last: asyncio.Future[None]) -> None:
        """The batch is written, or will never be: then the process stops, or the partition was given up."""
        if last.cancelled() or last.exception() is not None:
            return
        self.unwritten[event.message.tp] -= 1
        self.room_made()
        event.value, event.message.records = None, ()  # only the offset is needed from here on, and the wait may be long
        self._see_through(event, list({hold for unit in units for hold in unit.holds}))

    def _see_through(self, event: Any, holds: list[asyncio.Future[Any]]) -> None:
        """Acknowledge a batch once everything it caused is seen through; what is not acknowledged is never committed."""
        while holds:
            hold = holds[-1]
            if not hold.done():
                hold.add_done_callback(lambda _: self._see_through(event, holds))
                return
            if hold.cancelled() or hold.exception() is not None:
                return
            holds.pop()
        event.ack()

    async def apply_to(self, table: Table[Any], partition: int, change: Callable[[Unit[Any]], R]) -> R:
        """A unit without source records, for timers and answers from outside; returns what ``change`` did when it is written.

        Raises NotOwnedError when the partition is not owned.
        """
        unit: Unit[Any] = Unit(table.state(partition))
        committer = self.committers.get((table.name, partition))
        if committer is None:
            raise NotOwnedError(f"partition {partition} of table {table.name} is not owned here")
        try:
            result = change(unit)
        except BaseException:
            committer.halt()
            raise
        committer.submit(unit)
        await asyncio.shield(unit.done)
        return result

    # Generations -------------------------------------------------------------------------------------------------------

    async def begin_generation(self, partitions: set[int]) -> None:
        """Recovery is done: start the committers, then tell the topology."""
        self.consumer.forget_delivered()
        self.unwritten.clear()
        for table in self.tables.values():
            for partition in partitions:
                state: PartitionState[Any] = table.state(partition)
                committer = self.committers[table.name, partition] = Committer(
                    table, state, self.writer, self.fail, self.options.batch_max_bytes, self.unwritten_bytes
                )
                committer.start()
        for tell in self.on_owned:
            await tell(partitions)

    async def read_sources(self, positions: Mapping[TP, int], generation: int) -> None:
        """Read the sources until cancelled."""
        if not positions:
            return
        self.consumer.begin_at(positions)
        self.reader = reader = SourceReader(
            self.reader_client,
            positions,
            generation=generation,
            batch_max_records=self.options.batch_max_records,
            linger_ms=self.options.fetch_linger_ms,
            deliver=self._deliver,
            has_room=self.has_room,
            is_busy=self.is_busy,
        )
        try:
            await reader.run()
        finally:
            if self.reader is reader:  # a slow broker may let this one close after its successor began
                self.reader = None

    async def _deliver(self, message: BatchMessage) -> None:
        self.unwritten[message.tp] += 1
        await self.consumer.deliver(message)

    def has_room(self, tp: TP) -> bool:
        """Whether the source partition may have one more batch."""
        if self.unwritten[tp] >= ROOM or self.consumer.undecided(tp) >= MAX_UNDECIDED or self.unwritten_bytes.is_full:
            return False
        if not flushes_keep_up(self.options.block_cache_bytes):
            self._look_at_the_disk_again()
            return False
        return all(may_read(tp) for may_read in self.may_read)

    def _look_at_the_disk_again(self) -> None:
        if self._disk_timer is None:
            self._disk_timer = asyncio.get_running_loop().call_later(DISK_LOOK_SECONDS, self._looked_at_the_disk)

    def _looked_at_the_disk(self) -> None:
        self._disk_timer = None
        self.room_made()

    def is_busy(self) -> bool:
        """Whether work that may wait for company should: many small units would cost more than they gain."""
        return self.busyness.is_busy

    def room_made(self) -> None:
        """Something that kept a partition from being read has ended."""
        if self.reader is not None:
            self.reader.room_made()

    def end(self, topic: str, partition: int) -> tuple[int, int] | None:
        """The broker's end of a source partition that is read here, and when it was so, in ms since 1970."""
        tp = TP(topic, partition)
        return self.reader.end(tp) if self.reader is not None and tp in self.reader.partitions else None

    def ends(self, topic: str, partition: int) -> Iterator[tuple[int, int]]:
        """Offsets of a source partition that is owned here, and a moment, in ms since 1970, at which its log ended there or before.

        Who has just come and is behind knows of no end that it has reached; it does know when the records were made that come next, and
        they were not in the log before.
        """
        yield from self.ends_at_take_over.get(TP(topic, partition), ())
        if (end := self.end(topic, partition)) is not None:
            yield end
        if self.reader is not None and (began := self.reader.began(TP(topic, partition))) is not None:
            yield began[0], min(began[1], time.time_ns() // 1_000_000)

    def lags(self) -> dict[tuple[str, int], int]:
        """Records not yet handed to the agents, for each source partition read here."""
        if (reader := self.reader) is None:
            return {}
        return {(tp.topic, tp.partition): lag for tp in reader.partitions if (lag := reader.lag(tp)) is not None}

    def lag(self, topic: str, partition: int) -> int:
        """Records of a source partition not yet handed to its agent; 0 while it is not known."""
        return (self.reader.lag(TP(topic, partition)) if self.reader else 0) or 0

    def delay_seconds(self, topic: str, partition: int) -> float:
        """How far behind the log a source partition is being applied, in time; 0 when it keeps up."""
        if self.reader is None:
            return 0.0
        return self.reader.delay_ms(TP(topic, partition), time.time_ns() // 1_000_000) / 1000.0

    def lease_is_good(self) -> bool:
        """Whether the group's coordinator acknowledged this member recently enough for nobody else to own its partitions yet."""
        return bool(self.consumer.seconds_since_heartbeat() < self._lease_seconds)

    @cached_property
    def _lease_seconds(self) -> float:
        # Kept, for Faust's settings are slow to read, and the lease is asked for before each request.
        return LEASE_SHARE * float(self.conf.broker_session_timeout)

    async def give_up(self, *_: Any, **__: Any) -> None:
        """All partitions are revoked, and what was read of them is finished: write out the rest, then own nothing."""
        self.ends_at_take_over = {}
        for tell in self.on_given_up:
            await tell()
        committers, self.committers = self.committers, {}
        if committers:
            drains = [asyncio.ensure_future(c.drain()) for c in committers.values()]
            for drain in (await asyncio.wait(drains, timeout=self.options.request_timeout_seconds))[1]:
                drain.cancel()
            await asyncio.gather(*(c.stop() for c in committers.values()))
        self.tables.recovery.given_up()
        for table in self.tables.values():
            table.give_up()
        await asyncio.sleep(0)  # what was written is acknowledged now; what waits for more was told that it will not come

    # Life ---------------------------------------------------------------------------------------------------------------

    async def on_start(self) -> None:
        await self.writer.start(table.changelog_topic_name for table in self.tables.values())
        metrics.FENCED.set(self.writer.fenced)
        if not self.writer.fenced:
            logger.warning(
                "this broker cannot fence: no idempotent writes (a retried write may be appended twice) and no producer epochs "
                "(a worker that was paused past its session may overwrite its successor's state). Fit for a trial, not for production."
            )
        self.add_future(self._watch_group())
        await super().on_start()

    async def _watch_group(self) -> None:
        while not self.should_stop:
            await asyncio.sleep(1)
            if (error := self.consumer.group_error()) is not None and not self.should_stop:
                self.fail(BrokerError(f"the membership in the group {self.conf.id} ended: {error!r}"))

    def _on_rebalance_when_stopped(self) -> None:
        """Faust would close the consumer, from another loop and under its last commit."""

    async def on_stop(self) -> None:
        for prepare in self.before_stop:
            await prepare()
        await super().on_stop()

    async def on_shutdown(self) -> None:
        await super().on_shutdown()
        await self.writer.stop()

    def fail(self, exc: BaseException) -> None:
        """Stop the process: going on could lose or double events."""
        if self._fail is not None:
            self._fail(exc)
            return
        self.consumer._crash(exc)  # or a stop would wait for acknowledgements that never come
        super()._crash(exc)

    def _crash(self, reason: BaseException) -> None:
        """What Faust itself takes for the end is ours too, and told the same way."""
        if self._fail is not None and not isinstance(reason, asyncio.CancelledError):
            self._fail(reason)
        super()._crash(reason)

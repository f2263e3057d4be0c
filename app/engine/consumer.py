"""The group member: Faust's consumer for membership, assignment and commits, fetching nothing itself.

Records come from source.py. Offsets are committed strictly in order for each partition: the end of the longest prefix of delivered
batches that are all acknowledged. (Faust's own bookkeeping commits over unacknowledged offsets; see faust-streaming/faust#606.)
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import aiokafka
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode import Service

from app.engine.batch import BatchMessage

logger = logging.getLogger(__name__)


def _clock_seconds() -> float:
    """Seconds since boot, those spent suspended included."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class GroupThread(driver.AIOKafkaConsumerThread):
    """The thread that heartbeats, whatever the worker's loop is busy with."""

    #: When the last heartbeat that the coordinator acknowledged was sent.
    heartbeat_at = -math.inf

    async def on_start(self) -> None:
        await super().on_start()
        coordinator = self._ensure_consumer()._coordinator
        beat = coordinator._do_heartbeat

        async def timed() -> bool:
            sent_at = _clock_seconds()
            acknowledged = await beat()
            if acknowledged:
                self.heartbeat_at = sent_at
            return acknowledged

        coordinator._do_heartbeat = timed  # aiokafka tells nobody when it was last acknowledged

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        # Faust's pause is its own; without aiokafka's, a first fetch of every assigned partition would be held in memory.
        self.heartbeat_at = _clock_seconds()  # the coordinator just answered with this assignment
        if assigned:
            self._ensure_consumer().pause(*(aiokafka.TopicPartition(tp.topic, tp.partition) for tp in assigned))
        await super().on_partitions_assigned(assigned, generation_id)


class GroupConsumer(driver.Consumer):
    """Delivers what the engine's reader fetched and commits what the engine acknowledged."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._delivered: dict[TP, deque[BatchMessage]] = {}
        #: The offset after the last record that is seen through and no batch tells any more.
        self._seen_through: dict[TP, int] = {}
        super().__init__(*args, **kwargs)

    def _new_consumer_thread(self) -> GroupThread:
        return GroupThread(self, loop=self.loop, beacon=self.beacon)

    def seconds_since_heartbeat(self) -> float:
        """Since the last heartbeat that the group's coordinator acknowledged was sent; infinite before the first."""
        return _clock_seconds() - self._thread.heartbeat_at

    async def create_topic(self, topic: str, *args: Any, **kwargs: Any) -> None:
        """Topics are created by `tidings topics`, with their settings, not by whoever mentions one first."""

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Join the group, for all topics of the app or not at all.

        Where a worker is stopped before its tables are registered, Faust's conductor no longer waits for them and subscribes to the rest.
        The group would give such a member some of the sources' partitions and others the changelogs that belong to them, who then stop.
        """
        asked, wanted = set(topics), {*self.app.sources, *self.app.tables.changelog_topics}
        if missing := wanted - asked:
            logger.info("the group is not joined without %s", ", ".join(sorted(missing)))
            return
        await super().subscribe(asked)

    async def committed_offsets(self, partitions: Iterable[TP]) -> dict[TP, int | None]:
        """The group's committed offset for each partition, None where it has none."""
        consumer = self._thread._ensure_consumer()

        async def ask() -> dict[TP, int | None]:
            return {tp: await consumer.committed(aiokafka.TopicPartition(tp.topic, tp.partition)) for tp in partitions}

        return await self._thread.call_thread(ask)

    def deliver(self, message: BatchMessage) -> Any:
        """Hand a batch to its agent; returns an awaitable."""
        self._delivered.setdefault(message.tp, deque()).append(message)
        return self.callback(message)

    def begin_at(self, positions: Mapping[TP, int]) -> None:
        """A generation reads from these offsets on; what is before them is seen through."""
        self._seen_through = dict(positions)

    def seen_through(self, tp: TP) -> int:
        """The offset after the last record of which all that follows is done, too; 0 when nothing is known of the partition."""
        offset = self._seen_through.get(tp, 0)
        for message in self._delivered.get(tp, ()):
            if not message.acked:
                break
            offset = message.offset + 1
        return offset

    def undecided(self, tp: TP) -> int:
        """Batches delivered and not committed."""
        return len(self._delivered.get(tp, ()))

    def next_commits(self) -> Iterator[tuple[TP, int, bool]]:
        """For each partition with batches that are not committed: up to which offset the first goes, and whether it is acknowledged."""
        for tp, queue in self._delivered.items():
            if queue:
                yield tp, queue[0].offset + 1, bool(queue[0].acked)

    def group_error(self) -> BaseException | None:
        """What ended or parked the membership in the group: aiokafka would tell whoever fetches next, and nobody does here."""
        coordinator = getattr(getattr(self._thread, "_consumer", None), "_coordinator", None)
        if coordinator is None or self.should_stop:
            return None
        task = coordinator._coordination_task
        if task is not None and task.done() and not task.cancelled():
            return task.exception() or RuntimeError("its task ended")
        return coordinator._pending_exception

    async def wait_empty(self) -> None:
        """A rebalance or a stop: write out what is applied, commit what is seen through, and leave the rest to the next owner.

        Faust would wait for every acknowledgement, and those wait for rankings: longer, under a backlog, than the group waits for a member.
        """
        await self.app.give_up()
        with suppress(TimeoutError):
            await asyncio.wait_for(self.commit_and_end_transactions(), self.app.options.request_timeout_seconds)

    def forget_delivered(self) -> None:
        """Start a generation: what was delivered before it will be delivered again."""
        self._delivered.clear()
        for tp in list(self._acked):
            self._acked[tp].clear()
            self._acked_index[tp].clear()
        self._committed_offset.clear()

    def _new_offset(self, tp: TP) -> int | None:
        self._acked[tp].clear()  # Faust's lists serve as a wake-up only
        self._acked_index[tp].clear()
        queue, offset = self._delivered.get(tp), None
        while queue and queue[0].acked:
            offset = self._seen_through[tp] = queue.popleft().offset + 1
        return offset

    async def _drain_messages(self, fetcher: Service) -> None:
        """Faust's fetch loop: nothing to fetch here, so it only waits to be stopped.

        That it was is no news for Faust, which would take it for a crash while the group rebalances.
        """
        with suppress(asyncio.CancelledError):
            while not (self.should_stop or fetcher.should_stop):  # noqa: ASYNC110  Faust sets flags, no event that could be awaited for both
                await asyncio.sleep(0.5)

    async def perform_seek(self) -> None:
        """Positions belong to the reader."""

    async def verify_all_partitions_active(self) -> None:
        """The reader's lag is what tells; see the metric tidings_lag_records."""


class GroupProducer(driver.Producer):
    """Faust's producer, used for nothing but its partitioner: records leave through fence.py and commit.py."""

    async def create_topic(self, topic: str, *args: Any, **kwargs: Any) -> None:
        """See GroupConsumer.create_topic."""


class EngineTransport(driver.Transport):
    """What the URL scheme ``engine://`` stands for."""

    Consumer = GroupConsumer
    Producer = GroupProducer

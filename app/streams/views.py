"""What the tables say to the outside: acknowledged state of the partitions owned here, and where the others are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from faust.types import TP

from app import metrics
from app.delivery.status import LineStatus
from app.domain.held_neighbours import HeldNeighbours, decode_held_neighbours
from app.domain.items import ItemState, decode_item
from app.domain.slots import Selection
from app.engine import EngineApp, Table
from app.engine.allocator import FreeMemory
from app.engine.copies import KEPT_SECONDS
from app.engine.held_memory import memory_parts
from app.engine.log_ends import LogEnds
from app.engine.progress import offsets_of
from app.engine.table import MARK_PREFIX, next_offset_of
from app.errors import NotOwnedError
from app.streams.location import Elsewhere, Freshness, Here, Location, Moving, WorkerStatus
from app.streams.publisher import partition_of
from app.streams.recommender import Recommender
from tidings.state.v1.neighbours_pb2 import NeighbourList
from tidings.state.v1.outbox_pb2 import OutboxEntry
from tidings.state.v1.profile_pb2 import Profile
from tidings.updates.v1.update_pb2 import RecommendationUpdate

#: A standby that is behind the log by no more is shown as one.
WARM_MS = 5_000
#: Seconds between two looks at the disk.
_SIZE_EVERY = 30


class TableViews:
    """Implements app.web.views.Views."""

    def __init__(
        self,
        app: EngineApp,
        profiles: Table[Profile],
        items: Table[ItemState],
        neighbours: Table[HeldNeighbours],
        outbox: Table[OutboxEntry],
        recommender: Recommender,
        *,
        events_topic: str,
        visits_topic: str,
        partitions: int,
        advertised_url: str,
        line_statuses: Callable[[], list[LineStatus]],
    ) -> None:
        self._app = app
        self._line_statuses = line_statuses
        self._profiles = profiles
        self._items = items
        self._neighbours = neighbours
        self._outbox = outbox
        self._recommender = recommender
        self._events_topic = events_topic
        self._visits_topic = visits_topic
        self._ends = LogEnds()
        self._partitions = partitions
        self._advertised_url = advertised_url.rstrip("/")

    def partition_of(self, key: str) -> int:
        return partition_of(key.encode(), self._partitions)

    def locate(self, partition: int) -> Location:
        if self._profiles.owns(partition):
            return Here()
        if self._app.rebalancing:
            return Moving("the fleet is rebalancing")
        url = self._app.assignor._tps_url.get(TP(self._profiles.changelog_topic_name, partition), "").rstrip("/")
        if url and url != self._advertised_url:
            return Elsewhere(url)
        return Moving("this worker is recovering the partition")

    def freshness(self, partition: int) -> Freshness | None:
        return self._freshness(self._profiles, self._events_topic, partition)

    def item_freshness(self, partition: int) -> Freshness | None:
        return self._freshness(self._items, self._visits_topic, partition)

    def _freshness(self, table: Table[Any], topic: str, partition: int) -> Freshness | None:
        try:
            raw = self._raw(table, partition, MARK_PREFIX + topic.encode())
        except NotOwnedError:
            return None
        next_offset, tp, is_active = next_offset_of(raw), TP(topic, partition), table.owns(partition)
        if is_active:
            for known in self._app.ends(topic, partition):
                self._ends.note(tp, *known)
        current_to_ms, is_followed = self._ends.current_to_ms(tp, next_offset), True
        if not is_active:
            recovery = self._app.tables.recovery
            whole_at_ms, is_followed = recovery.whole_at_ms(partition), partition in recovery.standbys | recovery.actives
            if whole_at_ms is None:
                return None  # one table may have come further than another
            current_to_ms = None if current_to_ms is None else min(current_to_ms, whole_at_ms)
        return Freshness(partition, next_offset, self._ends.lag(tp, next_offset), current_to_ms, is_active, is_followed)

    def seen_through(self, partition: int) -> int:
        return self._app.consumer.seen_through(TP(self._events_topic, partition)) if self._profiles.owns(partition) else 0

    def _raw(self, table: Table[Any], partition: int, key: bytes) -> bytes | None:
        """The value as the changelog has it, where the partition is owned; otherwise as far as the copy that is here has read it."""
        if not table.owns(partition) and (copy := table.store.opened(partition)) is not None:
            return copy.get(key)
        return table.state(partition).read(key)

    def _value(self, table: Table[Any], id: str) -> bytes | None:
        return self._raw(table, self.partition_of(id), id.encode())

    def profile(self, user_id: str) -> Profile | None:
        raw = self._value(self._profiles, user_id)
        return None if raw is None else Profile.FromString(raw)

    def neighbours(self, user_id: str) -> list[NeighbourList]:
        held = self._held(user_id)
        return [] if held is None else held.messages()

    def published(self, user_id: str, now_ms: int) -> RecommendationUpdate | None:
        if (entry := self.outbox_entry(user_id)) is None:
            return None
        return self._recommender.as_of_now(entry.update, self.profile(user_id), lambda: self._held(user_id), now_ms)

    def outbox_entry(self, user_id: str) -> OutboxEntry | None:
        raw = self._value(self._outbox, user_id)
        return None if raw is None else OutboxEntry.FromString(raw)

    def slots(self) -> Collection[str]:
        return self._recommender.slots.keys()

    def select(self, user_id: str, slot: str, now_ms: int, *, explain: bool) -> Selection:
        slots = self._recommender.slots
        return self._recommender.select(slots[slot], self.profile(user_id), self._held(user_id), now_ms, explain=explain)

    def select_for_anybody(self, slot: str, now_ms: int) -> Selection:
        return self._recommender.select(self._recommender.slots[slot], None, None, now_ms)

    def _held(self, user_id: str) -> HeldNeighbours | None:
        raw = self._value(self._neighbours, user_id)
        return None if raw is None else decode_held_neighbours(raw)

    def item(self, product_id: str) -> ItemState | None:
        raw = self._value(self._items, product_id)
        return None if raw is None else decode_item(raw)

    def status(self) -> WorkerStatus:
        app = self._app
        recovery = app.tables.recovery
        lags = app.lags()
        reason = "ready"
        if not recovery.completed.is_set():
            reason = "recovering" if recovery.in_recovery else "joining the group"
        elif app.rebalancing or recovery.in_recovery:
            reason = "rebalancing"
        elif not app.lease_is_good():
            reason = "no heartbeat from the group's coordinator"
        return WorkerStatus(
            ready=reason == "ready" or (reason == "rebalancing" and self._copies_answer()),
            reason=reason,
            active_partitions=tuple(self._profiles.owned),
            standby_partitions=tuple(p for p in sorted(recovery.standbys) if self._is_warm(p)),
            lag=lags,
            recovering=recovery.in_recovery,
            fenced=app.writer.fenced,
            alive=not app.should_stop,
        )

    def _copies_answer(self) -> bool:
        """Whether what is here answers while nothing is owned. A rebalance takes all workers at once: were none of them asked then, nobody
        would get what each of them has.
        """
        if not self._app.conf.table_standby_replicas:
            return False
        oldest_ms = time.time_ns() // 1_000_000 - KEPT_SECONDS * 1000
        known = (self.freshness(partition) for partition in range(self._partitions))
        return any(of is not None and of.current_to_ms is not None and of.current_to_ms > oldest_ms for of in known)

    def _is_warm(self, partition: int) -> bool:
        """Whether the copies of a partition could answer for it now."""
        now_ms = time.time_ns() // 1_000_000
        return all(
            of is not None and of.current_to_ms is not None and now_ms - of.current_to_ms <= WARM_MS
            for of in (self.freshness(partition), self.item_freshness(partition))
        )

    def destinations(self) -> list[LineStatus]:
        return self._line_statuses()

    def other_workers(self) -> list[str]:
        topic = self._profiles.changelog_topic_name
        urls = (self._app.assignor._tps_url.get(TP(topic, p), "").rstrip("/") for p in range(self._partitions))
        return sorted({url for url in urls if url and url != self._advertised_url})

    async def follow_ends(self) -> None:
        """Know how far behind their logs the copies are that others own, until cancelled."""
        tables = {self._events_topic: self._profiles, self._visits_topic: self._items}
        places = [TP(topic, partition) for topic in tables for partition in range(self._partitions)]
        await self._ends.follow(
            self._app.reader_client,
            places,
            lambda tp: self._app.end(*tp),
            lambda tp: tables[tp.topic].store.opened(tp.partition) is not None,
        )

    async def report(self) -> None:
        """Keep the gauges of lag, of memory and of bytes on disk current, until cancelled; and give back memory when nothing waits."""
        tables = self._app.tables.values()

        def forget() -> None:
            for table in tables:
                table.forget()  # type: ignore[attr-defined]  # they are the engine's

        turn, shown, free_memory = 0, set[tuple[str, int]](), FreeMemory(forget=forget)
        while True:
            lags = self._app.lags()
            shown = show_lags(lags, shown)
            for part, size in memory_parts(self._app).items():
                metrics.MEMORY_BYTES.labels(part).set(size)
            if turn % _SIZE_EVERY == 0:
                for table in tables:
                    metrics.STATE_BYTES.labels(table.name).set(table.store.size_bytes())
            is_quiet = not (any(lags.values()) or self._app.unwritten_bytes.bytes)
            free_memory.look(is_quiet=is_quiet, position=offsets_of(self._app))
            turn += 1
            await asyncio.sleep(1)


def show_lags(lags: Mapping[tuple[str, int], int], shown: set[tuple[str, int]]) -> set[tuple[str, int]]:
    """By topic and partition. Of those that were shown before and are read by another worker by now, nothing is said any more; returns
    what is shown.
    """
    for topic, partition in shown - lags.keys():
        metrics.LAG.remove(topic, str(partition))
    for (topic, partition), lag in lags.items():
        metrics.LAG.labels(topic, str(partition)).set(lag)
    return set(lags)

"""What the tables say to the outside: acknowledged state of the partitions owned here, and where the others are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from faust.types import TP

from app import metrics
from app.delivery.status import LineStatus
from app.domain.held_neighbours import HeldNeighbours, decode_held_neighbours
from app.domain.items import ItemState, decode_item
from app.domain.slots import Selection
from app.engine import EngineApp, Table
from app.streams.location import Elsewhere, Here, Location, Moving, WorkerStatus
from app.streams.publisher import partition_of
from app.streams.recommender import Recommender
from tidings.state.v1.neighbours_pb2 import NeighbourList
from tidings.state.v1.outbox_pb2 import OutboxEntry
from tidings.state.v1.profile_pb2 import Profile
from tidings.updates.v1.update_pb2 import RecommendationUpdate

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
        self._partitions = partitions
        self._advertised_url = advertised_url.rstrip("/")

    def partition_of(self, key: str) -> int:
        return partition_of(key.encode(), self._partitions)

    def locate(self, partition: int) -> Location:
        if partition in self._profiles.owned:
            return Here()
        if self._app.rebalancing:
            return Moving("the fleet is rebalancing")
        url = self._app.assignor._tps_url.get(TP(self._profiles.changelog_topic_name, partition), "").rstrip("/")
        if url and url != self._advertised_url:
            return Elsewhere(url)
        return Moving("this worker is recovering the partition")

    def profile(self, user_id: str) -> Profile | None:
        raw = self._profiles.state(self.partition_of(user_id)).read(user_id.encode())
        return None if raw is None else Profile.FromString(raw)

    def neighbours(self, user_id: str) -> list[NeighbourList]:
        held = self._held(user_id)
        return [] if held is None else held.messages()

    def published(self, user_id: str, now_ms: int) -> RecommendationUpdate | None:
        if (entry := self.outbox_entry(user_id)) is None:
            return None
        return self._recommender.as_of_now(entry.update, self.profile(user_id), lambda: self._held(user_id), now_ms)

    def outbox_entry(self, user_id: str) -> OutboxEntry | None:
        raw = self._outbox.state(self.partition_of(user_id)).read(user_id.encode())
        return None if raw is None else OutboxEntry.FromString(raw)

    def slots(self) -> Collection[str]:
        return self._recommender.slots.keys()

    def select(self, user_id: str, slot: str, now_ms: int, *, explain: bool) -> Selection:
        slots = self._recommender.slots
        return self._recommender.select(slots[slot], self.profile(user_id), self._held(user_id), now_ms, explain=explain)

    def _held(self, user_id: str) -> HeldNeighbours | None:
        raw = self._neighbours.state(self.partition_of(user_id)).read(user_id.encode())
        return None if raw is None else decode_held_neighbours(raw)

    def item(self, product_id: str) -> ItemState | None:
        raw = self._items.state(self.partition_of(product_id)).read(product_id.encode())
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
            ready=reason == "ready",
            reason=reason,
            active_partitions=tuple(self._profiles.owned),
            standby_partitions=tuple(sorted(recovery.standbys)),
            lag=lags,
            recovering=recovery.in_recovery,
            fenced=app.writer.fenced,
            alive=not app.should_stop,
        )

    def destinations(self) -> list[LineStatus]:
        return self._line_statuses()

    def other_workers(self) -> list[str]:
        topic = self._profiles.changelog_topic_name
        urls = (self._app.assignor._tps_url.get(TP(topic, p), "").rstrip("/") for p in range(self._partitions))
        return sorted({url for url in urls if url and url != self._advertised_url})

    async def report(self) -> None:
        """Keep the gauges of lag and of bytes on disk current, until cancelled."""
        turn = 0
        while True:
            for (topic, partition), lag in self._app.lags().items():
                metrics.LAG.labels(topic, partition).set(lag)
            if turn % _SIZE_EVERY == 0:
                for table in self._app.tables.values():
                    metrics.STATE_BYTES.labels(table.name).set(table.store.size_bytes())
            turn += 1
            await asyncio.sleep(1)

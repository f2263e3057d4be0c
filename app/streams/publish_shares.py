"""Publishes each owned partition's share of the global models, and keeps the sum of all partitions' shares ready for ranking."""

from __future__ import annotations

import asyncio
import logging

from app.domain.held_profile import HeldProfile
from app.domain.models import GlobalModels
from app.domain.share import Share, decode_share
from app.engine import Broadcast, EngineApp, Table
from app.errors import ProduceError
from app.streams.fold_profiles import SHARE_KEY
from tidings.state.v1 import share_pb2

logger = logging.getLogger(__name__)


class Shares:
    """``models`` is what ranking uses; ``follow`` and ``publish`` run until cancelled."""

    def __init__(self, app: EngineApp, profiles: Table[HeldProfile], topic: str, *, partitions: int, interval_seconds: float) -> None:
        self._app = app
        self._profiles = profiles
        self._topic = topic
        self._partitions = partitions
        self._interval_seconds = interval_seconds
        self._broadcast = Broadcast(app.reader_client, topic, max_keys=partitions, on_change=self._add_up)
        #: By partition, the latest: a former owner that wakes up late may have written an older one over it.
        self._shares: dict[int, Share] = {}
        self._published: dict[int, int] = {}
        self.models = GlobalModels.of([])

    def _add_up(self) -> None:
        """Never fails: what is in the topic stays there, and would stop every worker again and again."""
        shares: dict[int, Share] = {}
        for key, value in self._broadcast.values.items():
            try:
                share = decode_share(value)
                GlobalModels.of([share])
            except Exception as exc:
                logger.warning("%s holds a share that cannot be used, key %r: %s", self._topic, key, exc)
                continue
            if key != b"%d" % share.partition or share.partition >= self._partitions:
                logger.warning("%s holds a share of partition %d under key %r", self._topic, share.partition, key)
                continue
            shares[share.partition] = max(share, self._shares.get(share.partition, share), key=lambda s: s.event_count)
        self._shares = shares
        self.models = GlobalModels.of(shares.values())

    async def follow(self) -> None:
        await self._broadcast.follow(self._partitions)

    async def publish(self) -> None:
        """A share that has grown is written whole, keyed by its partition: the latest wins, so a repeat does no harm."""
        while True:
            await asyncio.sleep(self._interval_seconds)
            outputs: dict[tuple[str, int], list[tuple[bytes | None, bytes | None]]] = {}
            for partition in self._profiles.owned:
                raw = self._profiles.state(partition).read(SHARE_KEY)
                if raw is not None and (count := share_pb2.Share.FromString(raw).event_count) != self._published.get(partition):
                    self._published[partition] = count
                    outputs[self._topic, partition] = [(b"%d" % partition, raw)]
            try:
                await self._app.writer.write_all(outputs)
            except ProduceError as exc:
                logger.warning("shares not published this time: %s", exc)
                self._published.clear()

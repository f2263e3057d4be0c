"""What follows when partitions are owned and when they are given up: ranking and delivery begin, and rest."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from app.delivery.deliverer import Deliverer
from app.streams.outbox_store import PendingScan
from app.streams.rank_users import RankUsers
from app.streams.topics import TopicNames


async def _at_once() -> None:
    pass


class Ownership:
    """Of one worker: ``held`` is kept at the partitions that are owned, or were last."""

    def __init__(
        self, deliverer: Deliverer, ranker: RankUsers, pending: PendingScan, held: set[int], ready: Callable[[], Awaitable[None]] = _at_once
    ) -> None:
        """``ready`` is waited for before anybody is ranked or sent to."""
        self._deliverer = deliverer
        self._ranker = ranker
        self._pending = pending
        self._held = held
        self._ready = ready

    def follow(self, app: Any, names: TopicNames) -> None:
        """Let the app say when, and let it read no more than the ranking has room for."""
        # What items answer makes users dirty as well: a backlog of answers must not pile them up either.
        app.may_read.append(lambda tp: tp.topic not in (names.events, names.neighbours) or self._ranker.has_room(tp.partition))
        app.on_owned.append(self.owned)
        app.on_given_up.append(self.given_up)
        app.before_stop.append(self._deliverer.stop)

    async def owned(self, partitions: Iterable[int]) -> None:
        owned = set(partitions)
        # Only what did not come back: the outcome of a request of a partition that did is still wanted.
        if lost := self._held - owned:
            self._deliverer.revoke(lost)
        self._held.clear()
        self._held.update(owned)
        await self._ready()
        await self._ranker.begin(owned)
        self._pending.begin(owned)
        self._deliverer.resume()

    async def given_up(self) -> None:
        self._pending.stop()
        await self._deliverer.rest()
        await self._ranker.give_up()

"""Looks through the outbox for those who were left out of a target's lane."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from app.delivery import outbox
from app.delivery.kit import Kit
from app.errors import NotOwnedError

#: Entries looked at before other tasks get the event loop.
STEP = 500


class Search:
    """One partition at a time."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._is_running = False

    def begin(self, may_go_on: Callable[[], bool]) -> None:
        """If somebody was left out who may have room now: a search that ends when the lane is full, the partition is at its end, or
        ``may_go_on`` says no. Whoever it did not come to is left out still.
        """
        kit, left_out = self._kit, self._kit.lane.left_out
        if self._is_running or not left_out or not kit.lane.has_much_room:
            return
        if (partition := left_out.next(kit.clock())) is not None:
            self._is_running = True
            kit.spawn(self._run(partition, may_go_on))

    async def _run(self, partition: int, may_go_on: Callable[[], bool]) -> None:
        left_out = self._kit.lane.left_out
        try:
            await self._look(partition, left_out.begin(partition, self._kit.clock()), may_go_on)
        except NotOwnedError:
            left_out.forget({partition})
        finally:
            self._is_running = False
        self._kit.wake()

    async def _look(self, partition: int, first: str, may_go_on: Callable[[], bool]) -> None:
        kit, lane = self._kit, self._kit.lane
        for number, (user_id, entry) in enumerate(kit.store.scan(partition, first), 1):
            if number % STEP == 0:
                kit.wake()
                await asyncio.sleep(0)
            if not lane.room or not may_go_on():
                lane.left_out.go_on_at(partition, user_id)
                return
            delivery = outbox.delivery_of(entry, kit.name)
            if delivery is None:
                continue
            if outbox.is_live(delivery) or delivery.job:
                lane.due((user_id,))
            elif outbox.is_due(delivery):
                lane.due_again((user_id,))
        if first:
            # Who stands before that, and was left out meanwhile, is not told from the rest of this search.
            lane.left_out.go_on_at(partition, "")

"""A shop under test: people who look at products all the time, and what is read of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.streams.publisher import Publisher
from tests.e2e.fleet import READY_SECONDS, Fleet
from tests.e2e.processes import Worker
from tests.e2e.waiting import until
from tidings.events.v1.event_pb2 import Event, ProductViewed

PEOPLE, PRODUCTS = 60, 20
#: Every route that reads of one person or product.
PATHS = [
    path
    for n in range(PEOPLE)
    for path in (
        f"/v1/users/u{n}", f"/v1/users/u{n}/recommendations", f"/v1/users/u{n}/deliveries", f"/v1/items/p{n % PRODUCTS}/neighbours",
    )
]  # fmt: skip
#: Between two times that people look.
_EVERY_SECONDS = 0.25


def view(n: int) -> Event:
    """The n-th: each person in turn, each at the next product."""
    return Event(
        event_id=f"v{n}", user_id=f"u{n % PEOPLE}", occurred_at_ms=1_700_000_000_000 + n * 1000,
        product_viewed=ProductViewed(product_id=f"p{n % PRODUCTS}"),
    )


class Shop:
    """``count``: events so far."""

    def __init__(self, fleet: Fleet, events_per_second: float) -> None:
        self.count = 0
        self._fleet = fleet
        self._at_once = max(1, round(events_per_second * _EVERY_SECONDS))

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Everybody has come once by the beginning."""
        async with Publisher.of_events(self._fleet.settings) as publisher:
            await self._look(publisher, 4 * PEOPLE)
            await self._fleet.settled(self.count)
            going_on = asyncio.create_task(self._go_on(publisher))
            try:
                yield
            finally:
                going_on.cancel()
                await asyncio.wait({going_on})

    async def _look(self, publisher: Publisher, times: int) -> None:
        events = [view(n) for n in range(self.count, self.count + times)]
        self.count += times
        await asyncio.shield(publisher.publish(events))

    async def _go_on(self, publisher: Publisher) -> None:
        while True:
            await asyncio.sleep(_EVERY_SECONDS)
            await self._look(publisher, self._at_once)


async def whole(fleet: Fleet, *workers: Worker) -> None:
    """Until every partition has its owner among the workers, and a standby that is not behind."""
    await fleet.shared_among(*workers)

    async def is_so() -> bool:
        documents = [(await worker.get("/readyz"))[1] or {} for worker in workers]
        return sum(len(document.get("standby_partitions", ())) for document in documents) == fleet.settings.kafka.partitions

    await until(is_so, READY_SECONDS, "a standby for every partition")

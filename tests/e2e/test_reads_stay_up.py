"""Reads go on while workers are killed and restarted, each answer saying whose it is and how current; a client reads its own writes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.streams.publisher import Publisher
from tests.brokers.apache_kafka import ApacheKafka
from tests.e2e.fleet import READY_SECONDS, Fleet, fleet_on
from tests.e2e.processes import Worker
from tests.e2e.readers import Readers
from tests.e2e.waiting import until
from tidings.events.v1.event_pb2 import Event, ProductViewed

pytestmark = pytest.mark.kafka

PEOPLE, PRODUCTS = 60, 20
PATHS = [
    path
    for n in range(PEOPLE)
    for path in (
        f"/v1/users/u{n}", f"/v1/users/u{n}/recommendations", f"/v1/users/u{n}/deliveries", f"/v1/items/p{n % PRODUCTS}/neighbours",
    )
]
READS_PER_SECOND, EVENTS_PER_SECOND = 50, 40
#: Of reads that are answered with 200.
SHARE = 0.99
#: SIGTERM to the end of one worker of several.
STOP_SECONDS = 20.0


def view(n: int) -> Event:
    return Event(
        event_id=f"v{n}", user_id=f"u{n % PEOPLE}", occurred_at_ms=1_700_000_000_000 + n * 1000,
        product_viewed=ProductViewed(product_id=f"p{n % PRODUCTS}"),
    )


class Shop:
    """People who look at products all the time."""

    def __init__(self, fleet: Fleet) -> None:
        self.count = 0
        self._fleet = fleet

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
            await asyncio.sleep(0.25)
            await self._look(publisher, EVENTS_PER_SECOND // 4)


async def whole(fleet: Fleet, *workers: Worker) -> None:
    """Until every partition has its owner among the workers, and a standby that is not behind."""
    await fleet.shared_among(*workers)

    async def is_so() -> bool:
        documents = [(await worker.get("/readyz"))[1] or {} for worker in workers]
        return sum(len(document.get("standby_partitions", ())) for document in documents) == fleet.settings.kafka.partitions

    await until(is_so, READY_SECONDS, "a standby for every partition")


async def test_reads_go_on_while_a_worker_is_killed_and_a_client_reads_its_own_writes(apache_kafka: ApacheKafka, tmp_path: Path) -> None:
    async with fleet_on(apache_kafka.bootstrap_servers, tmp_path, worker={"standby_replicas": 1}) as fleet:
        a, b = await fleet.start("a", "b")
        shop = Shop(fleet)
        async with shop.open():
            await whole(fleet, a, b)
            await reads_its_own_writes(a, b)
            readers = Readers([a, b], PATHS, READS_PER_SECOND, fleet.token)
            async with readers.reading():
                for worker in (a, b):
                    worker.kill()
                    await asyncio.sleep(1)
                    await whole(fleet, a, b)
        print(f"\n{readers}")
        assert readers.share >= SHARE, readers
        assert readers.served_by["standby"], "nobody answered for the killed worker"
        assert max(readers.ages) < 60, "what is older is not answered"


async def patiently(worker: Worker, path: str) -> dict[str, Any]:
    """A busy machine takes longer than the second that an answer waits: the client asks again, as it is told to."""
    for _ in range(10):
        status, document = await worker.get(path)
        if status == 200:
            return document  # type: ignore[no-any-return]  # JSON
        assert (status, document["type"]) == (503, "urn:tidings:problem:not-applied-yet"), document
    raise AssertionError(f"{path} is never answered")


async def reads_its_own_writes(a: Worker, b: Worker) -> None:
    """Whichever worker took the event, and whichever is asked."""
    for n, (taker, asked) in enumerate([(a, b), (b, a)] * 3):
        user = f"u{n}"
        before = (await taker.get(f"/v1/users/{user}"))[1]["event_count"]
        event = f'{{"user_id":"{user}","event":"view","product_id":"own-{n}"}}'.encode()
        status, accepted = await taker.post("/v1/events", event)
        assert status == 202
        position = "{partition}/{offset}".format(**accepted["positions"][0])
        profile = await patiently(asked, f"/v1/users/{user}?after={position}")
        assert profile["event_count"] > before
        assert f"own-{n}" in profile["history"][-1]["product_id"] + profile["history"][0]["product_id"]
        told = await patiently(asked, f"/v1/users/{user}/recommendations?after={position}")
        assert told["version"] > 0
        partition, offset = position.split("/")
        status, problem = await asked.get(f"/v1/users/{user}?after={partition}/{int(offset) + 1_000_000}")
        assert (status, problem["type"]) == (503, "urn:tidings:problem:not-applied-yet")
        status, filled = await asked.get(f"/v1/users/{user}/recommendations?slot=for_you&max_staleness_ms=0")
        assert (status, filled.get("fallback_because", "too-stale")) == (200, "too-stale")


async def test_three_workers_are_restarted_one_after_another_and_nothing_is_lost_and_reads_go_on(
    apache_kafka: ApacheKafka, tmp_path: Path
) -> None:
    # As many partitions as three can share equally: of four, two workers may have two each, and keep them.
    sections: dict[str, dict[str, int]] = {"worker": {"standby_replicas": 1}, "kafka": {"partitions": 6}}
    async with fleet_on(apache_kafka.bootstrap_servers, tmp_path, **sections) as fleet:
        workers = await fleet.start("a", "b", "c")
        shop = Shop(fleet)
        readers = Readers(workers, PATHS, READS_PER_SECOND, fleet.token)
        async with shop.open(), readers.reading():
            for worker in workers:
                began = time.monotonic()
                assert await worker.terminate() == 0
                assert time.monotonic() - began < STOP_SECONDS
                await worker.start()
                await whole(fleet, *workers)
        print(f"\n{readers}")
        assert readers.share >= SHARE, readers
        verdict = await fleet.exact(shop.count)
        assert (verdict.applied, verdict.dead_letters, verdict.exits) == (shop.count, 0, 0)

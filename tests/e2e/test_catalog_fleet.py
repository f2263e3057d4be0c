"""The catalog through whole workers: what is published is in every worker's copy, whatever happens to the workers on the way."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from app.domain.catalog import CatalogProduct
from app.streams.catalog import CatalogCopy
from app.streams.product_records import deletion_of, record_of
from app.streams.publisher import Publisher, Record
from tests.brokers.apache_kafka import ApacheKafka
from tests.e2e.catalog_worlds import plain_catalog
from tests.e2e.fleet import Fleet, fleet_on
from tests.e2e.kafka_log import Tail
from tests.e2e.processes import Worker
from tests.e2e.waiting import until
from tests.unit.domain.product_worlds import change, full
from tidings.products.v1.product_pb2 import Product

SETTLE_SECONDS = 120


class Shop:
    """Publishes products, and knows what the topic holds of them."""

    def __init__(self, fleet: Fleet) -> None:
        self.records: list[Any] = []
        self._fleet = fleet
        self._partitions = fleet.settings.kafka.partitions
        self._tail = Tail(fleet.settings.kafka, [fleet.names.products], self.records.append)
        self._publisher = Publisher.of_products(fleet.settings)

    async def __aenter__(self) -> Shop:
        await self._tail.start()
        await self._publisher.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._publisher.stop()
        await self._tail.stop()

    async def publish(self, *products: Product) -> None:
        await self._send([record_of(product, self._partitions) for product in products])

    async def delete(self, *product_ids: str) -> None:
        await self._send([deletion_of(product_id, self._partitions) for product_id in product_ids])

    async def _send(self, records: list[Record]) -> None:
        await self._publisher.publish_all(records)

    async def plain_fold(self) -> Mapping[str, CatalogProduct]:
        await self._tail.read_on()
        return plain_catalog(self.records)

    async def in_every_copy(self) -> Mapping[str, CatalogProduct]:
        """Until all that is published is folded and in the copies of the running workers; what it comes to."""
        expected = await self.plain_fold()
        fleet = self._fleet

        async def is_so() -> bool:
            done, ends = await fleet.log.committed(fleet.names.products), await fleet.log.ends(fleet.names.products)
            if any(folded < end for folded, end in zip(done, ends, strict=True)):
                return False
            for worker in fleet.running:
                lag, count = await worker.metric("tidings_catalog_lag_records"), await worker.metric("tidings_catalog_products_count")
                if lag or count != len(expected):
                    return False
            return True

        await until(is_so, SETTLE_SECONDS, "every product in every copy")
        return expected


async def held_by(fleet: Fleet, worker: Worker) -> dict[str, CatalogProduct]:
    """The copy of a worker that has ended, as it lies on its disk."""
    copy = CatalogCopy(
        {}, fleet.names.changelogs["products"], fleet.settings.kafka.partitions, worker.data_dir / "catalog.db",
        cache_products=100, block_cache_bytes=8 << 20,
    )  # fmt: skip
    await copy.open()
    try:
        held = copy.products()
        assert copy.count == len(held)
        assert sorted(copy.newest(len(held) + 1)) == sorted(held)
        return held
    finally:
        copy.close()


async def test_what_is_published_is_in_the_copy_and_a_worker_that_comes_back_has_it_still(fleet: Fleet) -> None:
    (worker,) = await fleet.start("a")
    async with Shop(fleet) as shop:
        await shop.publish(*(full(f"p{n}", n, title=f"Shoe {n}", categories=[f"c{n % 5}"]) for n in range(300)))
        await shop.publish(*(change(f"p{n}", price=n + 1) for n in range(0, 300, 3)), *(change(f"p{n}", in_stock=False) for n in range(50)))
        await shop.publish(full("bad", -1), change("unlisted", price=3))
        await shop.delete("p298", "p299", "never there")
        expected = await shop.in_every_copy()
        assert len(expected) == 298

        await worker.terminate()
        assert await held_by(fleet, worker) == expected
        await fleet.log.read_on("dead_letters")
        assert [letter.key.rpartition(b"/")[0].rpartition(b"/")[0].decode() for letter in fleet.log.dead_letters] == [fleet.names.products]

        await worker.start()
        await fleet.shared_among(worker)
        await shop.delete("p1")
        await shop.publish(change("p2", title="Hat"))
        expected = await shop.in_every_copy()
        await worker.terminate()
        held = await held_by(fleet, worker)
        assert held == expected
        assert (held["p2"].title, "p1" in held) == ("Hat", False)


@pytest.mark.kafka
async def test_copies_equal_the_plain_fold_after_workers_were_killed_while_changes_flowed(
    apache_kafka: ApacheKafka, tmp_path: Path
) -> None:
    async with fleet_on(apache_kafka.bootstrap_servers, tmp_path) as fleet, Shop(fleet) as shop:
        first, second = await fleet.start("a", "b")
        await shop.publish(*(full(f"p{n}", n, title=f"Shoe {n}", categories=[f"c{n % 9}"]) for n in range(2_000)))
        flowing = asyncio.create_task(_changes(shop, seconds=25))
        for worker in (first, second, first):
            await asyncio.sleep(random.uniform(3, 6))
            worker.kill()
        sent = await flowing
        await fleet.shared_among(first, second)
        expected = await shop.in_every_copy()

        assert sent > 2_000
        assert len(shop.records) >= 2_000 + sent
        for worker in (first, second):
            await worker.terminate()
            assert await held_by(fleet, worker) == expected, worker.name
        assert not fleet.log.dead_letters


async def _changes(shop: Shop, seconds: float) -> int:
    """Prices, stock, titles, deletions and new records, as fast as they are acknowledged but at most some 1,000 a second."""
    rng, sent, until_s = random.Random(4), 0, time.monotonic() + seconds
    while time.monotonic() < until_s:
        changes = []
        for _ in range(100):
            product_id = f"p{rng.randrange(2_000)}"
            changes.append(
                rng.choice([
                    change(product_id, price=rng.randrange(1_000)),
                    change(product_id, in_stock=rng.random() < 0.5),
                    change(product_id, title=f"Shoe {rng.random()}", categories=[f"c{rng.randrange(9)}"]),
                    full(product_id, rng.randrange(1_000), title="Again"),
                ])
            )
        await shop.publish(*changes)
        await shop.delete(f"p{rng.randrange(2_000)}")
        sent += len(changes) + 1
        await asyncio.sleep(0.1)
    return sent

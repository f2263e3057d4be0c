"""Changelogs of a products table, copies that follow them, and what a plain fold of a products topic leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from app.domain.catalog import CatalogProduct
from app.domain.catalog_fold import catalog_product, encode_entry, fold_product, new_entry
from app.domain.product_validation import decode_product, product_id_of
from app.domain.validation import Violation
from app.engine.fence import Writer
from app.streams.catalog import CatalogCopy
from app.streams.publisher import partition_of
from tests.e2e.engine_worlds import client_of
from tidings.products.v1.product_pb2 import Product
from tidings.state.v1.catalog_entry_pb2 import CatalogEntry

NOON_MS = 1_714_219_200_000
CATCH_UP_SECONDS = 30


class Changelog:
    """The changelog of a products table, written as its owner would."""

    def __init__(self, broker: Any, name: str, writer: Writer, partitions: int) -> None:
        self.broker, self.name, self.partitions = broker, name, partitions
        self.entries: dict[str, CatalogEntry] = {}
        self._writer = writer

    async def write(self, *products: Product, at_ms: int = NOON_MS) -> None:
        """Fold records, in one unit, and write what came of them."""
        changed = []
        for product in products:
            entry = self.entries.setdefault(product.product_id, new_entry(product.product_id))
            fold_product(entry, product, at_ms)
            changed.append((product.product_id, encode_entry(entry)))
        await self._write(changed)

    async def delete(self, *product_ids: str) -> None:
        for product_id in product_ids:
            self.entries.pop(product_id, None)
        await self._write((product_id, None) for product_id in product_ids)

    async def mark(self, partition: int, value: bytes = b"x") -> None:
        """What the engine writes for itself."""
        await self._writer.write_batch(self.name, partition, [(b"__mark/products", value)])

    def products(self) -> dict[str, CatalogProduct]:
        found = {product_id: catalog_product(entry) for product_id, entry in self.entries.items()}
        return {product_id: product for product_id, product in found.items() if product is not None}

    async def _write(self, changes: Iterable[tuple[str, bytes | None]]) -> None:
        by_partition: dict[int, list[tuple[bytes, bytes | None]]] = {}
        for product_id, value in changes:
            key = product_id.encode()
            by_partition.setdefault(partition_of(key, self.partitions), []).append((key, value))
        for partition, records in by_partition.items():
            await self._writer.write_batch(self.name, partition, [*records, (b"__mark/products", b"%d" % len(records))])


def new_copy(broker: Any, changelog: str, path: Path, *, partitions: int = 2, **options: Any) -> CatalogCopy:
    """A copy that does not follow yet."""
    is_embedded = type(broker).__name__ == "EmbeddedBroker"
    options = {"cache_products": 100, "block_cache_bytes": 8 << 20, "ends_are_exact": not is_embedded} | options
    return CatalogCopy(client_of(broker, fetch_max_wait_ms=50), changelog, partitions, path, **options)


@asynccontextmanager
async def following(copy: CatalogCopy) -> AsyncIterator[CatalogCopy]:
    """Follow until the end of the block, from the moment that the copy is current; its database is closed then."""
    task = asyncio.create_task(copy.follow())
    try:
        waiting = asyncio.create_task(copy.caught_up.wait())
        done, _ = await asyncio.wait({task, waiting}, timeout=CATCH_UP_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if task in done:
            task.result()
        assert waiting in done, f"not caught up within {CATCH_UP_SECONDS} s"
        yield copy
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        copy.close()


def plain_catalog(records: Iterable[Any]) -> Mapping[str, CatalogProduct]:
    """What a plain fold of a products topic's records, in order within each partition, leaves on the shelves."""
    entries: dict[bytes, CatalogEntry] = {}
    for record in records:
        key = product_id_of(record.key)
        if record.value is None:
            if key == record.key:
                entries.pop(key, None)
            continue
        product = decode_product(record.value, record.key, record.timestamp)
        if not isinstance(product, Violation):
            fold_product(entries.setdefault(key, new_entry(key.decode())), product, record.timestamp)
    found = {key.decode(): catalog_product(entry) for key, entry in entries.items()}
    return {product_id: product for product_id, product in found.items() if product is not None}

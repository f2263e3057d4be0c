"""The worker's own copy of the shop's catalog: follows the whole changelog of the products table and answers what ranking asks.

The copy is on disk, so memory is bounded: decoded products by ``cache_products``, the rest by RocksDB's block cache. It is a copy: one that
does not fit its changelog is thrown away and made again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiokafka
from aiokafka.errors import KafkaError

from app import metrics
from app.domain.catalog import NEVER_MS, CatalogProduct
from app.domain.catalog_fold import catalog_product
from app.engine.changelog_reader import changelog_reader
from app.engine.store import HIDDEN_PREFIX
from app.engine.table import DECODED_FACTOR, OBJECT_BYTES
from app.streams.catalog_database import CatalogDatabase, Place
from app.streams.topics import PRODUCT_TOMBSTONES_MS
from tidings.state.v1.catalog_entry_pb2 import CatalogEntry

logger = logging.getLogger(__name__)

#: Changelog records taken over before other tasks get the event loop: some 5 ms. Where those keep it for long, more, by the second that
#: they kept it: a fifth of the time, up to some 40 ms, or a busy worker would know the prices of a while ago.
SLICE_RECORDS, SLICE_RECORDS_PER_SECOND, MAX_SLICE_RECORDS = 200, 10_000, 2_000
#: A copy that was last current longer ago is thrown away: the changelog tells of a deletion for this long, and a while more.
MAX_AGE_MS = PRODUCT_TOMBSTONES_MS * 3 // 4
#: Before the next look once less than a slice came: changes that come meanwhile are taken over together.
PAUSE_SECONDS = 0.05
#: Between two notes on disk that the copy is current, and two looks at its size, while nothing changes.
NOTE_SECONDS = 60.0
#: Fetched and not taken over yet, of all partitions together.
READ_AHEAD_BYTES = 16 << 20
#: Before the broker is asked again.
RETRY_SECONDS = 1.0
#: Of lists of ids kept ready: orders that are asked for, by category, and lists of each.
MAX_LISTS, MAX_LISTS_OF_CATEGORY = 2_000, 16
MINUTE_MS = 60_000
#: Of worker.catalog_cache_products, so much for each, whatever their number: some products are a hundred times as large as others. What one
#: takes is estimated as that of other decoded objects is (app/engine/table.py).
BYTES_A_PRODUCT = 2_000
#: Remembered for a product that is not listed.
_NOT_LISTED = object()


class CatalogCopy:
    """Implements app.domain.catalog.Catalog. ``follow`` runs until cancelled; before ``caught_up`` is set, what is answered is partial.

    The object that ``product`` returns stays the same until the product changes, or was not asked for in a long while.
    """

    def __init__(
        self,
        client: Mapping[str, Any],
        changelog: str,
        partitions: int,
        path: Path,
        *,
        cache_products: int,
        block_cache_bytes: int,
        ends_are_exact: bool = True,
        fail: Callable[[BaseException], None] = lambda _: None,
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """``ends_are_exact`` False: the broker may say an end that lies behind (the embedded one does). ``fail`` stops the process."""
        #: Set once what stood in the changelog when this process began to follow it has been taken over.
        self.caught_up = asyncio.Event()
        self._client = client
        self._changelog = changelog
        self._places = [aiokafka.TopicPartition(changelog, p) for p in range(partitions)]
        self._path = path
        self._cache_products = cache_products
        self._block_cache_bytes = block_cache_bytes
        self._ends_are_exact = ends_are_exact
        self._fail = fail
        self._clock = clock
        self._database: CatalogDatabase | None = None
        #: Decoded products in two generations (an approximate LRU).
        self._young: dict[str, Any] = {}
        self._old: dict[str, Any] = {}
        self._young_bytes = 0
        #: Estimated, of the products that are kept.
        self._sizes: dict[str, int] = {}
        #: By category ("" for all) the ids by (limit, minute).
        self._lists: dict[str, dict[tuple[int, int], list[str]]] = {}
        self._noted = 0.0

    # What ranking asks ------------------------------------------------------------------------------------------------

    @property
    def position(self) -> int:
        """Grows with what is read of the changelog."""
        return 0 if self._database is None else sum(place.offset + 1 for place in self._database.places.values())

    @property
    def is_empty(self) -> bool:
        return self.count == 0

    @property
    def count(self) -> int:
        """Listed products."""
        return 0 if self._database is None else self._database.count

    def product(self, product_id: str) -> CatalogProduct | None:
        found = self._young.get(product_id)
        if found is None:
            found = self._old.pop(product_id, None)
            if found is None:
                found = self._read(product_id)
            if len(self._young) >= self._cache_products // 2 or self._young_bytes >= self._cache_products * BYTES_A_PRODUCT // 2:
                self._old, self._young, self._young_bytes = self._young, {}, 0
                self._sizes = {id: size for id, size in self._sizes.items() if id in self._old or id == product_id}
            self._young[product_id] = found
            self._young_bytes += self._sizes.get(product_id, 0)
        return None if found is _NOT_LISTED else found

    def newest(self, limit: int, until_ms: int = NEVER_MS - 1) -> Sequence[str]:
        return self._ids("", limit, until_ms)

    def in_category(self, category: str, limit: int, until_ms: int = NEVER_MS - 1) -> Sequence[str]:
        return self._ids(category, limit, until_ms) if category else []

    def _read(self, product_id: str) -> Any:
        raw = None if self._database is None else self._database.get(product_id.encode())
        self._sizes[product_id] = OBJECT_BYTES + DECODED_FACTOR * len(raw or b"")
        return _NOT_LISTED if raw is None else catalog_product(CatalogEntry.FromString(raw)) or _NOT_LISTED

    def _ids(self, category: str, limit: int, until_ms: int) -> list[str]:
        """Kept until the order changes: lists are asked for with every ranking, and the orders change with the range, not with prices."""
        if self._database is None or limit <= 0:
            return []
        until_ms = min(NEVER_MS - 1, (until_ms // MINUTE_MS + 1) * MINUTE_MS - 1)
        lists = self._lists.get(category)
        if lists is None:
            if len(self._lists) >= MAX_LISTS:
                self._lists.clear()
            lists = self._lists[category] = {}
        found = lists.get((limit, until_ms))
        if found is None:
            if len(lists) >= MAX_LISTS_OF_CATEGORY:
                lists.clear()
            found = lists[limit, until_ms] = self._database.newest(category, limit, until_ms)
        return found

    # Following the changelog ------------------------------------------------------------------------------------------

    async def follow(self) -> None:
        """Take over what is in the changelog and what comes, until cancelled. While the broker is away, the copy answers as it is.

        Raises StateError when the database cannot be opened. It stays open when this is cancelled: a worker that stops still ranks.
        """
        while True:
            try:
                await self._follow()
            except (KafkaError, OSError, TimeoutError) as exc:
                logger.warning("the catalog is not followed for now: %s", str(exc) or type(exc).__name__)
                await asyncio.sleep(RETRY_SECONDS)
            except _ForeignCopy as exc:
                await self._begin_anew(str(exc))

    def close(self) -> None:
        """Release the database; nothing is in the catalog any more."""
        if self._database is not None:
            self._database.close()
        self._database = None
        self._forget()

    def products(self) -> dict[str, CatalogProduct]:
        """All of it, for whoever compares; not for a worker at work."""
        entries = [] if self._database is None else self._database.products()
        return {product_id: product for product_id, entry in entries if (product := catalog_product(entry)) is not None}

    async def _follow(self) -> None:
        database = await self.open()
        async with changelog_reader(self._client, self._places, READ_AHEAD_BYTES) as reader:
            ends = await self._seek(reader, database)
            unverified = dict(database.places)
            most = SLICE_RECORDS
            while True:
                got = await reader.getmany(timeout_ms=1000, max_records=most)
                for tp, records in got.items():
                    self._verify(unverified.pop(tp.partition, None), records[0])
                if got:
                    self._take_over(database, got)
                if ends and (self._ends_are_exact or not got):
                    ends = {tp: end for tp, end in ends.items() if await reader.position(tp) < end}
                    if not ends:
                        self._note_current(database)
                        logger.info("the catalog is current: %d products", database.count)
                        self.caught_up.set()
                if not ends and time.monotonic() - self._noted > NOTE_SECONDS:
                    self._note_current(database)
                metrics.CATALOG_LAG.set(sum(self._lag(reader, database, tp) for tp in self._places))
                if 0 < sum(map(len, got.values())) < most:
                    await asyncio.sleep(PAUSE_SECONDS)
                    most = SLICE_RECORDS
                else:
                    gave_way = time.monotonic()
                    await asyncio.sleep(0)
                    others_took = time.monotonic() - gave_way
                    most = min(MAX_SLICE_RECORDS, max(SLICE_RECORDS, int(others_took * SLICE_RECORDS_PER_SECOND)))

    def _lag(self, reader: aiokafka.AIOKafkaConsumer, database: CatalogDatabase, tp: aiokafka.TopicPartition) -> int:
        place, end = database.places.get(tp.partition), reader.highwater(tp)
        return 0 if end is None else max(0, end - (0 if place is None else place.offset + 1))

    async def open(self) -> CatalogDatabase:
        """Answer from what is on disk, without following. Raises StateError when the database cannot be opened."""
        if self._database is None:
            identity = f"1 {self._changelog} {len(self._places)}"  # 1: how the database is laid out
            database = await asyncio.to_thread(
                lambda: CatalogDatabase(
                    self._path, identity, now_ms=self._clock(), max_age_ms=MAX_AGE_MS, block_cache_bytes=self._block_cache_bytes
                )
            )
            database.tell_damage(self._fail)
            self._database = database
        return self._database

    async def _begin_anew(self, reason: str) -> None:
        database, self._database = self._database, None
        self.caught_up.clear()
        self._forget()
        if database is not None:
            await asyncio.to_thread(database.empty, reason, self._clock())
            self._database = database

    async def _seek(self, reader: aiokafka.AIOKafkaConsumer, database: CatalogDatabase) -> dict[aiokafka.TopicPartition, int]:
        """Go to the last record that the copy has of each partition, so that it is read again and compared. Returns the ends."""
        beginnings = await reader.beginning_offsets(self._places)
        ends: dict[aiokafka.TopicPartition, int] = await reader.end_offsets(self._places)
        for tp in self._places:
            place = database.places.get(tp.partition)
            if place is not None and place.offset >= ends[tp] and (self._ends_are_exact or not ends[tp]):
                raise _ForeignCopy(f"it holds {tp.topic}/{tp.partition} up to {place.offset}, but that ends at {ends[tp]}")
            reader.seek(tp, beginnings[tp] if place is None else max(place.offset, beginnings[tp]))
        return ends

    def _verify(self, place: Place | None, first: Any) -> None:
        """The first record read is the last one held, unless compaction took that away since."""
        if place is not None and first.offset <= place.offset and Place.of(first) != place:
            raise _ForeignCopy(f"its record at {place.offset} in {first.topic}/{first.partition} is another one")

    def _take_over(self, database: CatalogDatabase, got: Mapping[aiokafka.TopicPartition, Sequence[Any]]) -> None:
        values: dict[bytes, bytes | None] = {}
        times: dict[int, int] = {}
        for records in got.values():
            for record in records:
                if not record.key.startswith(HIDDEN_PREFIX):
                    values[record.key] = record.value
                    times[record.timestamp] = times.get(record.timestamp, 0) + 1
        now_ms, is_current = self._clock(), self.caught_up.is_set()
        places = {tp.partition: Place.of(records[-1]) for tp, records in got.items()}
        for category in database.write(values, places, now_ms if is_current else None):
            self._lists.pop(category, None)
        for key in values:
            self._young.pop(product_id := key.decode(), None)
            self._old.pop(product_id, None)
            self._sizes.pop(product_id, None)
        metrics.CATALOG_CHANGES.inc(sum(times.values()))
        metrics.CATALOG_PRODUCTS.set(database.count)
        if is_current:
            for timestamp_ms, count in times.items():
                metrics.observe_many(metrics.PRODUCT_TO_CATALOG, max(0, now_ms - timestamp_ms) / 1000.0, count)

    def _note_current(self, database: CatalogDatabase) -> None:
        self._noted = time.monotonic()
        database.write({}, {}, self._clock())
        metrics.CATALOG_PRODUCTS.set(database.count)
        metrics.CATALOG_BYTES.set(database.size_bytes())

    def _forget(self) -> None:
        self._young, self._old, self._young_bytes, self._sizes = {}, {}, 0, {}
        self._lists.clear()


class _ForeignCopy(Exception):
    """The database is not a copy of this changelog; never leaves this file."""

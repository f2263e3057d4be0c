"""The worker's own copy of the catalog on disk: entries by product, two orders of them, and how far each changelog partition is in it.

One write batch changes entries, orders and places together, so that whatever moment the process dies at, they agree. RocksDB's log is not
synced: a killed process loses nothing, a lost host loses its tail, places and all, and the changelog gives it back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from struct import Struct
from typing import Any

import rocksdict

from app.domain.catalog import NEVER_MS
from app.engine.rocks import Rocks
from app.engine.store import database_options
from app.errors import StateError
from tidings.state.v1.catalog_entry_pb2 import CatalogEntry

# Keys by their first byte.
_ENTRY = b"p"  # + product id → CatalogEntry, of listed products
_NEWEST = b"n"  # + newest first + product id → nothing
_CATEGORY = b"c"  # + category + 0x00 + newest first + product id → nothing; a category holds no control characters
_PLACE = b"o"  # + partition → offset and digest of the last changelog record that is in here
_COUNT = b"mcount"
_IDENTITY = b"midentity"
_SEEN = b"mseen"

#: Big-endian, so that the latest time has the smallest key.
_INVERTED = Struct(">Q")
_LATEST = (1 << 64) - 1
_PARTITION = Struct(">I")
_OFFSET_AND_DIGEST = Struct(">Q8s")


@dataclass(frozen=True, slots=True)
class Place:
    """The last record of a changelog partition that the copy took over: its offset, and a digest that tells it from another log's."""

    offset: int
    digest: bytes

    @classmethod
    def of(cls, record: Any) -> Place:
        """Of a consumer record. Its time is in the digest: another log's record of the same product has another one."""
        digest = blake2b(b"%d" % (record.timestamp or 0), digest_size=8)
        for part in (record.key, record.value):
            digest.update(b"" if part is None else b"%d:" % len(part) + part)
        return cls(record.offset, digest.digest())


class CatalogDatabase:
    """``identity`` names the log that it is a copy of: a database of another one is emptied."""

    def __init__(self, path: Path, identity: str, *, now_ms: int, max_age_ms: int, block_cache_bytes: int) -> None:
        """``max_age_ms`` since it was last known to be current: the changelog may have forgotten by then which products are gone.

        Raises StateError when it cannot be opened, though nothing says that it is damaged; afterwards, when it is found to be damaged.
        """
        self._identity = identity.encode()
        self._db = Rocks(path, database_options(block_cache_bytes), table="catalog")
        try:
            self._look()
            held = self._db.get(_IDENTITY)
        except StateError as exc:
            self.empty(str(exc.__cause__), now_ms)
            return
        if held is None:
            self._name(now_ms)
        elif held != self._identity:
            self.empty("it is a copy of another changelog", now_ms)
        elif abs(now_ms - int(self._db.get(_SEEN) or 0)) > max_age_ms:
            self.empty("it is so old that the changelog may have forgotten which products are gone", now_ms)

    def tell_damage(self, to: Callable[[StateError], None]) -> None:
        """``to`` should stop the process."""
        self._db.on_damage = to

    def empty(self, reason: str, now_ms: int) -> None:
        """Throw everything away."""
        self._db.throw_away(reason)
        self._look()
        self._name(now_ms)

    def _name(self, now_ms: int) -> None:
        batch = rocksdict.WriteBatch(raw_mode=True)
        batch.put(_IDENTITY, self._identity)
        batch.put(_SEEN, b"%d" % now_ms)
        self._db.write(batch)

    def _look(self) -> None:
        #: Listed products.
        self.count = int(self._db.get(_COUNT) or 0)
        #: By partition.
        self.places = {
            _PARTITION.unpack(key[1:])[0]: Place(*_OFFSET_AND_DIGEST.unpack(value)) for key, value in self._items(_PLACE)
        }

    def get(self, product_id: bytes) -> bytes | None:
        """A listed product's CatalogEntry."""
        return self._db.get(_ENTRY + product_id)

    def newest(self, category: str, limit: int, until_ms: int) -> list[str]:
        """Ids, the latest time up to ``until_ms`` first; of all products if ``category`` is empty."""
        prefix = _CATEGORY + category.encode() + b"\x00" if category else _NEWEST
        skip = len(prefix) + _INVERTED.size
        return [key[skip:].decode() for key in self._keys(prefix, prefix + _INVERTED.pack(_LATEST - until_ms), limit)]

    def write(self, values: Mapping[bytes, bytes | None], places: Mapping[int, Place], now_ms: int | None) -> set[str]:
        """Take over changelog values by product id (None: the product is gone), up to ``places``, atomically.

        With ``now_ms``, the copy is known to be current as of then. Returns the categories whose order changed, "" being all products'.
        """
        batch = rocksdict.WriteBatch(raw_mode=True)
        touched: set[str] = set()
        count = self.count
        for product_id, raw in values.items():
            old_raw = self.get(product_id)
            if raw == old_raw:
                continue
            old = CatalogEntry() if old_raw is None else CatalogEntry.FromString(old_raw)
            new = CatalogEntry() if raw is None else CatalogEntry.FromString(raw)
            if new.is_listed:
                assert raw is not None
                batch.put(_ENTRY + product_id, raw)
            elif old.is_listed:
                batch.delete(_ENTRY + product_id)
            count += new.is_listed - old.is_listed
            if not _are_in_the_same_order(old, new):
                _reorder(batch, product_id, old, new, touched)
        for partition, place in places.items():
            batch.put(_PLACE + _PARTITION.pack(partition), _OFFSET_AND_DIGEST.pack(place.offset, place.digest))
        batch.put(_COUNT, b"%d" % count)
        if now_ms is not None:
            batch.put(_SEEN, b"%d" % now_ms)
        self._db.write(batch)
        self.count = count
        self.places.update(places)
        return touched

    def products(self) -> Iterator[tuple[str, CatalogEntry]]:
        """All listed products, by id."""
        for key, value in self._items(_ENTRY):
            yield key[1:].decode(), CatalogEntry.FromString(value)

    def size_bytes(self) -> int:
        return self._db.size_bytes()

    def close(self) -> None:
        self._db.close()

    def _items(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return self._db.scan(prefix, _after(prefix))

    def _keys(self, prefix: bytes, start: bytes, limit: int) -> Iterator[bytes]:
        """At most ``limit`` keys that begin with ``prefix``, from ``start`` on, in their order."""
        return (key for key, _ in islice(self._db.scan(start, _after(prefix)), max(0, limit)))


def _after(prefix: bytes) -> bytes:
    """What comes after all that begins with it. No prefix ends with 0xff."""
    return prefix[:-1] + bytes([prefix[-1] + 1])


def _are_in_the_same_order(one: CatalogEntry, other: CatalogEntry) -> bool:
    """All that the orders depend on is equal, as after nearly every change."""
    first, second = one.product, other.product
    return (
        one.is_listed == other.is_listed
        and one.listed_at_ms == other.listed_at_ms
        and first.published_at_ms == second.published_at_ms
        and first.categories == second.categories
    )


def _reorder(batch: Any, product_id: bytes, old: CatalogEntry, new: CatalogEntry, touched: set[str]) -> None:
    before, after = _order_keys(product_id, old), _order_keys(product_id, new)
    for key, category in before.items() ^ after.items():
        touched.add(category)
        if key in after:
            batch.put(key, b"")
        else:
            batch.delete(key)


def _order_keys(product_id: bytes, entry: CatalogEntry) -> dict[bytes, str]:
    """The entry's key in each order, and that order's category, "" for all products."""
    product = entry.product
    at_ms = product.published_at_ms or entry.listed_at_ms
    if not entry.is_listed or at_ms >= NEVER_MS:
        return {}
    tail = _INVERTED.pack(_LATEST - at_ms) + product_id
    return {_NEWEST + tail: "", **{_CATEGORY + category.encode() + b"\x00" + tail: category for category in product.categories}}

"""RocksDB databases of one table, one for each partition: always an exact prefix of the partition's changelog.

Values, marks and the changelog offset go in with one write batch. Keys that begin with ``__`` are the engine's own.
RocksDB's log is not synced: a killed process loses nothing, a lost host loses its tail, which the changelog gives back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import rocksdict
from faust.stores.base import Store as FaustStore
from faust.types import TP

from app.errors import StateError

HIDDEN_PREFIX = b"__"
_OFFSET_KEY = b"__offset"
#: By size: one cache for all databases of the process.
_BLOCK_CACHE: dict[int, rocksdict.Cache] = {}


def database_options(block_cache_bytes: int) -> rocksdict.Options:
    """One block cache for all databases of the process; small memtables, since a worker has many partitions."""
    options = rocksdict.Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_max_open_files(512)
    options.set_write_buffer_size(16 * 1024**2)
    options.set_max_write_buffer_number(3)
    options.set_max_background_jobs(2)
    table = rocksdict.BlockBasedOptions()
    table.set_bloom_filter(10, block_based=False)
    if block_cache_bytes not in _BLOCK_CACHE:
        _BLOCK_CACHE[block_cache_bytes] = rocksdict.Cache(block_cache_bytes)
    table.set_block_cache(_BLOCK_CACHE[block_cache_bytes])
    options.set_block_based_table_factory(table)
    return options


class Database:
    """One partition."""

    def __init__(self, path: Path, block_cache_bytes: int) -> None:
        self.path = path
        try:
            self._db = rocksdict.Rdict(str(path), options=database_options(block_cache_bytes))
        except Exception as exc:  # rocksdict raises the bare class
            raise StateError(
                f"cannot open {path}: {exc}. Does another process use this data directory? Otherwise remove it: the changelog has it all"
            ) from exc
        raw = self._db.get(_OFFSET_KEY)
        #: Offset of the last changelog record that is in here, None when empty.
        self.offset: int | None = None if raw is None else int(raw)

    def get(self, key: bytes) -> bytes | None:
        return self._db.get(key)

    def write(self, records: Iterable[tuple[bytes, bytes | None]], changelog_offset: int) -> None:
        """Apply changelog records up to ``changelog_offset``, atomically."""
        batch = rocksdict.WriteBatch(raw_mode=True)
        put, delete = batch.put, batch.delete
        for key, value in records:
            if value is None:
                delete(key)
            else:
                put(key, value)
        put(_OFFSET_KEY, b"%d" % changelog_offset)
        self._db.write(batch)
        self.offset = changelog_offset

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All visible keys and values, in key order."""
        items: Iterator[Any] = self._db.items()  # raw mode: bytes, which the stub does not know
        for key, value in items:
            if not key.startswith(HIDDEN_PREFIX):
                yield key, value

    def size_bytes(self) -> int:
        return sum(f.stat().st_size for f in self.path.glob("*") if f.is_file())

    def close(self) -> None:
        self._db.close()


class EngineStore(FaustStore):
    """What the URL scheme ``engine://`` stands for: the partitions of a table that are open here, active or standby."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._open: dict[int, Database] = {}

    @property
    def _directory(self) -> Path:
        return Path(self.app.conf.tabledir)

    def open(self, partition: int) -> Database:
        database = self._open.get(partition)
        if database is None:
            self._directory.mkdir(parents=True, exist_ok=True)
            path = self._directory / f"{self.table_name}-{partition}.db"
            database = self._open[partition] = Database(path, self.app.options.block_cache_bytes)
        return database

    def opened(self, partition: int) -> Database | None:
        return self._open.get(partition)

    def databases(self) -> Iterable[Database]:
        """Of the open partitions."""
        return self._open.values()

    def size_bytes(self) -> int:
        """On disk, of the open partitions."""
        return sum(database.size_bytes() for database in self._open.values())

    def close_others(self, keep: set[int]) -> None:
        """Close every partition but these, releasing its lock for whoever opens it next."""
        for partition in [p for p in self._open if p not in keep]:
            self._open.pop(partition).close()

    def persisted_offset(self, tp: TP) -> int | None:
        database = self._open.get(tp.partition)
        return database.offset if database else None

    def set_persisted_offset(self, tp: TP, offset: int) -> None:
        """Never by itself: only together with the records, in Database.write."""

    def revoke_partitions(self, table: Any, tps: set[TP]) -> None:
        """recovery.py decides what stays open."""

    def apply_changelog_batch(self, batch: Any, to_key: Any, to_value: Any) -> None:
        raise NotImplementedError("recovery.py writes to the databases itself")

    def reset_state(self) -> None:
        """Nothing is held beside the databases."""

    async def backup_partition(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError("the changelog is the backup")

    def restore_backup(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError("the changelog is the backup")

    async def on_stop(self) -> None:
        self.close_others(set())

"""RocksDB databases of one table, one for each partition: always an exact prefix of the partition's changelog.

Values, marks and the changelog offset go in with one write batch. Keys that begin with ``__`` are the engine's own.
RocksDB's log is not synced: a killed process loses nothing, a lost host loses its tail, which the changelog gives back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import rocksdict
from faust.stores.base import Store as FaustStore
from faust.types import TP

from app.engine.rocks import Rocks
from app.errors import StateError

HIDDEN_PREFIX = b"__"
_OFFSET_KEY = b"__offset"
#: The part of the block cache that what is written and not flushed may take, all databases together: a worker has many partitions, and
#: without a common bound each of them would come to hold a full memtable or three.
WRITE_BUFFER_SHARE = 0.5
#: Of one database; the common bound is met first where there are more than a few.
_MEMTABLE_BYTES = 16 * 1024**2
#: Memtables grow by so much, so that databases that are hardly written take little of what is common to all.
_ARENA_BLOCK_BYTES = 128 * 1024
#: Indexes and filters come in pieces of so much, which the cache keeps or forgets one by one.
_INDEX_PIECE_BYTES = 4 * 1024
#: What a file is written through. Left to itself it grows to a megabyte for each log, and there is one for each database.
_FILE_BUFFER_BYTES = 128 * 1024
#: A slow disk: so much beyond the block cache may be written and not flushed before no more source records are read.
FLUSH_LAG_BYTES = 32 * 1024**2
#: By size: one cache, and one account of memtables within it, for all databases of the process.
_MEMORY: dict[int, tuple[rocksdict.Cache, rocksdict.WriteBufferManager]] = {}


def database_options(block_cache_bytes: int) -> rocksdict.Options:
    """All databases of the process share ``block_cache_bytes``: blocks, indexes and filters, and memtables, which are flushed when they
    come to their share of it. While flushes last it may be more: ``flushes_keep_up`` says whether it is too much.
    """
    options = rocksdict.Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_max_open_files(512)
    options.set_write_buffer_size(_MEMTABLE_BYTES)
    options.set_arena_block_size(_ARENA_BLOCK_BYTES)
    options.set_max_write_buffer_number(3)
    options.set_max_background_jobs(2)
    options.set_writable_file_max_buffer_size(_FILE_BUFFER_BYTES)
    cache, write_buffers = _memory_of(block_cache_bytes)
    options.set_write_buffer_manager(write_buffers)
    table = rocksdict.BlockBasedOptions()
    table.set_bloom_filter(10, block_based=False)
    table.set_block_cache(cache)
    table.set_cache_index_and_filter_blocks(True)  # elsewhere they would grow with what is on disk
    table.set_pin_l0_filter_and_index_blocks_in_cache(True)
    # In one piece they take half a megabyte for a file of 64 MB, which has no room in a shard of the cache beside much else: a read of
    # somebody who was long away then unpacked it again, 190 us instead of 18.
    table.set_index_type(rocksdict.BlockBasedIndexType.two_level_index_search())
    table.set_partition_filters(True)
    table.set_metadata_block_size(_INDEX_PIECE_BYTES)
    table.set_pin_top_level_index_and_filter(True)
    options.set_block_based_table_factory(table)
    return options


def flushes_keep_up(block_cache_bytes: int) -> bool:
    """Whether what was written and is not flushed leaves room for more. False while the disk is much slower than what comes in."""
    return bool(_memory_of(block_cache_bytes)[1].get_usage() < block_cache_bytes + FLUSH_LAG_BYTES)


def database_memory_bytes(block_cache_bytes: int) -> int:
    """What all databases of the process hold in memory."""
    return int(_memory_of(block_cache_bytes)[0].get_usage())


def _memory_of(block_cache_bytes: int) -> tuple[rocksdict.Cache, rocksdict.WriteBufferManager]:
    memory = _MEMORY.get(block_cache_bytes)
    if memory is None:
        cache = rocksdict.Cache(block_cache_bytes)
        manager = rocksdict.WriteBufferManager.new_write_buffer_manager_with_cache(
            int(block_cache_bytes * WRITE_BUFFER_SHARE), False, cache
        )
        memory = _MEMORY[block_cache_bytes] = cache, manager
    return memory


class Database:
    """One partition. What cannot be used is thrown away (rocks.py), and what is left is empty: ``offset`` says so.

    ``max_age_ms``: since the last write, after which the changelog may have forgotten what was deleted.
    """

    def __init__(
        self,
        path: Path,
        block_cache_bytes: int,
        *,
        table: str = "",
        max_age_ms: int | None = None,
        on_damage: Callable[[StateError], None] = lambda _: None,
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.path = path
        self._rocks = Rocks(path, database_options(block_cache_bytes), table=table, clock=clock)
        #: Of the last changelog record that is in here: its offset, None when empty; when it was made, in ms since 1970, None where that is
        #: not known.
        self.offset: int | None = None
        self.made_at_ms: int | None = None
        written_at_ms = self._rocks.written_at_ms
        if written_at_ms is not None and max_age_ms is not None and abs(clock() - written_at_ms) > max_age_ms:
            self.throw_away("it is so old that its changelog may have forgotten what was deleted since")
        elif written_at_ms is not None:
            self._look()
        self._rocks.on_damage = on_damage

    def _look(self) -> None:
        try:
            raw = self._rocks.get(_OFFSET_KEY)
        except StateError as exc:
            self.throw_away(str(exc.__cause__))
            return
        numbers = (raw or b"").split(b" ")
        if len(numbers) > 2 or not all(map(bytes.isdigit, numbers)):
            self.throw_away(f"the offset of its last record is {'missing' if raw is None else repr(raw[:20])}")
            return
        self.offset = int(numbers[0])
        self.made_at_ms = int(numbers[1]) if len(numbers) == 2 else None

    def get(self, key: bytes) -> bytes | None:
        return self._rocks.get(key)

    def write(self, records: Iterable[tuple[bytes, bytes | None]], changelog_offset: int, made_at_ms: int | None = None) -> None:
        """Apply changelog records up to ``changelog_offset``, atomically. ``made_at_ms``: of the last of them, in ms since 1970."""
        batch = rocksdict.WriteBatch(raw_mode=True)
        put, delete = batch.put, batch.delete
        for key, value in records:
            if value is None:
                delete(key)
            else:
                put(key, value)
        put(_OFFSET_KEY, b"%d" % changelog_offset if made_at_ms is None else b"%d %d" % (changelog_offset, made_at_ms))
        self._rocks.write(batch)
        self.offset, self.made_at_ms = changelog_offset, made_at_ms

    def items(self, first: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """All visible keys and values, in key order, from ``first`` on."""
        for key, value in self._rocks.scan(first):
            if not key.startswith(HIDDEN_PREFIX):
                yield key, value

    def size_bytes(self) -> int:
        return self._rocks.size_bytes()

    @property
    def aside(self) -> Path | None:
        """Where what was set aside is, while it is there."""
        return aside if (aside := self._rocks.aside).exists() else None

    def set_aside(self, reason: str) -> None:
        """Begin with nothing, since this contradicts the changelog; what it held is kept until ``forget_aside``."""
        self._rocks.set_aside(reason)
        self.offset = self.made_at_ms = None

    def forget_aside(self) -> None:
        self._rocks.forget_aside()

    def throw_away(self, reason: str) -> None:
        """Begin with nothing."""
        self._rocks.throw_away(reason)
        self.offset = self.made_at_ms = None

    def close(self) -> None:
        self._rocks.close()


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
            path = self._directory / f"{self.table_name}-{partition}.db"
            database = self._open[partition] = Database(
                path,
                self.app.options.block_cache_bytes,
                table=self.table_name,
                max_age_ms=self.app.options.max_copy_age_ms.get(self.table_name),
                on_damage=self.app.fail,
            )
        return database

    def on_disk(self) -> set[int]:
        """Partitions of which there is a copy, open or not."""
        start = f"{self.table_name}-"
        names = (path.stem.removeprefix(start) for path in self._directory.glob(f"{start}*.db"))
        return {int(name) for name in names if name.isdigit()}

    def opened(self, partition: int) -> Database | None:
        return self._open.get(partition)

    @property
    def open_partitions(self) -> set[int]:
        return set(self._open)

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

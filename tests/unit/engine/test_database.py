"""RocksDB as a prefix of the changelog, on a real disk."""

from __future__ import annotations

import os
import time
from pathlib import Path

from app.engine.store import FLUSH_LAG_BYTES, Database, database_memory_bytes, flushes_keep_up

CACHE = 8 * 1024**2


def test_an_empty_database_has_no_offset(tmp_path: Path) -> None:
    database = Database(tmp_path / "t-0.db", CACHE)
    assert database.offset is None
    assert database.get(b"a") is None
    database.close()


def test_values_and_their_offset_come_back_together(tmp_path: Path) -> None:
    database = Database(tmp_path / "t-0.db", CACHE)
    database.write([(b"a", b"1"), (b"b", b"2"), (b"__mark/x", b"3")], 17)
    database.write([(b"a", None), (b"b", b"\x00\xff")], 19)
    database.close()

    again = Database(tmp_path / "t-0.db", CACHE)
    assert again.offset == 19
    assert (again.get(b"a"), again.get(b"b"), again.get(b"__mark/x")) == (None, b"\x00\xff", b"3")
    again.close()


def test_a_scan_gives_visible_keys_in_order(tmp_path: Path) -> None:
    database = Database(tmp_path / "t-0.db", CACHE)
    database.write([(b"b", b"2"), (b"__owner", b"w"), (b"a", b"1"), ("é".encode(), b"3")], 3)

    assert list(database.items()) == [(b"a", b"1"), (b"b", b"2"), ("é".encode(), b"3")]
    database.close()


def test_a_later_value_of_one_batch_wins(tmp_path: Path) -> None:
    database = Database(tmp_path / "t-0.db", CACHE)
    database.write([(b"a", b"1"), (b"a", None), (b"a", b"2")], 3)

    assert database.get(b"a") == b"2"
    database.close()


def test_a_scan_may_begin_at_a_key(tmp_path: Path) -> None:
    database = Database(tmp_path / "t-0.db", CACHE)
    database.write([(b"a", b"1"), (b"b", b"2"), (b"c", b"3"), (b"__owner", b"w")], 3)

    assert [key for key, _ in database.items(b"aa")] == [b"b", b"c"]
    assert list(database.items(b"d")) == []
    database.close()


def test_what_is_written_and_not_flushed_has_one_bound_for_all_databases(tmp_path: Path) -> None:
    databases = [Database(tmp_path / f"t-{n}.db", CACHE) for n in range(8)]
    highest, value = 0, os.urandom(1000)
    for n in range(1_600):
        while not flushes_keep_up(CACHE):
            time.sleep(0.001)
        databases[n % 8].write([(b"%d-%d" % (n, m), value) for m in range(100)], n)
        highest = max(highest, sum(int(d._rocks._db.property_int_value("rocksdb.cur-size-all-mem-tables") or 0) for d in databases))

    # 160 megabytes went through: sixteen and more into each of them, which is what a memtable holds.
    assert highest < CACHE + FLUSH_LAG_BYTES + 1_000_000
    assert 0 < database_memory_bytes(CACHE) < CACHE + FLUSH_LAG_BYTES + 1_000_000, "which they are charged to"
    for database in databases:
        database.close()

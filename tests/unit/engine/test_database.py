"""RocksDB as a prefix of the changelog, on a real disk."""

from __future__ import annotations

from pathlib import Path

from app.engine.store import Database

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

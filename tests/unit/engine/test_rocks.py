"""A directory of RocksDB is whole up to some write, or thrown away: whatever happened to its files."""

from __future__ import annotations

import logging
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import rocksdict

from app.engine.rocks import LINK_PREFIX, Rocks
from app.engine.store import Database, database_options
from app.errors import StateError

CACHE = 8 * 1024**2
NOW_MS = 1_750_000_000_000
#: Contents after so many writes, by key.
Contents = list[dict[bytes, bytes]]


def opened(path: Path) -> Rocks:
    return Rocks(path, database_options(CACHE), clock=lambda: NOW_MS)


def held(rocks: Rocks) -> dict[bytes, bytes]:
    return {key: value for key, value in rocks.scan() if not key.startswith(LINK_PREFIX)}


def write_much(directory: Path, contents: Contents) -> Rocks:
    """In three lives, the last of which goes on; what was in it after each write goes to ``contents``.

    RocksDB writes a table of what it finds in its log at the start of a life: there are two, one of the third, and a log of its rest.
    """
    numbers = random.Random(6)
    for life in range(3):
        rocks = opened(directory)
        for n in range(15):
            batch, state = rocksdict.WriteBatch(raw_mode=True), dict(contents[-1])
            for _ in range(20):
                key, value = b"k%d" % numbers.randrange(200), numbers.randbytes(100)
                if numbers.random() < 0.1:
                    batch.delete(key)
                    state.pop(key, None)
                else:
                    batch.put(key, value)
                    state[key] = value
            rocks.write(batch)
            contents.append(state)
            if life == 2 and n == 7:
                rocks._db.flush()
        if life < 2:
            rocks.close()
    return rocks


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Contents]:
    """The directory of a process that was killed, and what was in it after each write."""
    image, contents = tmp_path_factory.mktemp("killed") / "t-0.db", [dict[bytes, bytes]()]
    program = (
        "import os, signal; from pathlib import Path; from tests.unit.engine.test_rocks import write_much\n"
        f"kept = write_much(Path({str(image)!r}), [{{}}]); os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[3], check=False)
    assert ended.returncode == -signal.SIGKILL
    write_much(tmp_path_factory.mktemp("written") / "t-0.db", contents).close()
    return image, contents


def test_what_a_killed_process_wrote_is_all_there(killed: tuple[Path, Contents], tmp_path: Path) -> None:
    image, contents = killed
    rocks = opened(shutil.copytree(image, tmp_path / "t-0.db"))

    assert rocks.thrown_away == ""
    assert rocks.writes == len(contents) - 1
    assert rocks.written_at_ms == NOW_MS
    assert held(rocks) == contents[-1]
    assert len(list(rocks.scan(LINK_PREFIX, LINK_PREFIX[:-1] + b"0"))) == 2, "of the first write and of the last"
    rocks.close()


def flip(file: Path, numbers: random.Random) -> None:
    data = bytearray(file.read_bytes())
    for _ in range(numbers.choice((1, 1, 20))) if data else ():
        data[numbers.randrange(len(data))] ^= 1 << numbers.randrange(8)
    file.write_bytes(data)


def cut(file: Path, numbers: random.Random) -> None:
    os.truncate(file, numbers.randrange(file.stat().st_size + 1))


def cut_all(file: Path, numbers: random.Random) -> None:
    os.truncate(file, 0)


def remove(file: Path, numbers: random.Random) -> None:
    file.unlink()


def noise(file: Path, numbers: random.Random) -> None:
    file.write_bytes(numbers.randbytes(numbers.choice((1, 100, 10_000, file.stat().st_size))))


def blank(file: Path, numbers: random.Random) -> None:
    """A page of zeros, as after a power cut."""
    data = bytearray(file.read_bytes())
    start = numbers.randrange(len(data) + 1)
    data[start : start + 4096] = bytes(len(data[start : start + 4096]))
    file.write_bytes(data)


@pytest.mark.parametrize("damage", [flip, cut, cut_all, remove, noise, blank])
def test_a_damaged_file_leaves_all_up_to_some_write_or_nothing(
    damage: Callable[[Path, random.Random], None], killed: tuple[Path, Contents], tmp_path: Path
) -> None:
    image, contents = killed
    outcomes = set()
    for name in sorted(file.name for file in image.iterdir() if not file.name.startswith(("LOG", "OPTIONS"))):  # they are for people
        for seed in range(2):
            what = f"{damage.__name__} {name}, seed {seed}"
            path = shutil.copytree(image, tmp_path / f"{name}-{seed}" / "t-0.db")
            damage(path / name, random.Random(f"{name} {seed}"))
            rocks = opened(path)
            try:
                found = held(rocks)
            except StateError:
                outcomes.add("found at work")
                rocks.close()
                rocks = opened(path)
                assert rocks.thrown_away, f"{what}: the next start meets it again"
                found = held(rocks)
            if rocks.thrown_away:
                assert (found, rocks.writes) == ({}, 0), what
                outcomes.add("thrown away")
            else:
                assert found == contents[rocks.writes], what
                outcomes.add("whole" if rocks.writes == len(contents) - 1 else "up to a write")
            batch = rocksdict.WriteBatch(raw_mode=True)
            batch.put(b"new", b"1")
            rocks.write(batch)
            rocks.close()
            rocks = opened(path)
            assert rocks.get(b"new") == b"1", f"{what}: it cannot be gone on with"
            rocks.close()
            shutil.rmtree(path.parent)
    assert "thrown away" in outcomes, "nothing was damaged"


def test_a_list_of_files_that_ends_too_early_is_found(killed: tuple[Path, Contents], tmp_path: Path) -> None:
    """RocksDB finds each file sound: it would answer without the writes that were in the tables, and with those of the log."""
    image, contents = killed
    (name,) = (file.name for file in image.glob("MANIFEST-*"))
    reasons = set()
    for size in range(0, (image / name).stat().st_size, 10):
        path = shutil.copytree(image, tmp_path / str(size) / "t-0.db")
        os.truncate(path / name, size)
        rocks = opened(path)
        assert held(rocks) == ({} if rocks.thrown_away else contents[rocks.writes]), f"{size} bytes"
        reasons.add(rocks.thrown_away.split(":")[0])
        rocks.close()
        shutil.rmtree(path.parent)
    assert {"Corruption", "writes are missing before the last that is in it"} <= reasons


def test_writes_missing_from_the_very_beginning_are_found(tmp_path: Path) -> None:
    rocks = opened(tmp_path / "t-0.db")
    for n in range(3):
        batch = rocksdict.WriteBatch(raw_mode=True)
        batch.put(b"%d" % n, b"x")
        rocks.write(batch)
    rocks._db.delete(LINK_PREFIX + bytes(8))  # as if the first write had never been
    rocks.close()
    again = opened(tmp_path / "t-0.db")
    assert "writes are missing" in again.thrown_away
    again.close()


def test_damage_found_at_work_stops_the_process_and_is_thrown_away_by_the_next(
    killed: tuple[Path, Contents], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image, contents = killed
    path = shutil.copytree(image, tmp_path / "t-0.db")
    table = max(path.glob("*.sst"), key=lambda file: file.stat().st_size)
    data = bytearray(table.read_bytes())
    data[len(data) // 2] ^= 1
    table.write_bytes(data)
    told: list[StateError] = []
    rocks = Rocks(path, database_options(CACHE), table="profiles")
    rocks.on_damage = told.append
    assert rocks.thrown_away == "", "it is not read yet"
    refused = 0
    for key, value in contents[-1].items():
        try:
            assert rocks.get(key) == value
        except StateError:
            refused += 1
    assert 0 < refused < len(contents[-1])
    with pytest.raises(StateError, match=r"t-0\.db is damaged: Corruption"):
        list(rocks.scan())
    assert "The next start makes it again" in str(told[0])
    rocks.close()

    with caplog.at_level(logging.WARNING):
        again = Rocks(path, database_options(CACHE), table="profiles")
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"{path} is thrown away and made again from its changelog: Corruption: block checksum mismatch")
    assert again.writes == 0
    again.close()
    whole = Rocks(path, database_options(CACHE))
    assert whole.thrown_away == "", "once is enough"
    whole.close()


def test_a_process_that_dies_while_it_throws_away_leaves_the_rest_to_the_next(tmp_path: Path) -> None:
    rocks = opened(tmp_path / "t-0.db")
    batch = rocksdict.WriteBatch(raw_mode=True)
    batch.put(b"a", b"1")
    rocks.write(batch)
    rocks.close()
    rocks._condemn("it was found damaged")

    again = opened(tmp_path / "t-0.db")
    assert (again.thrown_away, again.get(b"a")) == ("it was found damaged", None)
    again.close()


@pytest.mark.parametrize("what", ["a file", "noise", "no CURRENT", "a CURRENT of noise", "a directory in place of CURRENT"])
def test_what_is_no_database_is_replaced_by_an_empty_one(what: str, tmp_path: Path) -> None:
    path, numbers = tmp_path / "t-0.db", random.Random(what)
    if what == "a file":
        path.write_bytes(b"x" * 1000)
    elif what == "noise":
        path.mkdir()
        for name in ("CURRENT", "MANIFEST-000001", "000007.sst", "000009.log", "IDENTITY", "x"):
            (path / name).write_bytes(numbers.randbytes(3000))
    else:
        rocks = opened(path)
        batch = rocksdict.WriteBatch(raw_mode=True)
        batch.put(b"a", b"1")
        rocks.write(batch)
        rocks.close()
        (path / "CURRENT").unlink()
        if what == "a CURRENT of noise":
            (path / "CURRENT").write_bytes(numbers.randbytes(16))
        elif what == "a directory in place of CURRENT":
            (path / "CURRENT").mkdir()
    rocks = opened(path)
    assert rocks.thrown_away
    assert (rocks.writes, held(rocks)) == (0, {})
    rocks.close()


def test_what_is_used_after_it_was_closed_says_so_in_words(tmp_path: Path) -> None:
    """A worker that stops for a full disk has units on their way: what ends it is the disk, not an attribute of None."""
    rocks = opened(tmp_path / "t-0.db")
    rocks.close()
    batch = rocksdict.WriteBatch(raw_mode=True)
    batch.put(b"k", b"1")
    for use in (lambda: rocks.write(batch), lambda: rocks.get(b"k"), lambda: next(rocks.scan())):
        with pytest.raises(StateError, match=r"t-0\.db is closed"):
            use()


def test_a_lock_that_a_dead_process_left_is_nobodys(tmp_path: Path) -> None:
    rocks = opened(tmp_path / "t-0.db")
    batch = rocksdict.WriteBatch(raw_mode=True)
    batch.put(b"a", b"1")
    rocks.write(batch)
    rocks.close()
    (tmp_path / "t-0.db" / "LOCK").write_text("4711")
    again = opened(tmp_path / "t-0.db")
    assert (again.thrown_away, again.get(b"a")) == ("", b"1")
    again.close()


def test_what_another_process_has_open_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "t-0.db"
    program = (
        "import sys; from pathlib import Path; from app.engine.store import Database\n"
        f"d = Database(Path({str(path)!r}), 8 << 20); d.write([(b'a', b'1')], 5); print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(StateError, match="Does another process use this data directory"):
            Database(path, CACHE)
        other.kill()
    database = Database(path, CACHE)
    assert (database.offset, database.get(b"a")) == (5, b"1")
    database.close()


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (None, "missing"), (b"a lot", "b'a lot'"), (b"17 and more", "b'17 and more'"), (b"1 2 3", "b'1 2 3'"), (b"-7", "b'-7'"),
        (b"", "b''"),
    ],
)  # fmt: skip
def test_a_database_whose_offset_means_nothing_begins_anew(
    raw: bytes | None, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database = Database(tmp_path / "t-0.db", CACHE)
    database.write([(b"a", b"1")], 17)
    if raw is None:
        database._rocks._db.delete(b"__offset")
    else:
        database._rocks._db.put(b"__offset", raw)
    database.close()
    with caplog.at_level(logging.WARNING):
        again = Database(tmp_path / "t-0.db", CACHE)
    assert (again.offset, again.get(b"a")) == (None, None)
    assert f"the offset of its last record is {said}" in caplog.text
    again.close()


def test_a_database_whose_offset_cannot_be_read_begins_anew_at_once(tmp_path: Path) -> None:
    database = Database(tmp_path / "t-0.db", CACHE)
    database.write([(b"%05d" % n, os.urandom(100)) for n in range(3_000)], 17, NOW_MS)
    database.close()
    Database(tmp_path / "t-0.db", CACHE).close()  # what was in the log is in a table now
    (table,) = (tmp_path / "t-0.db").glob("*.sst")
    data = bytearray(table.read_bytes())
    data[data.index(b"17 %d" % NOW_MS)] ^= 1
    table.write_bytes(data)
    told: list[StateError] = []
    again = Database(tmp_path / "t-0.db", CACHE, on_damage=told.append)
    assert (again.offset, again.get(b"00007"), told) == (None, None, [])
    again.close()


def test_a_copy_whose_changelog_may_have_forgotten_deletions_begins_anew(tmp_path: Path) -> None:
    for age_ms, offset in ((1_000, 3), (1_001, None)):
        path = tmp_path / f"t-{age_ms}.db"
        database = Database(path, CACHE, clock=lambda: NOW_MS)
        database.write([(b"a", b"1")], 3)
        database.close()
        again = Database(path, CACHE, max_age_ms=1_000, clock=lambda age_ms=age_ms: NOW_MS + age_ms)  # type: ignore[misc]
        assert again.offset == offset
        again.close()


def test_what_is_set_aside_is_kept_until_it_is_forgotten(tmp_path: Path) -> None:
    database = Database(tmp_path / "t-0.db", CACHE)
    database.write([(b"a", b"1")], 17)
    assert database.aside is None
    database.set_aside("it is of another log")
    assert (database.offset, database.get(b"a")) == (None, None)
    database.write([(b"a", b"2")], 4)
    database.set_aside("so is this")
    assert database.aside is not None
    first = Database(database.aside, CACHE)
    assert first.get(b"a") == b"1", "not overwritten by what came after"
    first.close()
    database.forget_aside()
    assert database.aside is None
    database.close()

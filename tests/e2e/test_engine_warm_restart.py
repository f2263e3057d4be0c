"""A worker that comes back reads the tail of its changelogs; what it has of another log, or damaged, it makes again from their start."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from pathlib import Path
from typing import Any

import aiokafka
import pytest
from aiokafka.admin import RecordsToDelete

from app.engine.store import Database
from app.errors import StateError
from tests.e2e.engine_worlds import admin_of, make_topics, own_name
from tests.e2e.recovery_worlds import MARK, Fleet, Fleetmate, make_source, mark, records_read
from tests.e2e.waiting import until

CACHE = 8 << 20
KEYS = 1_000


@pytest.fixture
async def fleet(broker: Any, tmp_path: Path) -> Fleet:
    """Whose changelog has a thousand keys, in partition 0."""
    changelog = own_name("changelog")
    await make_topics(broker, changelog)
    await make_source(broker)
    fleet = Fleet(broker, changelog, tmp_path)
    await fleet.write([(b"k%d" % n, b"1") for n in range(KEYS)], [(MARK, mark(9))])
    return fleet


def contents(database: Database) -> dict[bytes, bytes]:
    return dict(database.items())


def first_state(**changed: bytes) -> dict[bytes, bytes]:
    return {b"k%d" % n: b"1" for n in range(KEYS)} | {key.encode(): value for key, value in changed.items()}


async def until_it_holds_all(worker: Fleetmate) -> None:
    await until(lambda: 0 in worker.table.databases and (worker.table.databases[0].offset or 0) >= KEYS, 10, "the whole changelog")


async def test_a_killed_process_comes_back_and_reads_only_what_came_since(fleet: Fleet) -> None:
    """The process that had the database is killed in the middle of writing it."""
    path = fleet.tmp_path / "a" / "counters-0.db"
    program = (
        "import os, signal; from pathlib import Path; from app.engine.store import Database\n"
        f"d = Database(Path({str(path)!r}), {CACHE})\n"
        f"d.write([(b'k%d' % n, b'1') for n in range({KEYS})], {KEYS - 1}); os.kill(os.getpid(), signal.SIGKILL)"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
    assert await process.wait() == -signal.SIGKILL
    await fleet.write([(b"k7", b"1,2"), (MARK, mark(10))])
    before = records_read()
    async with fleet.worker(committed=10) as worker:
        await worker.assigned({0})

        assert worker.failure is None
        assert contents(worker.table.databases[0]) == first_state(k7=b"1,2")
        assert records_read() - before == 4, "a mark, a change and its mark, and the new owner's marker"


async def test_a_standby_that_becomes_the_owner_reads_only_the_new_marker(fleet: Fleet) -> None:
    await fleet.write([(MARK, mark(9))], partition=1)
    async with fleet.worker(committed=9) as worker:
        await worker.assigned({1}, standbys={0})
        await until_it_holds_all(worker)
        before = records_read()
        await worker.assigned({0, 1})

        assert worker.failure is None
        assert contents(worker.table.databases[0]) == first_state()
        assert records_read() - before == 2, "a marker in each partition"


async def test_what_is_read_in_a_recovery_is_said(fleet: Fleet, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        async with fleet.worker(committed=9) as worker:
            await worker.assigned({0})
            assert f"from {KEYS + 2} changelog records" in caplog.text
            await worker.assigned({0})
            assert "from 1 changelog records" in caplog.text


@pytest.mark.parametrize("is_standby", [False, True])
@pytest.mark.parametrize("offset", [1, 100_000])
async def test_a_copy_of_another_log_is_made_again_from_the_start_of_its_own(
    fleet: Fleet, offset: int, is_standby: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """It is beyond the end of the changelog, or has another last record than that."""
    if is_standby and offset > KEYS:
        pytest.skip("a standby knows no end: it compares when it becomes the owner, or when the log gets there")
    foreign = Database(fleet.tmp_path / "a" / "counters-0.db", CACHE)
    foreign.write([(b"x", b"9")], changelog_offset=0)
    foreign.write([(b"k1", b"3")], changelog_offset=offset)
    foreign.close()
    async with fleet.worker(committed=None if is_standby else 9) as worker:
        await worker.assigned(set() if is_standby else {0}, {0} if is_standby else set())
        await until_it_holds_all(worker)

        assert worker.failure is None
        assert contents(worker.table.databases[0]) == first_state()
        assert worker.table.databases[0].aside is None, "all that is committed is here again"
    (line,) = [record.getMessage() for record in caplog.records if "made again from its changelog" in record.getMessage()]
    assert "another cluster's" in line
    assert str(fleet.tmp_path / "a" / "counters-0.db") in line


@pytest.mark.parametrize("is_standby", [False, True])
async def test_another_logs_copy_is_told_by_the_time_of_its_last_record_where_what_it_says_is_alike(fleet: Fleet, is_standby: bool) -> None:
    """Two clusters that were fed alike come to the same mark at the same offset; what is before it need not be the same."""
    foreign = Database(fleet.tmp_path / "a" / "counters-0.db", CACHE)
    foreign.write([(b"k1", b"another one's"), (MARK, mark(9))], changelog_offset=KEYS, made_at_ms=1_700_000_000_000)
    foreign.close()
    async with fleet.worker(committed=None if is_standby else 9) as worker:
        await worker.assigned(set() if is_standby else {0}, {0} if is_standby else set())
        await until(lambda: worker.failure or worker.table.databases[0].get(b"k0"), 10, "the changelog read from its beginning")
        await until_it_holds_all(worker)

        assert worker.failure is None
        assert contents(worker.table.databases[0]) == first_state()


@pytest.mark.parametrize("timestamps", ["CreateTime", "LogAppendTime"])
async def test_a_copy_of_this_log_is_known_again_whichever_time_its_topic_is_set_to(
    broker: Any, tmp_path: Path, timestamps: str, request: pytest.FixtureRequest
) -> None:
    if timestamps == "LogAppendTime" and request.node.get_closest_marker("embedded"):
        pytest.skip("the embedded broker keeps the producer's times")
    changelog = own_name("changelog")
    await make_topics(broker, changelog, **{"message.timestamp.type": timestamps})
    await make_source(broker)
    fleet = Fleet(broker, changelog, tmp_path)
    database = Database(tmp_path / "a" / "counters-0.db", CACHE)
    first, count, made_at_ms = await fleet.write([(b"k1", b"1"), (MARK, mark(9))])
    database.write([(b"k1", b"1"), (MARK, mark(9))], first + count - 1, made_at_ms)
    database.close()
    before = records_read()
    async with fleet.worker(committed=9) as worker:
        await worker.assigned({0})

        assert worker.failure is None
        assert records_read() - before == 1, "the new owner's marker alone"


async def test_a_copy_is_kept_aside_where_its_changelog_has_lost_what_is_committed(fleet: Fleet) -> None:
    """The topic was made anew: the copy may be the last there is."""
    ours = Database(fleet.tmp_path / "a" / "counters-0.db", CACHE)
    ours.write([(b"k1", b"all of it"), (MARK, mark(30))], changelog_offset=100_000)
    ours.close()
    for _ in range(2):  # a supervisor starts it again
        async with fleet.worker(committed=30) as worker:
            await worker.assigned({0})

            assert isinstance(worker.failure, StateError)
            assert "applied up to 9, but 30 is committed" in str(worker.failure)
            assert str(fleet.tmp_path / "a" / "counters-0.db.aside") in str(worker.failure)
            assert fleet.changelog in str(worker.failure)
    kept = Database(fleet.tmp_path / "a" / "counters-0.db.aside", CACHE)
    assert kept.get(b"k1") == b"all of it"
    kept.close()


@pytest.mark.kafka
async def test_a_copy_that_ends_before_its_changelog_begins_is_made_again(apache_kafka: Any, tmp_path: Path) -> None:
    """What was deleted in between may have been about any key."""
    changelog = own_name("changelog")
    await make_topics(apache_kafka, changelog)
    await make_source(apache_kafka)
    fleet = Fleet(apache_kafka, changelog, tmp_path)
    await fleet.write([(b"gone", b"1"), (b"a", b"1")])
    async with fleet.worker() as worker:
        await worker.assigned({0})
    await fleet.write([(b"gone", None), (b"a", b"1,2")], [(b"a", b"1,2,3"), (b"b", b"1"), (MARK, mark(4))])
    async with admin_of(apache_kafka) as admin:
        await admin.delete_records({aiokafka.TopicPartition(changelog, 0): RecordsToDelete(before_offset=5)})
    async with fleet.worker(committed=4) as worker:
        await worker.assigned({0})

        assert worker.failure is None
        assert contents(worker.table.databases[0]) == {b"a": b"1,2,3", b"b": b"1"}


@pytest.mark.parametrize("damage", ["noise in a table", "no CURRENT", "no offset", "noise"])
async def test_a_damaged_copy_is_made_again_and_the_others_are_read_on(fleet: Fleet, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    await fleet.write([(b"other", b"1"), (MARK, mark(9))], partition=1)
    async with fleet.worker(committed=9) as worker:
        await worker.assigned({0, 1})
    path = fleet.tmp_path / "a" / "counters-0.db"
    Database(path, CACHE).close()  # what was in the log is in a table now
    match damage:
        case "noise in a table":
            for table in path.glob("*.sst"):
                table.write_bytes(b"noise" * (table.stat().st_size // 5) + b"!" * (table.stat().st_size % 5))
        case "no CURRENT":
            (path / "CURRENT").unlink()
        case "no offset":
            database = Database(path, CACHE)
            database._rocks._db.delete(b"__offset")
            database.close()
        case "noise":
            for file in path.iterdir():
                file.write_bytes(b"noise")
    before = records_read()
    caplog.clear()
    async with fleet.worker(committed=9) as worker:
        await worker.assigned({0, 1})

        assert worker.failure is None
        assert contents(worker.table.databases[0]) == first_state()
        assert contents(worker.table.databases[1]) == {b"other": b"1"}
        assert records_read() - before == (KEYS + 3) + 1, "all of one, with two markers; of the other the new marker"
    (line,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert line.startswith(f"{path} is thrown away and made again from its changelog: ")

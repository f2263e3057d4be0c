"""What is read no further while something has as much as it may hold."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import rocksdict
from faust.types import TP

from app.domain.held_profile import HeldProfile
from app.engine import Priority
from app.engine.batch import BatchMessage
from app.engine.commit import MAX_UNWRITTEN_BYTES, Committer, Unit, Unwritten
from app.engine.fence import Appended
from app.engine.store import database_options, flushes_keep_up
from app.settings import Settings
from app.streams.dirty_users import DirtyUsers
from app.streams.keep_neighbours import NEIGHBOURS
from app.streams.rank_users import MAX_DIRTY_USERS
from app.streams.topics import TopicNames
from app.streams.topology import Topology, build
from tests.agents.worlds import DictState
from tidings.state.v1.profile_pb2 import Attribute, Profile


@pytest.fixture
def topology(tmp_path: Path) -> Topology:
    settings = Settings(worker={"data_dir": tmp_path, "block_cache_bytes": CACHE})
    return build(settings, advertised_url="http://127.0.0.1:1", fail=lambda _: None)

CACHE = 9 << 20  # of no other test: databases of the same size share it
NAMES = TopicNames.of(Settings().kafka)
#: Products have a pace of their own.
SOURCES = {NAMES.events, NAMES.visits, NAMES.neighbours, NAMES.delivery_commands}


def may_be_read(topology: Topology) -> set[str]:
    """Sources of partition 0 that have room."""
    return {topic for topic in SOURCES if topology.app.has_room(TP(topic, 0))}


async def test_while_as_many_users_as_may_wait_for_their_ranking_nothing_is_read_that_makes_more_of_them(topology: Topology) -> None:
    assert may_be_read(topology) == SOURCES
    waiting = topology.ranker._dirty[0] = DirtyUsers(0.1)
    unit: Unit[Any] = Unit(DictState(NEIGHBOURS))  # type: ignore[arg-type]  # DictState stands in
    for n in range(MAX_DIRTY_USERS):
        waiting.add(unit, b"user-%d" % n, 1)

    assert may_be_read(topology) == SOURCES - {NAMES.events, NAMES.neighbours}
    assert topology.app.has_room(TP(NAMES.events, 1)), "another partition's users are few"


async def test_while_as_much_as_may_be_waits_to_be_written_nothing_is_read(topology: Topology) -> None:
    topology.app.unwritten_bytes.add(MAX_UNWRITTEN_BYTES)
    assert may_be_read(topology) == set()
    topology.app.unwritten_bytes.remove(1)
    assert may_be_read(topology) == SOURCES


async def test_while_the_disk_does_not_take_what_was_written_nothing_is_read_and_then_it_is_looked_at_again(
    topology: Topology, tmp_path: Path
) -> None:
    databases = [rocksdict.Rdict(str(tmp_path / f"slow-{n}.db"), options=database_options(CACHE)) for n in range(4)]
    for database in databases:
        database.cancel_all_background(True)  # nothing is flushed any more, as on a disk that hangs
    assert may_be_read(topology) == SOURCES
    for n in range(100_000):
        databases[n % 4].put(b"%d" % n, os.urandom(1_000))
        if not flushes_keep_up(CACHE):
            break
    assert may_be_read(topology) == set()
    looked: list[bool] = []
    topology.app.reader = SimpleNamespace(room_made=lambda: looked.append(topology.app.has_room(TP(NAMES.events, 0))))  # type: ignore[assignment]
    await asyncio.sleep(0.2)
    assert looked
    assert not any(looked)
    for database in databases:
        with suppress(Exception):  # rocksdict raises the bare class: it cannot flush any more
            database.close()
    del database, databases
    await asyncio.sleep(0.2)
    assert looked[-1]
    looked.clear()
    await asyncio.sleep(0.2)
    assert looked == [], "nobody waits any more"


class Record(SimpleNamespace):
    offset: int
    key: bytes
    value: bytes


class ClosedWriter:
    """Takes nothing until it is open."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.batches: list[dict[bytes, bytes | None]] = []

    async def write_batch(self, topic: str, partition: int, records: Iterable[tuple[bytes, bytes | None]]) -> Appended:
        await self.open.wait()
        self.batches.append(dict(records))
        return Appended(10 * len(self.batches), len(self.batches[-1]), 0)


async def test_a_batch_that_makes_more_than_may_wait_is_applied_only_as_far_as_that_until_something_is_written(topology: Topology) -> None:
    """A thousand users with a hundred kilobytes each in one batch: a hundred megabytes, if nobody waited."""
    app, writer, made = topology.app, ClosedWriter(), []
    table = app.tables["profiles"]
    table.take_over({0})
    app.unwritten_bytes = Unwritten(300_000, app.room_made)
    committer = app.committers["profiles", 0] = Committer(
        table, table.state(0), writer, app.fail, 50_000, app.unwritten_bytes  # type: ignore[arg-type]  # a scripted writer
    )  # fmt: skip
    committer.start()

    large = HeldProfile(Profile(attributes=[Attribute(name="x", text="y" * 10_000)]).SerializeToString())

    def apply(unit: Unit[Any]) -> None:
        made.append(unit)
        for record in unit.records():
            unit.state.obtain(record.key).become(large)

    records = [Record(offset=n, key=b"user-%d" % n, value=b"x" * 10_000, timestamp=1, timestamp_type=1) for n in range(100)]
    event = SimpleNamespace(message=BatchMessage(TP(NAMES.events, 0), records, 1), ack=lambda: None)
    app.options = SimpleNamespace(batch_max_bytes=50_000, block_cache_bytes=CACHE)  # type: ignore[assignment]
    applying = asyncio.create_task(app._apply(table, event, apply, Priority.ORDINARY))
    await asyncio.wait({applying}, timeout=0.3)

    assert not applying.done()
    assert 3 < len(made) < 10, "a unit takes five or six of them"
    assert 300_000 <= app.unwritten_bytes.bytes < 400_000
    writer.open.set()
    await asyncio.wait_for(applying, 5)
    await committer.drain()
    assert sum(len(batch) for batch in writer.batches) >= 100
    assert app.unwritten_bytes.bytes == 0
    await committer.stop()
    table.store.close_others(set())

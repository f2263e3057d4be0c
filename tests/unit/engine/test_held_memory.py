"""What a worker says it holds follows what it holds."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from faust.types import TP

from app.engine.held_memory import memory_parts, resident_bytes
from app.engine.source import SourceReader
from app.settings import Settings
from app.streams.topology import Topology, build

MIB = 1024**2


@pytest.fixture
def topology(tmp_path: Path) -> Topology:
    settings = Settings(worker={"data_dir": tmp_path, "cache_bytes": 8 * MIB, "block_cache_bytes": 8 * MIB + 1})  # of no other test
    topology = build(settings, advertised_url="http://127.0.0.1:1", fail=lambda _: None)
    for table in topology.app.tables.values():
        table.take_over({0, 1})
    return topology


def test_every_table_has_a_part_and_so_has_all_that_waits(topology: Topology) -> None:
    tables = {"decoded_profiles", "decoded_items", "decoded_neighbours", "decoded_outbox", "decoded_products"}
    assert memory_parts(topology.app).keys() == {"resident", "rocksdb", "unwritten", "fetched"} | tables


async def test_parts_grow_with_what_is_in_them(topology: Topology) -> None:
    before = memory_parts(topology.app)
    profiles = topology.app.tables["profiles"]
    for partition, count in ((0, 100), (1, 50)):
        for n in range(count):
            profiles.state(partition).obtain(b"user-%d" % n)
    profiles.state(0)._database.write([(b"%d" % n, os.urandom(1_000)) for n in range(2_000)], 1)
    topology.app.unwritten_bytes.add(7)
    tp = TP("events", 0)
    reader = topology.app.reader = SourceReader(
        topology.app.reader_client, {tp: 0}, generation=1, batch_max_records=10, linger_ms=1, deliver=_nobody, has_room=lambda _: False
    )
    reader._fetched[tp], reader._bytes[tp] = [SimpleNamespace(value=b"abcde", offset=0, timestamp=1)], 5
    after = memory_parts(topology.app)

    assert after["decoded_profiles"] - before["decoded_profiles"] == 150 * profiles.codec.object_bytes
    assert 2 * MIB < after["rocksdb"] - before["rocksdb"] < 4 * MIB
    assert (after["unwritten"], after["fetched"]) == (7, 5)
    assert after["decoded_outbox"] == before["decoded_outbox"] == 0


def test_decoded_objects_say_no_more_than_they_may_take(topology: Topology) -> None:
    outbox = topology.app.tables["outbox"]
    most = 0
    for n in range(20_000):
        outbox.state(0).obtain(b"user-%d" % (n if n % 3 else n // 2))
        most = max(most, memory_parts(topology.app)["decoded_outbox"]) if n % 50 == 0 else most

    assert outbox.state(0).cache_bytes * 0.9 < most <= outbox.state(0).cache_bytes + outbox.codec.object_bytes


def test_what_is_resident_is_that_of_this_process() -> None:
    before = resident_bytes()
    held = bytearray(os.urandom(1 << 16) * 512)
    assert 28 * MIB < resident_bytes() - before < 40 * MIB
    assert len(held) == 32 * MIB


async def _nobody(_: object) -> None:
    """Takes no batch."""

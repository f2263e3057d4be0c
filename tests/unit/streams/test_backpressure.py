"""What is read no further while something has as much as it may hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from faust.types import TP

from app.engine.commit import MAX_UNWRITTEN_BYTES, Unit
from app.settings import Settings
from app.streams.dirty_users import DirtyUsers
from app.streams.rank_users import MAX_DIRTY_USERS
from app.streams.topics import TopicNames
from app.streams.topology import Topology, build
from tests.agents.worlds import NEIGHBOURS, DictState


@pytest.fixture
def topology(tmp_path: Path) -> Topology:
    settings = Settings(worker={"data_dir": tmp_path, "block_cache_bytes": 8 << 20})
    return build(settings, advertised_url="http://127.0.0.1:1", fail=lambda _: None)

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

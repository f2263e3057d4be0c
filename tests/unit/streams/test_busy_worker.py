"""A worker that is busy collects more at a time; one that is idle lets nothing wait."""

from __future__ import annotations

from pathlib import Path

import pytest
from faust.types import TP

from app.engine.busyness import Busyness
from app.engine.source import BUSY_LINGERS, SourceReader
from app.settings import Settings
from app.streams.topology import Topology, build


@pytest.fixture
def topology(tmp_path: Path) -> Topology:
    return build(Settings(worker={"data_dir": tmp_path}), advertised_url="http://127.0.0.1:1", fail=lambda _: None)


def make_busy(topology: Topology) -> None:
    now = 0.0
    topology.app.busyness = Busyness(lambda: now, lambda: now)  # as much was wanted as time has passed
    assert not topology.app.is_busy()
    now += 1.0
    assert topology.app.is_busy()


async def test_visits_which_no_view_waits_for_are_collected_by_a_busy_worker_only(topology: Topology) -> None:
    place = TP("tidings.visits.v1", 0)
    assert all(topology.app.has_room(place) for _ in range(3))
    make_busy(topology)
    assert not all(topology.app.has_room(place) for _ in range(1_000))  # such a moment may come in between, but not at each


@pytest.mark.parametrize("source", ["events", "neighbours"])
async def test_events_and_what_items_answer_wait_for_no_such_moment(topology: Topology, source: str) -> None:
    make_busy(topology)
    assert all(topology.app.has_room(TP(f"tidings.{source}.v1", 0)) for _ in range(1_000))


async def test_the_broker_collects_for_longer_while_the_worker_is_busy(topology: Topology) -> None:
    is_busy = False
    reader = SourceReader(
        topology.app.reader_client, {TP("events", 0): 0}, generation=1, batch_max_records=10, linger_ms=15, deliver=_nobody,
        has_room=lambda _: False, is_busy=lambda: is_busy,
    )  # fmt: skip
    assert reader.linger_ms == 15
    is_busy = True
    assert reader.linger_ms == 15 * BUSY_LINGERS


async def _nobody(_: object) -> None:
    """Nobody is delivered to."""

"""Faults in the middle of a replay: each run ends in the tables of a plain fold, and in an inbox that holds the last list of everyone."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from tests.brokers.apache_kafka import ApacheKafka
from tests.e2e.fleet import BOLCOM, fleet_on
from tests.e2e.invented_log import write_invented_log

#: Half a minute at this pace, so that a fault falls into the middle of the work.
EVENTS, EVENTS_PER_SECOND = 14_000, 700
#: The broker is away for so long, and then needs some seconds to start.
BROKER_AWAY_SECONDS = 10

pytestmark = pytest.mark.kafka


@pytest.fixture
def invented_log(tmp_path: Path) -> Path:
    """People who come back, carts and orders."""
    return write_invented_log(tmp_path / "invented.jsonl", EVENTS)


@pytest.fixture
def clicks(invented_log: Path) -> Path:
    """A real shop's month of views; invented where it is not at hand."""
    return BOLCOM if BOLCOM.exists() else invented_log


async def test_five_sigkills_lose_and_double_nothing(apache_kafka: ApacheKafka, tmp_path: Path, clicks: Path) -> None:
    """Each comes at another point of the log, and at another moment of the worker's life: right after it is ready, or in full work."""
    chance = random.Random(3)
    async with fleet_on(apache_kafka.bootstrap_servers, tmp_path) as fleet:
        (worker,) = await fleet.start("a")
        replay = await fleet.replay(clicks, limit=EVENTS, rate=EVENTS_PER_SECOND)
        for nth in range(1, 6):
            await fleet.until_applied(EVENTS * nth // 7 + chance.randrange(1000))
            worker.kill()
        await replay.done()
        verdict = await fleet.exact(EVENTS)
        assert (verdict.applied, verdict.duplicates, verdict.dead_letters, verdict.kills) == (EVENTS, 0, 0, 5)


async def test_a_second_worker_joins_and_leaves(apache_kafka: ApacheKafka, tmp_path: Path, clicks: Path) -> None:
    async with fleet_on(apache_kafka.bootstrap_servers, tmp_path) as fleet:
        (first,) = await fleet.start("a")
        replay = await fleet.replay(clicks, limit=EVENTS, rate=EVENTS_PER_SECOND)
        await fleet.until_applied(EVENTS // 5)
        (second,) = await fleet.start("b")
        await fleet.until_applied(EVENTS * 3 // 5)
        assert await second.terminate() == 0
        await fleet.shared_among(first)
        await replay.done()
        verdict = await fleet.exact(EVENTS)
        assert (verdict.applied, verdict.exits) == (EVENTS, 0)


@pytest.mark.parametrize("standby_replicas", [0, 1])
async def test_the_partitions_of_a_lost_worker_are_taken_over(
    apache_kafka: ApacheKafka, tmp_path: Path, invented_log: Path, standby_replicas: int
) -> None:
    async with fleet_on(apache_kafka.bootstrap_servers, tmp_path, worker={"standby_replicas": standby_replicas}) as fleet:
        lost, other = await fleet.start("a", "b")
        replay = await fleet.replay(invented_log, limit=EVENTS, rate=EVENTS_PER_SECOND)
        await fleet.until_applied(EVENTS // 3)
        await lost.kill_for_good()
        await fleet.shared_among(other)
        await replay.done()
        verdict = await fleet.exact(EVENTS)
        assert (verdict.applied, verdict.exits) == (EVENTS, 0)


async def test_a_broker_that_is_away_for_ten_seconds_costs_nothing(
    own_apache_kafka: ApacheKafka, tmp_path: Path, invented_log: Path
) -> None:
    # A broker that is away is no reason for the watchdog to act, not even for one that is in a hurry.
    hasty = {"watchdog_seconds": BROKER_AWAY_SECONDS / 2}
    async with fleet_on(own_apache_kafka.bootstrap_servers, tmp_path / "fleet", worker=hasty) as fleet:
        (worker,) = await fleet.start("a")
        replay = await fleet.replay(invented_log, limit=EVENTS, rate=EVENTS_PER_SECOND)
        await fleet.until_applied(EVENTS // 3)
        await asyncio.to_thread(own_apache_kafka.stop_node)
        await asyncio.sleep(BROKER_AWAY_SECONDS)
        await asyncio.to_thread(own_apache_kafka.start_node, 0)
        await replay.done()
        verdict = await fleet.exact(EVENTS)
        assert (verdict.applied, verdict.dead_letters) == (EVENTS, 0)
        assert "watchdog" not in worker.log.read_text()

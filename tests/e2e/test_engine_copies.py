"""Copies of partitions that others own: from when on they are whole, to which moment, and that they outlast their assignment."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.engine_worlds import make_topics, own_name
from tests.e2e.recovery_worlds import MARK, Fleet, Fleetmate, make_source, mark

pytestmark = pytest.mark.kafka


@pytest.fixture
async def fleet(apache_kafka: Any, tmp_path: Path) -> Fleet:
    changelog = own_name("changelog")
    await make_topics(apache_kafka, changelog)
    await make_source(apache_kafka)
    return Fleet(apache_kafka, changelog, tmp_path)


async def whole_since(worker: Fleetmate, partition: int, at_ms: int) -> int:
    """Waits until the copy is whole as of that moment or a later one, and returns which."""
    async with asyncio.timeout(20):
        while (whole_at_ms := worker.recovery.whole_at_ms(partition) or 0) < at_ms:  # noqa: ASYNC110 - aiokafka sets no event
            await asyncio.sleep(0.02)
    return whole_at_ms


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def test_a_standbys_copy_is_whole_once_it_reached_the_end_and_goes_on_being_so_while_nothing_comes(fleet: Fleet) -> None:
    await fleet.write([(b"%d" % n, b"1") for n in range(500)], [(MARK, mark(1))], partition=1)
    async with fleet.worker() as worker:
        began = now_ms()
        await worker.assigned({0}, standbys={1})
        assert began <= await whole_since(worker, 1, began) <= now_ms()
        assert worker.table.databases[1].get(MARK) == mark(1), "it was not whole before"
        await whole_since(worker, 1, now_ms())
        await fleet.write([(b"a", b"2"), (MARK, mark(2))], partition=1)
        await whole_since(worker, 1, now_ms())
        assert worker.table.databases[1].get(MARK) == mark(2)


async def test_what_is_assigned_elsewhere_can_still_be_read_as_of_when_it_left(fleet: Fleet) -> None:
    await fleet.write([(b"a", b"1"), (MARK, mark(1))])
    async with fleet.worker() as worker:
        await worker.assigned({0}, standbys={1})
        whole_at_ms = await whole_since(worker, 1, now_ms())
        worker.app.consumer.seconds_since_heartbeat = lambda: 2.0
        worker.recovery.on_partitions_revoked(set())
        worker.recovery.given_up()
        given_up_at_ms = now_ms()
        await worker.assigned(set(), set())

        assert worker.table.databases[0].get(b"a") == b"1"
        assert given_up_at_ms - 3000 < (worker.recovery.whole_at_ms(0) or 0) <= given_up_at_ms - 2000, "of the last heartbeat"
        assert whole_at_ms <= (worker.recovery.whole_at_ms(1) or 0) <= given_up_at_ms, "nobody follows it any more"

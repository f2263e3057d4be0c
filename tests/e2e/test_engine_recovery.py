"""Recovery on real brokers: up to the marker and no further, standbys that follow, and tables that miss what is committed refused."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from faust.types import TP

from app.engine.changelog_reader import changelog_reader
from app.engine.table import OWNER_KEY
from app.errors import FencedError, StateError
from tests.e2e.engine_worlds import client_of, make_topics, own_name
from tests.e2e.recovery_worlds import MARK, Fleet, make_source, mark


@pytest.fixture
async def fleet(broker: Any, tmp_path: Path) -> Fleet:
    changelog = own_name("changelog")
    await make_topics(broker, changelog)
    await make_source(broker)
    return Fleet(broker, changelog, tmp_path)


async def test_a_new_owner_recovers_everything_up_to_its_marker(fleet: Fleet) -> None:
    await fleet.write([(b"a", b"1"), (MARK, mark(3))], [(b"a", b"1,2"), (b"b", b"5"), (MARK, mark(5))], [(b"b", None), (MARK, mark(6))])
    async with fleet.worker(committed=6) as worker:
        await worker.assigned({0})

        assert worker.failure is None
        state = worker.table.state(0)
        assert (state.read(b"a"), state.read(b"b"), state.applied(b"source")) == (b"1,2", None, 6)
        assert worker.table.databases[0].get(OWNER_KEY).startswith(b"me ")
        assert worker.app.owner_offsets == {("counters", 0): 8}
        assert worker.table.databases[0].offset == 7, "of the marker"


async def test_a_directory_that_is_kept_is_read_on_from_where_it_is(fleet: Fleet) -> None:
    await fleet.write([(b"a", b"1"), (MARK, mark(1))])
    async with fleet.worker() as worker:
        await worker.assigned({0})
    await fleet.write([(b"a", b"1,2"), (MARK, mark(2))])
    async with fleet.worker() as worker:
        await worker.assigned({0})

        assert worker.table.state(0).read(b"a") == b"1,2"
        assert worker.table.databases[0].offset == 5


async def test_a_new_owner_that_is_behind_knows_from_the_start_how_old_it_is(fleet: Fleet) -> None:
    """Its log's end it has not reached; but when the record was made that it goes on with, all that it has was there, and no more."""
    before_ms, made_at_ms = time.time_ns() // 1_000_000, await timestamps(fleet.broker, "source", 20)
    await fleet.write([(b"a", b"1"), (MARK, mark(6))])
    async with fleet.worker(committed=4) as worker:
        await worker.assigned({0})

        assert worker.failure is None
        *exact, (offset, at_ms) = worker.app.ends_at_take_over[TP("source", 0)]
        assert (offset, at_ms) == (6, made_at_ms[6])
        if exact:  # what the embedded broker says of an end is not to be trusted
            ((end, told_at_ms),) = exact
            assert end == 20
            assert before_ms <= told_at_ms <= time.time_ns() // 1_000_000


async def timestamps(broker: Any, topic: str, count: int) -> list[int]:
    """Of the first records of partition 0, in ms since 1970."""
    async with changelog_reader(client_of(broker), [TopicPartition(topic, 0)]) as reader:
        return [(await reader.getone()).timestamp for _ in range(count)]


async def test_two_empty_partitions_are_recovered_at_once(fleet: Fleet) -> None:
    async with fleet.worker() as worker:
        await worker.assigned({0, 1})

        assert worker.failure is None
        assert sorted(worker.table.states) == [0, 1]


async def test_a_standby_follows_the_changelog_as_it_grows(fleet: Fleet) -> None:
    await fleet.write([(b"a", b"1"), (MARK, mark(1))], partition=1)
    async with fleet.worker() as worker:
        await worker.assigned({0}, standbys={1})
        await fleet.write([(b"a", b"1,2"), (MARK, mark(2))], partition=1)
        async with asyncio.timeout(10):
            while worker.table.databases[1].get(b"a") != b"1,2":  # noqa: ASYNC110 - RocksDB sets no event
                await asyncio.sleep(0.02)

        assert worker.table.databases[1].get(MARK) == mark(2)
        assert 1 not in worker.table.states, "a standby is not owned"
        await worker.assigned({0, 1})
        assert worker.table.state(1).read(b"a") == b"1,2"


async def test_an_empty_table_under_a_committed_offset_is_refused(fleet: Fleet) -> None:
    async with fleet.worker(committed=7) as worker:
        await worker.assigned({0})

        assert isinstance(worker.failure, StateError)
        assert "applied up to 0, but 7 is committed" in str(worker.failure)
        assert "Restore the changelog" in str(worker.failure)


async def test_a_rebalance_in_the_middle_of_a_recovery_begins_anew(fleet: Fleet) -> None:
    await fleet.write([(b"%d" % n, b"1") for n in range(1000)], [(MARK, mark(9))])
    async with fleet.worker(committed=9) as worker:
        for pause in (0.0, 0.01, 0.03, 0.1):
            worker.actives = {0}
            await worker.recovery.on_rebalance(set(), set(), set(), 1)
            await asyncio.sleep(pause)
            worker.recovery.on_partitions_revoked(set())
        await worker.assigned({0})

        assert worker.failure is None
        assert sum(1 for _ in worker.table.databases[0].items()) == 1000
        assert worker.table.state(0).applied(b"source") == 9


@pytest.mark.kafka
async def test_a_former_owner_can_write_nothing_more_once_the_new_one_has_recovered(apache_kafka: Any, tmp_path: Path) -> None:
    changelog = own_name("changelog")
    await make_topics(apache_kafka, changelog)
    fleet = Fleet(apache_kafka, changelog, tmp_path)
    async with fleet.worker("a") as old, fleet.worker("b") as new:
        await old.assigned({0})
        await new.assigned({0})
        with pytest.raises(FencedError):
            await old.app.writer.write_batch(changelog, 0, [(b"a", b"late")])
        await new.app.writer.write_batch(changelog, 0, [(b"a", b"1")])

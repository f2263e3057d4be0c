"""One writer per partition, on real brokers: who may write, who is refused, and when."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from app.cli.embedded_broker import EmbeddedBroker
from app.engine.fence import MAX_BATCH_BYTES
from app.errors import BrokerError, FencedError, ProduceError
from tests.brokers.apache_kafka import ApacheKafka
from tests.conftest import on_apache_kafka
from tests.e2e.engine_worlds import contents, make_topics, own_name, writer_of


@pytest.mark.kafka
async def test_a_former_owner_is_refused_after_the_new_owners_first_batch_and_not_before(apache_kafka: ApacheKafka) -> None:
    application, log = own_name(), own_name("log")
    await make_topics(apache_kafka, log)
    async with writer_of(apache_kafka, application, log) as old, writer_of(apache_kafka, application, log) as new:
        await old.own([0])
        await old.write_batch(log, 0, [(b"k", b"1")])
        await new.own([0])
        assert (await old.write_batch(log, 0, [(b"k", b"2")]))[:2] == (1, 1), "the log has not seen the new epoch"
        assert (await new.write_batch(log, 0, [(b"k", b"3"), (b"l", b"4")]))[:2] == (2, 2)
        with pytest.raises(FencedError, match="newer owner"):
            await old.write_batch(log, 0, [(b"k", b"5")])
        assert (await new.write_batch(log, 0, [(b"k", b"6")]))[:2] == (4, 1)

    assert [value for _, value in await contents(apache_kafka, log, 0, 5)] == [b"1", b"2", b"3", b"4", b"6"]


@pytest.mark.kafka
async def test_a_fenced_writer_still_writes_outputs_and_the_partitions_it_owns(apache_kafka: ApacheKafka) -> None:
    """Why what workers send each other must be harmless when repeated."""
    application, log, elsewhere = own_name(), own_name("log"), own_name("out")
    await make_topics(apache_kafka, log, elsewhere)
    async with writer_of(apache_kafka, application, log) as old, writer_of(apache_kafka, application, log) as new:
        await old.own([0, 1])
        await old.write_batch(log, 0, [(b"k", b"1")])
        await old.write_batch(log, 1, [(b"k", b"1")])
        await new.own([0])
        await new.write_batch(log, 0, [(b"k", b"2")])
        with pytest.raises(FencedError):
            await old.write_batch(log, 0, [(b"k", b"3")])

        await old.write_all({(elsewhere, 0): [(b"a", b"1")], (elsewhere, 1): [(None, b"2")]})
        assert (await old.write_batch(log, 1, [(b"k", b"4")]))[:2] == (1, 1)

    assert await contents(apache_kafka, elsewhere, 0, 1) == [(b"a", b"1")]


@pytest.mark.kafka
async def test_two_partitions_of_one_writer_count_their_batches_apart_over_many_epochs(apache_kafka: ApacheKafka) -> None:
    application, log, other = own_name(), own_name("log"), own_name("other")
    await make_topics(apache_kafka, log, other)
    async with writer_of(apache_kafka, application, log, other) as writer:
        for turn in range(4):
            await writer.own([0] if turn % 2 else [0, 1])
            places = [(topic, partition) for topic in (log, other) for partition in (0, 1)]
            for n in range(3):
                await asyncio.gather(*(writer.write_batch(*place, [(b"%d" % turn, b"%d" % n)] * (n + 1)) for place in places))

    for topic in (log, other):
        for partition in (0, 1):
            assert len(await contents(apache_kafka, topic, partition, 24)) == 24


@pytest.mark.kafka
async def test_a_worker_that_gets_its_partition_back_writes_on(apache_kafka: ApacheKafka) -> None:
    application, log = own_name(), own_name("log")
    await make_topics(apache_kafka, log)
    async with writer_of(apache_kafka, application, log) as one, writer_of(apache_kafka, application, log) as two:
        for turn, owner in enumerate([one, two, one, one, two]):
            await owner.own([0])
            assert (await owner.write_batch(log, 0, [(b"k", b"%d" % turn)]))[:2] == (turn, 1)
        with pytest.raises(FencedError):
            await one.write_batch(log, 0, [(b"k", b"late")])


@pytest.mark.kafka
async def test_a_batch_above_the_limit_is_not_sent_and_the_error_names_the_setting(apache_kafka: ApacheKafka) -> None:
    application, log = own_name(), own_name("log")
    await make_topics(apache_kafka, log, **{"max.message.bytes": str(MAX_BATCH_BYTES + 1024)})
    quarter = b"x" * (MAX_BATCH_BYTES // 4)
    async with writer_of(apache_kafka, application, log) as writer:
        await writer.own([0])
        assert (await writer.write_batch(log, 0, [(b"%d" % n, quarter) for n in range(3)]))[:2] == (0, 3), "one batch, whole"
        with pytest.raises(ProduceError, match=r"worker\.batch_max_bytes"):
            await writer.write_batch(log, 0, [(b"%d" % n, quarter) for n in range(5)])
        assert (await writer.write_batch(log, 0, [(b"k", b"1")]))[:2] == (3, 1), "nothing of it was appended"


@pytest.mark.kafka
async def test_outputs_larger_than_a_batch_are_written_in_order(apache_kafka: ApacheKafka) -> None:
    application, elsewhere = own_name(), own_name("out")
    await make_topics(apache_kafka, elsewhere)
    records = [(b"%d" % n, b"x" * 300_000) for n in range(10)]
    async with writer_of(apache_kafka, application) as writer:
        await writer.write_all({(elsewhere, 0): records})

    assert await contents(apache_kafka, elsewhere, 0, 10) == records


@pytest.mark.kafka
async def test_a_batch_that_still_waits_is_not_sent_under_a_new_epoch(own_apache_kafka: ApacheKafka) -> None:
    """A worker that was cut off may get back what another owned meanwhile: what it could not send then must not go out now."""
    application, log = own_name(), own_name("log")
    with own_apache_kafka as kafka:
        await make_topics(kafka, log)
        async with writer_of(kafka, application, log, request_timeout_seconds=3) as writer:
            await writer.own([0, 1])
            await writer.write_batch(log, 0, [(b"k", b"1")])
            kafka.pause()
            on_the_wire = asyncio.create_task(writer.write_batch(log, 0, [(b"k", b"late")]))
            await asyncio.sleep(0.2)
            behind_it = asyncio.create_task(writer.write_batch(log, 1, [(b"k", b"late")]))
            await asyncio.sleep(0.2)
            on_the_wire.cancel()
            behind_it.cancel()
            try:
                with pytest.raises(ProduceError, match="before the rebalance"):
                    await writer.own([0, 1])
            finally:
                kafka.resume()
            await writer.own([0, 1])
            assert (await writer.write_batch(log, 1, [(b"k", b"2")]))[:2] == (1, 1), "the one that waited went first"


@pytest.mark.kafka
async def test_a_writer_stops_in_time_though_the_broker_takes_nothing(own_apache_kafka: ApacheKafka) -> None:
    application, log = own_name(), own_name("log")
    with own_apache_kafka as kafka:
        await make_topics(kafka, log)
        async with writer_of(kafka, application, log) as writer:
            await writer.own([0])  # a new broker's coordinator takes longer than the time-out below
        async with asyncio.timeout(20), writer_of(kafka, application, log, request_timeout_seconds=1) as writer:
            await writer.own([0])
            kafka.pause()
            waiting = asyncio.create_task(writer.write_batch(log, 0, [(b"k", b"late")]))
            await asyncio.sleep(0.2)
            waiting.cancel()
        kafka.resume()


@pytest.mark.kafka
async def test_a_topic_that_is_not_there_is_refused_and_named(apache_kafka: ApacheKafka) -> None:
    absent = own_name("absent")
    async with asyncio.timeout(20), writer_of(apache_kafka, own_name(), request_timeout_seconds=1) as writer:
        with pytest.raises(ProduceError, match=f"has no {absent}/0"):
            await writer.write_all({(absent, 0): [(b"k", b"1")]})


@pytest.mark.kafka
async def test_a_broker_whose_coordinator_is_away_is_not_taken_for_one_without_producer_ids(tmp_path: Path) -> None:
    """Or a worker that starts then would be told to go on unfenced, and would, where that is allowed."""
    kafka = on_apache_kafka(tmp_path / "kafka", nodes=3).start()
    try:
        kafka.kill(1)
        kafka.kill(2)
        for allow_unfenced in (False, True):
            with pytest.raises(BrokerError, match=r"no producer id for .* within 2 s"):
                async with writer_of(kafka, own_name(), allow_unfenced=allow_unfenced, request_timeout_seconds=2):
                    pass
    finally:
        kafka.kill(0)  # alone it would wait for the others before it stops


@pytest.mark.embedded
async def test_a_broker_without_producer_ids_is_refused_with_what_to_do(embedded_broker: EmbeddedBroker) -> None:
    with pytest.raises(BrokerError, match="allow_unfenced"):
        async with writer_of(embedded_broker, own_name(), request_timeout_seconds=2):
            pass


@pytest.mark.embedded
async def test_a_broker_without_producer_ids_is_written_to_when_allowed_and_said_to_be_unfenced(embedded_broker: EmbeddedBroker) -> None:
    log = own_name("log")
    await make_topics(embedded_broker, log)
    async with writer_of(embedded_broker, own_name(), log, allow_unfenced=True, request_timeout_seconds=2) as writer:
        assert not writer.fenced
        await writer.own([0])
        assert (await writer.write_batch(log, 0, [(b"k", b"1"), (b"l", None)]))[:2] == (0, 2)
        await writer.write_all({(log, 1): [(None, b"2")]})

    assert await contents(embedded_broker, log, 0, 2) == [(b"k", b"1"), (b"l", None)]


@pytest.mark.embedded
async def test_the_first_write_to_a_topic_waits_for_a_broker_that_stands_still(embedded_broker: EmbeddedBroker) -> None:
    """The client does not know the topic yet, and nobody answers its question: no reason to end the worker."""
    elsewhere = own_name("out")
    async with writer_of(embedded_broker, own_name(), allow_unfenced=True, request_timeout_seconds=0.3) as writer:
        await make_topics(embedded_broker, elsewhere)
        assert embedded_broker.pid is not None
        os.kill(embedded_broker.pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(0.1)  # until all of its threads stand still
            writing = asyncio.create_task(writer.write_all({(elsewhere, 0): [(b"k", b"1")]}))
            await asyncio.wait({writing}, timeout=1.5)
            assert not writing.done(), writing.exception()
        finally:
            os.kill(embedded_broker.pid, signal.SIGCONT)
        await writing

    assert await contents(embedded_broker, elsewhere, 0, 1) == [(b"k", b"1")]

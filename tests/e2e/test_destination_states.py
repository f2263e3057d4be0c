"""What one worker finds of a destination all workers know, and know after a restart; an operator's word closes it everywhere."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from app.cli.embedded_broker import EmbeddedBroker
from app.delivery.breaker import Breaker, Cause
from app.destinations.outcomes import DownCause
from app.engine.fence import Writer
from app.streams.destination_states import DestinationStates
from app.streams.publisher import Publisher, Record, partition_of
from tests.brokers.apache_kafka import ApacheKafka
from tests.e2e.engine_worlds import client_of, make_topics, own_name, writer_of
from tests.e2e.fleet import Fleet, fleet_on
from tests.e2e.waiting import until
from tidings.events.v1.event_pb2 import Event, ProductViewed
from tidings.internal.v1 import destination_state_pb2 as pb
from tidings.internal.v1.destination_state_pb2 import DestinationState

#: What one worker finds, the others know within this, and a little for a busy machine.
KNOWN_SECONDS = 1.0


class Member:
    """A worker as far as its breakers go."""

    def __init__(self, client: dict[str, Any], writer: Writer, topic: str, name: str) -> None:
        self.breakers = {"crm": Breaker(_now_ms), "mail": Breaker(_now_ms)}
        self.changes = 0
        self.states = DestinationStates(client, writer, topic, self.breakers, partitions=2, worker=name, on_change=self._changed)

    def _changed(self) -> None:
        self.changes += 1

    @property
    def crm(self) -> Breaker:
        return self.breakers["crm"]


class Room:
    """A topic, and members that come and go."""

    def __init__(self, broker: Any, topic: str, writer: Writer) -> None:
        self.topic = topic
        self.writer = writer
        self.client = client_of(broker, fetch_max_wait_ms=20)

    @asynccontextmanager
    async def member(self, name: str) -> AsyncIterator[Member]:
        """It has read what was there when this returns."""
        member = Member(self.client, self.writer, self.topic, name)
        tasks = [asyncio.create_task(member.states.follow()), asyncio.create_task(member.states.tell())]
        try:
            await asyncio.wait_for(member.states.caught_up.wait(), 10)
            yield member
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def say(self, key: bytes, value: bytes) -> None:
        await self.writer.write_all({(self.topic, partition_of(key, 2)): [(key, value)]})

    async def operator(self, breaker: pb.Breaker) -> None:
        record = DestinationState(target="crm", at_ms=_now_ms(), by="operator", breaker=breaker, reason="an operator's")
        await self.say(b"crm", record.SerializeToString())


@pytest.fixture(params=[pytest.param("embedded", marks=pytest.mark.embedded), pytest.param("kafka", marks=pytest.mark.kafka)])
async def room(request: pytest.FixtureRequest) -> AsyncIterator[Room]:
    is_embedded = request.param == "embedded"
    broker = request.getfixturevalue("embedded_broker" if is_embedded else "apache_kafka")
    topic = own_name("destinations")
    await make_topics(broker, topic)
    async with writer_of(broker, topic, allow_unfenced=is_embedded) as writer:
        yield Room(broker, topic, writer)


async def test_what_one_worker_finds_another_knows_within_a_second_and_one_that_begins_later_before_anything_else(room: Room) -> None:
    async with room.member("a") as a, room.member("b") as b:
        began = time.monotonic()
        a.crm.opened(DownCause.AUTH, "401: the key is refused")
        await until(lambda: not b.crm.allows(), KNOWN_SECONDS + 1, "the other worker to know", every_seconds=0.02)
        print(f"\nknown after {time.monotonic() - began:.2f} s")
        assert b.crm.state == a.crm.state
        assert b.changes == 1
        assert a.changes == 0
        assert b.breakers["mail"].allows()
    async with room.member("a again") as again:
        assert (again.crm.state.kind, again.crm.state.cause) == ("open", Cause.AUTH)
        assert not again.crm.allows()


async def test_an_operators_resume_closes_all_and_what_is_told_late_of_the_incident_does_not_open_them_again(room: Room) -> None:
    async with room.member("a") as a, room.member("b") as b:
        a.crm.opened(DownCause.AUTH, "401")
        await until(lambda: not b.crm.allows(), 5, "the other worker to know")
        late = DestinationState(target="crm", at_ms=_now_ms(), by="c", breaker=pb.BREAKER_OPEN_AUTH)
        await asyncio.sleep(0.05)
        await room.operator(pb.BREAKER_CLOSED)
        await until(lambda: a.crm.allows() and b.crm.allows(), 5, "both closed", every_seconds=0.02)
        await room.say(b"crm", late.SerializeToString())
        await asyncio.sleep(1)
        assert a.crm.allows()
        assert b.crm.allows()
        async with room.member("c") as c:  # what was told late has been covered up
            assert c.crm.allows()


async def test_noise_in_the_topic_harms_nobody(room: Room) -> None:
    async with room.member("a") as a:
        await room.say(b"crm", b"\xff" * 100_000)
        await room.say(b"\xff\xfe", b"x")
        await room.say(b"mail", DestinationState(target="crm", at_ms=_now_ms(), breaker=pb.BREAKER_OPEN_AUTH).SerializeToString())
        await room.say(b"crm", DestinationState(target="crm", at_ms=2**62, breaker=pb.BREAKER_OPEN_AUTH).SerializeToString())
        await room.operator(pb.BREAKER_OPEN_OPERATOR)
        await until(lambda: a.crm.state.cause is Cause.OPERATOR, 5, "the pause")
        assert a.breakers["mail"].allows()


# Whole workers -------------------------------------------------------------------------------------------------------


class Receiver:
    """Answers what it is told to, and counts."""

    def __init__(self) -> None:
        self.status = 410
        self.requests = 0
        self.users: set[str] = set()

    async def answer(self, request: web.Request) -> web.Response:
        self.requests += 1
        if self.status == 200:
            self.users.add((await request.json())["data"]["user_id"])
        return web.Response(status=self.status)

    async def start(self, stack: AsyncExitStack) -> str:
        app = web.Application()
        app.router.add_post("/", self.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}/"


@pytest.fixture(params=[pytest.param("kafka", marks=pytest.mark.kafka)])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Fleet, Receiver]]:
    is_embedded = request.param == "embedded"
    broker: EmbeddedBroker | ApacheKafka = request.getfixturevalue("embedded_broker" if is_embedded else "apache_kafka")
    async with AsyncExitStack() as stack:
        receiver = Receiver()
        url = await receiver.start(stack)
        crm = {"name": "crm", "kind": "webhook", "url": url, "secret": "file:secret", "allow_http": True, "concurrency": 4}
        fleet = fleet_on(broker.bootstrap_servers, tmp_path, is_embedded=is_embedded, targets=[crm])
        yield await stack.enter_async_context(fleet), receiver


async def test_a_destination_that_is_gone_stays_so_for_all_workers_over_a_restart_until_an_operator_resumes_it(
    world: tuple[Fleet, Receiver],
) -> None:
    fleet, receiver = world
    a, b = await fleet.start("a", "b")
    await _publish(fleet, 0, 100)

    async def both_know() -> bool:
        return all([await w.metric("tidings_destination_breaker_state", target="crm", state="gone") for w in (a, b)])

    await until(both_know, 20, "both workers to know")
    assert await a.terminate() == 0
    before = receiver.requests
    await a.start()
    await fleet.shared_among(a, b)
    await _publish(fleet, 100, 100)
    await fleet.until_applied(200)
    await until(lambda: _inbox_has(fleet, 100), 30, "the other destination to have everyone")
    assert receiver.requests == before, "it was asked again after the restart"

    receiver.status = 200
    resume = DestinationState(target="crm", at_ms=_now_ms(), by="operator", breaker=pb.BREAKER_CLOSED)
    async with Publisher.of_destinations(fleet.settings) as publisher:
        await publisher.publish_records([Record(b"crm", resume.SerializeToString())])
    await until(lambda: len(receiver.users) == 100, 30, "everyone at the destination that was resumed")


async def _inbox_has(fleet: Fleet, users: int) -> bool:
    return (await fleet.inbox.stats())["users"] >= users


async def _publish(fleet: Fleet, first: int, count: int) -> None:
    """A hundred people look at products."""
    async with Publisher.of_events(fleet.settings) as publisher:
        await publisher.publish(
            [
                Event(
                    event_id=f"v{n}", user_id=f"u{n % 100}", occurred_at_ms=1_700_000_000_000 + n * 1000,
                    product_viewed=ProductViewed(product_id=f"p{n % 20}"),
                )
                for n in range(first, first + count)
            ]
        )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

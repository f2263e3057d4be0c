"""A worker under pressure, on Apache Kafka: a broker that stands still while shops post, and a destination that hangs with everyone due."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiokafka import AIOKafkaProducer

from app.engine.held_memory import resident_bytes
from tests.brokers.apache_kafka import ApacheKafka
from tests.e2e.fleet import Fleet, fleet_on
from tests.e2e.processes import Worker
from tests.e2e.waiting import until
from tidings.events.v1.event_pb2 import Event

pytestmark = pytest.mark.kafka

#: What the publisher waits for Kafka.
REQUEST_SECONDS = 2
#: An answer comes within that, the time that a body may take on a busy machine included.
ANSWER_SECONDS = REQUEST_SECONDS + 8
#: Posts while the broker stands still, each of so many users with an event.
POSTS, EVENTS_IN_POST = 400, 25
GROWTH_BYTES = 96 * 1024**2


class Hanging:
    """A webhook receiver that answers nobody until it is told to."""

    def __init__(self) -> None:
        self.answers = asyncio.Event()
        self.users: set[str] = set()
        self.waiting = self.most_waiting = 0

    async def take(self, request: web.Request) -> web.Response:
        user = (await request.json())["data"]["user_id"]
        self.waiting += 1
        self.most_waiting = max(self.most_waiting, self.waiting)
        try:
            await self.answers.wait()
        finally:
            self.waiting -= 1
        self.users.add(user)
        return web.Response(status=204)

    @asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_post("/", self.take)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
        finally:
            self.answers.set()
            await runner.cleanup()


async def test_posts_are_refused_and_not_piled_up_and_a_hanging_destination_is_nobody_elses_trouble(
    own_apache_kafka: ApacheKafka, tmp_path: Path
) -> None:
    hanging = Hanging()
    async with hanging.served() as url:
        target = {"name": "hanging", "url": url, "secret": "file:secret", "allow_http": True, "timeout_seconds": 30, "concurrency": 8}
        own = {"kafka": {"request_timeout_seconds": REQUEST_SECONDS, "session_timeout_seconds": 30}, "targets": [target]}
        await asyncio.to_thread(own_apache_kafka.start)
        async with fleet_on(own_apache_kafka.bootstrap_servers, tmp_path / "fleet", **own) as fleet, _shop(fleet) as http:
            (worker,) = await fleet.start("a")
            posts = {f"before-{n}": await _posted(http, worker, f"before-{n}") for n in range(40)}
            assert {status for status, _, _ in posts.values()} == {202}
            await until(lambda: _users_at_inbox(fleet, 1_000), 60, "everyone's list at the destination that is well")
            assert await worker.metric("tidings_outbox_due_users", target="hanging") == 1_000
            assert hanging.most_waiting <= 8, "one request at a time in each of its places"

            await _send_a_bomb(own_apache_kafka, fleet)
            await until(lambda: _dead_letters(fleet), 30, "a dead letter")
            posts |= await _post_while_it_stands_still(own_apache_kafka, http, worker)
            assert (await _posted(http, worker, "after"))[0] == 202

            hanging.answers.set()
            # The broker takes a while to answer what was asked meanwhile.
            await until(lambda: _is_settled(fleet), 90, "everything that was accepted applied, and everyone told everywhere")
            await _accepted_as_a_whole_or_refused(fleet, posts)
            assert await _dead_letters(fleet) == 1
            assert not worker.exits


async def _post_while_it_stands_still(
    kafka: ApacheKafka, http: aiohttp.ClientSession, worker: Worker
) -> dict[str, tuple[int, str, float]]:
    before = resident_bytes(worker.pid)
    kafka.pause()
    try:
        names = [f"paused-{n}" for n in range(POSTS)]
        answers = dict(zip(names, await asyncio.gather(*(_posted(http, worker, name) for name in names)), strict=True))
        growth = resident_bytes(worker.pid) - before
    finally:
        kafka.resume()
    slowest = max(seconds for _, _, seconds in answers.values())
    print(f"\n{Counter(status for status, _, _ in answers.values())}, slowest {slowest:.1f} s, {growth / 1024**2:.0f} MiB more")
    for status, retry_after, seconds in answers.values():
        assert status in (429, 503)
        assert int(retry_after) > 0
        assert seconds < ANSWER_SECONDS
    assert growth < GROWTH_BYTES
    return answers


async def _send_a_bomb(kafka: ApacheKafka, fleet: Fleet) -> None:
    """Six megabytes of nothing, in as many kilobytes: more than the broker takes as a dead letter."""
    async with AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap_servers, compression_type="gzip", max_request_size=20_000_000, max_batch_size=20_000_000
    ) as producer:
        await producer.send_and_wait(fleet.names.events, bytes(6_000_000), b"bomb")


def _shop(fleet: Fleet) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        headers={"Authorization": f"Bearer {fleet.token}"}, timeout=aiohttp.ClientTimeout(total=60), connector=aiohttp.TCPConnector(limit=0)
    )


async def _posted(http: aiohttp.ClientSession, worker: Worker, name: str) -> tuple[int, str, float]:
    """Status, Retry-After and seconds of a post of some users' first events."""
    events = [
        {"user_id": f"{name}-{n}", "event": "view", "product_id": f"product-{n}", "event_id": f"{name}-{n}", "attributes": {"a": "x" * 200}}
        for n in range(EVENTS_IN_POST)
    ]
    began = time.monotonic()
    async with http.post(f"{worker.url}/v1/events", json=events) as answer:
        await answer.read()
        return answer.status, answer.headers.get("Retry-After", ""), time.monotonic() - began


async def _users_at_inbox(fleet: Fleet, count: int) -> bool:
    return (await fleet.inbox.stats())["users"] >= count


async def _dead_letters(fleet: Fleet) -> int:
    await fleet.log.read_on("dead_letters")
    return len(fleet.log.dead_letters)


async def _is_settled(fleet: Fleet) -> bool:
    return not (await fleet._unfinished(0))[0]


async def _accepted_as_a_whole_or_refused(fleet: Fleet, posts: dict[str, tuple[int, str, float]]) -> None:
    await fleet.log.read_on("events")
    written: dict[str, set[str]] = {}
    for record in fleet.log.events:
        if record.key == b"bomb":
            continue
        event_id: Any = Event.FromString(record.value).event_id
        written.setdefault(event_id.rpartition("-")[0], set()).add(event_id)
    for name, (status, _, _) in posts.items():
        events = len(written.get(name, ()))
        assert events == EVENTS_IN_POST if status == 202 else events in (0, EVENTS_IN_POST), f"{name}, {status}: {events} events are there"

"""A line says whether it goes on: what stands still is ours, what a target, a limit or an operator keeps is not."""

from __future__ import annotations

import asyncio

from app.destinations.requests import Request, Response
from app.engine.watchdog import Judge, Work
from tests.unit.delivery.worlds import World, answered, running, until


async def hang(_: Request) -> Response:
    await asyncio.Event().wait()
    raise AssertionError


async def test_a_line_whose_users_are_claimed_and_never_sent_is_owed() -> None:
    world = World()
    for n in range(200):
        world.people.change(f"u{n}")
    never = asyncio.Event()

    async def stuck(_: object) -> None:
        await never.wait()

    world.store.before_write = stuck  # the claims' marks are never durable, though nobody says that the broker is away
    deliverer = world.worker()
    async with running(deliverer, 0):
        deliverer.due([f"u{n}" for n in range(200)])
        await asyncio.sleep(0.1)
        first = deliverer.progress()[0]
        await asyncio.sleep(0.1)
        assert first.is_owed
        assert deliverer.progress()[0].turns_ended == first.turns_ended


async def test_a_target_that_hangs_is_no_standstill_before_its_requests_must_have_ended() -> None:
    world = World(timeout_seconds=5.0, concurrency=1)
    world.client.answer = hang
    people = [f"u{n}" for n in range(20)]
    for user in people:
        world.people.change(user)
    deliverer = world.worker()
    async with running(deliverer, 0):
        deliverer.due(people)
        await until(lambda: bool(world.client.got))
        seen = deliverer.progress()[0]
    judge, work = Judge(30), Work("deliver", seen.turns_ended, seen.is_owed, "", seen.wire_seconds)
    judge.look([work], 0)
    assert judge.look([work], 30 + 5.0) == []


async def test_what_is_delivered_counts_and_nobody_is_owed_when_all_is() -> None:
    world = World()
    world.people.change("ann")
    deliverer = world.worker()
    async with running(deliverer):
        before = deliverer.progress()[0].turns_ended
        deliverer.due(["ann"])
        await until(lambda: deliverer.progress()[0].turns_ended > before)
        assert not deliverer.progress()[0].is_owed


async def test_without_a_lease_behind_an_open_breaker_or_a_parked_lane_nobody_is_owed() -> None:
    world = World()
    world.people.change("ann")

    async def gone(_: Request) -> Response:
        return answered(410)

    async def later(_: Request) -> Response:
        return answered(429, retry_after="60")

    world.has_lease = False
    deliverer = world.worker()
    async with running(deliverer, 0):
        deliverer.due(["ann"])
        await asyncio.sleep(0.05)
        assert not deliverer.progress()[0].is_owed
    for answer in (gone, later):
        world = World()
        world.client.answer = answer
        for user in ("ann", "ben", "cid"):
            world.people.change(user)
        deliverer = world.worker()
        async with running(deliverer, 0):
            deliverer.due(["ann"])
            await until(lambda: bool(world.client.got))  # noqa: B023  # awaited within the round
            await asyncio.sleep(0.05)
            deliverer.due(["ben", "cid"])
            await asyncio.sleep(0.05)
            assert not deliverer.progress()[0].is_owed, answer.__name__

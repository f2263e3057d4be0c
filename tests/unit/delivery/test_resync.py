"""People who are sent once more because somebody asked for it: on a lane of their own, behind whoever has something new."""

from __future__ import annotations

import asyncio

import pytest

from app.delivery.commands import resync
from app.destinations.requests import Response
from tests.unit.delivery.crowd import Asked, CrowdWorld, all_said, said
from tests.unit.delivery.worlds import Clock, running, ticking, until
from tidings.state.v1 import outbox_pb2

_USERS = [f"user-{i}" for i in range(50)]


async def _confirmed_world(clock: Clock | None = None, jobs: bool = False, **limits: int) -> CrowdWorld:
    """Everyone has their list."""
    world = CrowdWorld(clock, jobs=jobs, **limits)
    for user in _USERS:
        world.people.change(user, "mug")
    async with running(world.worker()) as deliverer:
        deliverer.due(_USERS)
        await until(lambda: len(world.confirmed()) == len(_USERS) and all(world.durable(user).confirmed_version for user in _USERS))
    world.platform.requests.clear()
    return world


def _ask_to_resync(world: CrowdWorld, *users: str) -> None:
    for user in users:
        entry = world.store.entries[user]
        resync(entry, "crowd", 1)
        world.store.log[user] = entry.SerializeToString()


async def test_what_is_confirmed_is_sent_once_more_whatever_it_says_and_then_left_alone() -> None:
    world = await _confirmed_world()
    _ask_to_resync(world, *_USERS)
    async with running(world.worker()) as deliverer:
        deliverer.due_again(_USERS)
        await until(lambda: not any(world.durable(user).resync_since_ms for user in _USERS))
        assert deliverer.status()[0].due == 0
        deliverer.due_again(_USERS)
        await asyncio.sleep(0.02)
    assert world.platform.times_sent() == dict.fromkeys(_USERS, 1)
    assert all(versions == [1, 1] for versions in world.platform.versions.values())


async def test_whoever_is_only_sent_once_more_and_comes_as_if_there_were_something_new_changes_lanes() -> None:
    world = await _confirmed_world()
    _ask_to_resync(world, *_USERS)
    async with running(world.worker(resync_per_second=0.001)) as deliverer:
        deliverer.due(_USERS)
        await until(lambda: deliverer.status()[0].resync_due == len(_USERS))
        writes = world.store.writes
        await asyncio.sleep(0.02)
    assert world.store.writes == writes
    assert world.platform.requests == []


async def test_no_more_people_are_sent_once_more_in_a_second_than_the_settings_say() -> None:
    clock = Clock()
    world = await _confirmed_world(clock)
    _ask_to_resync(world, *_USERS)
    async with running(world.worker(resync_per_second=10)) as deliverer:
        deliverer.due_again(_USERS)
        for second in range(1, 6):
            for _ in range(10):
                clock.pass_ms(100)
                deliverer.due([])
                await asyncio.sleep(0.005)
            assert 10 * (second - 1) <= sum(world.platform.times_sent().values()) <= 10 * second
    assert len(world.platform.requests) <= 5, "and those of a second go together"


async def test_the_rate_is_divided_by_the_share_of_partitions() -> None:
    clock = Clock()
    world = await _confirmed_world(clock, people=1)
    _ask_to_resync(world, *_USERS)
    async with running(world.worker(resync_per_second=20, share=lambda: 0.25)) as deliverer:
        deliverer.due_again(_USERS)
        for _ in range(40):
            clock.pass_ms(100)
            deliverer.due([])
            await asyncio.sleep(0.003)
        assert 15 <= sum(world.platform.times_sent().values()) <= 21


async def test_whoever_has_something_new_goes_before_all_who_are_sent_once_more() -> None:
    """The target takes one request at a time; each takes a while."""
    world = await _confirmed_world(people=1, concurrency=1)
    _ask_to_resync(world, *_USERS[:40])

    async def answer(people: Asked) -> Response:
        await asyncio.sleep(0.003)
        return all_said("ok", people)

    world.platform.answer = answer
    async with running(world.worker()) as deliverer:
        deliverer.due_again(_USERS[:40])
        await until(lambda: len(world.platform.requests) > 3)
        for user in _USERS[40:]:
            sent = len(world.platform.requests)
            world.people.change(user, "new")
            deliverer.due([user])
            await until(lambda user=user: world.delivery(user).confirmed_version == 2)  # type: ignore[misc]  # bound per round
            place = next(i for i, request in enumerate(world.platform.requests) if dict(request).get(user) == 2)
            assert place - sent <= 2, "at most the one on the wire and the one that began meanwhile"
        await until(lambda: not any(world.durable(user).resync_since_ms for user in _USERS))


async def test_requests_of_those_who_are_sent_once_more_leave_room_for_the_others() -> None:
    world = await _confirmed_world(people=1, concurrency=4)
    _ask_to_resync(world, *_USERS[:40])
    hang = asyncio.Event()

    async def answer(people: Asked) -> Response:
        if people[0]["version"] == 1:
            await hang.wait()
        return all_said("ok", people)

    world.platform.answer = answer
    async with running(world.worker()) as deliverer:
        deliverer.due_again(_USERS[:40])
        await until(lambda: len(world.platform.requests) == 1)
        for user in _USERS[40:]:
            world.people.change(user, "new")
        deliverer.due(_USERS[40:])
        await until(lambda: all(world.delivery(user).confirmed_version == 2 for user in _USERS[40:]))
        assert len(world.platform.requests) == 11
        hang.set()
        await until(lambda: not any(world.durable(user).resync_since_ms for user in _USERS))


async def test_a_newer_list_answers_the_wish_too() -> None:
    world = await _confirmed_world()
    _ask_to_resync(world, "user-1")
    async with running(world.worker(resync_per_second=0.001)) as deliverer:
        deliverer.due_again(["user-1"])
        world.people.change("user-1", "new")
        deliverer.due(["user-1"])
        await until(lambda: world.durable("user-1").confirmed_version == 2)
        assert not world.durable("user-1").resync_since_ms
    assert world.platform.times_sent() == {"user-1": 1}


@pytest.mark.parametrize("word", ["bad", "blocked"])
async def test_a_refusal_ends_the_wish(word: str) -> None:
    world = await _confirmed_world()

    async def answer(people: Asked) -> Response:
        return said([word] * len(people))

    world.platform.answer = answer
    _ask_to_resync(world, "user-1")
    async with running(world.worker()) as deliverer:
        deliverer.due_again(["user-1"])
        await until(lambda: not world.durable("user-1").resync_since_ms)
        await asyncio.sleep(0.02)
    assert world.durable("user-1").dead_reason != outbox_pb2.DEAD_REASON_UNSPECIFIED
    assert world.platform.times_sent() == {"user-1": 1}


async def test_who_may_not_be_told_about_is_not_sent_once_more() -> None:
    world = await _confirmed_world()
    world.people.refusing.add("user-1")
    _ask_to_resync(world, "user-1")
    async with running(world.worker()) as deliverer:
        deliverer.due_again(["user-1"])
        await until(lambda: not world.durable("user-1").resync_since_ms)
    assert world.durable("user-1").dead_reason == outbox_pb2.DEAD_REASON_WITHHELD
    assert world.platform.requests == []


async def test_a_failed_one_is_tried_again_by_the_schedule() -> None:
    clock = Clock()
    world = await _confirmed_world(clock)

    async def answer(people: Asked) -> Response:
        return said("", 500) if len(world.platform.requests) == 1 else all_said("ok", people)

    world.platform.answer = answer
    _ask_to_resync(world, "user-1")
    async with running(world.worker()) as deliverer, ticking(clock):
        deliverer.due_again(["user-1"])
        await until(lambda: world.delivery("user-1").attempts == 1)
        await until(lambda: not world.durable("user-1").resync_since_ms)
    assert world.platform.times_sent() == {"user-1": 2}


async def test_a_wish_outlives_its_worker() -> None:
    clock = Clock()
    world = await _confirmed_world(clock)
    _ask_to_resync(world, "user-1")
    worker = world.worker(resync_per_second=0.001)
    await worker.start()
    worker.due_again(["user-1"])
    await asyncio.sleep(0.01)
    await worker.stop(drain_seconds=0)
    world.take_over()
    async with running(world.worker()) as second, ticking(clock):
        second.due_again(["user-1"])
        await until(lambda: not world.durable("user-1").resync_since_ms)
    assert world.platform.times_sent() == {"user-1": 1}

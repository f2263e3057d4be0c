"""More users are due than a lane has room for: they are found again in the outbox, and everyone is told in the end."""

from __future__ import annotations

import asyncio

import pytest

from app.delivery.commands import resync
from app.delivery.deliverer import Deliverer
from app.delivery.left_out import PAUSE_MS, LeftOut
from app.destinations.requests import Response
from tests.unit.delivery.crowd import Asked, CrowdWorld, all_said, said
from tests.unit.delivery.worlds import Clock, running, ticking, until

ROOM = 20
USERS = [f"{i % 4}-user-{i}" for i in range(400)]


def world_of(clock: Clock) -> CrowdWorld:
    world = CrowdWorld(clock, people=1)
    world.store.partitions = lambda user: int(user[0])
    for user in USERS:
        world.people.change(user, "mug")
    return world


def in_lane(deliverer: Deliverer) -> int:
    lane = deliverer._lines[0].lane
    return len(lane) - lane.open_turns


async def test_a_target_that_hangs_fills_its_lane_and_no_more_and_has_everyone_once_it_answers() -> None:
    clock, answers, most = Clock(), asyncio.Event(), 0
    world = world_of(clock)

    async def answer(people: Asked) -> Response:
        await answers.wait()
        return all_said("ok", people)

    world.platform.answer = answer
    async with ticking(clock, 50), running(world.worker(max_users=ROOM)) as deliverer:
        for user in USERS:
            deliverer.due([user])
            await asyncio.sleep(0)
            most = max(most, in_lane(deliverer))
        assert most == ROOM
        due = deliverer.status()[0].due
        assert due >= len(USERS) - 10, "those who are left out are due as well"
        answers.set()
        await until(lambda: has_room(deliverer) and len(world.confirmed()) == len(USERS), 60)
        await until(lambda: deliverer.status()[0].due == 0)
    assert world.platform.times_sent() == dict.fromkeys(USERS, 1)


def has_room(deliverer: Deliverer) -> bool:
    assert in_lane(deliverer) <= 3 * ROOM, "so many wait for their turn, as many for a time, and some had a turn and came back"
    return True


async def test_whoever_is_due_again_or_at_a_newer_list_while_left_out_is_not_forgotten() -> None:
    clock = Clock()
    world = world_of(clock)
    for user in USERS[:200]:
        entry = world.store.entries[user]
        delivery = entry.deliveries[0]
        delivery.confirmed_version = delivery.desired_version
        resync(entry, "crowd", 1)
        world.store.log[user] = entry.SerializeToString()
    async with ticking(clock, 50), running(world.worker(max_users=ROOM)) as deliverer:
        deliverer.due_again(USERS[:200])
        deliverer.due(USERS[200:])
        for user in USERS[300:]:
            world.people.change(user, "cup")
            deliverer.due([user])
        await until(lambda: len(world.confirmed()) == len(USERS) and not any(world.durable(u).resync_since_ms for u in USERS), 60)
        await until(lambda: deliverer.status()[0].due == 0)


async def test_whoever_waits_for_another_attempt_and_has_no_room_is_tried_again() -> None:
    """Everyone fails once: nobody has room to wait for the second attempt in."""
    clock = Clock()
    world, failed = world_of(clock), set()

    async def answer(people: Asked) -> Response:
        user = people[0]["user"]
        if user in failed:
            return all_said("ok", people)
        failed.add(user)
        return all_said("retry", people)

    world.platform.answer = answer
    async with ticking(clock, 500), running(world.worker(max_users=ROOM)) as deliverer:
        deliverer.due(USERS)
        await until(lambda: has_room(deliverer) and len(world.confirmed()) == len(USERS), 60)
        await until(lambda: deliverer.status()[0].due == 0)


async def test_a_partition_that_goes_to_another_worker_in_the_middle_of_a_search_is_left_alone() -> None:
    clock = Clock()
    world = world_of(clock)
    async with ticking(clock, 50), running(world.worker(max_users=ROOM)) as deliverer:
        deliverer.due(USERS)
        await until(lambda: world.store.scans > 0)
        world.store.not_owned = {1, 3}
        deliverer.revoke({1, 3})
        mine = {user for user in USERS if user[0] in "02"}
        await until(lambda: world.confirmed() >= mine, 60)
        await until(lambda: deliverer.status()[0].due == 0)


async def test_a_search_ends_with_the_lease_and_goes_on_with_it() -> None:
    clock = Clock()
    world = world_of(clock)
    async with ticking(clock, 50), running(world.worker(max_users=ROOM)) as deliverer:
        deliverer.due(USERS)
        await until(lambda: world.store.scans > 1)
        world.has_lease = False
        await asyncio.sleep(0.05)
        scans = world.store.scans
        await asyncio.sleep(0.6)
        assert world.store.scans <= scans + 1
        world.has_lease = True
        await until(lambda: len(world.confirmed()) == len(USERS), 60)


def test_a_partition_is_looked_through_from_its_beginning_no_more_often_than_once_in_a_while() -> None:
    left_out = LeftOut()
    left_out.add(0)
    assert left_out.next(0) == 0
    assert left_out.begin(0, 0) == ""
    left_out.go_on_at(0, "m")
    assert left_out.next(1) == 0, "a search that found the lane full goes on as soon as there is room"
    assert left_out.begin(0, 1) == "m"
    left_out.go_on_at(0, "")
    assert left_out.next(PAUSE_MS - 1) is None
    assert left_out.next(PAUSE_MS) == 0


def test_a_clock_that_is_set_back_makes_nobody_who_is_left_out_wait_longer() -> None:
    left_out = LeftOut()
    left_out.add(0, 5_000_000)
    left_out.set_back(4_000_000)
    assert left_out.next(1_000_000) == 0


@pytest.mark.parametrize("status", [500, 429])
async def test_a_lane_that_is_full_of_failures_is_left_out_no_longer_than_they_last(status: int) -> None:
    """The breaker opens, or the target asks for a pause: meanwhile nothing is looked for."""
    clock = Clock()
    world = world_of(clock)

    async def answer(people: Asked) -> Response:
        return said({}, status)

    world.platform.answer = answer
    async with ticking(clock, 50), running(world.worker(max_users=ROOM)) as deliverer:
        deliverer.due(USERS)
        await asyncio.sleep(0.5)
        assert in_lane(deliverer) <= 2 * ROOM
        assert world.store.scans < 20

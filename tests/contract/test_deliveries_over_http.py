"""The deliverer at work against every kind of destination's stand-in: all of them arrive, whatever goes wrong there meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from app.delivery.deliverer import Deliverer
from app.destinations import KINDS
from app.web.demo.platforms.faults import Trouble
from app.web.demo.platforms.limits import FixedWindow
from tests.contract.platform_worlds import World, a_world, address_of
from tests.unit.delivery.worlds import a_deliverer, until
from tidings.state.v1 import outbox_pb2

#: Jobs are asked for every five seconds, retries take longer: the deliverer's and the platforms' time passes so much faster here.
SPEED = 10.0
PEOPLE = 150
#: One at a time, in batches, in jobs; the others are as one of these, and take their time.
QUICK = ("webhook", "mailchimp", "hubspot", "klaviyo")
ALL = [kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.long) for kind in KINDS]
BATCHED = [kind for kind in KINDS if kind not in ("webhook", "mailchimp")]


@asynccontextmanager
async def delivering(kind: str, *, users: int = PEOPLE, speed: float = SPEED, **settings: Any) -> AsyncIterator[tuple[World, Deliverer]]:
    """A world whose people are due, and its deliverer."""
    async with a_world(kind, users=users, speed=speed, **settings) as world:
        deliverer = a_deliverer([world.destination], world.store, world.people, clock=world.clock)  # type: ignore[list-item]  # any kind
        await deliverer.start()
        try:
            yield world, deliverer
        finally:
            await deliverer.stop(0.5)


async def settled(world: World, *users: str, seconds: float = 40.0) -> None:
    """Until everybody is confirmed with the list that is current now."""
    try:
        await until(lambda: world.is_confirmed(*users), seconds)
    except TimeoutError:
        late = [user for user in users or world.users if not world.is_confirmed(user)]
        raise AssertionError(f"{len(late)} are not confirmed, {world.platform.counts}: {world.delivery(late[0])}") from None


@pytest.mark.parametrize("kind", ALL)
async def test_many_people_arrive_with_their_current_list(kind: str) -> None:
    async with delivering(kind) as (world, deliverer):
        deliverer.due(world.users)
        await settled(world)
        assert world.is_current()
        assert world.is_sound()
        if kind in BATCHED:
            assert world.platform.counts["requests"] < PEOPLE / 5


@pytest.mark.parametrize("kind", ALL)
async def test_lists_that_change_all_the_time_never_go_back_at_the_receiver(kind: str) -> None:
    async with delivering(kind, users=30) as (world, deliverer):
        deliverer.due(world.users)
        for round_ in range(20):
            changed = world.users[round_ % 3 :: 3]
            for user in changed:
                world.people.change(user)
            deliverer.due(changed)
            await asyncio.sleep(0.05)
        await settled(world)
        assert world.is_current()
        assert world.is_sound()


REJECTED: dict[str, tuple[Trouble, outbox_pb2.DeadReason]] = {
    "sendgrid": (Trouble.INVALID, outbox_pb2.DEAD_REASON_REFUSED),
    "mailchimp": (Trouble.SUPPRESSED, outbox_pb2.DEAD_REASON_SUPPRESSED),
    "hubspot": (Trouble.CONFLICT, outbox_pb2.DEAD_REASON_CONFLICT),
    "klaviyo": (Trouble.INVALID, outbox_pb2.DEAD_REASON_INVALID_IDENTITY),
    "braze": (Trouble.SUPPRESSED, outbox_pb2.DEAD_REASON_SUPPRESSED),
    "customerio": (Trouble.INVALID, outbox_pb2.DEAD_REASON_INVALID_IDENTITY),
    "iterable": (Trouble.FORGOTTEN, outbox_pb2.DEAD_REASON_SUPPRESSED),
}


@pytest.mark.parametrize("kind", REJECTED)
async def test_a_partial_failure_gives_up_those_who_are_meant_for_a_typed_reason_and_nobody_else(kind: str) -> None:
    trouble, reason = REJECTED[kind]
    bad = ("user-3", "user-17")
    async with delivering(kind, users=40) as (world, deliverer):
        for user in bad:
            world.platform.faults.people |= {user: trouble, address_of(user): trouble}
        deliverer.due(world.users)
        others = [user for user in world.users if user not in bad]
        await settled(world, *others)
        await until(lambda: all(world.delivery(user).abandoned_version == 1 for user in bad))
        assert [world.delivery(user).dead_reason for user in bad] == [reason] * 2
        assert [world.delivery(user).blocked for user in bad] == [reason == outbox_pb2.DEAD_REASON_SUPPRESSED] * 2
        assert not any(world.delivery(user).abandoned_version for user in others)
        assert world.is_current(*others)
        assert world.is_sound()


@pytest.mark.parametrize("kind", ["hubspot", "braze", "customerio", "iterable"])
async def test_a_refusal_that_does_not_say_who_is_meant_costs_the_others_nothing(kind: str) -> None:
    async with delivering(kind, users=40) as (world, deliverer):
        world.platform.faults.is_opaque = True
        world.platform.faults.people |= {"user-3": Trouble.INVALID, address_of("user-3"): Trouble.INVALID}
        deliverer.due(world.users)
        others = [user for user in world.users if user != "user-3"]
        await settled(world, *others)
        await until(lambda: world.delivery("user-3").abandoned_version == 1)
        assert world.is_current(*others)


@pytest.mark.parametrize("kind", ALL)
async def test_throttling_slows_and_loses_nothing(kind: str) -> None:
    users, people = (30, {"max_people": 10 if kind in ("sendgrid", "klaviyo") else 5}) if kind in BATCHED else (8, {})
    async with delivering(kind, users=users, **people) as (world, deliverer):
        world.platform.hidden = FixedWindow(1, 3.0)
        deliverer.due(world.users)
        await settled(world, seconds=60)
        assert world.platform.counts["throttled"] > 0
        assert not any(world.delivery(user).abandoned_version for user in world.users)
        assert world.is_current()
        assert world.is_sound()


@pytest.mark.parametrize("kind", ALL)
async def test_after_an_outage_everybody_has_the_list_that_is_current_then(kind: str) -> None:
    async with delivering(kind, users=40) as (world, deliverer):
        world.platform.faults.status = 503
        deliverer.due(world.users)
        await until(lambda: world.platform.counts["503"] > 0)
        for user in world.users[::2]:
            world.people.change(user)
        deliverer.due(world.users)
        await asyncio.sleep(0.3)
        assert not any(world.version_at_receiver(user) for user in world.users)
        world.platform.faults.status = None
        await settled(world, seconds=60)
        assert world.is_current()
        assert world.is_sound()


@pytest.mark.parametrize("kind", ALL)
async def test_a_reset_after_the_write_was_applied_ends_in_one_state(kind: str) -> None:
    resets = (1, 0) if kind in BATCHED else (3, 2)  # of one request with everybody, or of some of many
    async with delivering(kind, users=40) as (world, deliverer):
        world.platform.faults.resets_after_write, world.platform.faults.resets_before_write = resets
        deliverer.due(world.users)
        await until(lambda: world.platform.counts["reset"] >= sum(resets))
        for user in world.users[::3]:
            world.people.change(user)
        deliverer.due(world.users)
        await settled(world, seconds=60)
        assert world.is_current()
        assert world.is_sound()


@pytest.mark.parametrize("kind", ALL)
async def test_a_platform_that_hangs_is_given_up_on_and_told_again(kind: str) -> None:
    async with delivering(kind, users=10, timeout_seconds=0.5, speed=3) as (world, deliverer):
        world.platform.faults.hang_seconds = 2.0
        deliverer.due(world.users)
        await until(lambda: any(world.delivery(user).attempts for user in world.users))
        world.platform.faults.hang_seconds = 0.0
        await settled(world, seconds=60)
        assert world.is_current()
        assert world.is_sound()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "webhook"])
async def test_an_expired_key_opens_the_breaker_until_an_operator_says_that_it_is_renewed(kind: str) -> None:
    async with delivering(kind, users=60) as (world, deliverer):
        world.platform.faults.is_key_expired = True
        deliverer.due(world.users)
        await until(lambda: world.platform.counts["401"] > 0)
        await asyncio.sleep(0.3)
        asked = world.platform.counts["requests"]
        for user in world.users:
            world.people.change(user)
        deliverer.due(world.users)
        await asyncio.sleep(0.7)
        assert world.platform.counts["requests"] == asked
        assert asked <= world.destination.limits.concurrency
        assert not any(world.delivery(user).abandoned_version or world.delivery(user).attempts for user in world.users)
        world.platform.faults.is_key_expired = False
        deliverer.breakers[kind].closed_by_operator()
        deliverer.wake()
        await settled(world)
        assert world.is_current()


@pytest.mark.parametrize("kind", ["sendgrid", "klaviyo"])
async def test_a_job_that_fails_is_done_anew(kind: str) -> None:
    async with delivering(kind, users=20) as (world, deliverer):
        world.platform.faults.failing_jobs = 1
        deliverer.due(world.users)
        await settled(world, seconds=60)
        assert world.platform.counts["jobs"] >= 2
        assert world.is_current()
        assert world.is_sound()


@pytest.mark.parametrize("kind", ["sendgrid", "klaviyo"])
async def test_a_job_that_takes_long_is_not_confirmed_before_it_ends(kind: str) -> None:
    async with delivering(kind, users=20) as (world, deliverer):
        world.platform.faults.job_seconds = 20.0
        deliverer.due(world.users)
        await until(lambda: world.platform.counts["jobs"] == 1)
        for user in world.users:
            world.people.change(user)
        deliverer.due(world.users)
        await asyncio.sleep(0.5)
        assert not any(world.delivery(user).confirmed_version for user in world.users)
        assert world.platform.counts["jobs"] == 1, "one write of a person at a time"
        world.platform.faults.job_seconds = 0.1
        await settled(world, seconds=60)
        assert world.is_current()
        assert world.is_sound()


@pytest.mark.parametrize("kind", ["sendgrid", "hubspot", "iterable"])
async def test_who_is_dropped_without_a_word_is_not_shown_as_confirmed(kind: str) -> None:
    async with delivering(kind, users=10) as (world, deliverer):
        world.platform.faults.people |= {"user-3": Trouble.SILENT, address_of("user-3"): Trouble.SILENT}
        deliverer.due(world.users)
        await settled(world, *(user for user in world.users if user != "user-3"))
        await until(lambda: bool(world.delivery("user-3").attempts or world.delivery("user-3").abandoned_version))
        assert not world.delivery("user-3").confirmed_version


async def test_what_braze_queues_in_its_maintenance_is_there_after_it() -> None:
    async with delivering("braze", users=20) as (world, deliverer):
        world.platform.faults.is_in_maintenance = True
        deliverer.due(world.users)
        await until(lambda: world.platform.counts["202"] > 0)
        world.platform.faults.is_in_maintenance = False
        await settled(world)
        await until(world.is_current)
        assert world.is_sound()


async def test_hubspots_lock_and_migration_are_waited_for_and_cost_nobody_an_attempt() -> None:
    async with delivering("hubspot", users=20) as (world, deliverer):
        world.platform.faults.locked, world.platform.faults.migrating_seconds = 1, 8
        deliverer.due(world.users)
        await until(lambda: world.platform.counts["477"] > 0)
        assert not any(world.delivery(user).attempts for user in world.users)
        world.platform.faults.migrating_seconds = None
        await settled(world)
        assert world.is_current()

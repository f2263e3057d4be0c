"""Claiming ahead: many users marked with one write, and none of what a mark promises lost for it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from app.delivery import outbox, retry
from app.delivery.claim import MAX_MARKING_MS
from app.delivery.client import Missing, NoResponse
from app.delivery.deliverer import Deliverer
from app.destinations.requests import Request, Response
from app.errors import ProduceError
from tests.unit.delivery.worlds import Clock, DictStore, MemoryClient, World, answered, count, real_clock, running, ticking, until

_USERS = [f"user-{i}" for i in range(1000)]


def _marked(world: World) -> list[str]:
    """Users who are durably in flight."""
    durable = DictStore(world.store.log)
    return [user for user in durable.entries if durable.delivery(user).in_flight_version]


def _claimed(world: World) -> set[str]:
    """Those of them for whom no request was made yet."""
    return set(_marked(world)) - {user for user, _, _ in world.client.got}


def _confirmed(world: World) -> int:
    return sum(world.store.delivery(user).confirmed_version > 0 for user in world.store.entries)


class _Target:
    """Answers at once until it is told to hang, and then again when it is told to go on."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.works = asyncio.Event()
        self.works.set()
        self.answered = 0
        self.hangs_after = len(_USERS)
        world.client.answer = self.answer

    async def answer(self, request: Request) -> Response:
        if self.answered >= self.hangs_after:
            self.works.clear()
            self.hangs_after = len(_USERS)
        await self.works.wait()
        self.answered += 1
        await asyncio.sleep(0)
        return answered(200)

    @property
    def hanging(self) -> int:
        """Requests that get no answer."""
        return 0 if self.works.is_set() else len(self._world.client.got) - self.answered


async def test_a_backlog_costs_few_outbox_writes() -> None:
    world = World(concurrency=32)
    world.store.partitions = lambda user: int(user[5:]) % 8

    async def round_trip(changes: Mapping[str, Any]) -> None:
        await asyncio.sleep(0.003)

    async def answer(request: Request) -> Response:
        await asyncio.sleep(0.002)
        return answered(200)

    world.store.before_write = round_trip
    world.client.answer = answer
    for user in _USERS:
        world.people.change(user)
    async with running(world.worker()) as deliverer:
        deliverer.due(_USERS)
        await until(lambda: _confirmed(world) == len(_USERS))
    assert world.store.users_written == 2 * len(_USERS), "one mark and one outcome each"
    assert world.store.writes <= len(_USERS) / 10


async def test_a_single_delivery_waits_for_nobody() -> None:
    world = World()
    async with running(world.worker()) as deliverer:
        for version in range(1, 6):
            world.people.change("ann")
            deliverer.due(["ann"])
            async with asyncio.timeout(0.08):  # less than an outcome may wait for others; it takes some 3 ms
                await until(lambda version=version: world.store.delivery("ann").confirmed_version == version)  # type: ignore[misc]  # bound per round
            assert world.store.writes == 2 * version


async def test_a_target_that_confirms_nothing_has_no_claims_behind_its_requests() -> None:
    world = World(concurrency=8)
    target = _Target(world)
    target.hangs_after = 0
    for user in _USERS:
        world.people.change(user)
    async with running(world.worker(), drain_seconds=0) as deliverer:
        deliverer.due(_USERS)
        await until(lambda: len(world.client.got) == 8)
        await asyncio.sleep(0.05)
        assert len(_marked(world)) == 8


async def test_claims_behind_a_target_that_became_slow_are_released_before_their_marks_end() -> None:
    clock = Clock()
    world = World(clock, concurrency=8)
    target = _Target(world)
    target.hangs_after = 200
    for user in _USERS:
        world.people.change(user)
    async with running(world.worker(), drain_seconds=0) as deliverer:
        deliverer.due(_USERS)
        await until(lambda: target.hanging == 8)
        await until(lambda: len(_marked(world)) > 8 + 8)
        sent = len(world.client.got)
        clock.pass_ms(MAX_MARKING_MS + 1)
        deliverer.due([])
        await until(lambda: len(_marked(world)) == 8)
        assert len(world.client.got) == sent
        target.works.set()
        await until(lambda: _confirmed(world) == len(_USERS))
    assert max(world.client.most_in_flight.values()) == 1
    assert [user for user, _, _ in world.client.got] == _USERS, "everyone once, and in the order in which they came"


async def test_every_request_is_under_a_durable_and_young_mark_of_its_own_version() -> None:
    world = World(concurrency=16)
    world.store.partitions = lambda user: int(user[5:]) % 3
    rng = random.Random(3)
    problems: list[str] = []

    async def answer(request: Request) -> Response:
        user, version, _ = world.client.got[-1]
        durable = DictStore({user: world.store.log[user]})
        if durable.delivery(user).in_flight_version != version or durable.entries[user].update.version < version:
            problems.append(f"{user} {version} is not durable")
        if durable.delivery(user).in_flight_until_ms - real_clock() < 5_000:
            problems.append(f"{user} {version} is on the wire for longer than its mark")
        await asyncio.sleep(rng.random() * 0.004)
        return answered(200)

    async def round_trip(changes: Mapping[str, Any]) -> None:
        await asyncio.sleep(rng.random() * 0.01)

    world.client.answer = answer
    world.store.before_write = round_trip
    users = _USERS[:300]
    async with running(world.worker()) as deliverer:
        for _ in range(40):
            some = rng.sample(users, 60)
            for user in some:
                _change_not_durably(world, user)
            deliverer.due(some)
            await asyncio.sleep(rng.random() * 0.01)
        await until(lambda: all(world.store.delivery(u).confirmed_version == e.update.version for u, e in world.store.entries.items()))
    assert not problems
    assert max(world.client.most_in_flight.values()) == 1
    for user in users:
        assert world.client.versions(user) == sorted(set(world.client.versions(user))), "each version once, in order"


def _change_not_durably(world: World, user: str) -> None:
    """The list changes in memory; only a write of the outbox makes it durable."""
    before = world.store.log.get(user)
    world.people.change(user)
    if before is not None:
        world.store.log[user] = before


async def test_a_list_that_changed_while_its_user_was_claimed_is_sent_as_it_is_then() -> None:
    world = World(concurrency=1)
    go_on = asyncio.Event()

    async def answer(request: Request) -> Response:
        await go_on.wait()
        return answered(200)

    async def change_again(changes: Mapping[str, Any]) -> None:
        if "bob" in changes:
            _change_not_durably(world, "bob")
            world.store.before_write = None

    for user in ("ann", "bob"):
        world.people.change(user)
    world.store.before_write = change_again
    async with running(world.worker()) as deliverer:
        go_on.set()
        deliverer.due(["ann", "bob"])
        await until(lambda: world.store.delivery("bob").confirmed_version == 2)
    assert world.client.versions("bob") == [2]


async def test_a_list_that_changes_with_every_write_is_sent_all_the_same() -> None:
    world = World()

    async def change_again(changes: Mapping[str, Any]) -> None:
        _change_not_durably(world, "ann")
        await asyncio.sleep(0.001)

    world.people.change("ann")
    world.store.before_write = change_again
    async with running(world.worker()) as deliverer:
        deliverer.due(["ann"])
        await until(lambda: len(world.client.got) >= 5)
        world.store.before_write = None
        await until(lambda: world.store.delivery("ann").confirmed_version == world.store.entries["ann"].update.version)
    versions = world.client.versions("ann")
    assert versions == sorted(set(versions))


async def test_a_throttled_target_gets_none_of_those_who_were_claimed_and_their_marks_are_lifted() -> None:
    clock = Clock()
    world = World(clock, concurrency=4)
    answers = 0

    async def answer(request: Request) -> Response:
        nonlocal answers
        answers += 1
        await asyncio.sleep(0)
        return answered(429, retry_after="60", received_at_ms=clock.now_ms) if answers == 150 else answered(200)

    world.client.answer = answer
    users = _USERS[:200]
    for user in users:
        world.people.change(user)
    async with running(world.worker()) as deliverer:
        deliverer.due(users)
        await until(lambda: answers >= 150)
        await until(lambda: not _marked(world))
        assert 150 <= len(world.client.got) <= 150 + 4
        clock.pass_ms(60_001)
        async with ticking(clock, 300):
            await until(lambda: _confirmed(world) == len(users))
    assert max(world.client.most_in_flight.values()) == 1


@pytest.mark.parametrize("how", ["consent", "lease"])
async def test_what_is_withdrawn_while_a_user_is_claimed_stops_the_request(how: str) -> None:
    """The first request is on the wire; the second user's mark is durable, and waits for it."""
    world = World(concurrency=1)
    go_on = asyncio.Event()

    async def answer(request: Request) -> Response:
        if len(world.client.got) == 100:
            await go_on.wait()
        return answered(200)

    world.client.answer = answer
    users = _USERS[:200]
    for user in users:
        world.people.change(user)
    async with running(world.worker(), drain_seconds=0) as deliverer:
        deliverer.due(users)
        await until(lambda: len(world.client.got) == 100 and len(_claimed(world)) > 1)
        claimed = _claimed(world)
        before = count("stopped")
        if how == "consent":
            world.people.refusing |= claimed
            go_on.set()
            await until(lambda: all(world.store.delivery(user).abandoned_version == 1 for user in claimed))
            assert not claimed & set(_marked(world))
        else:
            world.has_lease = False
            go_on.set()
            await until(lambda: count("stopped") - before >= len(claimed))
            assert claimed <= set(_marked(world)), "the next owner waits them out: no one may write here any more"
        assert not claimed & {user for user, _, _ in world.client.got}


async def test_a_request_that_waited_for_its_connection_is_asked_about_once_more() -> None:
    world = World()
    connected = asyncio.Event()
    sent: list[str] = []

    class _Connects(MemoryClient):
        async def send(self, request: Request, may_send: Callable[[], bool]) -> Response | NoResponse:
            await connected.wait()
            if not may_send():
                return NoResponse(Missing.FORBIDDEN, "no")
            sent.append(request.url)
            return answered(200)

    world.client = _Connects()
    world.people.change("ann")
    async with running(world.worker()) as deliverer:
        deliverer.due(["ann"])
        await until(lambda: bool(_marked(world)))
        await asyncio.sleep(0.01)
        world.people.refusing.add("ann")
        connected.set()
        await until(lambda: world.store.delivery("ann").abandoned_version == 1)
    assert sent == []
    assert world.store.delivery("ann").attempts == 0


async def test_a_mark_that_another_owner_set_meanwhile_is_respected() -> None:
    """As after a pause in which the partition went to another worker and came back."""
    clock = Clock()
    world = World(clock, concurrency=1)
    go_on = asyncio.Event()

    async def answer(request: Request) -> Response:
        if len(world.client.got) == 20:
            await go_on.wait()
        return answered(200)

    world.client.answer = answer
    users = _USERS[:100]
    for user in users:
        world.people.change(user)
    async with running(world.worker(), drain_seconds=0) as deliverer:
        deliverer.due(users)
        await until(lambda: len(world.client.got) == 20 and len(_claimed(world)) > 1)
        claimed = _claimed(world)
        for user in claimed:
            world.store.delivery(user).in_flight_until_ms += 5_000
        go_on.set()
        await until(lambda: _confirmed(world) == len(users) - len(claimed))
        await asyncio.sleep(0.01)
        assert not claimed & {user for user, _, _ in world.client.got}
        assert all(world.store.delivery(user).in_flight_version for user in claimed)
        clock.pass_ms(60_000)
        deliverer.due([])
        await until(lambda: _confirmed(world) == len(users))


async def test_a_mark_of_a_worker_whose_clock_was_ahead_holds_a_user_back_no_longer_than_a_request_may_take() -> None:
    """And just as long: a request under it may be on the wire still."""
    clock = Clock()
    world = World(clock)
    world.people.change("user")
    outbox.begin(world.store.entries["user"], "inbox", 1, clock.now_ms + 3_000_000)
    async with running(world.worker()) as deliverer:
        deliverer.due(["user"])
        for _ in range(5):
            clock.pass_ms(outbox.MAX_FLIGHT_MS // 5 - 1)
            deliverer.due([])
            await asyncio.sleep(0.02)
            assert not world.client.got
        clock.pass_ms(outbox.MAX_FLIGHT_MS // 4)  # it may have been looked at only after the clock had first gone on
        deliverer.due([])
        await until(lambda: _confirmed(world) == 1)


async def test_an_outbox_that_takes_seconds_for_a_write_delays_deliveries_and_stops_none() -> None:
    """Or nobody's mark would ever be young enough, and whoever is claimed would be released and claimed for ever."""
    clock = Clock()
    world = World(clock)

    async def wait(changes: Mapping[str, Any]) -> None:
        clock.pass_ms(MAX_MARKING_MS + 500)

    world.store.before_write = wait
    for user in _USERS[:50]:
        world.people.change(user)
    async with running(world.worker()) as deliverer:
        deliverer.due(_USERS[:50])
        await until(lambda: _confirmed(world) == 50)


@pytest.mark.parametrize("is_taken_over", [False, True])
async def test_who_was_refused_while_the_clock_was_ahead_waits_as_long_as_the_schedule_says_once_it_is_right(is_taken_over: bool) -> None:
    """A receiver refuses a signature from the future. Neither the worker whose clock it was nor the next owner waits for that future."""
    clock = Clock()
    clock.pass_ms(3_000_000)
    world = World(clock)
    world.people.change("user")

    async def refuse(_: Request) -> Response:
        return answered(401)

    world.client.answer = refuse
    async with running(world.worker()) as deliverer:
        deliverer.due(["user"])
        await until(lambda: world.store.delivery("user").attempts == 1)
        if not is_taken_over:
            await _is_sent_soon(clock, world, deliverer)
    if is_taken_over:
        async with running(world.worker()) as deliverer:
            deliverer.due(["user"])
            await _is_sent_soon(clock, world, deliverer)


async def _is_sent_soon(clock: Clock, world: World, deliverer: Deliverer) -> None:
    """The clock is set right, and the target confirms from now on."""
    world.client.answer = None
    clock.pass_ms(-3_000_000)
    deliverer.due([])
    await asyncio.sleep(0.02)
    assert not _confirmed(world), "the schedule is kept"
    for _ in range(2):  # at the end of the wait that this worker knows of, it may have to be looked at once more
        clock.pass_ms(retry.longest_wait_ms(1))
        deliverer.due([])
        await asyncio.sleep(0.02)
    await until(lambda: _confirmed(world) == 1)


async def test_a_slow_partition_does_not_hold_the_others() -> None:
    world = World(concurrency=8)
    world.store.partitions = lambda user: int(user[5:]) % 4
    stuck = asyncio.Event()

    async def wait(changes: Mapping[str, Any]) -> None:
        if any(int(user[5:]) % 4 == 1 for user in changes):
            await stuck.wait()

    world.store.before_write = wait
    for user in _USERS:
        world.people.change(user)
    others = [user for user in _USERS if int(user[5:]) % 4 != 1]
    async with running(world.worker()) as deliverer:
        deliverer.due(_USERS)
        await until(lambda: all(world.store.delivery(user).confirmed_version for user in others))
        stuck.set()
        await until(lambda: _confirmed(world) == len(_USERS))


async def test_stop_releases_whoever_is_claimed_and_not_sent() -> None:
    world = World(concurrency=4)
    target = _Target(world)
    target.hangs_after = 200
    for user in _USERS:
        world.people.change(user)
    deliverer = world.worker()
    await deliverer.start()
    deliverer.due(_USERS)
    await until(lambda: target.hanging == 4 and len(_marked(world)) > 8)
    stopping = asyncio.create_task(deliverer.stop(5))
    await asyncio.sleep(0.05)
    sent = len(world.client.got)
    assert sent - target.answered == 4
    assert len(_marked(world)) == 4, "only what is on the wire is in flight"
    target.works.set()
    await stopping
    assert len(world.client.got) == sent, "nothing began after stop"
    assert _marked(world) == []
    assert sum(DictStore(world.store.log).delivery(user).confirmed_version for user in _USERS) == sent


async def test_before_partitions_are_given_up_claims_are_released_and_nobody_is_claimed_until_they_are_owned_again() -> None:
    world = World(concurrency=4)
    target = _Target(world)
    target.hangs_after = 200
    for user in _USERS:
        world.people.change(user)
    async with running(world.worker()) as deliverer:
        deliverer.due(_USERS)
        await until(lambda: target.hanging == 4 and len(_marked(world)) > 8)
        await deliverer.rest()
        assert len(_marked(world)) == 4
        sent = len(world.client.got)
        deliverer.due(_USERS)
        target.works.set()
        await until(lambda: not _marked(world))
        await asyncio.sleep(0.02)
        assert len(world.client.got) == sent
        deliverer.resume()
        await until(lambda: _confirmed(world) == len(_USERS))


async def test_rest_does_not_wait_long_for_a_broker_that_is_away() -> None:
    world = World(concurrency=4)
    away = asyncio.Event()

    async def wait(changes: Mapping[str, Any]) -> None:
        await away.wait()

    world.people.change("ann")
    world.store.before_write = wait
    async with running(world.worker(), drain_seconds=0) as deliverer:
        deliverer.due(["ann"])
        await until(lambda: world.store.writes == 1)
        await asyncio.wait_for(deliverer.rest(), 3)


async def test_without_a_lease_nothing_is_written_at_rest() -> None:
    world = World(concurrency=4)
    target = _Target(world)
    target.hangs_after = 200
    for user in _USERS:
        world.people.change(user)
    async with running(world.worker(), drain_seconds=0) as deliverer:
        deliverer.due(_USERS)
        await until(lambda: target.hanging == 4 and len(_marked(world)) > 8)
        await asyncio.sleep(0.3)  # outcomes that wait for company
        world.has_lease = False
        writes = world.store.writes
        await deliverer.rest()
        assert world.store.writes == writes


async def test_after_a_failed_write_none_of_those_who_were_claimed_is_sent() -> None:
    world = World(concurrency=4)
    target = _Target(world)
    target.hangs_after = 200
    for user in _USERS:
        world.people.change(user)

    async def fail(changes: Mapping[str, Any]) -> None:
        raise ProduceError("not acknowledged")

    deliverer = world.worker()
    await deliverer.start()
    deliverer.due(_USERS)
    await until(lambda: target.hanging == 4 and len(_marked(world)) > 8)
    sent = len(world.client.got)
    world.store.before_write = fail
    target.works.set()
    with pytest.raises(ProduceError):
        await asyncio.wait_for(deliverer.wait(), 5)
    failed_at = len(world.client.got)
    await asyncio.sleep(0.02)
    assert len(world.client.got) == failed_at
    assert failed_at - sent <= 200
    await deliverer.stop()


async def test_seeded_rebalances_and_deaths_end_with_each_last_list_delivered_and_never_two_at_once() -> None:
    for seed in range(6):
        rng = random.Random(seed)
        clock = Clock()
        world = World(clock, concurrency=8)
        users = _USERS[:200]

        async def answer(request: Request, rng: random.Random = rng) -> Response | NoResponse:
            await asyncio.sleep(rng.random() * 0.003)
            answers: list[Response | NoResponse] = [*[answered(200)] * 5, answered(500), NoResponse(Missing.TIMED_OUT, "late")]
            return rng.choice(answers)

        async def round_trip(changes: Mapping[str, Any], rng: random.Random = rng) -> None:
            await asyncio.sleep(rng.random() * 0.004)

        newest: dict[str, int] = {}
        for _life in range(5):
            world.client.answer = answer
            world.store.partitions = lambda user: int(user[5:]) % 3
            world.store.before_write = round_trip
            worker = world.worker()
            await worker.start()
            worker.due(list(world.store.entries))
            for _ in range(8):
                some = rng.sample(users, 40)
                for user in some:
                    world.people.change(user)
                worker.due(some)
                await asyncio.sleep(rng.random() * 0.01)
                if rng.random() < 0.3:
                    await worker.rest()
                    world.store.not_owned = set(range(3))
                    await asyncio.sleep(rng.random() * 0.005)
                    worker.revoke(lost := {rng.randrange(3)})
                    world.store.not_owned = lost
                    worker.resume()
                    worker.due(list(world.store.entries))
            await worker.stop(drain_seconds=rng.choice([0, 1]))
            assert max(world.client.most_in_flight.values(), default=1) == 1
            for user, version, _ in world.client.got:
                assert version >= newest.get(user, 0), "no older list after a newer one"
                newest[user] = version
            world.take_over()
            clock.pass_ms(rng.choice([0, 1_000, 30_000]))
        world.store.partitions = lambda user: int(user[5:]) % 3
        async with running(world.worker()) as last:
            last.due(list(world.store.entries))
            await asyncio.sleep(0.02)
            clock.pass_ms(2 * 24 * 3_600_000)
            last.due([])
            await until(lambda w=world: all(w.store.delivery(u).confirmed_version == e.update.version for u, e in w.store.entries.items()))  # type: ignore[misc]  # bound per round

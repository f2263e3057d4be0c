"""Delivery as a whole, with targets in memory and an outbox that outlives its worker."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from app.delivery.claim import MARK_MARGIN_MS
from app.delivery.client import Missing, NoResponse
from app.destinations.requests import Request, Response
from app.errors import ProduceError, SettingsError
from app.metrics import REGISTRY
from tests.unit.delivery.worlds import (
    Clock,
    DictStore,
    MemoryClient,
    People,
    World,
    a_deliverer,
    answered,
    count,
    due_users,
    real_clock,
    running,
    ticking,
    until,
    webhook,
)


async def test_a_due_user_is_sent_and_confirmed_and_then_left_alone() -> None:
    world = World()
    world.people.change("ann")
    async with running(world.worker()) as deliverer:
        deliverer.due(["ann"])
        await until(lambda: world.store.delivery("ann").confirmed_version == 1 and due_users() == 0)
        before = count("unchanged")
        deliverer.due(["ann"])
        await until(lambda: count("unchanged") == before + 1)
    assert world.client.versions("ann") == [1]
    assert world.store.delivery("ann").in_flight_version == 0
    assert world.client.is_closed


async def test_the_mark_is_durable_before_the_request_leaves() -> None:
    world = World(timeout_seconds=3)
    world.people.change("ann")
    seen: list[tuple[int, int]] = []

    async def look(request: Request) -> Response:
        durable = DictStore(world.store.log).delivery("ann")
        seen.append((durable.in_flight_version, durable.in_flight_until_ms - real_clock()))
        return answered(200)

    world.client.answer = look
    async with running(world.worker()) as deliverer:
        deliverer.due(["ann"])
        await until(lambda: world.store.delivery("ann").confirmed_version == 1)
    [(version, left_ms)] = seen
    assert version == 1
    assert 3000 + MARK_MARGIN_MS - 1000 < left_ms <= 3000 + MARK_MARGIN_MS


async def test_a_retry_sends_todays_list_and_the_same_version_keeps_its_id() -> None:
    clock = Clock()
    world = World(clock)
    statuses = iter([500, 502, 200])

    async def answer(request: Request) -> Response:
        return answered(next(statuses))

    world.client.answer = answer
    world.people.change("ann", "old")
    async with running(world.worker()) as deliverer:
        deliverer.due(["ann"])
        await until(lambda: world.store.delivery("ann").attempts == 1)
        clock.pass_ms(4_999)
        deliverer.due([])
        await asyncio.sleep(0.02)
        assert len(world.client.got) == 1, "the second attempt waits for five seconds"
        clock.pass_ms(1_100)
        deliverer.due([])
        await until(lambda: world.store.delivery("ann").attempts == 2)
        world.people.change("ann", "new")
        deliverer.due(["ann"])
        await until(lambda: world.store.delivery("ann").confirmed_version == 2)
    (_, first, id_1), (_, second, id_2), (_, third, id_3) = world.client.got
    assert (first, second, third) == (1, 1, 2)
    assert id_1 == id_2 != id_3


async def test_after_the_schedules_end_a_user_is_given_up_until_there_is_a_newer_list() -> None:
    clock = Clock()
    world = World(clock)

    async def answer(request: Request) -> Response:
        return answered(500, b"broken")

    world.client.answer = answer
    world.people.change("ann")
    async with running(world.worker()) as deliverer:
        deliverer.due(["ann"])
        for attempt in range(1, 10):
            await until(lambda attempt=attempt: world.store.delivery("ann").attempts == attempt)  # type: ignore[misc]  # bound per round
            clock.now_ms = world.store.delivery("ann").next_attempt_at_ms
            deliverer.due([])
        await until(lambda: world.store.delivery("ann").abandoned_version == 1)
        clock.pass_ms(100 * 3_600_000)
        deliverer.due(["ann"])
        await asyncio.sleep(0.02)
        assert len(world.client.got) == 10
        world.client.answer = None
        world.people.change("ann")
        deliverer.due(["ann"])
        await until(lambda: world.store.delivery("ann").confirmed_version == 2)


async def test_a_throttled_target_gets_nothing_from_anyone_until_the_pause_ends() -> None:
    clock = Clock()
    world = World(clock, concurrency=1)
    answers = iter([answered(429, retry_after="60", received_at_ms=clock.now_ms)])

    async def answer(request: Request) -> Response:
        return next(answers, answered(200))

    world.client.answer = answer
    for user in ("ann", "bob"):
        world.people.change(user)
    async with running(world.worker()) as deliverer:
        deliverer.due(["ann", "bob"])
        await until(lambda: world.store.delivery("ann").throttled)
        world.people.change("ann")
        deliverer.due(["ann"])
        clock.pass_ms(59_000)
        deliverer.due([])
        await asyncio.sleep(0.02)
        assert len(world.client.got) == 1
        assert world.store.delivery("ann").attempts == 0, "asking for fewer requests is nobody's failure"
        clock.pass_ms(1_000)
        async with ticking(clock, 100):
            await until(lambda: world.store.delivery("bob").confirmed_version == 1 and world.store.delivery("ann").confirmed_version == 2)


async def test_410_disables_the_target_and_its_users_stay_due() -> None:
    world = World(concurrency=1)

    async def answer(request: Request) -> Response:
        return answered(410)

    world.client.answer = answer
    for user in ("ann", "bob"):
        world.people.change(user)
    async with running(world.worker()) as deliverer:
        deliverer.due(["ann", "bob"])
        await until(lambda: bool(world.store.delivery("ann").last_error))
        deliverer.due(["ann", "bob"])
        await asyncio.sleep(0.02)
        assert REGISTRY.get_sample_value("tidings_destination_breaker_state", {"target": "inbox", "state": "gone"}) == 1
        assert due_users() == 2
    assert len(world.client.got) == 1
    world.take_over()
    async with running(world.worker()) as deliverer:
        assert REGISTRY.get_sample_value("tidings_destination_breaker_state", {"target": "inbox", "state": "gone"}) == 0
        deliverer.due(["ann", "bob"])
        await until(lambda: all(world.store.delivery(user).confirmed_version == 1 for user in ("ann", "bob")))


async def test_a_hanging_target_delays_no_other() -> None:
    store = DictStore()
    people = People(store, ["hangs", "works"])
    clients = {"hangs": MemoryClient(), "works": MemoryClient()}

    async def hang(request: Request) -> Response:
        await asyncio.sleep(3600)
        raise AssertionError

    clients["hangs"].answer = hang
    users = [f"user-{i}" for i in range(500)]
    for user in users:
        people.change(user)
    targets = [webhook("hangs", concurrency=200), webhook("works", concurrency=200)]
    # The hanging one would like to have all of the ten.
    deliverer = a_deliverer(targets, store, people, connect=lambda target: clients[target.name], max_in_flight=10)
    async with running(deliverer, drain_seconds=0):
        deliverer.due(users)
        await until(lambda: all(store.delivery(user, "works").confirmed_version == 1 for user in users))
        assert sum(clients["hangs"].in_flight.values()) == 5


async def test_at_most_one_request_is_in_flight_for_a_user_and_the_last_list_arrives() -> None:
    world = World(concurrency=64)
    rng = random.Random(7)

    async def answer(request: Request) -> Response | NoResponse:
        await asyncio.sleep(rng.random() * 0.004)
        return answered(200)

    world.client.answer = answer
    users = [f"user-{i}" for i in range(50)]
    async with running(world.worker()) as deliverer:
        for _ in range(200):
            some = rng.sample(users, 20)
            for user in some:
                world.people.change(user)
            deliverer.due(some)
            await asyncio.sleep(rng.random() * 0.003)
        await until(lambda: all(world.store.delivery(u).confirmed_version == e.update.version for u, e in world.store.entries.items()))
    assert max(world.client.most_in_flight.values()) == 1
    for user in users:
        versions = world.client.versions(user)
        assert versions == sorted(set(versions)), "each version once, in order"
    assert len(world.client.got) < 200 * 20, "what changed while one was in flight was sent as one"


async def test_no_more_requests_than_the_limit_are_in_flight() -> None:
    world = World(concurrency=256)
    most = 0

    async def answer(request: Request) -> Response:
        nonlocal most
        most = max(most, sum(world.client.in_flight.values()))
        await asyncio.sleep(0.001)
        return answered(200)

    world.client.answer = answer
    users = [f"user-{i}" for i in range(300)]
    for user in users:
        world.people.change(user)
    async with running(world.worker(max_in_flight=7)) as deliverer:
        deliverer.due(users)
        await until(lambda: all(world.store.delivery(user).confirmed_version == 1 for user in users))
    assert most == 7


async def test_without_a_lease_nothing_leaves_and_the_user_stays_due() -> None:
    world = World()
    world.has_lease = False
    world.people.change("ann")
    async with running(world.worker()) as deliverer:
        deliverer.due(["ann"])
        await asyncio.sleep(0.05)
        assert (world.client.got, world.store.writes) == ([], 0)
        world.has_lease = True
        deliverer.due([])
        await until(lambda: world.store.delivery("ann").confirmed_version == 1)


async def test_a_worker_without_a_lease_does_not_spin() -> None:
    world = World()
    asked = 0

    def lease() -> bool:
        nonlocal asked
        asked += 1
        return False

    world.people.change("ann")
    deliverer = a_deliverer([world.target], world.store, world.people, clock=real_clock, lease=lease, connect=lambda _: world.client)
    async with running(deliverer):
        deliverer.due(["ann"])
        await asyncio.sleep(0.2)
    assert asked < 10


async def test_a_lease_lost_while_the_mark_was_written_stops_the_request() -> None:
    clock = Clock()
    world = World(clock)

    async def lose_lease(changes: Mapping[str, Any]) -> None:
        world.has_lease = False

    world.store.before_write = lose_lease
    world.people.change("ann")
    before = count("stopped")
    async with running(world.worker()) as deliverer:
        deliverer.due(["ann"])
        await until(lambda: count("stopped") == before + 1)
        assert world.client.got == []
        world.store.before_write = None
        world.has_lease = True
        clock.pass_ms(60_000)
        deliverer.due([])
        await until(lambda: world.store.delivery("ann").confirmed_version == 1)


async def test_nothing_is_sent_under_a_mark_that_took_long_to_write() -> None:
    clock = Clock()
    world = World(clock)

    async def broker_is_away(changes: Mapping[str, Any]) -> None:
        clock.pass_ms(60_000)
        world.store.before_write = None

    world.store.before_write = broker_is_away
    world.people.change("ann")
    before = count("stopped")
    async with running(world.worker()) as deliverer:
        deliverer.due(["ann"])
        await until(lambda: world.store.delivery("ann").confirmed_version == 1)
    assert count("stopped") == before + 1
    assert world.client.versions("ann") == [1]


async def test_a_new_owner_waits_until_the_old_ones_request_can_no_longer_be_on_the_wire() -> None:
    clock = Clock()
    world = World(clock, timeout_seconds=15)
    hang = asyncio.Event()

    async def answer(request: Request) -> Response:
        await hang.wait()
        return answered(200)

    world.client.answer = answer
    world.people.change("ann")
    old_client = world.client
    old = world.worker()
    await old.start()
    old.due(["ann"])
    await until(lambda: bool(old_client.got))
    await old.stop(drain_seconds=0)
    world.take_over()
    world.people.change("ann")
    async with running(world.worker()) as deliverer:
        deliverer.due(["ann"])
        clock.pass_ms(15_000 + MARK_MARGIN_MS - 1)
        deliverer.due(["ann"])
        await asyncio.sleep(0.02)
        assert world.client.got == []
        clock.pass_ms(1)
        deliverer.due([])
        await until(lambda: world.store.delivery("ann").confirmed_version == 2)
    assert world.client.versions("ann") == [2]


@pytest.mark.parametrize("dies", ["before the mark", "after the mark", "on the wire", "before the outcome", "after the outcome"])
async def test_a_worker_may_die_at_any_step_and_the_next_one_converges(dies: str) -> None:
    clock = Clock()
    world = World(clock)
    world.people.change("ann")
    died = asyncio.Event()
    forever = asyncio.Event()
    writes = 0

    async def at_write(changes: Mapping[str, Any]) -> None:
        nonlocal writes
        writes += 1
        if (dies, writes) in (("before the mark", 1), ("before the outcome", 2)):
            died.set()
            await forever.wait()

    async def answer(request: Request) -> Response:
        if dies == "on the wire":
            died.set()
            await forever.wait()
        return answered(200)

    class _DiesAfterMark(MemoryClient):
        async def send(self, request: Request, may_send: Callable[[], bool]) -> Response | NoResponse:
            died.set()
            await forever.wait()
            raise AssertionError

    world.store.before_write = at_write
    world.client = _DiesAfterMark() if dies == "after the mark" else MemoryClient(answer)
    first = world.worker()
    await first.start()
    first.due(["ann"])
    if dies == "after the outcome":
        await until(lambda: DictStore(world.store.log).delivery("ann").confirmed_version == 1)
    else:
        await asyncio.wait_for(died.wait(), 2)
    await first.stop(drain_seconds=0)
    seen = list(world.client.got)
    world.take_over()
    async with running(world.worker()) as second:
        second.due(["ann"])
        await asyncio.sleep(0.02)
        clock.pass_ms(60_000)
        second.due([])
        await until(lambda: world.store.delivery("ann").confirmed_version == 1)
    seen += world.client.got
    assert len({message_id for _, _, message_id in seen}) == 1, "a duplicate has the same id"
    assert len(seen) == (2 if dies in ("on the wire", "before the outcome") else 1)


async def test_seeded_deaths_and_takeovers_end_with_each_last_list_delivered() -> None:
    for seed in range(5):
        rng = random.Random(seed)
        clock = Clock()
        world = World(clock, concurrency=16)
        got: list[tuple[str, int, str]] = []
        users = [f"user-{i}" for i in range(20)]

        async def answer(request: Request, rng: random.Random = rng) -> Response | NoResponse:
            await asyncio.sleep(rng.random() * 0.003)
            answers: list[Response | NoResponse] = [answered(200), answered(200), answered(500), NoResponse(Missing.TIMED_OUT, "late")]
            return rng.choice(answers)

        for _life in range(8):
            world.client.answer = answer
            worker = world.worker()
            await worker.start()
            worker.due(users[: len(world.store.entries)] if not world.store.entries else list(world.store.entries))
            for _ in range(10):
                some = rng.sample(users, 5)
                for user in some:
                    world.people.change(user)
                worker.due(some)
                await asyncio.sleep(rng.random() * 0.003)
            await worker.stop(drain_seconds=0)
            got += world.client.got
            world.take_over()
            clock.pass_ms(rng.choice([0, 1_000, 30_000]))
        async with running(world.worker()) as last:
            last.due(list(world.store.entries))
            await asyncio.sleep(0.02)
            clock.pass_ms(2 * 24 * 3_600_000)
            last.due([])
            await until(lambda w=world: all(w.store.delivery(u).confirmed_version == e.update.version for u, e in w.store.entries.items()))  # type: ignore[misc]
        got += world.client.got
        ids = defaultdict(set)
        newest: dict[str, int] = {}
        for user, version, message_id in got:
            ids[user, version].add(message_id)
            assert version >= newest.get(user, 0), "no older list after a newer one"
            newest[user] = version
        assert all(len(of_version) == 1 for of_version in ids.values())
        assert newest == {user: entry.update.version for user, entry in world.store.entries.items()}


async def test_a_user_without_consent_is_not_sent_and_a_newer_list_asks_again() -> None:
    world = World()
    world.people.refusing.add("ann")
    world.people.change("ann")
    before = count("withheld")
    async with running(world.worker()) as deliverer:
        deliverer.due(["ann"])
        await until(lambda: world.store.delivery("ann").abandoned_version == 1)
        assert count("withheld") == before + 1
        world.people.refusing.clear()
        world.people.change("ann")
        deliverer.due(["ann"])
        await until(lambda: world.store.delivery("ann").confirmed_version == 2)
    assert world.client.versions("ann") == [2]


async def test_consent_withdrawn_while_the_mark_is_written_stops_the_request() -> None:
    world = World()

    async def withdraw(changes: Mapping[str, Any]) -> None:
        world.people.refusing.add("ann")

    world.store.before_write = withdraw
    world.people.change("ann")
    async with running(world.worker()) as deliverer:
        deliverer.due(["ann"])
        await until(lambda: world.store.delivery("ann").abandoned_version == 1)
    assert world.client.got == []
    assert world.store.delivery("ann").in_flight_version == 0


async def test_a_failed_outbox_write_ends_delivery_with_its_error() -> None:
    world = World()

    async def fail(changes: Mapping[str, Any]) -> None:
        raise ProduceError("not acknowledged")

    world.store.before_write = fail
    world.people.change("ann")
    deliverer = world.worker()
    await deliverer.start()
    deliverer.due(["ann"])
    with pytest.raises(ProduceError, match="not acknowledged"):
        await asyncio.wait_for(deliverer.wait(), 2)
    world.people.change("bob")
    deliverer.due(["bob"])
    await asyncio.sleep(0.02)
    assert world.client.got == [], "nothing leaves any more"
    await deliverer.stop()


async def test_a_bug_in_rendering_ends_delivery_rather_than_losing_a_user() -> None:
    world = World()
    world.people.change("ann")

    def render(user_id: str) -> None:
        raise KeyError(user_id)

    world.people.render = render  # type: ignore[method-assign]
    deliverer = world.worker()
    await deliverer.start()
    deliverer.due(["ann"])
    with pytest.raises(KeyError):
        await asyncio.wait_for(deliverer.wait(), 2)
    await deliverer.stop()


async def test_wait_returns_when_delivery_is_stopped() -> None:
    deliverer = World().worker()
    await deliverer.start()
    waiting = asyncio.create_task(deliverer.wait())
    await deliverer.stop()
    await asyncio.wait_for(waiting, 1)


async def test_the_outcome_of_a_revoked_users_request_is_ignored() -> None:
    world = World()
    go_on = asyncio.Event()

    async def answer(request: Request) -> Response:
        await go_on.wait()
        return answered(200)

    world.client.answer = answer
    world.store.partitions = {"ann": 0, "bob": 1}.__getitem__
    for user in ("ann", "bob"):
        world.people.change(user)
    async with running(world.worker()) as deliverer:
        deliverer.due(["ann", "bob"])
        await until(lambda: len(world.client.got) == 2)
        deliverer.revoke({0})
        go_on.set()
        await until(lambda: world.store.delivery("bob").confirmed_version == 1)
        await asyncio.sleep(0.02)
    assert world.store.delivery("ann").confirmed_version == 0
    assert world.store.delivery("ann").in_flight_version == 1


async def test_users_of_others_are_forgotten() -> None:
    world = World()
    world.people.change("ann")
    world.store.not_owned = {0}
    async with running(world.worker()) as deliverer:
        deliverer.due(["ann"])
        await until(lambda: due_users() == 0)
    assert world.client.got == []


async def test_a_user_lost_while_the_mark_was_written_is_not_sent() -> None:
    world = World()

    async def lose(changes: Mapping[str, Any]) -> None:
        world.store.not_owned = {0}

    world.store.before_write = lose
    world.people.change("ann")
    async with running(world.worker()) as deliverer:
        deliverer.due(["ann"])
        await until(lambda: world.store.writes == 1 and due_users() == 0)
    assert world.client.got == []


async def test_many_users_share_an_outbox_write() -> None:
    world = World(concurrency=100)
    users = [f"user-{i}" for i in range(1000)]
    for user in users:
        world.people.change(user)
    async with running(world.worker()) as deliverer:
        deliverer.due(users)
        await until(lambda: all(world.store.delivery(user).confirmed_version == 1 for user in users))
    assert world.store.writes < 200


async def test_stop_lets_requests_on_the_wire_end_and_be_recorded() -> None:
    world = World()

    async def answer(request: Request) -> Response:
        await asyncio.sleep(0.05)
        return answered(200)

    world.client.answer = answer
    world.people.change("ann")
    deliverer = world.worker()
    await deliverer.start()
    deliverer.due(["ann"])
    await until(lambda: bool(world.client.got))
    await deliverer.stop()
    assert DictStore(world.store.log).delivery("ann").confirmed_version == 1


async def test_latency_is_measured_from_the_first_undelivered_event() -> None:
    world = World()
    name = "tidings_event_to_delivery_seconds"
    before = REGISTRY.get_sample_value(f"{name}_sum", {"target": "inbox"}) or 0.0
    world.people.change("ann", caused_at_ms=real_clock() - 7_000)
    world.people.change("ann")
    async with running(world.worker()) as deliverer:
        deliverer.due(["ann"])
        await until(lambda: world.store.delivery("ann").confirmed_version == 2)
    assert 7.0 <= (REGISTRY.get_sample_value(f"{name}_sum", {"target": "inbox"}) or 0.0) - before < 9.0


def test_more_targets_than_requests_in_flight_are_refused_at_start() -> None:
    store = DictStore()
    with pytest.raises(SettingsError, match="max_in_flight"):
        a_deliverer([webhook("a"), webhook("b")], store, People(store, ["a", "b"]), max_in_flight=1)

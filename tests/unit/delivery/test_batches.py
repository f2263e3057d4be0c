"""Requests of many people: who goes together, and what becomes of each."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.delivery.client import Missing, NoResponse
from app.destinations.requests import Request, Response
from app.metrics import REGISTRY
from tests.unit.delivery.crowd import Asked, CrowdWorld, all_said, said, stuck
from tests.unit.delivery.worlds import Clock, count, running, ticking, until
from tidings.state.v1 import outbox_pb2

_USERS = [f"user-{i}" for i in range(100)]


async def test_whoever_waits_goes_together_and_each_once() -> None:
    world = CrowdWorld(Clock())
    world.store.partitions = lambda user: int(user[5:]) % 8
    for user in _USERS:
        world.people.change(user)
    async with running(world.worker()) as deliverer:
        deliverer.due(_USERS)
        await until(lambda: len(world.confirmed()) == 100)
    assert len(world.platform.requests) == 1, "those of the other partitions, who are being marked at that moment, go along"
    assert set(world.platform.times_sent().values()) == {1}


async def test_a_single_person_waits_for_nobody() -> None:
    world = CrowdWorld()
    async with running(world.worker()) as deliverer:
        for version in range(1, 4):
            world.people.change("ann")
            deliverer.due(["ann"])
            async with asyncio.timeout(0.08):
                await until(lambda version=version: world.delivery("ann").confirmed_version == version)  # type: ignore[misc]  # bound per round
    assert [len(request) for request in world.platform.requests] == [1, 1, 1]


async def test_a_request_keeps_to_the_limits_in_people_and_in_bytes() -> None:
    world = CrowdWorld(concurrency=1, people=30, body_bytes=1_000)
    bodies: list[int] = []

    class _Measures(type(world.platform)):  # type: ignore[misc]  # the class of a value
        async def send(self, request: Request, may_send: Any) -> Any:
            bodies.append(len(request.body))
            return await super().send(request, may_send)

    world.platform = _Measures()
    for user in _USERS:
        world.people.change(user, "x" * (10 if int(user[5:]) % 2 else 200))
    async with running(world.worker()) as deliverer:
        deliverer.due(_USERS)
        await until(lambda: len(world.confirmed()) == 100)
    assert max(bodies) <= 1_000
    assert max(map(len, world.platform.requests)) <= 30
    assert sorted(world.platform.times_sent().values()) == [1] * 100
    assert len(bodies) <= 20, "full ones"


async def test_two_people_who_are_one_over_there_do_not_go_together() -> None:
    world = CrowdWorld()
    for user in ("ann", "bob", "cat"):
        world.people.change(user, "same:them" if user != "cat" else "mug")
    async with running(world.worker()) as deliverer:
        deliverer.due(["ann", "bob", "cat"])
        await until(lambda: len(world.confirmed()) == 3)
    assert [len(request) for request in world.platform.requests] == [2, 1]


async def test_each_gets_their_own_outcome() -> None:
    clock = Clock()
    world = CrowdWorld(clock)
    words = {"ann": "ok", "bob": "retry", "cat": "bad", "dan": "blocked"}
    before = {word: count(word, "crowd") for word in ("confirmed", "retried", "rejected")}

    async def answer(people: Asked) -> Response:
        return said([words[one["user"]] for one in people])

    world.platform.answer = answer
    for user in words:
        world.people.change(user)
    async with running(world.worker()) as deliverer:
        deliverer.due(words)
        await until(lambda: not any(world.durable(user).in_flight_version for user in words) and len(world.platform.requests) == 1)
        bob, cat, dan = (world.durable(user) for user in ("bob", "cat", "dan"))
        assert (bob.attempts, bob.last_error, bob.abandoned_version) == (1, "try again", 0)
        assert (cat.abandoned_version, cat.dead_reason, cat.abandoned_at_ms) == (1, outbox_pb2.DEAD_REASON_INVALID_IDENTITY, clock.now_ms)
        assert (dan.abandoned_version, dan.dead_reason, dan.last_error) == (1, outbox_pb2.DEAD_REASON_SUPPRESSED, "unsubscribed")
        assert world.durable("ann").confirmed_version == 1
        assert {word: count(word, "crowd") - before[word] for word in before} == {"confirmed": 1, "retried": 1, "rejected": 2}
        # A newer list: the refused one is told of it, the blocked one is not.
        for user in ("cat", "dan"):
            world.people.change(user)
        words["cat"] = "ok"
        deliverer.due(["cat", "dan"])
        await until(lambda: world.delivery("cat").confirmed_version == 2)
        await asyncio.sleep(0.02)
    assert world.platform.times_sent() == {"ann": 1, "bob": 1, "cat": 2, "dan": 1}


async def test_who_cannot_be_told_about_there_is_given_up_alone() -> None:
    world = CrowdWorld()
    world.people.change("ann", "unfit")
    world.people.change("bob")
    async with running(world.worker()) as deliverer:
        deliverer.due(["ann", "bob"])
        await until(lambda: world.delivery("ann").abandoned_version == 1 and world.delivery("bob").confirmed_version == 1)
    assert world.durable("ann").dead_reason == outbox_pb2.DEAD_REASON_TOO_LARGE
    assert world.platform.times_sent() == {"bob": 1}


async def test_bisecting_finds_the_one_whom_the_target_refuses_without_saying_so() -> None:
    world = CrowdWorld(Clock(), concurrency=2)
    world.store.partitions = lambda user: int(user[5:]) % 5

    async def answer(people: Asked) -> Response:
        return said("", 400) if any(one["user"] == "user-63" for one in people) else all_said("ok", people)

    world.platform.answer = answer
    for user in _USERS:
        world.people.change(user)
    async with running(world.worker()) as deliverer:
        deliverer.due(_USERS)
        await until(lambda: len(world.confirmed()) == 99 and bool(world.durable("user-63").abandoned_version))
        await asyncio.sleep(0.02)
    assert world.durable("user-63").dead_reason == outbox_pb2.DEAD_REASON_REFUSED
    assert len(world.platform.requests) <= 1 + 2 * 7, "two for each halving of 100"
    confirmed_in = [request for request in world.platform.requests if "user-63" not in dict(request)]
    assert sorted(user for request in confirmed_in for user, _ in request) == sorted(set(_USERS) - {"user-63"}), "everyone else once"
    assert world.platform.most_in_flight == 1


async def test_a_list_that_changes_while_its_half_waits_is_sent_as_it_is_then() -> None:
    world = CrowdWorld()

    async def answer(people: Asked) -> Response:
        if len(people) == 2:
            world.people.change("ann", "newer")
            return said("", 400)
        return all_said("ok", people)

    world.platform.answer = answer
    for user in ("ann", "bob"):
        world.people.change(user)
    async with running(world.worker()) as deliverer:
        deliverer.due(["ann", "bob"])
        await until(lambda: world.delivery("ann").confirmed_version == 2 and world.delivery("bob").confirmed_version == 1)
    assert world.platform.versions["ann"] == [1, 2]


async def test_consent_withdrawn_between_claim_and_socket_takes_one_out_of_the_request() -> None:
    world = CrowdWorld()

    async def withdraw() -> None:
        world.people.refusing.add("bob")

    world.platform.before_socket = withdraw
    for user in ("ann", "bob", "cat"):
        world.people.change(user)
    async with running(world.worker()) as deliverer:
        deliverer.due(["ann", "bob", "cat"])
        await until(lambda: world.delivery("ann").confirmed_version == 1 and world.delivery("bob").abandoned_version == 1)
    assert [sorted(dict(request)) for request in world.platform.requests] == [["ann", "cat"]]
    assert world.durable("bob").dead_reason == outbox_pb2.DEAD_REASON_WITHHELD


async def test_a_partition_lost_between_claim_and_socket_takes_its_people_out_of_the_request() -> None:
    world = CrowdWorld()
    world.store.partitions = {"ann": 0, "bob": 1}.__getitem__
    deliverer = world.worker()

    async def lose() -> None:
        if 1 not in world.store.not_owned:
            world.store.not_owned = {1}
            deliverer.revoke({1})

    world.platform.before_socket = lose
    for user in ("ann", "bob"):
        world.people.change(user)
    async with running(deliverer):
        deliverer.due(["ann", "bob"])
        await until(lambda: world.delivery("ann").confirmed_version == 1)
    assert [dict(request) for request in world.platform.requests] == [{"ann": 1}]


async def test_a_lease_lost_between_claim_and_socket_stops_the_whole_request() -> None:
    world = CrowdWorld()

    async def lose() -> None:
        world.has_lease = False

    world.platform.before_socket = lose
    for user in ("ann", "bob"):
        world.people.change(user)
    before = count("stopped", "crowd")
    async with running(world.worker(), drain_seconds=0) as deliverer:
        deliverer.due(["ann", "bob"])
        await until(lambda: count("stopped", "crowd") == before + 2)
    assert world.platform.requests == []
    assert all(world.durable(user).in_flight_version for user in ("ann", "bob")), "the next owner waits the marks out"


async def test_no_answer_is_an_attempt_of_everyone_in_the_request() -> None:
    clock = Clock()
    world = CrowdWorld(clock)

    async def answer(people: Asked) -> Response | NoResponse:
        return NoResponse(Missing.TIMED_OUT, "no answer") if len(world.platform.requests) == 1 else all_said("ok", people)

    world.platform.answer = answer
    for user in _USERS:
        world.people.change(user)
    async with running(world.worker()) as deliverer:
        deliverer.due(_USERS)
        await until(lambda: all(world.delivery(user).attempts == 1 for user in _USERS))
        async with ticking(clock):
            await until(lambda: len(world.confirmed()) == 100)


async def test_refused_credentials_stop_the_target_at_once_and_count_nobodys_attempt() -> None:
    world = CrowdWorld(concurrency=1, people=10)

    async def answer(people: Asked) -> Response:
        return said("", 401)

    world.platform.answer = answer
    for user in _USERS:
        world.people.change(user)
    async with running(world.worker()) as deliverer:
        deliverer.due(_USERS)
        await until(lambda: all(not world.durable(user).in_flight_version for user in _USERS) and bool(world.platform.requests))
        await asyncio.sleep(0.02)
        [status] = deliverer.status()
        assert len(world.platform.requests) == 1
        assert status.breaker.cause is not None
        assert (status.breaker.kind, status.breaker.cause.value, status.due) == ("open", "auth", 100)
        assert not any(world.durable(user).attempts for user in _USERS)
        labels = {"target": "crowd", "state": "auth"}
        assert REGISTRY.get_sample_value("tidings_destination_breaker_state", labels) == 1
        world.platform.answer = None
        deliverer.breakers["crowd"].closed_by_operator()
        deliverer.wake()
        await until(lambda: len(world.confirmed()) == 100)


async def test_a_throttled_request_pauses_the_lane_and_everyone_goes_afterwards() -> None:
    clock = Clock()
    world = CrowdWorld(clock, concurrency=1, people=60)

    async def answer(people: Asked) -> Response:
        if len(world.platform.requests) == 1:
            return Response(429, {"retry-after": "30"}, b"", clock.now_ms)
        return all_said("ok", people)

    world.platform.answer = answer
    for user in _USERS:
        world.people.change(user)
    async with running(world.worker()) as deliverer:
        deliverer.due(_USERS)
        await until(lambda: bool(world.platform.requests) and all(not world.durable(user).in_flight_version for user in _USERS))
        clock.pass_ms(29_000)
        deliverer.due([])
        await asyncio.sleep(0.02)
        assert len(world.platform.requests) == 1
        async with ticking(clock, 100):
            await until(lambda: len(world.confirmed()) == 100)
    assert not any(world.delivery(user).attempts for user in _USERS)


async def test_a_wish_to_be_left_alone_for_hours_parks_the_target() -> None:
    clock = Clock()
    world = CrowdWorld(clock, concurrency=1)
    target = world.target

    class _Asks(type(target)):  # type: ignore[misc]  # the class of a value
        def read(self, parts: Any, response: Response) -> Any:
            from app.destinations.outcomes import Throttled

            return Throttled("477: migration", 10 * 3_600_000) if response.status == 477 else super().read(parts, response)

    world.target = _Asks()

    async def answer(people: Asked) -> Response:
        return said("", 477) if len(world.platform.requests) == 1 else all_said("ok", people)

    world.platform.answer = answer
    world.people.change("ann")
    async with running(world.worker()) as deliverer:
        deliverer.due(["ann"])
        await until(lambda: deliverer.status()[0].breaker.kind == "open")
        [status] = deliverer.status()
        assert (status.breaker.cause and status.breaker.cause.value, status.breaker.until_ms) == ("parked", clock.now_ms + 10 * 3_600_000)
        clock.pass_ms(10 * 3_600_000)
        async with ticking(clock):
            await until(lambda: world.delivery("ann").confirmed_version == 1)


async def test_what_says_the_same_as_before_is_confirmed_without_a_request() -> None:
    world = CrowdWorld()
    world.people.change("ann", "mug")
    before = count("suppressed", "crowd")
    async with running(world.worker()) as deliverer:
        deliverer.due(["ann"])
        await until(lambda: world.delivery("ann").confirmed_version == 1)
        at_ms, writes = world.durable("ann").confirmed_at_ms, world.store.writes
        world.people.change("ann", "mug")
        deliverer.due(["ann"])
        await until(lambda: world.durable("ann").confirmed_version == 2)
        assert world.store.writes == writes + 2, "the mark, and the record that ends the turn"
        assert world.durable("ann").confirmed_at_ms == at_ms, "since then the target has it"
        world.people.change("ann", "cup")
        deliverer.due(["ann"])
        await until(lambda: world.delivery("ann").confirmed_version == 3)
    assert world.platform.versions["ann"] == [1, 3]
    assert count("suppressed", "crowd") == before + 1


async def test_after_the_days_of_refreshing_the_same_is_sent_again() -> None:
    clock = Clock()
    world = CrowdWorld(clock)
    async with running(world.worker(refresh_days={"crowd": 7})) as deliverer:
        for version, days in ((1, 6.9), (2, 0.2), (3, 6.9), (4, 0)):
            world.people.change("ann", "mug")
            deliverer.due(["ann"])
            await until(lambda version=version: world.durable("ann").confirmed_version == version)  # type: ignore[misc]  # bound per round
            clock.pass_ms(round(days * 86_400_000))
    assert world.platform.versions["ann"] == [1, 3]


async def test_after_an_attempt_of_which_nobody_knows_what_it_did_nothing_is_suppressed() -> None:
    """A, then B fails after it was applied, then A again: the target has B."""
    clock = Clock()
    world = CrowdWorld(clock)

    async def answer(people: Asked) -> Response | NoResponse:
        return NoResponse(Missing.TIMED_OUT, "reset") if people[0]["products"] == ["b"] else all_said("ok", people)

    world.platform.answer = answer
    async with running(world.worker()) as deliverer:
        world.people.change("ann", "a")
        deliverer.due(["ann"])
        await until(lambda: world.delivery("ann").confirmed_version == 1)
        world.people.change("ann", "b")
        deliverer.due(["ann"])
        await until(lambda: world.delivery("ann").attempts == 1)
        world.people.change("ann", "a")
        deliverer.due(["ann"])
        await until(lambda: world.delivery("ann").confirmed_version == 3)
    assert world.platform.versions["ann"] == [1, 2, 3]


async def test_after_a_death_on_the_wire_nothing_is_suppressed() -> None:
    clock = Clock()
    world = CrowdWorld(clock)
    async with running(world.worker()) as deliverer:
        world.people.change("ann", "a")
        deliverer.due(["ann"])
        await until(lambda: world.durable("ann").confirmed_version == 1)
    world.platform.answer = stuck
    worker = world.worker()
    await worker.start()
    world.people.change("ann", "b")
    worker.due(["ann"])
    await until(lambda: len(world.platform.requests) == 2)
    await worker.stop(drain_seconds=0)
    world.take_over()
    world.people.change("ann", "a")
    clock.pass_ms(60_000)
    async with running(world.worker()) as deliverer:
        deliverer.due(["ann"])
        await until(lambda: world.delivery("ann").confirmed_version == 3)
    assert world.platform.versions["ann"] == [1, 2, 3]


@pytest.mark.parametrize("dies", ["before the marks", "after the marks", "on the wire", "before the outcomes", "between two outcomes"])
async def test_a_worker_may_die_at_any_step_of_a_batch_and_the_next_one_converges(dies: str) -> None:
    clock = Clock()
    world = CrowdWorld(clock)
    world.store.partitions = lambda user: int(user[5:]) % 2
    users = _USERS[:20]
    for user in users:
        world.people.change(user)
    died, forever = asyncio.Event(), asyncio.Event()
    writes = 0

    async def at_write(changes: Mapping[str, Any]) -> None:
        nonlocal writes
        writes += 1
        if (dies, writes) in (("before the marks", 1), ("before the outcomes", 3), ("between two outcomes", 4)):
            died.set()
            await forever.wait()
        if dies == "before the outcomes" and writes > 3:
            await forever.wait()

    async def before_socket() -> None:
        if dies == "after the marks":
            died.set()
            await forever.wait()

    async def answer(people: Asked) -> Response:
        if dies == "on the wire":
            died.set()
            await forever.wait()
        return all_said("ok", people)

    world.store.before_write, world.platform.before_socket, world.platform.answer = at_write, before_socket, answer
    first = world.worker()
    await first.start()
    first.due(users)
    await asyncio.wait_for(died.wait(), 5)
    await asyncio.sleep(0.02)
    await first.stop(drain_seconds=0)
    world.store.before_write = None
    world.take_over()
    async with running(world.worker()) as second:
        second.due(users)
        await asyncio.sleep(0.02)
        clock.pass_ms(60_000)
        second.due([])
        await until(lambda: len(world.confirmed()) == 20)
    most = {"on the wire": 2, "before the outcomes": 2, "between two outcomes": 2, "before the marks": 2}.get(dies, 1)
    assert max(world.platform.times_sent().values()) <= most
    assert all(len(set(versions)) == 1 for versions in world.platform.versions.values())


async def test_one_request_is_put_together_while_another_is_on_the_wire() -> None:
    world = CrowdWorld(concurrency=3, people=10)
    go_on = asyncio.Event()

    async def answer(people: Asked) -> Response:
        await go_on.wait()
        return all_said("ok", people)

    world.platform.answer = answer
    for user in _USERS:
        world.people.change(user)
    async with running(world.worker()) as deliverer:
        deliverer.due(_USERS)
        await until(lambda: len(world.platform.requests) == 3)
        await asyncio.sleep(0.02)
        assert [len(request) for request in world.platform.requests] == [10, 10, 10]
        go_on.set()
        await until(lambda: len(world.confirmed()) == 100)


async def test_the_fleets_requests_at_once_are_divided_by_the_share_of_partitions() -> None:
    world = CrowdWorld(concurrency=8, is_shared=True, people=5)
    world.platform.answer = stuck
    for user in _USERS:
        world.people.change(user)
    async with running(world.worker(share=lambda: 0.25), drain_seconds=0) as deliverer:
        deliverer.due(_USERS)
        await until(lambda: len(world.platform.requests) == 2)
        await asyncio.sleep(0.05)
        assert len(world.platform.requests) == 2


@pytest.mark.long
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), people=st.sampled_from([1, 3, 40]), jobs=st.booleans())
def test_whatever_the_outcomes_versions_never_go_back_nobody_is_in_two_requests_at_once_and_all_converge(
    seed: int, people: int, jobs: bool
) -> None:
    asyncio.run(_random_run(random.Random(seed), people, jobs))


async def _random_run(rng: random.Random, people: int, jobs: bool) -> None:
    clock = Clock()
    world = CrowdWorld(clock, jobs=jobs, people=people)
    world.store.partitions = lambda user: int(user[5:]) % 3
    users = _USERS[:30]
    is_calm = False
    number = 0

    async def answer(asked: Asked) -> Response | NoResponse:
        nonlocal number
        await asyncio.sleep(rng.random() * 0.002)
        if is_calm:
            return all_said("ok", asked)
        number += 1
        match rng.randrange(12):
            case 0:
                return said("", 500)
            case 1:
                return NoResponse(Missing.TIMED_OUT, "late")
            case 2:
                return said("", 400)
            case 3:
                return Response(429, {"retry-after": "1"}, b"", clock.now_ms)
            case _:
                words = ["ok", "ok", "ok", "retry", "bad", *([f"job:{number}"] if jobs else [])]
                return said([rng.choice(words) for _ in asked])

    async def answer_poll(job: str) -> Response | NoResponse:
        await asyncio.sleep(rng.random() * 0.002)
        match rng.randrange(6 if is_calm else 8):
            case 0 | 1:
                return said({"running": 100})
            case 2:
                return said({"lost order": True})
            case 6:
                return said("", 500)
            case 7:
                return NoResponse(Missing.TIMED_OUT, "late")
            case _:
                return said({rng.choice(users): rng.choice(["ok", "retry", "bad"])})

    def revive() -> None:
        world.platform.answer, world.platform.answer_poll = answer, answer_poll

    revive()
    for _life in range(3):
        worker = world.worker()
        await worker.start()
        worker.due(list(world.store.entries))
        async with ticking(clock, 200):
            for _ in range(6):
                some = rng.sample(users, 15)
                for user in some:
                    world.people.change(user, rng.choice("abc"))
                worker.due(some)
                await asyncio.sleep(rng.random() * 0.02)
        await worker.stop(drain_seconds=rng.choice([0, 0.05]))
        assert world.platform.most_in_flight <= 1
        world.take_over()
        revive()
        clock.pass_ms(rng.choice([0, 1_000, 30_000]))
    is_calm = True
    for user in users:
        world.people.change(user, "last")
    world.store.before_write = None
    async with running(world.worker()) as last, ticking(clock, 2_000):
        last.due(list(world.store.entries))
        await until(lambda: all(world.delivery(user).confirmed_version for user in users) and len(world.confirmed()) == len(users), 60)
    assert world.platform.most_in_flight <= 1

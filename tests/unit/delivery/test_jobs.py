"""Targets that answer with a job: asked for until it says what became of its people, by whoever owns them then."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from app.delivery.client import Missing, NoResponse
from app.delivery.jobs import FIRST_POLL_MS, MAX_POLL_MS
from app.delivery.outbox import MAX_JOB_MS
from app.destinations.requests import Response
from tests.unit.delivery.crowd import Asked, CrowdWorld, all_said, said
from tests.unit.delivery.worlds import Clock, count, running, ticking, until
from tidings.state.v1 import outbox_pb2

_USERS = ["ann", "bob", "cat"]


def _world(clock: Clock | None = None, **limits: Any) -> CrowdWorld:
    """Its platform answers each request with a job of its own."""
    world = CrowdWorld(clock or Clock(), jobs=True, **limits)
    _give_jobs(world)
    return world


def _give_jobs(world: CrowdWorld) -> None:
    async def answer(people: Asked) -> Response:
        return all_said(f"job:j{len(world.platform.requests)}", people)

    world.platform.answer = answer


def _says(world: CrowdWorld, *answers: Any) -> None:
    """What is answered to questions about jobs, one after another; the last one to all that follow."""
    left = list(answers)

    async def answer_poll(job: str) -> Response | NoResponse:
        one = left.pop(0) if len(left) > 1 else left[0]
        return one if isinstance(one, Response | NoResponse) else said(one)

    world.platform.answer_poll = answer_poll


async def test_people_stay_in_flight_until_their_job_says_what_became_of_each() -> None:
    world = _world()
    _says(world, {"running": 0}, {"running": 0}, {"bob": "bad", "cat": "retry"})
    before = count("accepted", "crowd")
    for user in _USERS:
        world.people.change(user)
    async with running(world.worker()) as deliverer:
        deliverer.due(_USERS)
        await until(lambda: all(world.durable(user).job == "j1" for user in _USERS))
        assert count("accepted", "crowd") == before + 3
        assert deliverer.status()[0].in_jobs == 3
        in_flight = world.durable("ann")
        assert (in_flight.in_flight_version, in_flight.in_flight_until_ms - world.clock()) == (1, MAX_JOB_MS)
        assert in_flight.in_flight_digest
        assert world.platform.polls == [], "nobody asks at once"
        async with ticking(world.clock, 200):  # type: ignore[arg-type]  # a Clock
            await until(lambda: not any(world.durable(user).job for user in _USERS))
        assert (world.durable("ann").confirmed_version, world.durable("cat").attempts) == (1, 1)
        assert world.durable("bob").dead_reason == outbox_pb2.DEAD_REASON_INVALID_IDENTITY
        assert world.durable("ann").confirmed_digest == in_flight.in_flight_digest
        await until(lambda: deliverer.status()[0].in_jobs == 0)
    assert world.platform.polls == ["j1"] * 3


async def test_a_newer_list_waits_for_the_jobs_end() -> None:
    clock = Clock()
    world = _world(clock)
    _says(world, {"running": 0}, {})
    world.people.change("ann")
    async with running(world.worker()) as deliverer:
        deliverer.due(["ann"])
        await until(lambda: world.durable("ann").job == "j1")
        world.people.change("ann")
        deliverer.due(["ann"])
        await asyncio.sleep(0.02)
        assert len(world.platform.requests) == 1
        async with ticking(clock, 200):
            await until(lambda: world.delivery("ann").confirmed_version == 2)
    assert world.platform.versions["ann"] == [1, 2]


async def test_questions_come_at_rising_intervals_and_not_before_the_target_says() -> None:
    clock = Clock()
    world = _world(clock)
    asked_at: list[int] = []

    async def answer_poll(job: str) -> Response:
        asked_at.append(clock.now_ms)
        return said({"running": 30_000 if len(asked_at) == 3 else 0})

    world.platform.answer_poll = answer_poll
    world.people.change("ann")
    started = clock.now_ms
    async with running(world.worker(), drain_seconds=0) as deliverer:
        deliverer.due(["ann"])
        await until(lambda: world.durable("ann").job == "j1")
        while len(asked_at) < 14:
            clock.pass_ms(500)
            deliverer.due([])
            await asyncio.sleep(0.001)
    waits = [after - before for before, after in zip([started, *asked_at], asked_at, strict=False)]
    assert waits[0] >= FIRST_POLL_MS
    assert waits[3] >= 30_000
    assert waits[1] < waits[4] < waits[8]
    assert MAX_POLL_MS <= waits[-1] <= MAX_POLL_MS * 1.2


async def test_a_new_owner_asks_for_the_job_instead_of_sending_again() -> None:
    clock = Clock()
    world = _world(clock)
    for user in _USERS:
        world.people.change(user)
    first = world.worker()
    await first.start()
    first.due(_USERS)
    await until(lambda: all(world.durable(user).job == "j1" for user in _USERS))
    await first.stop(drain_seconds=0)
    world.take_over()
    world.people.change("ann")
    _give_jobs(world)
    _says(world, {"running": 0}, {"cat": "bad"})
    async with running(world.worker()) as second:
        second.due(_USERS)
        await asyncio.sleep(0.02)
        assert len(world.platform.requests) == 1
        async with ticking(clock, 200):
            await until(lambda: world.delivery("bob").confirmed_version == 1 and bool(world.delivery("cat").abandoned_version))
            await until(lambda: world.delivery("ann").confirmed_version == 2)
    assert world.platform.times_sent() == {"ann": 2, "bob": 1, "cat": 1}
    assert world.platform.versions["ann"] == [1, 2], "the newer one waited for the job of the older"


async def test_where_the_new_owner_cannot_be_told_people_are_sent_once_more() -> None:
    clock = Clock()
    world = _world(clock)
    for user in _USERS:
        world.people.change(user)
    first = world.worker()
    await first.start()
    first.due(_USERS)
    await until(lambda: all(world.durable(user).job == "j1" for user in _USERS))
    await first.stop(drain_seconds=0)
    world.take_over()
    _says(world, {"lost order": True})
    async with running(world.worker()) as second, ticking(clock, 200):
        second.due(_USERS)
        await until(lambda: len(world.confirmed()) == 3)
    assert [len(request) for request in world.platform.requests] == [3, 3]
    assert not any(world.delivery(user).attempts for user in _USERS)


async def test_a_job_that_failed_as_a_whole_goes_again_by_halves() -> None:
    clock = Clock()
    world = _world(clock)
    users = [f"user-{i}" for i in range(16)]
    jobs: dict[str, list[str]] = {}

    async def answer(people: Asked) -> Response:
        job = f"j{len(world.platform.requests)}"
        jobs[job] = [one["user"] for one in people]
        return all_said(f"job:{job}", people)

    async def answer_poll(job: str) -> Response:
        return said({"lost order": True}) if "user-5" in jobs[job] else said({})

    world.platform.answer, world.platform.answer_poll = answer, answer_poll
    for user in users:
        world.people.change(user)
    async with running(world.worker()) as deliverer, ticking(clock, 200):
        deliverer.due(users)
        await until(lambda: len(world.confirmed()) == 15 and bool(world.durable("user-5").abandoned_version))
    assert len(world.platform.requests) <= 1 + 2 * 4
    assert world.platform.most_in_flight == 1


async def test_a_job_that_says_nothing_is_given_up_and_its_people_are_due_again() -> None:
    clock = Clock()
    world = _world(clock)
    _says(world, {"running": 60_000})
    world.people.change("ann")
    async with running(world.worker(), drain_seconds=0) as deliverer:
        deliverer.due(["ann"])
        await until(lambda: world.durable("ann").job == "j1")
        clock.pass_ms(MAX_JOB_MS)
        deliverer.due([])
        await until(lambda: world.durable("ann").attempts == 1)
        assert "did not end within 15 minutes" in world.durable("ann").last_error
        assert not world.durable("ann").job
        async with ticking(clock, 200):
            await until(lambda: len(world.platform.requests) == 2)


async def test_after_a_takeover_too_a_job_that_says_nothing_is_given_up_when_its_time_is_over() -> None:
    clock = Clock()
    world = _world(clock)
    world.people.change("ann")
    first = world.worker()
    await first.start()
    first.due(["ann"])
    await until(lambda: world.durable("ann").job == "j1")
    await first.stop(drain_seconds=0)
    world.take_over()
    _says(world, {"running": 60_000})
    clock.pass_ms(MAX_JOB_MS - 5_000)
    async with running(world.worker()) as second:
        second.due(["ann"])
        await asyncio.sleep(0.02)
        clock.pass_ms(5_000)
        second.due([])
        await until(lambda: world.durable("ann").attempts == 1)


async def test_a_question_without_an_answer_is_asked_again_and_is_nobodys_attempt() -> None:
    clock = Clock()
    world = _world(clock)
    later = {"retry-after": "2"}
    no_answer = NoResponse(Missing.TIMED_OUT, "no answer")
    _says(world, no_answer, said("", 500), Response(429, later, b"", clock.now_ms), said("", 503), {})
    world.people.change("ann")
    async with running(world.worker()) as deliverer, ticking(clock, 200):
        deliverer.due(["ann"])
        await until(lambda: world.delivery("ann").confirmed_version == 1)
    assert world.delivery("ann").attempts == 0
    assert len(world.platform.polls) == 5
    assert len(world.platform.requests) == 1


async def test_the_people_of_a_job_that_went_to_other_workers_are_not_asked_for() -> None:
    clock = Clock()
    world = _world(clock)
    world.store.partitions = {"ann": 0, "bob": 1, "cat": 1}.__getitem__
    _says(world, {})
    for user in _USERS:
        world.people.change(user)
    async with running(world.worker()) as deliverer:
        deliverer.due(_USERS)
        await until(lambda: all(world.durable(user).job == "j1" for user in _USERS))
        world.store.not_owned = {1}
        deliverer.revoke({1})
        async with ticking(clock, 200):
            await until(lambda: world.delivery("ann").confirmed_version == 1)
        world.store.not_owned = {0, 1}
        deliverer.revoke({0})
        assert deliverer.status()[0].due == 0
    assert all(world.durable(user).job == "j1" for user in ("bob", "cat"))


async def test_without_a_lease_nobody_is_asked() -> None:
    clock = Clock()
    world = _world(clock)
    _says(world, {})
    world.people.change("ann")
    async with running(world.worker(), drain_seconds=0) as deliverer:
        deliverer.due(["ann"])
        await until(lambda: world.durable("ann").job == "j1")
        world.has_lease = False
        async with ticking(clock, 200):
            await asyncio.sleep(0.05)
            assert world.platform.polls == []
            world.has_lease = True
            deliverer.due([])
            await until(lambda: world.delivery("ann").confirmed_version == 1)


async def test_who_withdrew_consent_while_a_job_had_them_is_settled_by_the_job_and_told_of_nothing_more() -> None:
    clock = Clock()
    world = _world(clock)
    _says(world, {})
    for user in ("ann", "bob"):
        world.people.change(user)
    async with running(world.worker()) as deliverer:
        deliverer.due(["ann", "bob"])
        await until(lambda: world.durable("ann").job == "j1")
        world.people.change("ann")
        world.people.refusing.add("ann")
        deliverer.due(["ann"])
        async with ticking(clock, 200):
            await until(lambda: world.delivery("ann").abandoned_version == 2 and world.delivery("bob").confirmed_version == 1)
    assert world.delivery("ann").confirmed_version == 1
    assert world.platform.times_sent() == {"ann": 1, "bob": 1}


async def test_a_death_before_the_job_is_durable_sends_again_when_the_mark_ends() -> None:
    clock = Clock()
    world = _world(clock)
    world.people.change("ann")
    writes = 0
    forever = asyncio.Event()

    async def at_write(changes: Mapping[str, Any]) -> None:
        nonlocal writes
        writes += 1
        if writes == 2:
            await forever.wait()

    world.store.before_write = at_write
    first = world.worker()
    await first.start()
    first.due(["ann"])
    await until(lambda: writes == 2)
    await first.stop(drain_seconds=0)
    world.store.before_write = None
    world.take_over()
    _give_jobs(world)
    _says(world, {})
    async with running(world.worker()) as second, ticking(clock, 200):
        second.due(["ann"])
        await until(lambda: world.delivery("ann").confirmed_version == 1)
    assert world.platform.versions["ann"] == [1, 1]

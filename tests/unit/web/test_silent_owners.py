"""Nobody waits for an owner that is gone, hangs or is slow where a copy could answer, and nobody asks it again and again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

import pytest

from app.domain.profile import new_profile
from app.streams.location import Elsewhere, Freshness, Here, Location, Moving
from app.web.owners import MAX_SECOND_QUESTIONS, NOBODY_SECONDS, PATIENCE_SECONDS, SECOND_QUESTIONS_PER_ANSWER
from app.web.peers import MAX_SILENT, SILENCE_SECONDS, Peers

from .worlds import NOW_MS, FakeViews, World, settings_with, world

#: Where nobody listens.
GONE = "http://127.0.0.1:9"
PATIENT = settings_with(forward_timeout_seconds=5)


@dataclass
class Counted(FakeViews):
    """Views that count how often they are asked."""

    questions: int = 0

    def locate(self, partition: int) -> Location:
        self.questions += 1
        return super().locate(partition)


def copy_of_u1(age_ms: int = 100, **more: object) -> Counted:
    """A standby that knows u1."""
    fresh = Freshness(7, 100, 3, NOW_MS - age_ms, False)
    return Counted(profiles={"u1": new_profile("u1")}, location=Elsewhere(GONE), copy=fresh, **more)  # type: ignore[arg-type]  # its fields


def nothing_here(owner: str, *others: str) -> FakeViews:
    return FakeViews(location=Elsewhere(owner), copy=None, others=list(others))


@asynccontextmanager
async def listening(
    *, resets: bool = False, resets_first: int = 0, answers_after: float | None = None
) -> AsyncIterator[tuple[str, list[float]]]:
    """A worker that takes connections and hangs, or closes them, or has an answer at last; its address, and when it was asked."""
    asked: list[float] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.append(time.monotonic())
        if answers_after is not None and len(asked) > resets_first:
            await asyncio.sleep(answers_after)
            writer.write(b"HTTP/1.1 200 OK\r\nTidings-Served-By: active\r\nContent-Length: 2\r\n\r\n{}")
            await writer.drain()
        elif not resets and not resets_first:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
    finally:
        server.close()


async def read(w: World, path: str = "/v1/users/u1") -> tuple[int, str, float]:
    """Status, who served it, and the seconds that it took."""
    began = time.monotonic()
    status, _, answer = await w.get(path)
    return status, answer.headers.get("Tidings-Served-By", ""), time.monotonic() - began


async def test_while_an_owner_hangs_another_workers_copy_answers_and_only_one_request_finds_out():
    async with (
        listening() as (owner, asked), world(views=copy_of_u1()) as standby,
        world(PATIENT, nothing_here(owner, owner, standby.url)) as w,
    ):  # fmt: skip
        first, *later = [await read(w) for _ in range(6)]
    assert [answer[:2] for answer in (first, *later)] == [(200, "standby")] * 6
    assert PATIENCE_SECONDS <= first[2] < 1.5, "not the forward time-out"
    assert sum(took for *_, took in later) < SILENCE_SECONDS
    assert len(asked) == 1


async def test_many_requests_at_once_do_not_all_wait_for_an_owner_that_hung_before():
    async with listening() as (owner, asked), world(PATIENT, copy_of_u1()) as w:
        w.views.location = Elsewhere(owner)
        await read(w)
        await asyncio.sleep(SILENCE_SECONDS + 0.05)
        answers = await asyncio.gather(*(read(w) for _ in range(10)))
    assert {answer[:2] for answer in answers} == {(200, "standby")}
    assert len(asked) == 2, "one finds out whether it is back"


async def test_an_owner_that_is_back_is_asked_again():
    async with listening(resets_first=2, answers_after=0) as (owner, asked), world(PATIENT, copy_of_u1()) as w:  # aiohttp asks again itself
        w.views.location = Elsewhere(owner)
        assert [(await read(w))[1] for _ in range(3)] == ["standby"] * 3
        assert len(asked) == 2
        await asyncio.sleep(SILENCE_SECONDS + 0.05)
        assert [(await read(w))[1] for _ in range(3)] == ["active"] * 3


@pytest.mark.parametrize("age_ms", [None, 90_000])
async def test_a_slow_owner_is_waited_for_where_no_copy_may_answer(age_ms):
    here = copy_of_u1(age_ms) if age_ms else nothing_here("")
    async with listening(answers_after=3 * PATIENCE_SECONDS) as (owner, _), world(views=copy_of_u1(90_000)) as standby:
        here.location, here.others = Elsewhere(owner), [owner, standby.url]
        async with world(PATIENT, here) as w:
            status, by, took = await read(w)
    assert (status, by) == (200, "active")
    assert took >= 3 * PATIENCE_SECONDS


async def test_who_waits_for_an_own_event_gets_it_from_a_slow_owner_and_no_refusal_of_a_copy():
    async with listening(answers_after=2 * PATIENCE_SECONDS) as (owner, _), world(PATIENT, copy_of_u1()) as w:
        w.views.location = Elsewhere(owner)
        status, by, _ = await read(w, f"/v1/users/u1?after={w.views.partition_of('u1')}/100")
    assert (status, by) == (200, "active")


async def test_a_connection_that_breaks_with_the_request_is_no_end_of_it():
    async with (
        listening(resets=True) as (owner, _), world(views=copy_of_u1()) as standby, world(PATIENT, nothing_here(owner, standby.url)) as w,
    ):  # fmt: skip
        status, by, took = await read(w)
    assert (status, by) == (200, "standby")
    assert took < 1


async def test_the_one_copy_in_a_large_fleet_is_found_and_asked_first_the_next_time():
    async with AsyncExitStack() as stack:
        bare = [Counted(location=Moving("rebalancing"), copy=None) for _ in range(7)]
        fleet = [await stack.enter_async_context(world(views=views)) for views in bare]
        standby = await stack.enter_async_context(world(views=copy_of_u1()))
        asked = FakeViews(location=Moving("rebalancing"), copy=None, others=[w.url for w in fleet] + [standby.url])
        w = await stack.enter_async_context(world(PATIENT, asked))
        assert (await read(w))[:2] == (200, "standby")
        questions = [views.questions for views in bare]
        for _ in range(5):
            assert (await read(w))[:2] == (200, "standby")
        assert [views.questions for views in bare] == questions


async def test_where_nobody_has_a_copy_the_fleet_is_not_asked_by_every_request():
    other = Counted(location=Moving("rebalancing"), copy=None)
    async with world(views=other) as one, world(views=FakeViews(location=Moving("rebalancing"), copy=None, others=[one.url])) as w:
        for _ in range(10):
            assert (await read(w))[0] == 503
        assert other.questions <= 4, "for a standby and for any copy"
        other.copy, other.profiles = Freshness(7, 100, 3, NOW_MS, False), {"u1": new_profile("u1")}
        await asyncio.sleep(0.3)
        assert (await read(w))[:2] == (200, "standby"), "one that comes is found"


async def test_a_copy_that_could_not_be_asked_just_now_is_not_taken_for_none():
    async with (
        world(views=copy_of_u1()) as standby, listening(resets=True) as (broken, _),
        world(views=FakeViews(location=Moving("rebalancing"), copy=None, others=[broken])) as w,
    ):  # fmt: skip
        assert (await read(w))[0] == 503
        w.views.others = [standby.url]
        assert (await read(w))[:2] == (200, "standby")


async def test_a_fleet_that_is_slow_everywhere_is_not_asked_everything_twice():
    slow_copy = Counted(location=Moving("rebalancing"), copy=None)
    async with (
        listening(answers_after=2 * PATIENCE_SECONDS) as (owner, asked), world(views=slow_copy) as other,
        world(PATIENT, nothing_here(owner, other.url)) as w,
    ):  # fmt: skip
        for _ in range(3):
            answers = await asyncio.gather(*(read(w) for _ in range(30)))
            assert {answer[:2] for answer in answers} == {(200, "active")}
            await asyncio.sleep(NOBODY_SECONDS)
    assert len(asked) == 90
    assert slow_copy.questions <= MAX_SECOND_QUESTIONS + 90 * SECOND_QUESTIONS_PER_ANSWER


async def test_of_two_copies_the_one_that_is_current_enough_answers():
    async with world(views=copy_of_u1(age_ms=50_000)) as old, world(views=copy_of_u1(age_ms=500)) as fresh:
        asked = FakeViews(location=Moving("rebalancing"), copy=None, others=[old.url, fresh.url])
        async with world(views=asked) as w:
            for _ in range(4):
                assert (await read(w, "/v1/users/u1?max_staleness_ms=1000"))[:2] == (200, "standby")
            assert (await read(w, "/v1/users/u1?max_staleness_ms=400"))[0] == 503


def kept_copy_of_u1(**more: object) -> Counted:
    """Of a partition that was assigned elsewhere a while ago."""
    views = copy_of_u1(age_ms=20_000, **more)
    views.copy = replace(views.copy, is_followed=False) if views.copy else None
    return views


async def test_a_copy_that_is_only_kept_does_not_answer_for_an_owner_that_is_slow():
    async with (
        listening(answers_after=2 * PATIENCE_SECONDS) as (owner, _), world(views=kept_copy_of_u1()) as other,
        world(PATIENT, kept_copy_of_u1(others=[other.url])) as w,
    ):  # fmt: skip
        w.views.location = Elsewhere(owner)
        assert [(await read(w))[1] for _ in range(2)] == ["active"] * 2


async def test_a_standbys_copy_goes_before_one_that_is_only_kept_and_that_before_none():
    async with world(views=kept_copy_of_u1()) as kept, world(views=copy_of_u1(age_ms=500)) as standby:
        here = kept_copy_of_u1(others=[kept.url, standby.url])
        nothing = FakeViews(location=Moving("rebalancing"), copy=None, others=[kept.url, standby.url])
        for views in (here, nothing):
            async with world(PATIENT, views) as w:
                for _ in range(3):
                    _, _, answer = await w.get("/v1/users/u1?max_staleness_ms=30000")
                    assert answer.headers["Tidings-Current-To"] == "2024-04-28T10:26:39.500Z"
                w.views.others = [kept.url]
                assert (await read(w))[:2] == (200, "standby")


async def test_an_owner_here_is_never_held_against_the_fleet():
    async with world(views=FakeViews(profiles={"u1": new_profile("u1")}, location=Here(), others=[GONE])) as w:
        assert (await read(w))[:2] == (200, "active")


def test_a_silent_worker_may_be_asked_by_one_request_a_second_and_is_told_last():
    now = [100.0]
    peers = Peers(2.0, lambda: now[0])
    assert peers.may_be_asked("http://a")
    peers.is_silent("http://a")
    assert not peers.may_be_asked("http://a")
    assert peers.in_order(["http://c", "http://a", "http://b"]) == ["http://b", "http://c", "http://a"]
    now[0] += SILENCE_SECONDS
    assert [peers.may_be_asked("http://a") for _ in range(3)] == [True, False, False]


def test_the_workers_that_are_remembered_as_silent_are_bounded():
    peers = Peers(2.0, lambda: 0.0)
    for n in range(MAX_SILENT + 10):
        peers.is_silent(f"http://{n}")
    assert sum(not peers.may_be_asked(f"http://{n}") for n in range(MAX_SILENT + 10)) <= MAX_SILENT

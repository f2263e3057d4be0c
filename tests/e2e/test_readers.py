"""What the readers of a fleet do, and that what they count is so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from app.web.freshness import CURRENT_TO, LAG, SERVED_BY, SOURCE_OFFSET
from tests.e2e.readers import PASSED_OVER_SECONDS, Balancer, Readers, quantile

GONE = "http://127.0.0.1:9"
FRESH = {SOURCE_OFFSET: "3/17", CURRENT_TO: "2024-04-27T14:35:22.000Z", LAG: "0", SERVED_BY: "standby"}


@asynccontextmanager
async def worker(status: int = 200, seconds: float = 0.0) -> AsyncIterator[tuple[str, list[str]]]:
    """Its address and what it was asked."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        await asyncio.sleep(seconds)
        return web.json_response({"type": "urn:tidings:problem:busy", "detail": "so"}, status=status, headers=FRESH)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", asked
    finally:
        await runner.cleanup()


async def readers_of(*urls: str, per_second: float = 50, seconds: float = 0.5) -> Readers:
    readers = Readers(urls, ["/x"], per_second, "token")
    async with readers.reading():
        await asyncio.sleep(seconds)
    return readers


async def test_a_worker_that_is_gone_or_answers_503_costs_no_read_and_is_then_passed_over() -> None:
    async with worker() as (good, _), worker(503) as (bad, asked):
        readers = await readers_of(GONE, bad, good)
    assert readers.share == 1
    assert 1 <= len(asked) <= 3
    assert 1 <= sum(read.tries > 1 for read in readers.reads) <= 6
    assert readers.problems["busy: so"] == len(asked)


async def test_any_other_status_is_the_answer() -> None:
    async with worker(404) as (one, _), worker() as (other, _):
        readers = await readers_of(one, other)
    assert 0.2 < readers.share < 0.8
    assert {read.tries for read in readers.reads} == {1}


async def test_where_nobody_answers_it_is_counted_and_each_was_tried_once() -> None:
    async with worker(503) as (bad, _):
        readers = await readers_of(GONE, bad)
    assert readers.share == 0
    assert {(read.status, read.tries) for read in readers.reads} <= {(503, 2)}


async def test_what_an_answer_tells_of_itself_is_noted() -> None:
    async with worker() as (url, _):
        readers = await readers_of(url)
    assert all(read.says_all and read.served_by == "standby" for read in readers.reads)
    assert all(read.age_ms is not None and read.age_ms > 1e9 for read in readers.reads), "of 2024"
    assert "100.000% of" in str(readers)


async def test_a_read_counts_from_when_it_was_to_begin_however_long_the_others_take() -> None:
    async with worker(seconds=0.3) as (url, asked):
        readers = await readers_of(url, per_second=100)
    assert len(asked) > 20, "they do not wait for one another"
    assert all(0.3 <= read.seconds - read.late < 1.5 for read in readers.reads)


def test_each_worker_has_its_turn_and_one_that_failed_is_tried_by_one_read_a_second() -> None:
    now = [0.0]
    balancer = Balancer(["a", "b", "c"], lambda: now[0])
    assert [balancer.next(set()) for _ in range(4)] == ["a", "b", "c", "a"]
    balancer.failed("b")
    assert [balancer.next(set()) for _ in range(3)] == ["c", "a", "c"]
    assert balancer.next({"a", "c"}) == "b", "better than nobody"
    assert balancer.next({"a", "b", "c"}) is None
    now[0] += 2 * PASSED_OVER_SECONDS
    assert sorted(url for _ in range(6) if (url := balancer.next(set())) is not None).count("b") == 1
    balancer.answered("b")
    assert [balancer.next(set()) for _ in range(3)].count("b") == 1


@pytest.mark.parametrize(("part", "value"), [(0.5, 51), (0.99, 100), (0.999, 100), (0.0, 1)])
def test_a_quantile_is_a_value_that_was_there(part: float, value: int) -> None:
    assert quantile(range(1, 101), part) == value

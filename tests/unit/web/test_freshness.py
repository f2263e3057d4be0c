"""An answer says how current it is and whose word it is; what is older than the client allows is refused, or anybody's list shown."""

from __future__ import annotations

import asyncio
import time

import pytest

from app.domain.profile import new_profile
from app.streams.location import Elsewhere, Freshness, Moving
from app.web.peers import HOP_HEADER, SILENCE_SECONDS, TO_ANY_COPY

from .worlds import NOW_MS, FakeViews, is_problem, settings_with, world

#: The partition of u1 among eight.
P = FakeViews().partition_of("u1")
READS = ["/v1/users/u1", "/v1/users/u1/recommendations", "/v1/users/u1/recommendations?slot=for_you", "/v1/users/u1/deliveries"]


def of_age(age_ms: int | None, lag: int | None = 3, next_offset: int = 100) -> Freshness:
    """A standby's copy."""
    return Freshness(P, next_offset, lag, None if age_ms is None else NOW_MS - age_ms, False)


def knowing_u1(**more: object) -> FakeViews:
    return FakeViews(profiles={"u1": new_profile("u1")}, **more)  # type: ignore[arg-type]  # fields of FakeViews


@pytest.mark.parametrize("path", [*READS, "/v1/items/p1/neighbours"])
async def test_every_answer_carries_its_source_offset_its_time_its_lag_and_who_served_it(path):
    async with world(views=knowing_u1(copy=Freshness(P, 42, 5, NOW_MS - 1000, True))) as w:
        _, _, answer = await w.get(path)
    assert answer.headers["Tidings-Source-Offset"].endswith("/41")
    assert answer.headers["Tidings-Current-To"] == "2024-04-28T10:26:39.000Z"
    assert (answer.headers["Tidings-Lag"], answer.headers["Tidings-Served-By"]) == ("5", "active")


async def test_while_a_partition_moves_a_copy_answers_and_says_how_far_behind_it_is():
    async with world(views=knowing_u1(location=Moving("rebalancing"), copy=of_age(1500, lag=7))) as w:
        status, document, answer = await w.get("/v1/users/u1")
    assert (status, document["user_id"]) == (200, "u1")
    assert (answer.headers["Tidings-Served-By"], answer.headers["Tidings-Lag"]) == ("standby", "7")


@pytest.mark.parametrize(
    ("age_ms", "wanted", "status"),
    [
        (59_000, "", 200), (61_000, "", 503), (None, "", 503),
        (61_000, "62000", 200), (2_000, "1999", 503), (2_000, "2000", 200), (None, "86400000", 503),
    ],
)  # fmt: skip
async def test_a_copy_older_than_allowed_is_refused_and_without_a_wish_one_of_a_minute(age_ms, wanted, status):
    query = f"?max_staleness_ms={wanted}" if wanted else ""
    async with world(views=knowing_u1(location=Moving("rebalancing"), copy=of_age(age_ms))) as w:
        got, document, answer = await w.get("/v1/users/u1" + query)
    assert got == status
    if status == 503:
        assert is_problem(answer, document)
        assert document["type"].endswith("too-stale")
        assert "Retry-After" in answer.headers


async def test_the_owner_answers_however_old_it_is_unless_the_client_says_otherwise():
    async with world(views=knowing_u1(copy=Freshness(P, 1, 10_000, NOW_MS - 600_000, True))) as w:
        assert (await w.get("/v1/users/u1"))[0] == 200
        assert (await w.get("/v1/users/u1?max_staleness_ms=5000"))[0] == 503


async def test_a_slot_is_filled_with_anybodys_list_and_its_reason_where_nothing_is_current_enough():
    path = "/v1/users/u1/recommendations?slot=for_you&max_staleness_ms=100"
    for views, why in [
        (knowing_u1(location=Moving("rebalancing"), copy=of_age(5000)), "too-stale"),
        (FakeViews(location=Moving("rebalancing"), copy=None), "partition-moving"),
        (FakeViews(location=Elsewhere("http://127.0.0.1:9"), copy=None), "owner-unreachable"),
    ]:
        async with world(views=views) as w:
            status, document, answer = await w.get(path)
            assert (status, document["known"], document["fallback_because"]) == (200, False, why)
            assert answer.headers["Tidings-Served-By"] == "fallback"
            assert (await w.get(path, headers={HOP_HEADER: "1"}))[0] in (421, 503), "whoever was asked first decides that"


# Read your own write --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", READS)
async def test_a_client_that_names_its_event_gets_an_answer_with_it_as_soon_as_it_is_applied(path):
    views = knowing_u1(copy=Freshness(P, 7, 1, NOW_MS, True), seen=7)
    mark = "&" if "?" in path else "?"
    async with world(views=views) as w:
        asked = asyncio.ensure_future(w.get(f"{path}{mark}after={P}/7"))
        await asyncio.sleep(0.2)
        assert not asked.done()
        views.copy, views.seen = Freshness(P, 8, 0, NOW_MS, True), 8
        status, _, answer = await asked
    assert (status, answer.headers["Tidings-Source-Offset"]) == (200, f"{P}/7")


async def test_a_list_that_was_published_waits_for_the_ranking_too():
    views = knowing_u1(copy=Freshness(P, 8, 0, NOW_MS, True), seen=7)
    async with world(views=views) as w:
        assert (await w.get(f"/v1/users/u1?after={P}/7"))[0] == 200
        began = time.monotonic()
        status, document, answer = await w.get(f"/v1/users/u1/recommendations?after={P}/7")
    assert (status, document["type"]) == (503, "urn:tidings:problem:not-applied-yet")
    assert "Retry-After" in answer.headers
    assert 0.9 < time.monotonic() - began < 3


@pytest.mark.parametrize("query", ["after=7", f"after={P}/", f"after={P}/-1", "after=a/b", f"after={P}/1x", f"after={(P + 1) % 8}/1",
                                   "max_staleness_ms=-1", "max_staleness_ms=1.5", "max_staleness_ms=", "max_staleness_ms=86400001",
                                   "max_staleness_ms=%D9%A1"])  # fmt: skip
async def test_what_is_no_position_of_this_user_and_no_age_is_refused(query):
    async with world(views=knowing_u1()) as w:
        status, document, answer = await w.get(f"/v1/users/u1?{query}")
    assert status == 400
    assert is_problem(answer, document)


# Who answers ----------------------------------------------------------------------------------------------------------


async def test_an_owner_that_hangs_costs_half_a_second_once_where_there_is_a_copy():
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    views = knowing_u1(location=Elsewhere(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"), copy=of_age(100))
    took = []
    async with world(settings_with(forward_timeout_seconds=5), views=views) as w:
        for _ in range(5):
            began = time.monotonic()
            status, _, answer = await w.get("/v1/users/u1")
            took.append(time.monotonic() - began)
            assert (status, answer.headers["Tidings-Served-By"]) == (200, "standby")
    server.close()
    assert took[0] < 2
    assert sum(took[1:]) < SILENCE_SECONDS, "while it is silent it is not asked"


async def test_an_owner_that_is_there_is_asked_although_there_is_a_copy():
    async with world(views=knowing_u1()) as owner, world(views=knowing_u1(location=Elsewhere(owner.url), copy=of_age(100))) as asked:
        _, _, answer = await asked.get("/v1/users/u1")
    assert answer.headers["Tidings-Served-By"] == "active"


async def test_another_workers_copy_answers_where_the_owner_is_gone_and_there_is_none_here():
    has_it = knowing_u1(location=Elsewhere("http://127.0.0.1:9"), copy=of_age(100))
    nobody = FakeViews(location=Elsewhere("http://127.0.0.1:9"), copy=None)
    async with world(views=has_it) as standby, world(views=nobody) as other:
        asked = FakeViews(location=Elsewhere("http://127.0.0.1:9"), copy=None, others=[other.url, standby.url])
        async with world(views=asked) as w:
            status, _, answer = await w.get("/v1/users/u1")
            assert (status, answer.headers["Tidings-Served-By"]) == (200, "standby")
        assert (await other.get("/v1/users/u1", headers={HOP_HEADER: TO_ANY_COPY}))[0] == 421
        assert (await standby.get("/v1/users/u1", headers={HOP_HEADER: "1"}))[0] == 421, "as the owner it does not answer"


async def test_a_copy_that_is_too_old_gives_way_to_another_workers():
    async with world(views=knowing_u1(location=Moving("rebalancing"), copy=of_age(100))) as standby:
        asked = knowing_u1(location=Moving("recovering"), copy=of_age(90_000), others=[standby.url])
        async with world(views=asked) as w:
            status, _, answer = await w.get("/v1/users/u1")
    assert (status, answer.headers["Tidings-Lag"]) == (200, "3")

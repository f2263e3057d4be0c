"""A question is answered by the owner of the partition, whichever worker was asked, over at most one hop."""

from __future__ import annotations

import asyncio
import time

import pytest

from app.domain.profile import new_profile
from app.streams.location import Elsewhere, Moving
from app.web.peers import HOP_HEADER

from .worlds import READ, FakeViews, is_problem, settings_with, world


async def test_a_user_of_another_worker_is_answered_all_the_same():
    there = FakeViews(profiles={"a/b ü": new_profile("a/b ü")})
    async with world(views=there) as owner, world(views=FakeViews(copy=None, location=Elsewhere(owner.url))) as asked:
        status, document, _ = await asked.get("/v1/users/a%2Fb%20%C3%BC?include=neighbours")
        missing, problem, answer = await asked.get("/v1/users/nobody")
    assert (status, document["user_id"], document["neighbours"]) == (200, "a/b ü", [])
    assert missing == 404
    assert is_problem(answer, problem)


async def test_the_owner_checks_the_token_that_the_client_sent():
    other = settings_with({"another-token-of-the-owner": ["read"]})
    async with world(other) as owner, world(views=FakeViews(copy=None, location=Elsewhere(owner.url)), token=READ) as asked:
        status, document, answer = await asked.get("/v1/users/u1")
    assert status == 401
    assert is_problem(answer, document)
    assert "WWW-Authenticate" in answer.headers


async def test_two_workers_that_each_think_the_other_owns_it_do_not_ask_each_other_for_ever():
    first, second = FakeViews(copy=None), FakeViews(copy=None)
    async with world(views=first) as one, world(views=second) as other:
        first.location, second.location = Elsewhere(other.url), Elsewhere(one.url)
        status, document, answer = await one.get("/v1/users/u1")
        direct, problem, _ = await one.get("/v1/users/u1", headers={HOP_HEADER: "1"})
    assert status == 503
    assert document["type"] == "urn:tidings:problem:partition-moving"
    assert "Retry-After" in answer.headers
    assert (direct, problem["type"]) == (421, "urn:tidings:problem:not-the-owner")


async def test_an_owner_in_the_middle_of_a_move_passes_its_503_on():
    there = FakeViews(copy=None, location=Moving("recovering profiles/3"))
    async with world(views=there) as owner, world(views=FakeViews(copy=None, location=Elsewhere(owner.url))) as asked:
        status, document, answer = await asked.get("/v1/users/u1")
    assert (status, document["detail"]) == (503, "recovering profiles/3")
    assert "Retry-After" in answer.headers


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://127.0.0.1:99999", "nonsense", "http://"])
async def test_an_owner_that_cannot_be_reached_gives_503(url):
    async with world(views=FakeViews(copy=None, location=Elsewhere(url))) as asked:
        status, document, answer = await asked.get("/v1/users/u1")
    assert status == 503
    assert is_problem(answer, document)


async def test_an_owner_that_hangs_is_given_up_after_the_forward_timeout():
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with world(settings_with(forward_timeout_seconds=0.2), views=FakeViews(copy=None, location=Elsewhere(url))) as asked:
        started = time.monotonic()
        status, _, _ = await asked.get("/v1/users/u1")
        took = time.monotonic() - started
    server.close()
    assert status == 503
    assert took < 2


async def test_an_owner_that_redirects_is_not_followed_and_one_that_answers_without_end_is_cut():
    async def serve(head: bytes, endless: bool):
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(head + b"\r\n\r\n")
            try:
                while endless:
                    writer.write(b"x" * 65_536)
                    await writer.drain()
            except ConnectionError:
                pass
            writer.close()

        return await asyncio.start_server(answer, "127.0.0.1", 0)

    for head, endless, expected in [
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0", False, 503),
        (b"HTTP/1.1 200 OK", True, 502),
    ]:
        server = await serve(head, endless)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with world(views=FakeViews(copy=None, location=Elsewhere(url))) as asked:
            status, _, _ = await asked.get("/v1/users/u1")
        server.close()
        assert status == expected

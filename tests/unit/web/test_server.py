"""The server itself: its address, its limits, and how it stops."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from app.errors import TidingsError
from app.web.access import Access
from app.web.server import WebServer, build_web

from .worlds import ALL, FakeLog, FakeProductLog, FakeViews, settings_with, view, world


async def test_port_0_takes_a_free_port_and_tells_it():
    async with world() as w:
        assert not w.url.endswith(":0")
        assert (await w.get("/healthz"))[0] == 200


async def test_a_port_that_is_taken_is_named():
    async with world() as w:
        port = int(w.url.rpartition(":")[2])
        other = WebServer(build_web(FakeViews(), FakeLog(), settings_with(), products=FakeProductLog()), "127.0.0.1", port)
        with pytest.raises(TidingsError, match=f"127.0.0.1:{port}"):
            await other.start()


async def test_stopping_lets_a_request_under_way_finish_and_takes_no_more():
    class SlowLog(FakeLog):
        async def publish(self, events):
            await asyncio.sleep(0.3)
            return await super().publish(events)

    server = WebServer(build_web(FakeViews(), SlowLog(), settings_with(), products=FakeProductLog()), "127.0.0.1", 0)
    await server.start()
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {ALL}"}) as client:
        request = asyncio.create_task(client.post(f"{server.url}/v1/events", json=view()))
        await asyncio.sleep(0.1)
        await server.stop()
        assert (await request).status == 202
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.get(f"{server.url}/healthz")
    await server.stop()


async def test_a_connection_above_the_limit_is_closed_and_one_is_taken_again_when_others_left():
    server = WebServer(build_web(FakeViews(), FakeLog(), settings_with(), products=FakeProductLog()), "127.0.0.1", 0, max_connections=2)
    await server.start()
    ask = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"

    async def connect() -> tuple[bytes, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(ask)
        try:
            return await asyncio.wait_for(reader.readline(), 5), writer
        except ConnectionError:
            return b"", writer

    opened = [await connect() for _ in range(3)]
    assert [line.startswith(b"HTTP/1.1 200") for line, _ in opened] == [True, True, False]
    for _, writer in opened:
        writer.close()
    await asyncio.sleep(0.1)
    line, writer = await connect()
    assert line.startswith(b"HTTP/1.1 200")
    writer.close()
    await server.stop()


async def test_more_requests_than_can_be_held_at_once_are_told_to_try_again():
    class StuckLog(FakeLog):
        async def publish(self, events):
            await asyncio.sleep(1)
            return await super().publish(events)

    settings = settings_with()
    server = WebServer.of(build_web(FakeViews(), StuckLog(), settings, products=FakeProductLog()), settings)
    await server.start()
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {ALL}"}, connector=aiohttp.TCPConnector(limit=0)) as client:
        answers = await asyncio.gather(*(client.post(f"{server.url}/v1/events", json=view()) for _ in range(70)))
    assert sorted({answer.status for answer in answers}) == [202, 503]
    assert sum(answer.status == 503 for answer in answers) == 70 - 64
    await server.stop()


def test_a_token_is_kept_as_a_digest_only():
    access = Access(settings_with().tokens)
    assert ALL not in repr(vars(access))
    assert access.refusal(f"Bearer {ALL}", "operate") is None
    assert access.refusal(f"Bearer {ALL[:-1]}", "operate") is not None
    assert access.refusal("Bearer \udcff", "operate") is not None

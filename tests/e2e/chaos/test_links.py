"""The proxy between a worker and the brokers: it forwards, breaks off, swallows, and heals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from app.cli.embedded_broker import free_port
from tests.e2e.chaos.links import Link

SOON = 0.3


@pytest.fixture
async def link() -> AsyncIterator[Link]:
    """To a server that says everything again."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    try:
        async with Link([free_port()], [server.sockets[0].getsockname()[1]]) as link:
            yield link
    finally:
        server.close()


async def _open(link: Link) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", link.ports[0])


async def test_what_is_sent_comes_back(link: Link) -> None:
    reader, writer = await _open(link)
    writer.write(b"one" * 100_000)
    assert await asyncio.wait_for(reader.readexactly(300_000), 5) == b"one" * 100_000
    writer.close()


async def test_a_cut_ends_connections_that_are_open_and_those_that_come(link: Link) -> None:
    reader, writer = await _open(link)
    writer.write(b"one")
    await reader.readexactly(3)
    link.cut()
    for ended in (reader, (await _open(link))[0]):
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(ended.readexactly(1), 5)
    link.heal()
    reader, writer = await _open(link)
    writer.write(b"two")
    assert await asyncio.wait_for(reader.readexactly(3), 5) == b"two"
    writer.close()


async def test_what_is_swallowed_arrives_when_the_link_heals(link: Link) -> None:
    reader, writer = await _open(link)
    writer.write(b"one")
    await reader.readexactly(3)
    link.swallow()
    writer.write(b"two")
    later, late_writer = await _open(link)
    late_writer.write(b"three")
    for silent in (reader, later):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(silent.read(1), SOON)
    link.heal()
    assert await asyncio.wait_for(reader.readexactly(3), 5) == b"two"
    assert await asyncio.wait_for(later.readexactly(5), 5) == b"three"
    writer.close()
    late_writer.close()

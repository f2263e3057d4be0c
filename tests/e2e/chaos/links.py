"""A worker's way to the brokers: a TCP proxy on loopback that can be broken off, made to swallow everything, and healed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

_CHUNK_BYTES = 1 << 16


class Link:
    """Forwards ``ports[i]`` to ``brokers[i]``, all of 127.0.0.1."""

    def __init__(self, ports: Sequence[int], brokers: Sequence[int]) -> None:
        self.ports = tuple(ports)
        self._brokers = tuple(brokers)
        self._servers: list[asyncio.Server] = []
        self._connections: set[asyncio.Task[None]] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self._is_cut = False

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(f"127.0.0.1:{port}" for port in self.ports)

    async def __aenter__(self) -> Link:
        for port, broker in zip(self.ports, self._brokers, strict=True):
            self._servers.append(await asyncio.start_server(self._accept(broker), "127.0.0.1", port))
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()
        self._end_connections()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def cut(self) -> None:
        """Connections are reset, and new ones end as soon as they begin."""
        self._is_cut = True
        self._end_connections()

    def swallow(self) -> None:
        """Connections stay open, new ones are accepted, and nothing comes through; what is sent arrives when the link heals."""
        self._flows.clear()

    def heal(self) -> None:
        self._is_cut = False
        self._flows.set()

    def _end_connections(self) -> None:
        for connection in self._connections:
            connection.cancel()

    def _accept(self, broker: int):  # type: ignore[no-untyped-def]  # what asyncio.start_server takes
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._connections.add(task)
            try:
                if not self._is_cut:
                    await self._forward(reader, writer, broker)
            except (OSError, asyncio.CancelledError):
                pass  # one side has gone, or the link is cut
            finally:
                self._connections.discard(task)
                writer.transport.abort()

        return accept

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, broker: int) -> None:
        await self._flows.wait()
        there, back = await asyncio.open_connection("127.0.0.1", broker)
        ways = [asyncio.create_task(self._pump(reader, back)), asyncio.create_task(self._pump(there, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.gather(*ways, return_exceptions=True)
            back.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_CHUNK_BYTES):
            await self._flows.wait()
            writer.write(data)
            await writer.drain()

"""The bare client that deliveries are held against: aiohttp's ClientSession as its documentation has it, bodies at hand, nothing else."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import uvloop

from tests.bench.protocol import Assignment, Stopwatch

#: As many requests at once as the worker's target has.
CONCURRENCY = 32
_U32 = struct.Struct("<I")


def read_bodies(file: Path) -> list[bytes]:
    """Each behind its length."""
    raw, at, bodies = file.read_bytes(), 0, []
    while at < len(raw):
        (size,) = _U32.unpack_from(raw, at)
        bodies.append(raw[at + 4 : at + 4 + size])
        at += 4 + size
    return bodies


async def main() -> None:
    run = Assignment.read()
    bodies, stopwatch = read_bodies(Path(run.data_dir) / "bodies"), Stopwatch()
    answered = 0

    async def send(waiting: Iterator[bytes], session: aiohttp.ClientSession) -> None:
        nonlocal answered
        for body in waiting:
            async with session.post(run.webhook_url, data=body, headers={"content-type": "application/json"}) as response:
                answered += response.status == 204

    connector = aiohttp.TCPConnector(limit=CONCURRENCY)
    async with aiohttp.ClientSession(connector=connector) as session:
        stopwatch.start()
        waiting = iter(bodies)
        await asyncio.gather(*(send(waiting, session) for _ in range(CONCURRENCY)))
        stopwatch.report(answered, {}).print()


if __name__ == "__main__":
    uvloop.run(main())

"""Asks a worker for views at a fixed rate, whatever has become of those before, and prints the seconds that each took from when it was due.

``python -m tests.bench.views_client URL TOKEN USERS COUNT PER_SECOND``. It speaks just enough HTTP over connections that stay open, so that
what is measured is the worker and not a client library. A request that is due while all connections are taken waits, and its time runs.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from urllib.parse import urlsplit

import uvloop

CONNECTIONS = 32
_HEAD_END, _LENGTH = b"\r\n\r\n", b"content-length:"


async def ask(url: str, token: str, users: int, count: int, per_second: float) -> list[float]:
    """Raises OSError or RuntimeError when an answer is anything but a 200."""
    host, port = urlsplit(url).hostname, urlsplit(url).port
    idle: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        idle.put_nowait(await asyncio.open_connection(host, port))

    async def one(user: int, due: float) -> float:
        reader, writer = await idle.get()
        writer.write(f"GET /v1/users/user-{user} HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        head = await reader.readuntil(_HEAD_END)
        await reader.readexactly(_body_length(head))
        seconds = time.monotonic() - due
        idle.put_nowait((reader, writer))
        return seconds

    tasks, began = [], time.monotonic()
    for i in range(count):
        due = began + i / per_second
        if (early := due - time.monotonic()) > 0:
            await asyncio.sleep(early)
        tasks.append(asyncio.create_task(one(i * 7919 % users, due)))
    return list(await asyncio.gather(*tasks))


def _body_length(head: bytes) -> int:
    if not head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 404")):  # some users of a small run were never seen
        raise RuntimeError(head.decode(errors="replace"))
    (line,) = [line for line in head.lower().split(b"\r\n") if line.startswith(_LENGTH)]
    return int(line[len(_LENGTH) :])


def main() -> None:
    url, token, users, count, per_second = sys.argv[1:]
    json.dump(uvloop.run(ask(url, token, int(users), int(count), float(per_second))), sys.stdout)


if __name__ == "__main__":
    main()

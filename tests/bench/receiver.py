"""The webhook target of the benchmark: answers 204 and remembers, per user, the last version and when the first body came.

``python -m tests.bench.receiver`` prints its port; ``GET /seen`` tells what it remembers. Times are of the monotonic clock, which all
processes of a machine share. ``GET /count`` tells how many bodies came.
"""

from __future__ import annotations

import asyncio
import sys
import time
import zlib
from collections.abc import Iterable

import orjson
import uvloop
from aiohttp import web

HOOK = "/hook"


def checksum_of(product_ids: Iterable[str]) -> int:
    """Of a list, in its order."""
    return zlib.crc32("\x1f".join(product_ids).encode())


class Receiver:
    """Every user is kept: the harness decides how many there are."""

    def __init__(self) -> None:
        #: Of the last body: its version, and a checksum of its list.
        self._versions: dict[str, int] = {}
        self._lists: dict[str, int] = {}
        self._first_at: dict[str, float] = {}
        self._bodies = 0

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post(HOOK, self._take)
        app.router.add_get("/seen", self._seen)
        app.router.add_get("/count", self._tell_count)
        return app

    async def _take(self, request: web.Request) -> web.Response:
        data = orjson.loads(await request.read())["data"]
        user_id = data["user_id"]
        self._bodies += 1
        self._versions[user_id] = data["version"]
        self._lists[user_id] = checksum_of(recommendation["product_id"] for recommendation in data["recommendations"])
        self._first_at.setdefault(user_id, time.monotonic())
        return web.Response(status=204)

    async def _tell_count(self, request: web.Request) -> web.Response:
        return web.Response(text=str(self._bodies))

    async def _seen(self, request: web.Request) -> web.Response:
        prefix = request.query.get("prefix", "")
        first_at = {user_id: at for user_id, at in self._first_at.items() if user_id.startswith(prefix)}
        body = {"bodies": self._bodies, "versions": self._versions, "lists": self._lists, "first_at": first_at}
        return web.Response(body=orjson.dumps(body), content_type="application/json")


async def main() -> None:
    runner = web.AppRunner(Receiver().app(), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())

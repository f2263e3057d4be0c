"""Three webhook targets that can be unwell (``POST /become/unwell``): one hangs for 30 s, one answers 500, one throttles.

``python -m tests.bench.unwell`` prints its port; ``GET /seen`` tells, for each, the last list of every user that it took.
"""

from __future__ import annotations

import asyncio
import sys

import orjson
import uvloop
from aiohttp import web

from tests.bench.receiver import checksum_of

HANG_SECONDS = 30.0
KINDS = ("hanging", "failing", "throttling")


class Unwell:
    """Takes bodies while it is well, and the throttling one in three of them while it is not."""

    def __init__(self) -> None:
        self._is_unwell = False
        self._count = 0
        #: Of the last body of each user: its version, and a checksum of its list.
        self._versions: dict[str, dict[str, int]] = {kind: {} for kind in KINDS}
        self._lists: dict[str, dict[str, int]] = {kind: {} for kind in KINDS}
        self._went_back = dict.fromkeys(KINDS, 0)

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/become/{health}", self._become)
        app.router.add_post("/{kind}", self._take)
        app.router.add_get("/seen", self._seen)
        return app

    async def _become(self, request: web.Request) -> web.Response:
        self._is_unwell = request.match_info["health"] == "unwell"
        return web.Response(status=204)

    async def _take(self, request: web.Request) -> web.Response:
        kind, body = request.match_info["kind"], await request.read()
        if self._is_unwell:
            self._count += 1
            match kind:
                case "hanging":
                    await asyncio.sleep(HANG_SECONDS)
                    return web.Response(status=503)
                case "failing":
                    return web.Response(status=500)
                case "throttling" if self._count % 3:
                    return web.Response(status=429, headers={"Retry-After": "1"})
        data, held = orjson.loads(body)["data"], self._versions[kind]
        self._went_back[kind] += data["version"] < held.get(data["user_id"], 0)
        held[data["user_id"]] = data["version"]
        self._lists[kind][data["user_id"]] = checksum_of(recommendation["product_id"] for recommendation in data["recommendations"])
        return web.Response(status=204)

    async def _seen(self, request: web.Request) -> web.Response:
        seen = {kind: {"lists": self._lists[kind], "went_back": self._went_back[kind]} for kind in KINDS}
        return web.Response(body=orjson.dumps(seen), content_type="application/json")


async def main() -> None:
    runner = web.AppRunner(Unwell().app(), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())

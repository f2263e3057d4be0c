"""A webhook receiver on 127.0.0.1 that checks signatures with the reference library and remembers what it got."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web
from standardwebhooks.webhooks import Webhook as Verifier

from tests.unit.delivery.worlds import SECRET


@dataclass
class Delivered:
    """One request as the receiver saw it."""

    path: str
    message_id: str
    user_id: str
    version: int
    body: dict[str, Any]


Answer = Callable[[web.Request, Delivered], Awaitable[web.StreamResponse]]


@dataclass
class Inbox:
    """A receiver that checks signatures with the reference library and counts what is in flight at once."""

    answer: Answer | None = None
    url: str = ""
    port: int = 0
    got: list[Delivered] = field(default_factory=list)
    _runner: web.AppRunner | None = None

    async def __aenter__(self) -> Inbox:
        app = web.Application(client_max_size=100_000)
        app.router.add_route("*", "/{path:.*}", self._receive)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]  # aiohttp has no public way to learn the port
        self.url = f"http://127.0.0.1:{self.port}/hook"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _receive(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        body = orjson.loads(raw)
        Verifier(SECRET).verify(raw, dict(request.headers))
        one = Delivered(request.path, request.headers["webhook-id"], body["data"]["user_id"], body["data"]["version"], body)
        self.got.append(one)
        return await self.answer(request, one) if self.answer else web.Response(status=204)

    def versions(self, user_id: str) -> list[int]:
        return [one.version for one in self.got if one.user_id == user_id]

    def ids_by_version(self) -> dict[tuple[str, int], set[str]]:
        ids: dict[tuple[str, int], set[str]] = defaultdict(set)
        for one in self.got:
            ids[one.user_id, one.version].add(one.message_id)
        return ids

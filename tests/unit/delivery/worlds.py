"""What delivery's tests stand on: an outbox in a dict that outlives its worker, people whose lists change, and a receiver on 127.0.0.1."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web
from standardwebhooks.webhooks import Webhook as Verifier

from app.delivery import outbox
from app.delivery.client import Client
from app.delivery.deliverer import Deliverer
from app.destinations import Destination, Rendered, Webhook
from app.errors import NotOwnedError
from app.settings import DeliverySettings
from tidings.state.v1.outbox_pb2 import Delivery, OutboxEntry
from tidings.state.v1.profile_pb2 import Profile

KEY = b"0123456789abcdef0123456789abcdef"
SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


def real_clock() -> int:
    return time.time_ns() // 1_000_000


class Clock:
    """A clock that a test moves."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms

    def pass_ms(self, milliseconds: int) -> None:
        self.now_ms += milliseconds


class DictStore:
    """An outbox whose durable side is ``self.log``: bytes by user, as a changelog would give them back to the next owner."""

    def __init__(self, log: dict[str, bytes] | None = None) -> None:
        self.log: dict[str, bytes] = {} if log is None else log
        self.entries = {user_id: OutboxEntry.FromString(value) for user_id, value in self.log.items()}
        self.owned: Callable[[str], bool] = lambda _: True
        self.before_write: Callable[[Mapping[str, Any]], Awaitable[None]] | None = None
        self.writes = 0

    def entry(self, user_id: str) -> OutboxEntry | None:
        if not self.owned(user_id):
            raise NotOwnedError(f"{user_id} is another worker's")
        return self.entries.get(user_id)

    async def write(self, changes: Mapping[str, Callable[[OutboxEntry], None]]) -> None:
        self.writes += 1
        if self.before_write is not None:
            await self.before_write(changes)
        for user_id, change in changes.items():
            if self.owned(user_id):
                change(self.entries[user_id])
        await asyncio.sleep(0)
        for user_id in changes:
            self.log[user_id] = self.entries[user_id].SerializeToString()

    def delivery(self, user_id: str, target: str = "inbox") -> Delivery:
        found = outbox.delivery_of(self.entries[user_id], target)
        assert found is not None
        return found


class People:
    """Who there is, with lists that a test changes; renders them as app/streams would."""

    def __init__(self, store: DictStore, targets: list[str]) -> None:
        self.store = store
        self.targets = targets
        self.refusing: set[str] = set()

    def change(self, user_id: str, *products: str, caused_at_ms: int = 0) -> int:
        """The user's list is this now; returns its version."""
        entry = self.store.entries.setdefault(user_id, OutboxEntry(user_id=user_id))
        update = entry.update
        update.user_id = user_id
        update.version += 1
        update.ranked_at_ms = update.current_to_ms = real_clock()
        update.caused_at_ms = caused_at_ms or real_clock()
        del update.recommendations[:]
        for product_id in products or (f"p{update.version}",):
            update.recommendations.add(product_id=product_id, score=1.0)
        outbox.mark_due(entry, self.targets)
        self.store.log[user_id] = entry.SerializeToString()
        return update.version

    def render(self, user_id: str) -> Rendered | None:
        entry = self.store.entry(user_id)
        if entry is None or user_id in self.refusing:
            return None
        return Rendered(entry.update, Profile(user_id=user_id))


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
    in_flight: Counter[str] = field(default_factory=Counter)
    most_in_flight: Counter[str] = field(default_factory=Counter)
    _runner: web.AppRunner | None = None

    async def __aenter__(self) -> Inbox:
        app = web.Application(client_max_size=100_000)
        app.router.add_route("*", "/{path:.*}", self._receive)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, shutdown_timeout=0.1)
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
        self.in_flight[one.user_id] += 1
        self.most_in_flight[one.user_id] = max(self.most_in_flight[one.user_id], self.in_flight[one.user_id])
        try:
            return await self.answer(request, one) if self.answer else web.Response(status=204)
        finally:
            self.in_flight[one.user_id] -= 1

    def versions(self, user_id: str) -> list[int]:
        return [one.version for one in self.got if one.user_id == user_id]

    def ids_by_version(self) -> dict[tuple[str, int], set[str]]:
        ids: dict[tuple[str, int], set[str]] = defaultdict(set)
        for one in self.got:
            ids[one.user_id, one.version].add(one.message_id)
        return ids


def webhook(name: str = "inbox", url: str = "http://127.0.0.1:1/", timeout_seconds: float = 5.0, concurrency: int = 8) -> Webhook:
    return Webhook(name, url, KEY, timeout_seconds, concurrency)


def a_deliverer(
    targets: list[Webhook], store: DictStore, people: People, *, clock: Callable[[], int] = real_clock, lease: Callable[[], bool] = lambda: True,
    connect: Callable[[Destination], Client] | None = None, max_in_flight: int = 256, allow: tuple[str, ...] = ("127.0.0.0/8",),
) -> Deliverer:
    settings = DeliverySettings(allow_networks=list(allow), max_in_flight=max_in_flight)
    return Deliverer(targets, store, people.render, clock=clock, lease=lease, settings=settings, connect=connect)


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Returns when the condition holds; fails the test if it does not within the time."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)

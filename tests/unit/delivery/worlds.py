"""What delivery's tests stand on: an outbox in a dict that outlives its worker, people whose lists change, a target without a socket."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import orjson

from app.delivery import outbox
from app.delivery.client import Client, Missing, NoResponse
from app.delivery.deliverer import Deliverer
from app.destinations import Destination
from app.destinations.requests import Rendered, Request, Response, SigningKey
from app.destinations.webhook import Webhook
from app.errors import NotOwnedError
from app.metrics import REGISTRY
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
        self.partitions: Callable[[str], int] = lambda _: 0
        self.not_owned: set[int] = set()
        #: Awaited between a change and its durability.
        self.before_write: Callable[[Mapping[str, Any]], Awaitable[None]] | None = None
        self.writes = self.scans = 0
        self.users_written = 0

    def partition_of(self, user_id: str) -> int:
        return self.partitions(user_id)

    def entry(self, partition: int, user_id: str) -> OutboxEntry | None:
        if partition in self.not_owned:
            raise NotOwnedError(f"partition {partition} is another worker's")
        return self.entries.get(user_id)

    def scan(self, partition: int, first: str = "") -> Iterator[tuple[str, OutboxEntry]]:
        if partition in self.not_owned:
            raise NotOwnedError(f"partition {partition} is another worker's")
        self.scans += 1
        for user_id in sorted(self.log):
            if user_id >= first and self.partition_of(user_id) == partition:
                yield user_id, OutboxEntry.FromString(self.log[user_id])

    async def write(self, partition: int, changes: Mapping[str, Callable[[OutboxEntry], None]]) -> bool:
        """As the engine does it: changed at once, then durable, or lost."""
        self.writes += 1
        self.users_written += len(changes)
        if partition in self.not_owned:
            return False
        for user_id, change in changes.items():
            assert self.partition_of(user_id) == partition
            change(self.entries[user_id])
        values = {user_id: self.entries[user_id].SerializeToString() for user_id in changes}
        if self.before_write is not None:
            await self.before_write(changes)
        await asyncio.sleep(0)
        if partition in self.not_owned:
            return False
        self.log.update(values)
        return True

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
        entry = self.store.entry(self.store.partition_of(user_id), user_id)
        if entry is None or user_id in self.refusing:
            return None
        return Rendered(entry.update, Profile(user_id=user_id))

    def may_tell(self, user_id: str) -> bool:
        return self.render(user_id) is not None


Answer = Callable[[Request], Awaitable[Response | NoResponse]]


class MemoryClient:
    """A target without a socket: keeps the requests, answers as it is told, counts what is in flight for each user."""

    def __init__(self, answer: Answer | None = None) -> None:
        self.answer = answer
        self.got: list[tuple[str, int, str]] = []
        self.in_flight: Counter[str] = Counter()
        self.most_in_flight: Counter[str] = Counter()
        self.is_closed = False

    async def send(self, request: Request, may_send: Callable[[], bool]) -> Response | NoResponse:
        if not may_send():
            return NoResponse(Missing.FORBIDDEN, "asked too late")
        data = orjson.loads(request.body)["data"]
        user_id = data["user_id"]
        self.got.append((user_id, data["version"], request.headers["webhook-id"]))
        self.in_flight[user_id] += 1
        self.most_in_flight[user_id] = max(self.most_in_flight[user_id], self.in_flight[user_id])
        try:
            return await self.answer(request) if self.answer else answered(204)
        finally:
            self.in_flight[user_id] -= 1

    async def close(self) -> None:
        self.is_closed = True

    def versions(self, user_id: str) -> list[int]:
        return [version for user, version, _ in self.got if user == user_id]


def answered(status: int, body: bytes = b"", received_at_ms: int = 0, **headers: str) -> Response:
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, body, received_at_ms)


def webhook(name: str = "inbox", url: str = "http://127.0.0.1:1/", timeout_seconds: float = 5.0, concurrency: int = 8) -> Webhook:
    return Webhook(name, url, (SigningKey("v1", KEY),), timeout_seconds, concurrency)


def a_deliverer(
    targets: list[Webhook], store: DictStore, people: People, *, clock: Callable[[], int] = real_clock,
    lease: Callable[[], bool] = lambda: True, connect: Callable[[Destination], Client] | None = None, max_in_flight: int = 256,
    allow: tuple[str, ...] = ("127.0.0.0/8",), resync_per_second: float = 100_000, **more: Any,
) -> Deliverer:
    settings = DeliverySettings(allow_networks=list(allow), max_in_flight=max_in_flight, resync_per_second=resync_per_second)
    return Deliverer(
        targets, store, people.render, may_tell=people.may_tell, clock=clock, lease=lease, settings=settings, connect=connect, **more
    )


def count(outcome: str, target: str = "inbox") -> float:
    return REGISTRY.get_sample_value("tidings_deliveries_total", {"target": target, "outcome": outcome}) or 0.0


def due_users(target: str = "inbox") -> float:
    return REGISTRY.get_sample_value("tidings_outbox_due_users", {"target": target}) or 0.0


@asynccontextmanager
async def running(deliverer: Deliverer, drain_seconds: float = 1.0) -> AsyncIterator[Deliverer]:
    await deliverer.start()
    try:
        yield deliverer
    finally:
        await deliverer.stop(drain_seconds)


class World:
    """One target, one store, one clock; the worker may be replaced."""

    def __init__(self, clock: Clock | None = None, **target: Any) -> None:
        self.clock = clock or real_clock
        self.store = DictStore()
        self.people = People(self.store, ["inbox"])
        self.client = MemoryClient()
        self.has_lease = True
        self.target = webhook(**target)

    def worker(self, **more: Any) -> Deliverer:
        return a_deliverer(
            [self.target], self.store, self.people, clock=self.clock, lease=lambda: self.has_lease, connect=lambda _: self.client, **more
        )

    def take_over(self) -> None:
        """Another worker reads the changelog; what was not durable is gone."""
        self.store = self.people.store = DictStore(self.store.log)
        self.client = MemoryClient()


@asynccontextmanager
async def ticking(clock: Clock, speed: int = 20) -> AsyncIterator[None]:
    """The clock goes by itself, so many times as fast as the real one."""

    async def tick() -> None:
        while True:
            await asyncio.sleep(0.002)
            clock.pass_ms(2 * speed)

    task = asyncio.get_running_loop().create_task(tick())
    try:
        yield
    finally:
        task.cancel()


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Returns when the condition holds; fails the test if it does not within the time."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # it asks what the tested code did, and no event says so
            await asyncio.sleep(0.002)

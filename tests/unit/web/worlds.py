"""Stand-ins for what the web reads and writes: tables of dicts, a log that is a list, and a real server on a free port."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
from pydantic import SecretStr

from app.delivery.status import LineStatus
from app.domain.catalog import NO_CATALOG, Catalog
from app.domain.items import ItemState
from app.domain.models import GlobalModels
from app.domain.rules import Rules
from app.domain.slots import Selection, slots_of
from app.errors import BrokerError, NotOwnedError
from app.settings import Settings, TokenSettings
from app.streams.location import Freshness, Here, Location, WorkerStatus
from app.streams.publisher import Position, Record, partition_of
from app.streams.recommender import Recommender
from app.web.server import WebServer, build_web
from tidings.events.v1.event_pb2 import Event
from tidings.state.v1.neighbours_pb2 import NeighbourList
from tidings.state.v1.outbox_pb2 import OutboxEntry
from tidings.state.v1.profile_pb2 import Profile
from tidings.updates.v1.update_pb2 import RecommendationUpdate

NOW_MS = 1_714_300_000_000
AT = "2024-04-27T14:35:22Z"
INGEST, READ, ALL = "ingest-token-0123456789", "read-token-0123456789", "all-token-0123456789"
SCOPES: dict[str, list[Any]] = {INGEST: ["ingest"], READ: ["read"], ALL: ["ingest", "read", "operate"]}


@dataclass
class FakeViews:
    """Views over dicts; ``left`` makes the lookups say that the partition just left."""

    profiles: dict[str, Profile] = field(default_factory=dict)
    answers: dict[str, list[NeighbourList]] = field(default_factory=dict)
    entries: dict[str, OutboxEntry] = field(default_factory=dict)
    items: dict[str, ItemState] = field(default_factory=dict)
    location: Location = field(default_factory=Here)
    state: WorkerStatus = field(default_factory=lambda: WorkerStatus(ready=True, reason="ready"))
    left: bool = False
    lines: list[LineStatus] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    #: None: nothing of any partition is here.
    copy: Freshness | None = field(default_factory=lambda: Freshness(7, 100, 0, NOW_MS, True))
    seen: int = 0
    recommender: Recommender = field(
        default_factory=lambda: Recommender(lambda: GlobalModels.of([]), NO_CATALOG, slots_of(Settings()), Rules())
    )

    def partition_of(self, key: str) -> int:
        return partition_of(key.encode(), 8)

    def locate(self, partition: int) -> Location:
        return self.location

    def freshness(self, partition: int) -> Freshness | None:
        return None if self.copy is None else replace(self.copy, partition=partition)

    item_freshness = freshness

    def seen_through(self, partition: int) -> int:
        return self.seen

    def profile(self, user_id: str) -> Profile | None:
        self._check()
        return self.profiles.get(user_id)

    def neighbours(self, user_id: str) -> list[NeighbourList]:
        self._check()
        return self.answers.get(user_id, [])

    def published(self, user_id: str, now_ms: int) -> RecommendationUpdate | None:
        entry = self.outbox_entry(user_id)
        return None if entry is None else entry.update

    def outbox_entry(self, user_id: str) -> OutboxEntry | None:
        self._check()
        return self.entries.get(user_id)

    def slots(self) -> Collection[str]:
        return self.recommender.slots.keys()

    def select(self, user_id: str, slot: str, now_ms: int, *, explain: bool) -> Selection:
        self._check()
        return self.recommender.select(self.recommender.slots[slot], self.profiles.get(user_id), None, now_ms, explain=explain)

    def select_for_anybody(self, slot: str, now_ms: int) -> Selection:
        return self.recommender.select(self.recommender.slots[slot], None, None, now_ms)

    def item(self, product_id: str) -> ItemState | None:
        self._check()
        return self.items.get(product_id)

    def status(self) -> WorkerStatus:
        return self.state

    def destinations(self) -> list[LineStatus]:
        return self.lines

    def other_workers(self) -> list[str]:
        return self.others

    def _check(self) -> None:
        if self.left:
            raise NotOwnedError("partition 3 just left")


@dataclass
class FakeLog:
    """A log that is a list; ``away`` makes it behave like Kafka that does not answer. While ``hangs`` is set, it takes its time."""

    events: list[Event] = field(default_factory=list)
    away: bool = False
    hangs: asyncio.Event | None = None

    async def publish(self, events: Sequence[Event]) -> list[Position]:
        if self.hangs is not None:
            await self.hangs.wait()
        if self.away:
            raise BrokerError("Kafka at 127.0.0.1:9092 acknowledged nothing within 10 s")
        first = len(self.events)
        self.events += events
        return [Position(0, first + n) for n in range(len(events))]


@dataclass
class FakeProductLog:
    """The same for the products topic."""

    records: list[Record] = field(default_factory=list)
    away: bool = False
    partitions: int = 8

    async def publish_records(self, records: Sequence[Record]) -> list[Position]:
        if self.away:
            raise BrokerError("Kafka at 127.0.0.1:9092 acknowledged nothing within 10 s")
        first = len(self.records)
        self.records += records
        return [Position(record.partition or 0, first + n) for n, record in enumerate(records)]


@dataclass
class World:
    """A running server with a client that holds the token with every scope."""

    views: FakeViews
    log: FakeLog
    products: FakeProductLog
    url: str
    client: aiohttp.ClientSession

    async def get(self, path: str, **kwargs: Any) -> tuple[int, Any, aiohttp.ClientResponse]:
        async with self.client.get(self.url + path, **kwargs) as answer:
            body = await answer.read()
            return answer.status, await answer.json(content_type=None) if body else None, answer

    async def send(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> tuple[int, Any]:
        """Any request with a body: JSON of what is no text."""
        data = body if isinstance(body, str | bytes) or body is None else json.dumps(body)
        async with self.client.request(method, self.url + path, data=data, headers={"Content-Type": content_type}) as answer:
            return answer.status, await answer.json(content_type=None)

    async def post(
        self, body: Any, content_type: str | None = "application/json", **headers: str
    ) -> tuple[int, Any, aiohttp.ClientResponse]:
        sent = {**({"Content-Type": content_type} if content_type else {}), **headers}
        skip = [] if content_type else ["Content-Type"]
        if isinstance(body, (dict, list)):
            kwargs: dict[str, Any] = {"json": body}
        else:
            kwargs = {"data": body.encode() if isinstance(body, str) else body}
        async with self.client.post(f"{self.url}/v1/events", headers=sent, skip_auto_headers=skip, **kwargs) as answer:
            return answer.status, await answer.json(content_type=None), answer


def settings_with(tokens: dict[str, list[Any]] | None = None, **http: Any) -> Settings:
    """Settings with the tokens of SCOPES (or those given), and HTTP settings changed."""
    tokens = SCOPES if tokens is None else tokens
    return Settings(
        http={"port": 0, **http},
        tokens=[TokenSettings(name=f"t{n}", token=SecretStr(token), scopes=scopes) for n, (token, scopes) in enumerate(tokens.items())],
    )


@asynccontextmanager
async def world(
    settings: Settings | None = None, views: FakeViews | None = None, token: str | None = ALL, catalog: Catalog = NO_CATALOG, **kwargs: Any
) -> AsyncIterator[World]:
    views, log, products, settings = views or FakeViews(), FakeLog(), FakeProductLog(), settings or settings_with()
    server = WebServer.of(build_web(views, log, settings, lambda: NOW_MS, products=products, catalog=catalog, **kwargs), settings)
    await server.start()
    try:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with aiohttp.ClientSession(headers=headers) as client:
            yield World(views, log, products, server.url, client)
    finally:
        await server.stop()


def view(user_id: str = "u1", product_id: str = "p1", **more: object) -> dict[str, object]:
    return {"user_id": user_id, "event": "view", "product_id": product_id, "timestamp": AT, **more}


def is_problem(answer: aiohttp.ClientResponse, document: Any) -> bool:
    return (
        answer.content_type == "application/problem+json"
        and document["type"].startswith("urn:tidings:problem:")
        and document["status"] == answer.status
        and bool(document["title"] and document["detail"])
    )

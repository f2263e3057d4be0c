"""A target in memory that takes many people in one request, says of each what became of them, and may do that later, in a job."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from app.delivery.client import Missing, NoResponse
from app.delivery.deliverer import Deliverer
from app.destinations.limits import Limits, Quota
from app.destinations.outcomes import (
    Accepted,
    Confirmed,
    Down,
    DownCause,
    JobReading,
    PerPerson,
    PersonOutcome,
    Reading,
    Rejected,
    Retry,
    Running,
    Split,
    Throttled,
    Unavailable,
)
from app.destinations.requests import Part, Rendered, Request, Response, digest_of
from app.destinations.retry_after import retry_after_ms
from tests.unit.delivery.worlds import Clock, DictStore, People, a_deliverer, real_clock
from tidings.state.v1 import outbox_pb2

_URL = "https://crowd.example/people"


@dataclass(frozen=True, slots=True)
class Crowd:
    """The destination. A product named ``unfit`` cannot be said there; ``same:x`` makes x the person's name over there."""

    name: str = "crowd"
    timeout_seconds: float = 5.0
    limits: Limits = field(default=Limits(concurrency=4, people=100, body_bytes=100_000))

    def encode(self, rendered: Rendered) -> Part | Rejected:
        update = rendered.update
        products = [one.product_id for one in update.recommendations]
        if "unfit" in products:
            return Rejected(outbox_pb2.DEAD_REASON_TOO_LARGE, "not one product fits")
        identity = next((p.removeprefix("same:") for p in products if p.startswith("same:")), update.user_id)
        body = orjson.dumps({"user": update.user_id, "id": identity, "version": update.version, "products": products})
        return Part(update.user_id, update.version, digest_of(orjson.dumps(products)), body, identity)

    def request(self, parts: Sequence[Part]) -> Request:
        return Request("POST", _URL, {}, b'{"people":[' + b",".join(part.body for part in parts) + b"]}")

    def read(self, parts: Sequence[Part], response: Response) -> Reading:
        match response.status:
            case 200 | 202:
                said = orjson.loads(response.body)
                return PerPerson(tuple(_outcome(one) for one in said))
            case 400:
                return Split("400: somebody is wrong")
            case 401:
                return Down(DownCause.AUTH, "401: the key is refused")
            case 429:
                return Throttled("429", retry_after_ms(response))
            case _:
                return Unavailable(str(response.status))

    def quota(self, response: Response) -> Quota | None:
        return None


@dataclass(frozen=True, slots=True)
class JobCrowd(Crowd):
    """The same; it answers with a job."""

    def poll(self, job: str) -> Request:
        return Request("GET", f"{_URL}/jobs/{job}", {}, b"")

    def read_poll(self, job: str, parts: Sequence[Part], response: Response) -> JobReading:
        if response.status != 200:
            return self.read(parts, response)
        said = orjson.loads(response.body)
        if "running" in said:
            return Running(said["running"])
        if "lost order" in said:
            return Split("the places are not known")
        return PerPerson(tuple(_outcome(said.get(part.identity, "ok")) for part in parts))


def _outcome(said: str) -> PersonOutcome:
    match said.split(":"):
        case ["ok"]:
            return Confirmed()
        case ["retry"]:
            return Retry("try again")
        case ["bad"]:
            return Rejected(outbox_pb2.DEAD_REASON_INVALID_IDENTITY, "no such address")
        case ["blocked"]:
            return Rejected(outbox_pb2.DEAD_REASON_SUPPRESSED, "unsubscribed", blocks=True)
        case ["job", name]:
            return Accepted(name)
        case _:
            raise AssertionError(said)


#: The people of a request, each with user, id, version and products.
Asked = list[dict[str, Any]]
Answer = Callable[[Asked], Awaitable[Response | NoResponse]]


class Platform:
    """The client, and what is behind it: keeps what it is told, checks that nobody is in two requests at once and no version goes back."""

    def __init__(self, answer: Answer | None = None) -> None:
        self.answer = answer
        self.answer_poll: Callable[[str], Awaitable[Response | NoResponse]] | None = None
        #: Each request's users with their versions.
        self.requests: list[list[tuple[str, int]]] = []
        self.polls: list[str] = []
        self.in_flight: Counter[str] = Counter()
        self.most_in_flight = 0
        #: Versions by user, in the order in which they came.
        self.versions: dict[str, list[int]] = {}
        #: Awaited between the call and the socket.
        self.before_socket: Callable[[], Awaitable[None]] | None = None

    async def send(self, request: Request, may_send: Callable[[], bool]) -> Response | NoResponse:
        if self.before_socket is not None:
            await self.before_socket()
        if not may_send():
            return NoResponse(Missing.FORBIDDEN, "no")
        if request.method == "GET":
            job = request.url.rpartition("/")[2]
            self.polls.append(job)
            return await self.answer_poll(job) if self.answer_poll else said({})
        people = orjson.loads(request.body)["people"]
        users = [one["user"] for one in people]
        assert len(set(users)) == len(users), "nobody is in a request twice"
        assert len({one["id"] for one in people}) == len(people), "nor one of theirs"
        self.requests.append([(one["user"], one["version"]) for one in people])
        for one in people:
            seen = self.versions.setdefault(one["user"], [])
            assert not seen or one["version"] >= seen[-1], "no older version after a newer one"
            seen.append(one["version"])
        self.in_flight.update(users)
        self.most_in_flight = max(self.most_in_flight, *self.in_flight.values())
        try:
            return await self.answer(people) if self.answer else all_said("ok", people)
        finally:
            self.in_flight.subtract(users)

    async def close(self) -> None:
        pass

    def times_sent(self) -> Counter[str]:
        return Counter(user for request in self.requests for user, _ in request)


def said(what: Any, status: int = 200) -> Response:
    return Response(status, {}, orjson.dumps(what), 0)


def all_said(what: str, people: Asked) -> Response:
    return said([what] * len(people))


class CrowdWorld:
    """Such a target, a store, a clock; the worker may be replaced."""

    def __init__(self, clock: Clock | None = None, *, jobs: bool = False, **limits: Any) -> None:
        self.clock = clock or real_clock
        self.store = DictStore()
        self.people = People(self.store, ["crowd"])
        self.platform = Platform()
        self.has_lease = True
        self.target = (JobCrowd if jobs else Crowd)(limits=Limits(**{"concurrency": 4, "people": 100, "body_bytes": 100_000} | limits))

    def worker(self, **more: Any) -> Deliverer:
        return a_deliverer(
            [self.target], self.store, self.people, clock=self.clock, lease=lambda: self.has_lease, connect=lambda _: self.platform, **more
        )

    def take_over(self) -> None:
        """Another worker reads the changelog; what was not durable is gone. The platform keeps what it has."""
        partitions, before_write = self.store.partitions, self.store.before_write
        self.store = self.people.store = DictStore(self.store.log)
        self.store.partitions, self.store.before_write = partitions, before_write
        old, self.platform = self.platform, Platform()
        self.platform.versions, self.platform.requests, self.platform.polls = old.versions, old.requests, old.polls

    def delivery(self, user_id: str) -> outbox_pb2.Delivery:
        return self.store.delivery(user_id, "crowd")

    def durable(self, user_id: str) -> outbox_pb2.Delivery:
        return DictStore(self.store.log).delivery(user_id, "crowd")

    def confirmed(self) -> set[str]:
        return {user for user, entry in self.store.entries.items() if self.delivery(user).confirmed_version == entry.update.version}


async def stuck(_: Any = None) -> Response:
    await asyncio.sleep(3600)
    raise AssertionError

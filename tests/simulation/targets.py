"""Targets that receive what workers send, and see at once whether it may have been sent.

A request that is in the socket arrives within its time-out or never, whatever becomes of its author. Seen as it goes into the socket: that
its author owns the person, that its mark is durable, and young, that nobody else is in a request with the person, that they may be told
about, that it was not confirmed before; and as it arrives, that no version goes back and that a version is one list.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import orjson

from app.delivery import outbox
from app.delivery.client import Missing, NoResponse
from app.destinations import Destination
from app.destinations.limits import Limits
from app.destinations.requests import Request, Response
from app.domain.fields import PERSONALISED_EMAIL, email_is_denied
from app.domain.validation import Violation, decode_event
from app.engine.table import MARK_PREFIX, next_offset_of
from app.streams.publisher import partition_of
from tests.simulation.world import World
from tests.unit.delivery.crowd import Crowd, JobCrowd, all_said, said
from tests.unit.delivery.worlds import answered
from tidings.events.v1.event_pb2 import CONSENT_STATE_GRANTED
from tidings.state.v1.outbox_pb2 import OutboxEntry
from tidings.state.v1.profile_pb2 import Profile

if TYPE_CHECKING:
    from tests.simulation.process import Process

TIMEOUT_MS = 5_000
#: A job over there takes no longer: a mark covers it, should nobody live to note its name.
MAX_JOB_MS = 6_000
#: Nobody sends a version again sooner after it failed: by the schedule (retry.py), or, if that was not noted, since its mark ends later
#: (claim.py), whatever the clocks say.
LEAST_RETRY_MS = 900


class Exchange:
    """One request in the socket, and its answer."""

    def __init__(self, process: Process, request: Request, people: list[dict[str, Any]], deadline_ms: int) -> None:
        self.process = process
        self.request = request
        self.people = people
        self.deadline_ms = deadline_ms
        self.answer: asyncio.Future[Response | NoResponse] = process.loop.create_future()
        self.response: Response | None = None
        #: Held up in the network until somebody else has taken over from its author, or the time is up.
        self.is_late = False


class Targets:
    """All of one run: some of a target of one person a request, one of several, one that answers with jobs."""

    def __init__(self, world: World) -> None:
        several = world.random.choice([2, 3, 5])
        kinds: list[Destination] = [
            Crowd("inbox", limits=Limits(concurrency=2)),
            Crowd("crowd", limits=Limits(concurrency=2, people=several, body_bytes=100_000)),
            JobCrowd("jobs", limits=Limits(concurrency=2, people=several, body_bytes=100_000)),
        ]
        self.destinations = sorted(world.random.sample(kinds, world.random.choice(world.size.targets)), key=lambda target: target.name)
        self.receivers = {target.name: Receiver(world, target) for target in self.destinations}
        #: Nothing comes from them.
        self.are_silent = False

    @property
    def exchanges(self) -> list[tuple[Receiver, Exchange]]:
        """Those that may go on."""
        return [(r, exchange) for r in self.receivers.values() for exchange in r.exchanges] if not self.are_silent else []

    def pass_time(self) -> None:
        for receiver in self.receivers.values():
            receiver.pass_time()

    @property
    def is_quiet(self) -> bool:
        return not any(receiver.exchanges or receiver.jobs for receiver in self.receivers.values())


class Receiver:
    """What is behind one target's URL. ``has`` is what it shows of each person: the version and the products that came last."""

    def __init__(self, world: World, target: Destination) -> None:
        self.name = target.name
        self.is_kind = False
        self.exchanges: list[Exchange] = []
        #: Name → when it is done, and the people in it.
        self.jobs: dict[str, tuple[int, list[dict[str, Any]]]] = {}
        self.has: dict[str, tuple[int, list[str]]] = {}
        #: How many requests came with each version.
        self.count = 0
        #: User → the version that was last sent in vain, in which request, and when its author knew.
        self._failed: dict[str, tuple[int, Exchange, int]] = {}
        self._lists: dict[tuple[str, int], list[str]] = {}
        self._world = world
        self._is_job_based = isinstance(target, JobCrowd)
        self._is_single = target.limits.people == 1

    # As it goes into the socket -----------------------------------------------------------------------------------------------

    def write(self, process: Process, request: Request, deadline_ms: int) -> Exchange:
        people = [] if request.method == "GET" else orjson.loads(request.body)["people"]
        exchange = Exchange(process, request, people, deadline_ms)
        for person in people:
            if (wrong := self._what_is_wrong(process, person, deadline_ms)) is not None:
                self._world.violate(f"{process.name} tells {self.name} about {person['user']}, version {person['version']}: {wrong}")
        exchange.is_late = bool(people) and not self._world.is_calm and self._world.random.random() < 0.2
        if exchange.is_late:
            self._world.note(self.name, "is slow to be reached")
            if self._world.random.random() < 0.5:
                self._world.group.rebalance()
        self.exchanges.append(exchange)
        return exchange

    def _what_is_wrong(self, process: Process, person: dict[str, Any], deadline_ms: int) -> str | None:
        user, version, world = person["user"], person["version"], self._world
        partition = partition_of(user.encode(), world.partitions)
        if world.epochs[partition] != process.epochs.get(partition):
            return f"partition {partition} has another owner"
        if any(user == other["user"] for exchange in self.exchanges if exchange.response is None for other in exchange.people):
            return "another request may be on the wire"
        if any(user == other["user"] for _, people in self.jobs.values() for other in people):
            return "a job over there has them"
        if (failed := self._failed.get(user)) is not None and failed[0] == version:
            _, exchange, failed_ms = failed
            if process is not exchange.process:  # who knows when a mark ends, and not how late its author saw that the time was over
                failed_ms = min(failed_ms, exchange.deadline_ms)
            if world.elapsed_ms - failed_ms < LEAST_RETRY_MS:
                return f"it failed {world.elapsed_ms - failed_ms} ms ago"
        entry = OutboxEntry.FromString(world.changelog("outbox", partition)[user.encode()])
        delivery = outbox.delivery_of(entry, self.name)
        if delivery is None or delivery.in_flight_version != version:
            return f"their durable mark is {delivery and delivery.in_flight_version}"
        if process.clock() + deadline_ms - world.elapsed_ms > delivery.in_flight_until_ms:
            return "their durable mark ends before the request does"
        if delivery.confirmed_version >= version and not delivery.resync_since_ms:
            return f"confirmed before, up to {delivery.confirmed_version}"
        # Lists are made of profiles that may not be durable yet: the events are.
        raw = world.changelog("profiles", partition).get(user.encode())
        if raw is not None and email_is_denied(Profile.FromString(raw)) and not self._is_granted_later(user, partition):
            return "they gave no consent"
        return None

    def _is_granted_later(self, user: str, partition: int) -> bool:
        """By an event that the durable profile does not know yet, and the one in memory may."""
        topic = self._world.names.events
        start = next_offset_of(self._world.changelog("profiles", partition).get(MARK_PREFIX + topic.encode()))
        for key, value, timestamp in self._world.logs[topic, partition].records[start:]:
            if key == user.encode():
                event = decode_event(value or b"", key, timestamp)
                change = None if isinstance(event, Violation) else event.consent_changed
                if change is not None and change.purpose == PERSONALISED_EMAIL and change.state == CONSENT_STATE_GRANTED:
                    return True
        return False

    def failed(self, exchange: Exchange) -> None:
        """Its author knows that it came to nothing, or does not know what came of it."""
        for person in exchange.people:
            self._failed[person["user"]] = person["version"], exchange, self._world.elapsed_ms

    # As it arrives ------------------------------------------------------------------------------------------------------------

    def arrive(self, exchange: Exchange) -> str:
        """It is taken, or not; the answer is on its way. Returns what is said of it."""
        lot = 1.0 if self.is_kind else self._world.random.random()
        if exchange.request.method == "GET":
            exchange.response = answered(503) if lot < 0.1 else self._poll(exchange.request.url.rpartition("/")[2])
            return f"is asked about a job: {exchange.response.status}"
        people, users = exchange.people, [f"{person['user']} {person['version']}" for person in exchange.people]
        if lot < 0.07:
            exchange.response = answered(503)
        elif lot < 0.1:
            exchange.response = answered(429, retry_after="2")
        elif lot < 0.13 and len(people) > 1:
            exchange.response = answered(400)
        elif self._is_job_based:
            job = f"j{self.count}"
            self.jobs[job] = self._world.elapsed_ms + self._world.random.randrange(MAX_JOB_MS), people
            exchange.response = all_said(f"job:{job}", people)
        else:
            self._take(people)
            exchange.response = answered(500) if lot < 0.17 else all_said("ok", people)
            if lot > 0.97 and not self.is_kind:
                exchange.response = said(["ok" if n % 2 else "retry" for n in range(len(people))])
        self.count += 1
        return f"gets {', '.join(users)}: {exchange.response.status}"

    def _take(self, people: list[dict[str, Any]]) -> None:
        for person in people:
            user, version, products = person["user"], person["version"], person["products"]
            if version < self.has.get(user, (0, []))[0]:
                self._world.violate(f"{self.name} had version {self.has[user][0]} of {user}, and now gets {version}")
            if self._lists.setdefault((user, version), products) != products:
                self._world.violate(f"{self.name} gets another list of {user} under version {version}")
            self.has[user] = version, products

    def _poll(self, job: str) -> Response:
        return said({"running": 1000} if job in self.jobs else {})

    def pass_time(self) -> None:
        """What did not come in its time never will; jobs end."""
        now_ms = self._world.elapsed_ms
        for exchange in [e for e in self.exchanges if e.deadline_ms <= now_ms]:
            self.exchanges.remove(exchange)
            self._world.note(self.name, "drops what came too late" if exchange.response is None else "is not listened to")
        for job in [job for job, (done_ms, _) in self.jobs.items() if done_ms <= now_ms]:
            _, people = self.jobs.pop(job)
            self._take(people)


class SimClient:
    """HttpClient's order of things: a connection, the question whether to send, the socket, the answer, all within the time-out."""

    def __init__(self, process: Process, receiver: Receiver) -> None:
        self._process = process
        self._receiver = receiver

    async def send(self, request: Request, may_send: Callable[[], bool]) -> Response | NoResponse:
        world, receiver = self._process.world, self._receiver
        deadline_ms, exchange = world.elapsed_ms + TIMEOUT_MS, None
        try:
            async with asyncio.timeout_at(deadline_ms / 1000):
                if world.is_calm or world.random.random() < 0.7:  # otherwise a connection was kept
                    await self._process.through(f"connects to {receiver.name}", lambda: None)
            if not world.is_calm and world.random.random() < world.freeze_rate:
                await self._process.freeze()  # a process may be at any time, and a lease that ends meanwhile is seen
            if not may_send():
                world.counts["request refused"] += 1
                return NoResponse(Missing.FORBIDDEN, "no")
            if world.elapsed_ms >= deadline_ms:
                raise TimeoutError
            exchange = receiver.write(self._process, request, deadline_ms)
            async with asyncio.timeout_at(deadline_ms / 1000):
                response = await exchange.answer
                if isinstance(response, Response) and response.status >= 500:
                    receiver.failed(exchange)
                return response
        except TimeoutError:
            if exchange is not None:
                receiver.failed(exchange)
            return NoResponse(Missing.TIMED_OUT, "no answer")

    async def close(self) -> None:
        """Nothing is open."""

"""What all platforms have in common: they know people and what was written of them, ask for a key, count requests, run jobs, have faults.

A platform is a stand-in for a vendor's, made from the vendor's documents for the demo and for tests. ``answer`` decides and needs no
socket; ``serve`` puts HTTP on 127.0.0.1 around it. What destinations cannot know beforehand is its own: whom it takes, and how fast.
"""

from __future__ import annotations

import asyncio
import base64
import heapq
import itertools
import re
import time
from abc import ABC, abstractmethod
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import orjson
from aiohttp import web

from app.web.demo.platforms.faults import Faults, Trouble
from app.web.demo.platforms.limits import Limiter

#: People a platform knows, the longest unwritten forgotten first, and writes remembered of each.
MAX_PEOPLE, MAX_WRITES = 20_000, 16
#: Jobs remembered, and requests that broke the contract, or touched a subscription.
MAX_JOBS, MAX_REMEMBERED = 2_000, 1_000
#: The largest body read at all; each platform has its own limit below it.
MAX_BODY_BYTES = 8_000_000

#: (method, path with query, headers in lower case, body) → what of the vendor's contract this request breaks.
Check = Callable[[str, str, Mapping[str, str], bytes], str | None]


@dataclass(frozen=True)
class Call:
    """A request as a platform sees it; header names in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @cached_property
    def document(self) -> Any:
        """The body's JSON; None if it has none."""
        try:
            return orjson.loads(self.body)
        except ValueError:
            return None


@dataclass(frozen=True)
class Answer:
    """``document`` becomes JSON unless it is bytes."""

    status: int
    document: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    #: The connection is reset instead.
    is_reset: bool = False


RESET = Answer(0, is_reset=True)


@dataclass(frozen=True)
class Route:
    """One operation: ``pattern`` matches the whole path, its groups are given to ``work``."""

    method: str
    pattern: str
    work: Callable[..., Answer]
    limiters: Sequence[Limiter] = ()
    is_write: bool = False

    def matches(self, call: Call) -> re.Match[str] | None:
        return re.fullmatch(self.pattern, call.path) if call.method == self.method else None


@dataclass(frozen=True)
class Write:
    """What a person's fields were after a write."""

    at: float
    fields: Mapping[str, Any]


@dataclass
class Person:
    """Whom the platform knows, by one or several identifiers; ``identity`` is the one it was first told of."""

    identity: str
    identifiers: dict[str, str]
    fields: dict[str, Any] = field(default_factory=dict)
    writes: deque[Write] = field(default_factory=lambda: deque(maxlen=MAX_WRITES))


@dataclass
class Job:
    """Work that the platform promised; ``state`` and ``failures`` are in the platform's own words."""

    id: str
    state: str
    total: int
    done: int = 0
    created: int = 0
    failures: list[Any] = field(default_factory=list)


class Platform(ABC):
    """One account at one platform."""

    #: As in the settings file, and as people call it.
    kind: ClassVar[str]
    title: ClassVar[str]
    content_type: ClassVar[str] = "application/json"
    problem_type: ClassVar[str] = "application/json"
    max_body_bytes: ClassVar[int] = MAX_BODY_BYTES

    def __init__(
        self, *, key: str = "demo-key", check: Check = lambda *_: None, on_written: Callable[[Person], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``clock``: seconds since 1970. ``on_written`` is called after each write with the person as they are then."""
        self.key = key
        self.faults = Faults()
        self.check = check
        self.on_written = on_written
        #: A limit that the vendor does not write about: tests set it.
        self.hidden: Limiter | None = None
        #: requests, throttled, answers by status ("200"), people written, jobs.
        self.counts: Counter[str] = Counter()
        #: What broke the contract, and what touched somebody's subscription: both must stay empty.
        self.violations: deque[str] = deque(maxlen=MAX_REMEMBERED)
        self.consent_writes: deque[str] = deque(maxlen=MAX_REMEMBERED)
        self.in_flight = self.most_in_flight = 0
        self.url = ""
        self._clock = clock
        self._people: OrderedDict[str, Person] = OrderedDict()
        self._by_identifier: dict[str, Person] = {}
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._ids = itertools.count(1)
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._routes = list(self.routes())

    # What a vendor has of its own ----------------------------------------------------------------------------------------

    @abstractmethod
    def routes(self) -> Iterable[Route]:
        """The operations; the first that matches is taken."""

    @abstractmethod
    def is_authorised(self, call: Call) -> bool:
        """Whether the request carries the account's key."""

    @abstractmethod
    def refusal(self, status: int, detail: str) -> Answer:
        """An error in the vendor's form: 400 malformed, 401 a wrong key, 404 no such thing, 413 too large, 5xx."""

    @abstractmethod
    def throttled(self, wait_seconds: float) -> Answer:
        """What the vendor answers when there were too many requests."""

    def quota_headers(self, status: int) -> Mapping[str, str]:
        """What the vendor says with an answer of this status about requests that are left."""
        return {}

    def faulty(self, call: Call) -> Answer | None:
        """Faults of this vendor alone."""
        return None

    # What it knows -------------------------------------------------------------------------------------------------------

    @property
    def people(self) -> Mapping[str, Person]:
        """Everybody by the identifier they were first told of, with what is due of the jobs applied."""
        self.settle()
        return self._people

    def person(self, identifier: str) -> Person | None:
        """Whoever has this id or address."""
        self.settle()
        return self._by_identifier.get(identifier) or self._by_identifier.get(identifier.lower())

    def fields_of(self, identifier: str) -> Mapping[str, Any]:
        """The person's fields by the names that a marketer sees; empty if nobody is there."""
        found = self.person(identifier)
        return dict(found.fields) if found else {}

    def introduce(self, identifiers: Mapping[str, str], fields: Mapping[str, Any] | None = None) -> Person:
        """Somebody the platform knew before."""
        return self._write(self._known(identifiers) or self._newcomer(identifiers), fields or {})

    def trouble(self, identifiers: Iterable[str]) -> Trouble | None:
        return next((found for one in identifiers if (found := self.faults.people.get(one))), None)

    def owners(self, identifiers: Mapping[str, str]) -> list[Person]:
        """All people that one of these identifiers belongs to."""
        found = {id(p): p for value in identifiers.values() if (p := self._by_identifier.get(value))}
        return list(found.values())

    def put(self, identifiers: Mapping[str, str], fields: Mapping[str, Any], unset: Iterable[str] = ()) -> bool:
        """Create or change somebody: fields that are not named stay as they are. True: they are new."""
        found = self._known(identifiers)
        person = found or self._newcomer(identifiers)
        for name, value in identifiers.items():
            person.identifiers[name] = value
            self._by_identifier[value] = person
        self._write(person, fields, unset)
        return found is None

    def forget(self, identifiers: Mapping[str, str]) -> None:
        for person in self.owners(identifiers):
            self._remove(person)

    # Jobs ----------------------------------------------------------------------------------------------------------------

    def job(self, total: int, state: str, work: Callable[[Job], None]) -> Job:
        """Begin a job: ``work`` is done once the job's time is over."""
        job = Job(f"job-{self.kind}-{next(self._ids)}", state, total)
        self._jobs[job.id] = job
        while len(self._jobs) > MAX_JOBS:
            self._jobs.popitem(last=False)
        self.counts["jobs"] += 1
        self.later(self.faults.job_seconds, lambda: work(job))
        return job

    def job_of(self, id_: str) -> Job | None:
        return self._jobs.get(id_)

    def job_fails(self) -> bool:
        """Whether this job is one of those that a test wants to fail."""
        self.faults.failing_jobs, fails = max(0, self.faults.failing_jobs - 1), self.faults.failing_jobs > 0
        return fails

    def later(self, seconds: float, work: Callable[[], None]) -> None:
        heapq.heappush(self._later, (self._clock() + seconds, next(self._ids), work))

    def settle(self) -> None:
        """Do what is due by now."""
        while self._later and self._later[0][0] <= self._clock():
            heapq.heappop(self._later)[2]()

    def now(self) -> float:
        return self._clock()

    # A request -----------------------------------------------------------------------------------------------------------

    def answer(self, call: Call) -> Answer:
        """Check, decide, apply."""
        self.settle()
        self.counts["requests"] += 1
        answer = self._decide(call)
        self.counts["reset" if answer.is_reset else str(answer.status)] += 1
        return answer

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """The aiohttp handler of every path."""
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            body = bytearray()
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    return _response(self.refusal(413, "the request is too large"), self)
            headers = {name.lower(): value for name, value in request.headers.items()}
            if self.faults.hang_seconds:
                await asyncio.sleep(self.faults.hang_seconds)
            answer = self.answer(Call(request.method, request.path, dict(request.query), headers, bytes(body)))
            self._set_timer()
            if self.faults.latency_seconds:
                await asyncio.sleep(self.faults.latency_seconds)
            if answer.is_reset and request.transport is not None:
                request.transport.abort()
            return _response(answer, self)
        finally:
            self.in_flight -= 1

    @asynccontextmanager
    async def serve(self, port: int = 0) -> AsyncIterator[str]:
        """Listen on 127.0.0.1; gives the address that stands for the vendor's. What was known stays known afterwards."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", port).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield self.url
        finally:
            if self._timer is not None:
                self._timer.cancel()
            await runner.cleanup()

    def _decide(self, call: Call) -> Answer:
        faults = self.faults
        path = call.path + ("?" + "&".join(f"{k}={v}" for k, v in call.query.items()) if call.query else "")
        if violation := self.check(call.method, path, call.headers, call.body):
            self.violations.append(violation)
            return self.refusal(400, f"against the contract: {violation}")
        if faults.status is not None:
            return self.refusal(faults.status, "something went wrong here")
        if faults.is_key_expired or not self.is_authorised(call):
            return self.refusal(401, "the key is wrong")
        if len(call.body) > self.max_body_bytes:
            return self.refusal(413, f"at most {self.max_body_bytes} bytes")
        for route in self._routes:
            if match := route.matches(call):
                return self._work(route, call, match)
        return self.refusal(404, f"there is no {call.method} {call.path}")

    def _work(self, route: Route, call: Call, match: re.Match[str]) -> Answer:
        now, faults = self._clock(), self.faults
        limiters = [*route.limiters, *([self.hidden] if self.hidden is not None else [])]
        if wait := max((limiter.wait_seconds(now) for limiter in limiters), default=0.0):
            self.counts["throttled"] += 1
            return self.throttled(wait)
        for limiter in limiters:
            limiter.take(now)
        if route.is_write and (faulty := self.faulty(call)) is not None:
            return faulty
        if route.is_write and faults.resets_before_write > 0:
            faults.resets_before_write -= 1
            return RESET
        if call.method in ("POST", "PUT", "PATCH"):
            if call.headers.get("content-type", "").partition(";")[0].strip() != self.content_type:
                return self.refusal(415, f"send {self.content_type}")
            if not isinstance(call.document, dict):
                return self.refusal(400, "the body is not a JSON object")
        answer = route.work(call, **match.groupdict())
        if route.is_write and faults.resets_after_write > 0:
            faults.resets_after_write -= 1
            return RESET
        return answer

    def _set_timer(self) -> None:
        """So that a job's end is noticed though nobody asks."""
        if self._timer is not None:
            self._timer.cancel()
        if self._later:
            seconds = max(0.0, self._later[0][0] - self._clock()) + 0.001
            self._timer = asyncio.get_running_loop().call_later(seconds, self._ring)

    def _ring(self) -> None:
        self.settle()
        self._set_timer()

    # People --------------------------------------------------------------------------------------------------------------

    def _known(self, identifiers: Mapping[str, str]) -> Person | None:
        return next(iter(self.owners(identifiers)), None)

    def _newcomer(self, identifiers: Mapping[str, str]) -> Person:
        identity = next(iter(identifiers.values()))
        person = self._people[identity] = Person(identity, dict(identifiers))
        self._by_identifier |= dict.fromkeys(identifiers.values(), person)
        while len(self._people) > MAX_PEOPLE:
            self._remove(next(iter(self._people.values())))
        return person

    def _remove(self, person: Person) -> None:
        self._people.pop(person.identity, None)
        for value in person.identifiers.values():
            if self._by_identifier.get(value) is person:
                del self._by_identifier[value]

    def _write(self, person: Person, fields: Mapping[str, Any], unset: Iterable[str] = ()) -> Person:
        person.fields |= fields
        for name in unset:
            person.fields.pop(name, None)
        person.writes.append(Write(self._clock(), dict(person.fields)))
        if person.identity in self._people:
            self._people.move_to_end(person.identity)
        self.counts["people"] += 1
        self.on_written(person)
        return person


def bearer(call: Call) -> str:
    """The token of an Authorization header."""
    scheme, _, token = call.headers.get("authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" else ""


def basic(call: Call) -> tuple[str, str]:
    """User and password of an Authorization header."""
    scheme, _, encoded = call.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except ValueError:
        return "", ""
    return user, password


def objects(found: Any) -> list[dict[str, Any]] | None:
    """A list of JSON objects, or None if it is something else."""
    return found if isinstance(found, list) and all(isinstance(one, dict) for one in found) else None


def at(document: Any, *path: str) -> Any:
    """What is there below the document's objects; None if nothing is."""
    for key in path:
        document = document.get(key) if isinstance(document, dict) else None
    return document


def looks_like_an_address(address: Any) -> bool:
    return isinstance(address, str) and re.fullmatch(r"[^@\s]{1,64}@[^@\s]{1,190}\.[A-Za-z]{2,}", address) is not None


def _response(answer: Answer, platform: Platform) -> web.Response:
    body = answer.document if isinstance(answer.document, bytes) else orjson.dumps(answer.document)
    kind = platform.problem_type if answer.status >= 400 else platform.content_type
    headers = {"Content-Type": kind, **platform.quota_headers(answer.status), **answer.headers}
    return web.Response(status=answer.status or 500, body=b"" if answer.document is None else body, headers=headers)

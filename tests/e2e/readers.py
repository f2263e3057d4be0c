"""Readers of a fleet, as a load balancer brings them: in an open loop, each to the next worker in turn, and to another where that fails.

What the client does is what nginx does with ``proxy_next_upstream error timeout http_503`` and ``max_fails=1 fail_timeout=1s``: it knows
the addresses of all workers, not how they are. A read goes to the next in turn; where that takes no connection, breaks it, says nothing
for TRY_SECONDS or answers 503, to another, each at most once. A worker that failed is passed over for PASSED_OVER_SECONDS, and then one
read tries it again. No read is sent twice at once, and none waits for another.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import aiohttp
import orjson

from app.web.freshness import CURRENT_TO, HEADERS, SERVED_BY

#: nginx would wait a minute; whoever reads for a page or an email does not.
TRY_SECONDS = 2.0
PASSED_OVER_SECONDS = 1.0
#: Connections to one worker that are kept; a read that finds none free opens one.
_CONNECTIONS = 200


@dataclass(frozen=True, slots=True)
class Read:
    """One read. ``status`` 0: no worker answered at all."""

    #: When it was to begin, in seconds since the first.
    at: float
    #: How much later the client itself began it.
    late: float
    #: From when it was to begin to the last byte of the answer.
    seconds: float
    status: int
    tries: int
    #: active, standby or fallback; empty where the answer does not say.
    served_by: str
    #: How old what it tells was when it arrived, in ms; None where it does not say.
    age_ms: float | None
    #: Whether it says all of its offset, its time, its lag and who served it.
    says_all: bool


class Balancer:
    """Whose turn it is."""

    def __init__(self, urls: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._urls = list(urls)
        self._clock = clock
        self._turn = 0
        self._passed_over: dict[str, float] = {}

    def next(self, tried: set[str]) -> str | None:
        """The next in turn that was not tried, those that failed lately last; None: all were."""
        left = [url for url in self._urls[self._turn :] + self._urls[: self._turn] if url not in tried]
        if not left:
            return None
        now = self._clock()
        url = next((url for url in left if self._passed_over.get(url, now) <= now), left[0])
        if url in self._passed_over:
            self._passed_over[url] = now + PASSED_OVER_SECONDS  # this read finds out
        if not tried:
            self._turn = (self._urls.index(url) + 1) % len(self._urls)
        return url

    def failed(self, url: str) -> None:
        self._passed_over[url] = self._clock() + PASSED_OVER_SECONDS

    def answered(self, url: str) -> None:
        self._passed_over.pop(url, None)


class Readers:
    """``per_second`` on average; when each begins, as strangers come (Poisson), and what it reads is drawn from ``seed``."""

    def __init__(
        self, urls: Sequence[str], paths: Sequence[str], per_second: float, token: str, seed: int = 1, *, try_seconds: float = TRY_SECONDS
    ) -> None:
        self.reads: list[Read] = []
        #: What was said instead of an answer, tries that another worker made good included.
        self.problems: Counter[str] = Counter()
        self._balancer = Balancer(urls)
        self._paths = paths
        self._per_second = per_second
        self._headers = {"Authorization": f"Bearer {token}"}
        self._chance = random.Random(seed)
        self._try_seconds = try_seconds
        self._began = 0.0

    @property
    def share(self) -> float:
        """Of the reads, those that were answered with 200."""
        return sum(read.status == 200 for read in self.reads) / max(1, len(self.reads))

    @property
    def by_standby(self) -> list[Read]:
        return [read for read in self.reads if read.served_by == "standby"]

    def __str__(self) -> str:
        seconds = [read.seconds * 1000 for read in self.reads]
        statuses = ", ".join(f"{status or 'none'}: {count}" for status, count in Counter(read.status for read in self.reads).most_common())
        ages = {
            "all": [read.age_ms for read in self.reads if read.age_ms is not None],
            "by a standby": [read.age_ms for read in self.by_standby if read.age_ms is not None],
        }
        return "\n".join([
            f"{self.share:.3%} of {len(self.reads)} reads answered with 200 ({statuses}), "
            f"{sum(read.tries > 1 for read in self.reads)} of them not by the first worker that was asked",
            f"  latency from when a read was to begin: {_quantiles(seconds)} ms; the client itself was late by "
            f"{_quantiles([read.late * 1000 for read in self.reads])} ms",
            f"  served by {dict(Counter(read.served_by or 'nobody' for read in self.reads))}; "
            f"{sum(not read.says_all for read in self.reads if read.status == 200)} answers lack a header of freshness",
            *(f"  age of what was answered, {what}: {_quantiles(of)} ms" for what, of in ages.items() if of),
            *(f"  {count} times: {problem}" for problem, count in self.problems.most_common(8)),
        ])

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        """They read as long as the block lasts; reads under way are waited for."""
        connector = aiohttp.TCPConnector(limit=0, limit_per_host=_CONNECTIONS)
        timeout = aiohttp.ClientTimeout(total=self._try_seconds)
        async with aiohttp.ClientSession(timeout=timeout, headers=self._headers, connector=connector, trust_env=False) as session:
            stop = asyncio.Event()
            arrivals = asyncio.create_task(self._arrive(session, stop))
            try:
                yield
            finally:
                stop.set()
                await arrivals

    async def _arrive(self, session: aiohttp.ClientSession, stop: asyncio.Event) -> None:
        due = self._began = time.monotonic()
        async with asyncio.TaskGroup() as reads:
            while not stop.is_set():
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                reads.create_task(self._read(session, self._chance.choice(self._paths), due))
                due += self._chance.expovariate(self._per_second)

    async def _read(self, session: aiohttp.ClientSession, path: str, due: float) -> None:
        late, tried = time.monotonic() - due, set[str]()
        status, served_by, age_ms, says_all = 0, "", None, False
        while (url := self._balancer.next(tried)) is not None:
            tried.add(url)
            try:
                async with session.get(url + path) as answer:
                    body = await answer.read()
            except (aiohttp.ClientError, TimeoutError, OSError) as exc:
                self.problems[type(exc).__name__] += 1
                self._balancer.failed(url)
                continue
            status = answer.status
            if status != 200:
                self.problems[_problem(body)] += 1
            if status == 503:
                self._balancer.failed(url)
                continue
            self._balancer.answered(url)
            served_by, age_ms = answer.headers.get(SERVED_BY, ""), _age_ms(answer.headers.get(CURRENT_TO))
            says_all = all(name in answer.headers for name in HEADERS)
            break
        seconds = time.monotonic() - due
        self.reads.append(Read(due - self._began, late, seconds, status, len(tried), served_by, age_ms, says_all))


def _problem(body: bytes) -> str:
    try:
        document = orjson.loads(body)
        return f"{document['type'].removeprefix('urn:tidings:problem:')}: {document['detail']}"[:140]
    except (ValueError, KeyError, TypeError):
        return repr(body[:80])


def _age_ms(current_to: str | None) -> float | None:
    return None if current_to is None else (datetime.now(UTC) - datetime.fromisoformat(current_to)).total_seconds() * 1000


def quantile(values: Iterable[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.floor(part * len(ordered)))]


def _quantiles(values: Sequence[float]) -> str:
    if not values:
        return "nothing"
    named = [f"{name} {quantile(values, part):.0f}" for name, part in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999))]
    return ", ".join([*named, f"max {max(values):.0f}"])

"""Destinations with a rate limit that nobody declared, and workers that send as fast as their limiters let them, on a simulated clock."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Literal, Protocol

from app.delivery.limiter import Limiter
from app.destinations.limits import Limits

TEN_MINUTES_MS = 600_000


class Hidden(Protocol):
    """A limit as the destination keeps it: ``amount`` requests in ``ms``, which may change while it is at work."""

    amount: float
    ms: int

    def take(self, now_ms: int) -> int | None:
        """None: taken. Else refused, and the milliseconds until one would be taken."""


@dataclass
class FixedWindow:
    """Counts anew at each full multiple."""

    amount: float
    ms: int
    _number: int = -1
    _count: int = 0

    def take(self, now_ms: int) -> int | None:
        if now_ms // self.ms != self._number:
            self._number, self._count = now_ms // self.ms, 0
        if self._count >= self.amount:
            return self.ms - now_ms % self.ms
        self._count += 1
        return None


@dataclass
class RollingWindow:
    """Looks back from each request."""

    amount: float
    ms: int
    _taken: deque[int] = field(default_factory=deque)

    def take(self, now_ms: int) -> int | None:
        while self._taken and self._taken[0] <= now_ms - self.ms:
            self._taken.popleft()
        if len(self._taken) >= self.amount:
            return self._taken[len(self._taken) - int(self.amount)] + self.ms - now_ms
        self._taken.append(now_ms)
        return None


@dataclass
class TokenBucket:
    """Fills evenly, to at most what ``burst_ms`` bring."""

    amount: float
    ms: int
    burst_ms: int = 1000
    _tokens: float = math.inf
    _at_ms: int = 0

    def take(self, now_ms: int) -> int | None:
        rate = self.amount / self.ms
        self._tokens = min(self._tokens + rate * (now_ms - self._at_ms), max(1.0, rate * self.burst_ms))
        self._at_ms = now_ms
        if self._tokens < 1:
            return math.ceil((1 - self._tokens) / rate)
        self._tokens -= 1
        return None


@dataclass
class Outcome:
    """What the destination saw."""

    taken: int = 0
    throttled: int = 0
    possible: float = 0.0
    #: (when, how much the limit allows in a second) of each taken request.
    log: list[tuple[int, float]] = field(default_factory=list)

    @property
    def used(self) -> float:
        """The part of what the limit allowed."""
        return self.taken / self.possible

    def used_between(self, from_ms: int, to_ms: int) -> float:
        """The part of what the limit allowed then; it must not have changed in between."""
        rates = [rate for at_ms, rate in self.log if from_ms <= at_ms < to_ms]
        assert len(set(rates)) == 1
        return len(rates) / (rates[0] * (to_ms - from_ms) / 1000)

    @property
    def throttled_share(self) -> float:
        return self.throttled / (self.taken + self.throttled)


def run(
    hidden: Hidden,
    *,
    workers: int = 1,
    says: Literal["seconds", "nothing"] = "seconds",
    factors: Sequence[float] = (1.0,),
    concurrency: int = 16,
    limits: Limits | None = None,
    seed: int = 1,
    log: Callable[[int, list[Limiter]], None] | None = None,
) -> Outcome:
    """Ten minutes in which everyone always has something to send; the limit is multiplied by each of ``factors`` in turn, for equal times.

    ``says``: whether a throttling comes with Retry-After, in whole seconds, rounded up. A request takes 30 to 45 ms, an answer 20 to 60.
    """
    random, outcome, full = Random(seed), Outcome(), hidden.amount
    now_ms = 0
    limits = limits or Limits(concurrency=concurrency)
    limiters = [Limiter(limits, lambda: 1 / workers, lambda: now_ms) for _ in range(workers)]
    on_wire = [0] * workers
    looks_at = [-1] * workers
    #: (when, order, worker, what): a worker looks, a request arrives, an answer comes.
    events: list[tuple[int, int, int, str, int | None]] = []
    order = 0

    def at(when_ms: int, worker: int, what: str, answer: int | None = None) -> None:
        nonlocal order
        order += 1
        heapq.heappush(events, (when_ms, order, worker, what, answer))

    for worker in range(workers):
        at(random.randrange(200), worker, "look")
    while events and events[0][0] < TEN_MINUTES_MS:
        now_ms, _, worker, what, answer = heapq.heappop(events)
        limiter = limiters[worker]
        hidden.amount = full * factors[now_ms * len(factors) // TEN_MINUTES_MS]
        if what == "arrive":
            refused_ms = hidden.take(now_ms)
            if refused_ms is None:
                outcome.taken += 1
                outcome.log.append((now_ms, hidden.amount * 1000 / hidden.ms))
            else:
                outcome.throttled += 1
            at(now_ms + random.randrange(20, 60), worker, "answer", refused_ms)
            continue
        if what == "answer":
            on_wire[worker] -= 1
            if answer is None:
                limiter.succeeded()
            else:
                limiter.throttled(math.ceil(answer / 1000) * 1000 if says == "seconds" else None)
        elif looks_at[worker] == now_ms:
            looks_at[worker] = -1
        if log:
            log(now_ms, limiters)
        while on_wire[worker] < limiter.concurrency():
            wait_ms = limiter.wait_ms(1)
            if wait_ms > 0:
                if looks_at[worker] <= now_ms or now_ms + wait_ms < looks_at[worker]:
                    looks_at[worker] = now_ms + wait_ms
                    at(now_ms + wait_ms, worker, "look")
                break
            limiter.took(1)
            on_wire[worker] += 1
            at(now_ms + random.randrange(30, 45), worker, "arrive")
    outcome.possible = sum(full * factor for factor in factors) / len(factors) * TEN_MINUTES_MS / hidden.ms
    return outcome

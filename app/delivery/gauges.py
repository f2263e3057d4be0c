"""One target's metrics, each looked up once: looking one up by its labels costs more than counting."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from prometheus_client import Counter

from app.delivery.breaker import BreakerState, Cause
from app.metrics import (
    BREAKER,
    DELIVERIES,
    DELIVERY_PEOPLE,
    EVENT_TO_DELIVERY,
    IN_FLIGHT,
    OUTBOX_DUE,
    OUTBOX_OLDEST,
    OUTBOX_RESYNC,
)

#: What a breaker may be, in the metric's words: closed, half_open, or why it is open.
BREAKER_STATES = ("closed", "half_open", *(cause.value for cause in Cause))


class Gauges:
    """What is counted, timed and shown of one target."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._counters: dict[str, Counter] = {}
        self._latency = EVENT_TO_DELIVERY.labels(target)
        self._people = DELIVERY_PEOPLE.labels(target)

    def count(self, outcome: str, people: int = 1) -> None:
        """So many more people with this outcome."""
        counter = self._counters.get(outcome)
        if counter is None:
            counter = self._counters[outcome] = DELIVERIES.labels(self._target, outcome)
        counter.inc(people)

    def batch(self, people: int) -> None:
        """One more request that was about so many."""
        self._people.observe(people)

    def delivered(self, after_ms: int) -> None:
        """The first undelivered event was received so long ago."""
        self._latency.observe(max(0, after_ms) / 1000)

    def show(
        self,
        *,
        due: Callable[[], float],
        resync_due: Callable[[], float],
        in_flight: Callable[[], float],
        oldest_seconds: Callable[[], float],
        breaker: Callable[[], BreakerState],
    ) -> None:
        OUTBOX_DUE.labels(self._target).set_function(due)
        OUTBOX_RESYNC.labels(self._target).set_function(resync_due)
        IN_FLIGHT.labels(self._target).set_function(in_flight)
        OUTBOX_OLDEST.labels(self._target).set_function(oldest_seconds)
        for state in BREAKER_STATES:
            BREAKER.labels(self._target, state).set_function(partial(_is_in, breaker, state))

    def hide(self) -> None:
        """Nothing is due here, and nothing in flight."""
        for gauge in (OUTBOX_DUE, OUTBOX_RESYNC, IN_FLIGHT, OUTBOX_OLDEST):
            gauge.labels(self._target).set_function(lambda: 0)


def _is_in(breaker: Callable[[], BreakerState], state: str) -> float:
    now = breaker()
    return float(state == (now.cause.value if now.kind == "open" and now.cause is not None else now.kind))

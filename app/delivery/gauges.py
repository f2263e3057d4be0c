"""One target's metrics, each looked up once: looking one up by its labels costs more than counting."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import Counter

from app.metrics import DELIVERIES, EVENT_TO_DELIVERY, IN_FLIGHT, OUTBOX_DUE, TARGET_DISABLED


class Gauges:
    """What is counted, timed and shown of one target."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._counters: dict[str, Counter] = {}
        self._latency = EVENT_TO_DELIVERY.labels(target)

    def count(self, outcome: str) -> None:
        """One more attempt with this outcome."""
        counter = self._counters.get(outcome)
        if counter is None:
            counter = self._counters[outcome] = DELIVERIES.labels(self._target, outcome)
        counter.inc()

    def delivered(self, after_ms: int) -> None:
        """The first undelivered event was received so long ago."""
        self._latency.observe(max(0, after_ms) / 1000)

    def show(self, *, due: Callable[[], float], in_flight: Callable[[], float], disabled: bool) -> None:
        OUTBOX_DUE.labels(self._target).set_function(due)
        IN_FLIGHT.labels(self._target).set_function(in_flight)
        self.disabled(disabled)

    def disabled(self, is_disabled: bool) -> None:
        TARGET_DISABLED.labels(self._target).set(is_disabled)

    def hide(self) -> None:
        """Nothing is due here, and nothing in flight."""
        OUTBOX_DUE.labels(self._target).set_function(lambda: 0)
        IN_FLIGHT.labels(self._target).set_function(lambda: 0)

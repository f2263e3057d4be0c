"""A user who is marked as in flight at a target: what the mark says, how it gets into the entry, whose it is, and how it is lifted."""

from __future__ import annotations

from dataclasses import dataclass

from app.delivery import outbox
from app.delivery.lane import Turn
from app.destinations.requests import Part
from tidings.state.v1.outbox_pb2 import Delivery, OutboxEntry

#: What an in-flight mark covers beyond the target's time-out: the write of the mark and the wait for a request, the reading of the body,
#: clocks that differ.
MARK_MARGIN_MS = 5_000
#: The part of it that may pass before the request starts. After that the mark could end before the request does: the user is released.
MAX_MARKING_MS = 2_000
#: The same two for requests of many people, whose marks take many writes, whose parts take a while to encode, whose answers are long; and
#: for a while wherever marks were seen to take long to write: what is never young enough would be released and marked for ever.
BATCH_MARK_MARGIN_MS = 18_000
MAX_BATCH_MARKING_MS = 10_000
#: For so long after a mark that took long to write, others are expected to.
SLOW_WRITES_MS = 60_000


@dataclass(frozen=True, slots=True)
class Flight:
    """How long a mark lasts, and how much of that may pass before the request starts, in milliseconds."""

    mark_ms: int
    marking_ms: int

    @classmethod
    def of(cls, timeout_ms: int, people: int, *, writes_are_slow: bool = False) -> Flight:
        if people == 1 and not writes_are_slow:
            return cls(timeout_ms + MARK_MARGIN_MS, MAX_MARKING_MS)
        return cls(timeout_ms + BATCH_MARK_MARGIN_MS, MAX_BATCH_MARKING_MS)


class Flights:
    """Which of a target's two holds now: the long one while marks take long to write."""

    def __init__(self, timeout_ms: int, people: int) -> None:
        self._quick = Flight.of(timeout_ms, people)
        self._slow = Flight.of(timeout_ms, people, writes_are_slow=True)
        self._slow_until_ms = 0

    def now(self, now_ms: int) -> Flight:
        return self._slow if now_ms < self._slow_until_ms else self._quick

    def took(self, marking_ms: int, now_ms: int) -> None:
        """A mark was durable so long after it was made."""
        if 2 * marking_ms > self._quick.marking_ms:
            self._slow_until_ms = now_ms + SLOW_WRITES_MS


_NO_FLIGHT = Flight(0, 0)


class Claim:
    """One turn's mark."""

    __slots__ = ("digest", "flight", "is_resync", "marked_at_ms", "part", "turn", "until_ms", "version")

    def __init__(self, turn: Turn, *, is_resync: bool = False) -> None:
        self.turn = turn
        #: There is nothing new: somebody asked that the user be sent once more.
        self.is_resync = is_resync
        #: 0 until the mark is in the entry.
        self.version = 0
        self.marked_at_ms = 0
        self.until_ms = 0
        self.flight = _NO_FLIGHT
        #: What is to be sent, if it must not be rendered at the moment of sending: see Sender._mark_anew; in a job, what was sent.
        self.part: Part | None = None
        #: Of what was sent.
        self.digest = 0

    def mark(self, entry: OutboxEntry, target: str, version: int, now_ms: int, flight: Flight) -> None:
        """The mark begins now, for a request with this version. To be durable before the request leaves."""
        before_ms = self.until_ms
        self.version, self.marked_at_ms, self.until_ms, self.flight = version, now_ms, now_ms + flight.mark_ms, flight
        outbox.begin(entry, target, version, self.until_ms, instead_of_ms=before_ms)

    def is_young(self, now_ms: int) -> bool:
        """Whether a request that starts now ends before the mark does."""
        return now_ms - self.marked_at_ms <= self.flight.marking_ms

    def is_in(self, delivery: Delivery | None) -> bool:
        """Whether the entry's mark is this one still: while a worker was frozen, others may have owned the user, and marked and sent."""
        return delivery is not None and delivery.in_flight_until_ms == self.until_ms and delivery.in_flight_version == self.version

    def lift(self, entry: OutboxEntry, target: str) -> None:
        """Nothing was sent under the mark."""
        outbox.unmark(entry, target, self.version, self.until_ms)

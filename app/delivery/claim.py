"""A user who is marked as in flight at a target: what the mark says, how it gets into the entry, whose it is, and how it is lifted."""

from __future__ import annotations

from app.delivery import outbox
from app.delivery.lane import Turn
from app.destinations.requests import Part
from tidings.state.v1.outbox_pb2 import OutboxEntry

#: What an in-flight mark covers beyond the target's time-out: the write of the mark and the wait for a request, the reading of the body,
#: clocks that differ.
MARK_MARGIN_MS = 5_000
#: The part of it that may pass before the request starts. After that the mark could end before the request does: the user is released.
MAX_MARKING_MS = 2_000


class Claim:
    """One turn's mark."""

    __slots__ = ("marked_at_ms", "part", "turn", "until_ms", "version")

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        #: 0 until the mark is in the entry.
        self.version = 0
        self.marked_at_ms = 0
        self.until_ms = 0
        #: What is to be sent, if it must not be rendered at the moment of sending: see Line._mark_anew.
        self.part: Part | None = None

    def mark(self, entry: OutboxEntry, target: str, version: int, now_ms: int, timeout_ms: int) -> None:
        """The mark begins now, for a request with this version. To be durable before the request leaves."""
        self.version, self.marked_at_ms, self.until_ms = version, now_ms, now_ms + timeout_ms + MARK_MARGIN_MS
        outbox.begin(entry, target, version, self.until_ms)

    def is_young(self, now_ms: int) -> bool:
        """Whether a request that starts now ends before the mark does."""
        return now_ms - self.marked_at_ms <= MAX_MARKING_MS

    def is_in(self, entry: OutboxEntry | None, target: str) -> bool:
        """Whether the entry's mark is this one still: while a worker was frozen, others may have owned the user, and marked and sent."""
        delivery = outbox.delivery_of(entry, target) if entry else None
        return delivery is not None and delivery.in_flight_until_ms == self.until_ms and delivery.in_flight_version == self.version

    def lift(self, entry: OutboxEntry, target: str) -> None:
        """Nothing was sent under the mark."""
        outbox.unmark(entry, target, self.version, self.until_ms)

"""What all parts of one target's line work with: its lane, the outbox, the client, what limits it, and the questions that are asked."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter

from app.delivery import outbox
from app.delivery.breaker import Breaker
from app.delivery.claim import Claim, Flights
from app.delivery.client import Client
from app.delivery.gauges import Gauges
from app.delivery.lane import Lane, Turn
from app.delivery.ledger import MAX_USERS_PER_WRITE, Change, Ledger, OutboxStore
from app.delivery.limiter import Limiter
from app.delivery.pace import Pace
from app.destinations import Destination
from app.destinations.requests import Rendered
from app.errors import NotOwnedError
from tidings.state.v1.outbox_pb2 import Delivery

#: How soon a user comes again who is due, but whose attempt was not possible: the outbox and what is rendered disagree for the moment.
DISAGREEMENT_MS = 1_000
#: As many people as one worker can have in flight, and some of others'.
MAX_ODD_MARKS = 20_000

_by_partition = attrgetter("turn.partition")


@dataclass(slots=True, eq=False)
class Kit:
    """One target's."""

    name: str
    target: Destination
    lane: Lane
    store: OutboxStore
    ledger: Ledger
    client: Client
    limiter: Limiter
    breaker: Breaker
    pace: Pace
    gauges: Gauges
    flights: Flights
    #: People in one request at most.
    people: int
    #: What was confirmed is sent again after so long although it says the same (0: never).
    refresh_ms: int
    render: Callable[[str], Rendered | None]
    may_tell: Callable[[str], bool]
    clock: Callable[[], int]
    lease: Callable[[], bool]
    #: Starts a task whose error ends delivery.
    spawn: Callable[[Coroutine[None, None, None]], object]
    #: There may be something to do.
    wake: Callable[[], None]
    #: User → a mark and a wait of which one ends later than it could by a right clock, and since when they are known.
    odd_marks: dict[str, tuple[tuple[int, int], int]] = field(default_factory=dict)

    def next_step(self, turn: Turn, now_ms: int) -> outbox.Step | None:
        """What the outbox says about the user whose turn it is; None: the user is another worker's."""
        try:
            entry = self.store.entry(turn.partition, turn.user_id)
        except NotOwnedError:
            return None
        delivery = outbox.delivery_of(entry, self.name) if entry else None
        if delivery is None:
            return outbox.NotDue()
        return outbox.step_of(delivery, now_ms, self._seen_for_ms(turn.user_id, delivery, now_ms))

    def _seen_for_ms(self, user_id: str, delivery: Delivery, now_ms: int) -> int:
        """For how long a mark and a wait are known to be there of which one is odd. Others: 0."""
        if not outbox.is_odd(delivery, now_ms):
            return 0
        ends_ms = delivery.in_flight_until_ms, delivery.next_attempt_at_ms
        known_ends_ms, since_ms = self.odd_marks.get(user_id, (None, now_ms))
        if known_ends_ms != ends_ms:
            if len(self.odd_marks) >= MAX_ODD_MARKS:
                self.odd_marks.clear()  # they are waited for once more
            since_ms = now_ms
            self.odd_marks[user_id] = ends_ms, since_ms
        return max(0, now_ms - since_ms)

    def end_turn(self, turn: Turn, *, not_before_ms: int = 0, first: bool = False) -> None:
        """Due again, at once or later, or out of the lane."""
        match self.next_step(turn, self.clock()):
            case outbox.Send(is_resync):
                self.lane.end(turn, not_before_ms, first=first, is_resync=is_resync)
            case outbox.WaitUntil(at_ms) | outbox.AskJob(until_ms=at_ms):
                self.lane.end(turn, max(at_ms, not_before_ms))
            case outbox.NotDue() | None:
                self.lane.end(turn, None)
        self.wake()

    def lose(self, claim: Claim) -> None:
        """The user went to another worker, or what is known of them is not yet as it must be: look again a little later."""
        self.ledger.outcome_came(claim.turn.partition)
        self.end_turn(claim.turn, not_before_ms=self.clock() + DISAGREEMENT_MS)

    def record(self, claims: Iterable[Claim], change_of: Callable[[Claim], Change], then: Callable[[Claim, bool], None]) -> None:
        """Write a change for each claim, as few writes as can be, and tell of each whether it is durable."""
        for partition, of_one in groupby(sorted(claims, key=_by_partition), key=_by_partition):
            todo = list(of_one)
            for start in range(0, len(todo), MAX_USERS_PER_WRITE):
                self._record_some(partition, todo[start : start + MAX_USERS_PER_WRITE], change_of, then)

    def _record_some(
        self, partition: int, claims: Sequence[Claim], change_of: Callable[[Claim], Change], then: Callable[[Claim, bool], None]
    ) -> None:
        def tell(is_durable: bool) -> None:
            for claim in claims:
                then(claim, is_durable)

        self.ledger.record(partition, {claim.turn.user_id: change_of(claim) for claim in claims}, tell)
